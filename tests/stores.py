"""Small real stores for tests, written by the real writer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from interp.provenance import Provenance
from interp.store import ActivationStore, Manifest, Site, StoredDocument, StoreWriter, Vocabulary
from interp.store.schema import planned

WORDS = ["the", " cat", " sat", " on", " mat", ".", "\n", " caf", "é", "<bos>"]


def make_store(
    path: Path,
    *,
    sites: Mapping[str, int] | None = None,
    rows: int = 600,
    documents: int = 6,
    activations: Mapping[str, np.ndarray] | None = None,
    tokens: np.ndarray | None = None,
    vocabulary: Sequence[str] = WORDS,
    sinks: np.ndarray | None = None,
    context: int = 32,
    bos: int | None = 9,
    shard_rows: int = 256,
    dtype: str = "float16",
    model: str = "toy",
    seed: int = 0,
) -> ActivationStore:
    """Write a sealed store of random (or the given) activations and return it.

    Rows are spread evenly over the documents, every second of which (from the second on, at most
    a third of all) is held out; each document is cut into windows of ``context``.
    """
    draw = np.random.default_rng([seed, 77])
    if activations is not None:
        rows = len(next(iter(activations.values())))
        sites = {name: values.shape[1] for name, values in activations.items()}
    widths = dict(sites or {"resid_post.0": 16})
    values = {
        name: draw.normal(size=(rows, width)).astype(np.float32) for name, width in widths.items()
    }
    values.update({name: np.asarray(given) for name, given in (activations or {}).items()})
    if tokens is None:
        tokens = draw.integers(0, len(vocabulary) - 1, rows)
    sizes = np.full(documents, rows // documents)
    sizes[: rows % documents] += 1
    first = np.cumsum(sizes) - sizes
    document = np.repeat(np.arange(documents), sizes)
    offset = 0 if bos is None else 1
    position = (np.arange(rows) - first[document]) % (context - offset) + offset
    table = [
        StoredDocument(
            title=f"Work {index}",
            domain=("prose", "code", "verse")[index % 3],
            language="en",
            licence="CC0",
            topic="",
            heldout=index % 3 == 1,
            first_row=int(first[index]),
            rows=int(sizes[index]),
        )
        for index in range(documents)
    ]
    places = tuple(
        Site(
            name=name,
            hook=f"blocks.{name.split('.')[-1]}.{name.split('.')[0]}",
            width=width,
            layer=int(name.split(".")[-1]),
        )
        for name, width in widths.items()
    )
    manifest = Manifest(
        model=model,
        model_digest="0" * 64,
        corpus="test",
        sites=places,
        dtypes={name: dtype for name in widths},
        context=context,
        bos=bos,
        rows=rows,
        shards=planned(min(shard_rows, rows - start) for start in range(0, rows, shard_rows)),
        request=f"request {seed}",
        plan=f"plan {seed}",
        sinks={"rule": "given"},
        provenance=Provenance(job="capture", seed=seed, config={}).to_dict(),
    )
    table_of_bytes = Vocabulary(
        [word.encode() for word in vocabulary], [] if bos is None else [bos]
    )
    sink = np.zeros(rows, bool) if sinks is None else sinks
    with StoreWriter(path, manifest, table, table_of_bytes) as writer:
        for index, start in enumerate(range(0, rows, shard_rows)):
            part = slice(start, start + shard_rows)
            writer.write_shard(
                index,
                token=tokens[part],
                document=document[part],
                position=position[part],
                sink=sink[part],
                activations={name: v[part] for name, v in values.items()},
            )
        writer.seal()
    return ActivationStore.open(path)
