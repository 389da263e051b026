"""A small corpus and the settings of a small model that learns it in half a second."""

import json
import random
from pathlib import Path

from interp.corpus.document import Document, write_documents
from interp.corpus.packaged import RECIPE
from interp.files import sha256, write_json
from interp.models.shakespeare import ShakespeareConfig
from interp.workspace import Workspace

CONFIG = ShakespeareConfig(
    d_model=16,
    d_mlp=32,
    n_heads=2,
    n_ctx=16,
    vocabulary=320,
    steps=120,
    windows=8,
    lr=1e-2,
    precision="float32",
)
CHECKPOINTS = [0, 10, 30, 100, 120]


def plays(works: int = 4, scenes: int = 6) -> list[Document]:
    """Verse of a small grammar, the same every time."""
    draw = random.Random(1)
    words = [
        ["The", "A", "My"],
        ["king", "queen", "night", "rose"],
        ["loves", "slays", "seeks"],
        ["thy", "his"],
        ["crown", "heart", "née ☃"],
    ]
    return [
        Document(
            text="\n".join(" ".join(map(draw.choice, words)) + "." for _ in range(20)),
            title=f"Play {work}",
            domain="drama",
            language="en",
            licence="",
        )
        for work in range(works)
        for _ in range(scenes)
    ]


def workspace_at(path: Path, documents: list[Document]) -> Workspace:
    """A workspace whose corpus ``shakespeare`` is already built, out of these documents."""
    workspace = Workspace.at(path)
    folder = workspace.corpus("shakespeare")
    write_documents(folder / "documents.jsonl", documents)
    record = {
        "format": "interp-corpus",
        "version": RECIPE,
        "sha256": sha256(folder / "documents.jsonl"),
    }
    write_json(folder / "corpus.json", record)
    return workspace


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file, without the moment of creation and what else depends on the run."""
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    description = json.loads(found["model.json"])
    del description["provenance"]
    return found | {"model.json": json.dumps(description).encode()}


def interrupt_at(step: int):
    """A progress callback that does what Ctrl-C does."""

    def progress(done: int, total: int, note: str) -> None:
        if done >= step:
            raise KeyboardInterrupt

    return progress
