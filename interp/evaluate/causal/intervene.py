"""Changing a unit while the model runs, and random directions changed as much to compare with.

The first position of a window passes through unchanged: it is BOS or an attention sink, and a
model breaks there whatever is changed (see `interp.evaluate.downstream`).

The control moves x at every position by a vector of the same length as the intervention does, in
one random direction, uniform on the sphere and the same at all positions. So whatever any push of
that size would have done is no merit of the unit.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.evaluate.causal.part import Intervention, Part
from interp.models import LoadedModel

Change = Callable[[Float[Tensor, "batch length width"]], Float[Tensor, "batch length width"]]
UNCHANGED = 1
"""Positions at the start of a window that pass through."""


def unchanged(x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
    """The model itself, as a change."""
    return x


def changed(part: Part, intervention: Intervention) -> Change:
    """A function on the site's activation that applies an intervention."""
    return _moved(lambda rows: part.change(rows, intervention))


def control(part: Part, intervention: Intervention, seed: int) -> Change:
    """The same push at every position in a random direction."""
    draw = np.random.default_rng([seed, 0xC7]).normal(size=part.site.width)
    direction = torch.from_numpy(draw / np.linalg.norm(draw)).float()

    def push(rows: Tensor) -> Tensor:
        length = part.change(rows, intervention).norm(dim=1, keepdim=True)
        return length * direction.to(rows.device)

    return _moved(push)


def side_by_side(changes: Sequence[Change]) -> Change:
    """One change for each window of a batch, in order."""

    def replace(x: Tensor) -> Tensor:
        return torch.cat([change(x[i : i + 1]) for i, change in enumerate(changes)])

    return replace


@contextmanager
def intervene(
    model: LoadedModel, part: Part, intervention: Intervention
) -> Generator[None, None, None]:
    """Within the context, every forward pass of the model has the unit changed.

    >>> with intervene(model, part, Intervention(kind="ablate")):  # doctest: +SKIP
    ...     logits = model.forward(tokens)
    """
    with model.substitute(part.site, changed(part, intervention)):
        yield


def require_predictions(model: LoadedModel) -> None:
    """Refuse models whose logits are not of the next token.

    Raises:
        ConfigError: a masked model, an encoder-decoder, or a model without a head.
    """
    if model.masked or model.encoder_decoder or model.headless:
        raise ConfigError(
            f"{model.name} does not predict the next token from those before it, and causal checks "
            "compare such predictions; choose a causal language model"
        )


def _moved(push: Callable[[Tensor], Tensor]) -> Change:
    def replace(x: Tensor) -> Tensor:
        batch = len(x)
        rows = rearrange(x[:, UNCHANGED:].float(), "batch length width -> (batch length) width")
        if not len(rows):
            return x
        more = rearrange(push(rows), "(batch length) width -> batch length width", batch=batch)
        return torch.cat([x[:, :UNCHANGED], (x[:, UNCHANGED:].float() + more).to(x)], dim=1)

    return replace
