"""Which features a training stage shares with the one before: a crosscoder over the stages.

From one stage to the next a latent's share is r = n_after / (n_before + n_after), n being the norms
of its decoder at the stages: gone below .3, shared from .3 to .7, new above.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer

from interp.lab.toys.alphabet import decode
from interp.sae import Architecture, TrainConfig, train
from interp.sae.crosscoder import relative_norms
from interp.store import ActivationStore

GONE, NEW = 0.3, 0.7
_SHOWN, _ROWS, _BEFORE = 5, 3, 15


@dataclass(frozen=True)
class Joined:
    """A crosscoder over stages, on the rows it was trained on; only the latents that fire there."""

    norms: Float[np.ndarray, "latent stage"]
    """Relative norms of the decoder."""
    active: Float32[np.ndarray, "row latent"]
    tokens: Integer[np.ndarray, " row"]

    def later(self, stage: int) -> Float[np.ndarray, " latent"]:
        """Each latent's share of the stage after this one, of both."""
        before, after = self.norms[:, stage], self.norms[:, stage + 1]
        return after / (before + after)

    def where(self, order: Float[np.ndarray, " latent"]) -> str:
        """For the latents of greatest value, the strongest rows with the text before them."""
        lines: list[str] = []
        for latent in np.argsort(-order, kind="stable")[:_SHOWN]:
            rows = np.argsort(-self.active[:, latent], kind="stable")[:_ROWS]
            shown = (self._text(int(row)) for row in rows)
            lines.append(f"{order[latent]:.2f}  {' | '.join(shown)}")
        return "\n".join(lines)

    def _text(self, row: int) -> str:
        ids = self.tokens[max(row - _BEFORE, 0) : row + 1]
        return decode(ids.tolist()).replace("\n", "↵")


@torch.no_grad()
def joined(
    store: ActivationStore,
    stages: Sequence[str],
    architecture: Architecture,
    config: TrainConfig,
) -> Joined:
    """Train a crosscoder over sites of a store.

    Args:
        store: all stages' activations on the same rows.
        stages: the sites, in the order of training.
        architecture: such as BatchTopK.
        config: the run.
    """
    site = "+".join(stages)
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        dictionary = train(store, site, architecture, config, out=Path(folder) / site, device="cpu")
    active = dictionary.encode(torch.from_numpy(store.read(site, 0, store.rows)))
    alive = (active > 0).any(dim=0)
    norms = relative_norms(dictionary)[alive]
    return Joined(norms.numpy(), active[:, alive].numpy(), store.tokens)


def shared(share: Float[np.ndarray, " latent"]) -> float:
    """How many of the latents are neither gone nor new, as a share."""
    return float(np.mean((share >= GONE) & (share <= NEW)))
