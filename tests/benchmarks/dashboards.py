"""Units a second beside SAEDashboard, on one SAE and one set of tokens.

Both make everything they show of a unit. Theirs runs its small model over the tokens, as it always
does; ours reads activations that were captured, and measures all latents and the controls.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features import ExtractConfig, extract
from interp.features.bases import DictionaryBasis
from interp.sae import JumpReLU, Origin
from interp.store import Site
from tests.benchmarks.peers import worker
from tests.stores import make_store

SITE, LATENTS, ACTIVE = "resid_post.0", 1024, 16
PROMPTS, CONTEXT, VOCABULARY = 128, 128, 2000


class Lens:
    """The peer's model as far as the logit lens needs it."""

    name, digest = "toy", "0" * 64

    def __init__(self, unembedding: Float[np.ndarray, "width vocab"]) -> None:
        self._matrix = torch.from_numpy(unembedding)

    def write_directions(self, site: Site, directions: Float[Tensor, "n width"]) -> Tensor:
        return directions

    def logit_lens(self, residual: Float[Tensor, "n width"]) -> Tensor:
        return residual @ self._matrix


def main(features: int = 32) -> None:
    """Time both and print the ratio; ``features`` is how many of theirs are made."""
    with tempfile.TemporaryDirectory() as name, worker("dashboard", name) as peer:
        folder = Path(name)
        draw = np.random.default_rng(0)
        tokens = np.minimum(draw.geometric(0.005, (PROMPTS, CONTEXT)), VOCABULARY - 1)
        np.save(folder / "tokens.npy", tokens)
        peer("activations")
        rows = np.load(folder / "activations.npy")
        basis = _basis(rows)
        made = basis.dictionary
        arrays = {n: getattr(made, n).numpy() for n in ("W_enc", "b_enc", "W_dec", "b_dec")}
        np.savez(folder / "sae.npz", **arrays, threshold=made.threshold.numpy(), features=features)
        store = make_store(
            folder / "store",
            activations={SITE: rows},
            tokens=tokens.reshape(-1),
            vocabulary=[f" w{number}" for number in range(VOCABULARY)],
            bos=0,
            documents=PROMPTS,
            dtype="float32",
        )
        lens, config = Lens(np.load(folder / "unembedding.npy")), ExtractConfig()
        extract([basis], store, model=lens, config=config, out=folder / "warm")
        start = time.perf_counter()
        extract([basis], store, model=lens, config=config, out=folder / "out")
        ours = LATENTS / (time.perf_counter() - start)
        theirs = features / peer("dashboard")
    sys.stdout.write(
        f"interp extract: {ours:.1f} units/s (all {LATENTS} and the controls); SAEDashboard: "
        f"{theirs:.2f} units/s ({features} of them); {ours / theirs:.1f} times as fast, "
        f"{PROMPTS * CONTEXT:,} tokens\n"
    )


def _basis(rows: np.ndarray) -> DictionaryBasis:
    """Random unit directions; each latent passes its threshold on the same share of rows."""
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0" * 64)
    made = JumpReLU(latents=LATENTS).dictionary(rows.shape[1], origin).requires_grad_(False)
    made.W_dec.copy_(torch.randn(made.W_dec.shape, generator=torch.Generator().manual_seed(0)))
    made.W_dec /= made.W_dec.norm(dim=1, keepdim=True)
    made.W_enc.copy_(made.W_dec.T)
    made.b_dec.copy_(torch.from_numpy(rows.mean(axis=0)))
    pre = made.pre_activations(torch.from_numpy(rows))
    kept = round(len(rows) * ACTIVE / LATENTS)
    made.threshold.copy_(pre.topk(kept + 1, dim=0).values[-1].clamp_min(0))
    return DictionaryBasis(made, "sae")
