"""Direct logit attribution: what a unit adds to the logits by the straight path to them.

nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits", section on the direct path. A unit with activation a and
direction d at a site adds a d to it, which the site's own matrix W writes to the residual stream:

    logits += a · lens(d W) / s

with lens of `LoadedModel.logit_lens` (final norm's weight and unembedding, mean over the vocabulary
removed) and s the number by which the final norm divides at that position. s is held as the model
has it, so the parts of all units add up; what later layers make of the unit is no part of it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError
from interp.evaluate.causal.part import Part
from interp.models import LoadedModel

_SCALE = "ln_final.hook_scale"


@dataclass(frozen=True)
class Direct:
    """A unit's direct path to the logits over one window."""

    activation: Float[Tensor, " length"]
    """Of the unit at each position."""
    scale: Float[Tensor, " length"]
    """What the final norm divides by."""
    lens: Float[Tensor, " vocab"]
    """Logits of a step of 1 along the unit, before the final norm divides."""

    def logits(self, position: int) -> Float[Tensor, " vocab"]:
        """What the unit adds to the logits at a position, their mean removed."""
        return self.activation[position] * self.lens / self.scale[position]


@torch.no_grad()
def direct(model: LoadedModel, part: Part, tokens: Int[Tensor, " length"]) -> Direct:
    """Direct logit attribution of a unit on one window.

    Raises:
        ConfigError: the site does not write linearly to the residual stream.
    """
    written = model.write_directions(part.site, part.direction[None])
    if written is None:
        raise ConfigError(
            f"{part.site.name} of {model.name} does not write linearly to the residual stream, so "
            "there is no direct path to the logits; use an ablation"
        )
    x = model.activations(tokens[None], [part.site])[part.site.name][0].float()
    scale = divisor(model, tokens)
    return Direct(part.activation(x).to(scale), scale, model.logit_lens(written)[0])


@torch.no_grad()
def divisor(model: LoadedModel, tokens: Int[Tensor, " length"]) -> Float[Tensor, " length"]:
    """What the final norm divides by at each position of a window; 1 where there is no norm."""
    scale = torch.ones(len(tokens), device=model.device)

    def read(value: Tensor, hook: Any) -> None:
        scale.copy_(value[0].float().reshape(len(tokens), -1)[:, 0])

    bridge: Any = model.bridge
    hooks = [(_SCALE, read)] if _SCALE in bridge.hook_dict else []
    model.forward(tokens[None], fwd_hooks=hooks)
    return scale
