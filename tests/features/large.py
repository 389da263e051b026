"""A wide dictionary over many rows, in bounded memory: ``python -m tests.features.large``.

A made-up store, narrow so that it is soon read, and a random dictionary of many latents with a
threshold that a few of them pass on each row. Printed as JSON: units a second, seconds of processor
and of wall time, the process' peak memory, active latents a row.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from interp.features import ExtractConfig, extract
from interp.features.bases import DictionaryBasis
from interp.sae import BatchTopK, Origin
from interp.store import ActivationStore
from tests.stores import make_store

SITE, WIDTH, ACTIVE = "resid_post.0", 16, 16


def a_store(path: Path, rows: int) -> ActivationStore:
    """Normal rows, and tokens of a skewed vocabulary of 2,000."""
    draw = np.random.default_rng(0)
    tokens = np.minimum(draw.geometric(0.005, rows) - 1, 1999)
    return make_store(
        path,
        activations={SITE: draw.normal(size=(rows, WIDTH)).astype(np.float16)},
        tokens=tokens,
        vocabulary=[*(f" w{number}" for number in range(2000)), "<bos>"],
        bos=2000,
        documents=rows // 500,
        shard_rows=1 << 16,
    )


def a_basis(latents: int) -> DictionaryBasis:
    """Random unit directions; each latent passes on the same small share of normal rows."""
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0" * 64)
    made = BatchTopK(k=ACTIVE, latents=latents).dictionary(WIDTH, origin).requires_grad_(False)
    made.W_dec.copy_(torch.randn(latents, WIDTH, generator=torch.Generator().manual_seed(0)))
    made.W_dec /= made.W_dec.norm(dim=1, keepdim=True)
    made.W_enc.copy_(made.W_dec.T)
    share = torch.tensor(1 - ACTIVE / latents, dtype=torch.float64)
    made.threshold.fill_(float(torch.special.ndtri(share)))
    return DictionaryBasis(made, "wide")


def main() -> None:
    """Extract and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latents", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(Path(folder) / "store", args.rows)
        config = ExtractConfig(contexts=3, before=8, after=4)
        before, start = time.process_time(), time.perf_counter()
        basis = a_basis(args.latents)
        (table,) = extract(
            [basis], store, config=config, out=Path(folder) / "out", activations=True
        ).tables
        processor, wall = time.process_time() - before, time.perf_counter() - start
        found = {
            "latents": args.latents,
            "rows": args.rows,
            "units_per_s": args.latents / wall,
            "units_per_processor_s": args.latents / processor,
            "processor_s": processor,
            "wall_s": wall,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "active_per_row": float(table.column("active").sum()) / args.rows,
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
