"""The public page about a store's files is true: its example runs, its tables are complete."""

import ast
import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from interp.cli import VERBS
from interp.files import read_json
from interp.store import ActivationStore
from tests.stores import make_store

SITE = "mlp_post.0"
PAGE = (Path(__file__).parents[2] / "activations" / "README.md").read_text(encoding="utf-8")
READ, FROM_BITS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def store_as(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(dtype: str) -> ActivationStore:
        path = tmp_path / "stores" / "shakespeare-1l"
        return make_store(path, sites={SITE: 12, "resid_post.0": 5}, dtype=dtype)

    return make


def run(code: str) -> dict:
    found: dict = {}
    exec(code, found)
    for shard in found["shards"]:
        shard.close()
    return found


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_five_statements_read_a_store(store_as, dtype) -> None:
    store = store_as(dtype)
    assert len(ast.parse(READ).body) == 5
    assert "interp" not in READ
    found = run(READ + (FROM_BITS if dtype == "bfloat16" else ""))
    assert np.array_equal(found["tokens"], store.tokens)
    assert np.array_equal(found["values"].astype(np.float32), store.read(SITE, 0, store.rows))


def rows_of_tables() -> dict[str, str]:
    """The rest of each table row by each name in its first cell."""
    found: dict[str, str] = {}
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            _, first, rest = line.split("|", 2)
            found |= dict.fromkeys(re.findall(r"`(.+?)`", first), rest)
    return found


def test_the_page_lists_every_dataset_with_its_type(store_as) -> None:
    store = store_as("bfloat16")
    table = rows_of_tables()
    with h5py.File(store.path / "shard-00000.h5") as file:
        datasets: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, found: datasets.update({name: found}))
        datasets.pop("activations")
        assert dict(datasets[f"activations/{SITE}"].attrs) == {"torch_dtype": "bfloat16"}
        for name, dataset in datasets.items():
            row = table[re.sub("/.*", "/<site>", name)]
            assert str(dataset.dtype) in row, name


def test_the_page_lists_every_field(store_as) -> None:
    store = store_as("float16")
    table = rows_of_tables()
    assert set(read_json(store.path / "manifest.json")) <= set(table)
    shard = table["shards"]
    for field in dataclasses.fields(store.manifest.shards[0]):
        assert f"`{field.name}`" in shard
    for field in dataclasses.fields(store.documents[0]):
        assert f"`{field.name}`" in PAGE
    for file in store.path.iterdir():
        assert re.sub(r"\d{5}", "00000", file.name) in table or file.name == ".lock"


def test_every_command_on_the_page_exists() -> None:
    named = set(re.findall(r"`interp\s+(\w+)", PAGE))
    assert {"capture", "train", "extract", "demo", "verify"} <= named <= set(VERBS)
