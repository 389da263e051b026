"""Files for the tests of this folder."""

from pathlib import Path


def put(folder: Path, **files: str | bytes) -> None:
    """Write files; ``__`` in a name stands for ``/``."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
