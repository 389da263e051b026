"""Data sets of the Hugging Face hub, through ``datasets``, streamed up to a bound."""

import hashlib
from collections.abc import Iterator
from typing import Any

from interp.corpus.document import Corpus, Document, document_of
from interp.corpus.own import cut_all
from interp.errors import AssetError, ConfigError, DataError

PREFIX = "hf:"
MOST = 64 << 20
"""Bytes of text after which no more is streamed."""


def read_hub(name: str) -> Corpus:
    """The first `MOST` bytes of text of a data set's ``train`` split.

    Args:
        name: ``hf:DATASET`` or ``hf:DATASET:CONFIGURATION``; it needs a ``text`` column and may
            have columns called as the labels of a document.

    Raises:
        ConfigError: ``datasets`` is not installed.
        AssetError: the data set cannot be read.
        DataError: it has no text.
    """
    dataset, _, configuration = name.removeprefix(PREFIX).partition(":")
    if not dataset:
        raise ConfigError(f"{name!r} names no data set; write {PREFIX}OWNER/NAME")
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{name} needs the datasets package; run: pip install datasets"
        ) from error
    library: Any = datasets  # parts of it carry no types
    try:
        stream = library.load_dataset(dataset, configuration or None, split="train", streaming=True)
        documents = list(cut_all(list(_documents(stream, dataset))))
    except (OSError, ValueError, RuntimeError) as error:
        raise AssetError(
            f"data set {dataset} cannot be read ({type(error).__name__}: {error}); check its name "
            "and the connection, or save it as .parquet and give that file"
        ) from error
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document!r}\n".encode())
    return Corpus(name, digest.hexdigest(), documents)


def _documents(stream: Any, dataset: str) -> Iterator[Document]:
    size = 0
    for number, row in enumerate(stream):
        if "text" not in row:
            raise DataError(f"data set {dataset} has no column text; save it as .jsonl with one")
        labels = {key: value for key, value in row.items() if isinstance(value, str)}
        document = document_of(labels, f"{dataset}, row {number}", {"domain": dataset})
        size += len(document.text.encode())
        yield document
        if size > MOST:
            return
