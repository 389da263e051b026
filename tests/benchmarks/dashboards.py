"""Units a second beside SAEDashboard, on one SAE and one set of tokens.

python -m tests.benchmarks dashboards
python -m tests.benchmarks dashboards STORE DICTIONARY

Both make everything they show of a unit. Theirs runs its model over the tokens, for each 256
latents anew, as it always does; ours reads activations that were captured, once for all, and
measures all latents and the controls. The first form has a small made-up model; the second the
store's own, which must be of Llama's architecture, and a dictionary of its residual stream (their
folders).
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features import ExtractConfig, extract
from interp.features.bases import DictionaryBasis
from interp.models import load_model
from interp.sae import Dictionary, JumpReLU, Origin, load_dictionary
from interp.store import ActivationStore, Site
from interp.workspace import Workspace
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


def main(arguments: Sequence[str] = ()) -> None:
    """Time both and print the ratio."""
    if arguments:
        real(*map(Path, arguments))
    else:
        toy()


def real(path: Path, dictionary: Path, features: int = 256) -> None:
    """Beside each other on a captured store; ``features`` is how many of theirs are made."""
    store, sae = ActivationStore.open(path), load_dictionary(dictionary)
    site = store.site(sae.origin.site)
    source = Workspace.at(path.parent.parent).model(store.model)
    with tempfile.TemporaryDirectory() as name:
        folder, whole = Path(name), len(store.tokens) // CONTEXT
        tokens = store.tokens[: whole * CONTEXT].astype(np.int64).reshape(-1, CONTEXT)
        np.save(folder / "tokens.npy", tokens)
        _write(folder / "sae.npz", sae, features)
        model = load_model(str(source))
        start = time.perf_counter()
        extract([DictionaryBasis(sae, "sae")], store, model=model, out=folder / "out")
        ours = sae.n_latents / (time.perf_counter() - start)
        with worker("dashboard", name, str(source), f"blocks.{site.layer}.hook_resid_post") as peer:
            theirs = features / peer("dashboard")
    _say(ours, sae.n_latents, theirs, features, store.rows)


def toy(features: int = 128) -> None:
    """Beside each other on a small model; ``features`` is how many of theirs are made."""
    with tempfile.TemporaryDirectory() as name, worker("dashboard", name) as peer:
        folder = Path(name)
        draw = np.random.default_rng(0)
        tokens = np.minimum(draw.geometric(0.005, (PROMPTS, CONTEXT)), VOCABULARY - 1)
        np.save(folder / "tokens.npy", tokens)
        peer("activations")
        rows = np.load(folder / "activations.npy")
        basis = _basis(rows)
        _write(folder / "sae.npz", basis.dictionary, features)
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
    _say(ours, LATENTS, theirs, features, PROMPTS * CONTEXT)


def _write(path: Path, sae: Dictionary, features: int) -> None:
    """What the peer makes a JumpReLU SAE of."""
    arrays = {n: getattr(sae, n).numpy() for n in ("W_enc", "b_enc", "W_dec", "b_dec")}
    threshold = np.broadcast_to(sae.threshold.numpy(), sae.n_latents)
    np.savez(path, **arrays, threshold=threshold, features=features)


def _say(ours: float, latents: int, theirs: float, features: int, tokens: int) -> None:
    sys.stdout.write(
        f"interp extract: {ours:.1f} units/s (all {latents:,} and the controls); SAEDashboard: "
        f"{theirs:.2f} units/s ({features} of them); {ours / theirs:.1f} times as fast, "
        f"{tokens:,} tokens\n"
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
