"""SAELens' cache of activations, by its own functions.

Tasks ``write``, ``read`` and ``batches`` come on stdin. Arguments: a .npy file of float16 rows, and
a folder to write into.
"""

import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, os.environ.get("INTERP_PEERS_PATH", ""))

import numpy as np
import torch
from datasets import Array2D, Features, Sequence, Value
from sae_lens.cache_activations_runner import CacheActivationsRunner
from sae_lens.training.activations_store import ActivationsStore
from sae_lens.training.mixing_buffer import mixing_buffer

HOOK, CONTEXT, PROMPTS, BATCH = "blocks.0.hook_resid_post", 128, 64, 4096
rows = torch.from_numpy(np.load(sys.argv[1]))
folder = Path(sys.argv[2])
width = rows.shape[1]
buffer = 65_536
numbers = itertools.count()


def write() -> None:
    """As `CacheActivationsRunner.run` does with what the model gave."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".tmp_shards").mkdir(parents=True)
    runner = CacheActivationsRunner.__new__(CacheActivationsRunner)
    runner.cfg = SimpleNamespace(hook_name=HOOK, n_seq_in_buffer=buffer // CONTEXT, d_in=width)
    runner.context_size = CONTEXT
    runner.features = Features(
        {
            HOOK: Array2D(shape=(CONTEXT, width), dtype="float16"),
            "token_ids": Sequence(Value(dtype="int32"), length=CONTEXT),
        }
    )
    for index, start in enumerate(range(0, len(rows), buffer)):
        tokens = torch.zeros(buffer, dtype=torch.int32)
        shard = runner._create_shard((rows[start : start + buffer], tokens))
        shard.save_to_disk(f"{folder}/.tmp_shards/shard_{index:05d}", num_shards=1)
    runner._consolidate_shards(folder / ".tmp_shards", folder, copy_files=False)
    os.sync()


def opened() -> SimpleNamespace:
    """What its training holds of a cache."""
    store = SimpleNamespace(
        cached_activations_path=str(folder),
        hook_name=HOOK,
        context_size=CONTEXT,
        d_in=width,
        store_batch_size_prompts=PROMPTS,
        current_row_idx=0,
        device="cpu",
        dtype=torch.float16,
    )
    store.cached_activation_dataset = ActivationsStore.load_cached_activation_dataset(store)
    return store


def read() -> None:
    """In order."""
    store = opened()
    for _ in range(len(rows) // (PROMPTS * CONTEXT)):
        acts, _ = ActivationsStore._load_raw_llm_batch_from_cached(store, False)
        acts.float()
    assert torch.equal(acts, rows[-len(acts) :])


def batches() -> None:
    """Every row once, mixed and in float32, as its training takes them; half the buffer stays."""
    store = opened()

    def blocks():
        for _ in range(len(rows) // (PROMPTS * CONTEXT)):
            yield ActivationsStore._load_raw_llm_batch_from_cached(store, False)[0].float()

    drawn = sum(len(batch) for batch in mixing_buffer(buffer, BATCH, blocks()))
    assert drawn == len(rows)


for line in sys.stdin:
    start = time.perf_counter()
    {"write": write, "read": read, "batches": batches}[line.strip()]()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
