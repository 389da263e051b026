"""``load_corpus``: by name, by path, or from the hub."""

from pathlib import Path

from interp.corpus.document import Corpus
from interp.corpus.hub import PREFIX, read_hub
from interp.corpus.own import read_own
from interp.corpus.packaged import RECIPES, load_packaged
from interp.errors import UnknownName
from interp.workspace import Workspace


def load_corpus(name_or_path: str, workspace: Workspace | None = None) -> Corpus:
    """A packaged corpus, a file or folder of one's own, or a data set of the Hugging Face hub.

    Args:
        name_or_path: ``library``, ``shakespeare``; a path to a text file, a ``.jsonl`` or
            ``.parquet`` file with a ``text`` column, or a folder of such; ``hf:DATASET``.
        workspace: where packaged corpora are; the default one if None.

    Raises:
        UnknownName: it is neither a packaged corpus nor a path.
        AssetError: the packaged corpus has not been fetched; the message names the command.
        FormatError: a file is not what its name says.
        DataError: there is no text in it.
    """
    if name_or_path in RECIPES:
        return load_packaged(name_or_path, workspace or Workspace.at())
    if name_or_path.startswith(PREFIX):
        return read_hub(name_or_path)
    path = Path(name_or_path).expanduser()
    if name_or_path and path.exists():  # an empty name would be the current folder
        return read_own(path)
    raise UnknownName(
        "corpus",
        name_or_path,
        RECIPES,
        f"Or give a path that exists, or {PREFIX}DATASET for one of the Hugging Face hub",
    )
