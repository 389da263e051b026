"""How a block's output is the sum of what goes in and what its layers add, family by family.

The same sum holds for blocks whose MLP reads the stream before or after attention (sequential and
parallel ones); what differs is where a norm or a factor stands.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from interp.models.base import LoadedModel

_EXTRA = ("ln1.hook_in", "ln1.hook_out", "ln2.hook_in", "ln2.hook_out")
_NORMED = ("ln1_post.hook_out", "ln2_post.hook_out")
Distance = Callable[[Tensor, Tensor], float]


def identity_error(
    model: LoadedModel, tokens: Int[Tensor, "batch length"], distance: Distance
) -> float:
    """The worst block's distance between its output and the form of the sum that fits it best.

    Infinite if the blocks' layers cannot be read.
    """
    sites, read = model.sites(), dict[str, Tensor]()
    names = [f"{block.path}.{each}" for block in model.blocks for each in (*_EXTRA, *_NORMED)]
    names = [name for name in names if name in model.bridge.hook_dict]
    names += [site.hook for site in sites.values()]

    def keep(activation: Tensor, hook: Any) -> None:
        read[hook.name] = activation

    with torch.inference_mode():
        model.run(tokens, [(name, keep) for name in dict.fromkeys(names)])
    factor = getattr(model.bridge.cfg, "residual_multiplier", None)
    worst = 0.0
    for block in model.blocks:
        kinds = ["resid_pre", "resid_post", "attn_out", "mlp_out"]
        kinds += ["cross_out"] if "cross_out" in block.kinds else []
        if any(block.site(kind) not in sites for kind in kinds):
            return float("inf")
        values = {kind: read[sites[block.site(kind)].hook] for kind in kinds}
        inside = {
            name: read[f"{block.path}.{name}"]
            for name in (*_EXTRA, *_NORMED)
            if f"{block.path}.{name}" in read
        }
        worst = max(worst, _block(values, inside, factor, distance))
    return worst


def _block(
    values: Mapping[str, Tensor],
    inside: Mapping[str, Tensor],
    factor: float | None,
    distance: Distance,
) -> float:
    before, after = values["resid_pre"], values["resid_post"]
    attention, mlp = values["attn_out"], values["mlp_out"]
    if "cross_out" in values:
        attention = attention + values["cross_out"]
    errors = [
        distance(before + attention + mlp, after),
        distance(mlp, after),  # BLOOM: the layers add the stream themselves
    ]
    if factor is not None:  # Granite
        errors.append(distance(before + factor * (attention + mlp), after))
    if any(name in inside for name in _NORMED):  # Gemma 2, OLMo 2: what is added is normed first
        added = [inside.get(_NORMED[0], attention), inside.get(_NORMED[1], mlp)]
        errors.append(distance(before + added[0] + added[1], after))
    if all(name in inside for name in _EXTRA):  # BERT: the sum is normed, twice
        errors.append(
            max(
                distance(before + attention, inside["ln1.hook_in"]),
                distance(inside["ln1.hook_out"] + mlp, inside["ln2.hook_in"]),
                distance(inside["ln2.hook_out"], after),
            )
        )
    return min(errors)
