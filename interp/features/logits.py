"""Tokens that each unit's direction promotes and suppresses: the logit lens on directions."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.bases import Basis
from interp.features.table_writer import Logits
from interp.store import Site

TOKENS = 10
CHUNK = 256


@runtime_checkable
class Lens(Protocol):
    """The part of `interp.models.LoadedModel` that is used here."""

    name: str
    digest: str

    def write_directions(
        self, site: Site, directions: Float[Tensor, "n width"]
    ) -> Float[Tensor, "n d_model"] | None:
        """What directions of a site add to the residual stream."""
        ...

    def logit_lens(self, residual: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """The effect of residual-stream directions on the logits."""
        ...


def logits(basis: Basis, site: Site, model: Lens, vocabulary: int | None = None) -> Logits | None:
    """The `TOKENS` most promoted and suppressed tokens of every unit.

    Args:
        basis: whose directions.
        site: where they write.
        model: any loaded model.
        vocabulary: token ids from here on stand for no text and are left out (a model's embedding
            may be padded).

    Returns:
        None where the site does not write to the residual stream linearly.
    """
    directions = basis.directions()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(directions), CHUNK):
        written = model.write_directions(site, directions[start : start + CHUNK])
        if written is None:
            return None
        with torch.no_grad():
            effect = model.logit_lens(written).detach().float().cpu()[:, :vocabulary]
        count = min(TOKENS, effect.shape[1])
        up, down = effect.topk(count, dim=1), effect.topk(count, dim=1, largest=False)
        parts.append(
            (up.indices.numpy(), up.values.numpy(), down.indices.numpy(), down.values.numpy())
        )
    promoted, promoted_value, suppressed, suppressed_value = (
        np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    return Logits(
        promoted=promoted,
        promoted_value=promoted_value,
        suppressed=suppressed,
        suppressed_value=suppressed_value,
    )
