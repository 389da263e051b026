"""Code and documentation of this Python's own standard library.

Every module gives either its code or its docstrings, never both, so that no sentence stands in two
domains. Which one is decided by a hash of its path, until the code is `CODE_BYTES` long.
"""

import ast
import hashlib
import inspect
import os
import re
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from interp.corpus.document import Document
from interp.corpus.passages import cut, tidy
from interp.errors import AssetError

LICENCE = "PSF-2.0"
CODE_BYTES = 4_000_000
"""Bytes of code, about: the module that passes it is the last."""
_SKIPPED = {
    *("test", "tests", "idlelib", "site-packages", "dist-packages", "turtledemo", "__pycache__"),
    *("lib2to3", "ensurepip", "encodings", "pydoc_data", "msilib", "lib-dynload"),
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code(root: Path | None = None) -> Iterator[Document]:
    """Modules as they stand, cut between definitions.

    Raises:
        AssetError: this Python has no sources.
    """
    for name, text in _shares(_root(root))[0]:
        for passage in cut(text):
            yield _document(passage, f"Python {name}", "code", "py", name.partition("/")[0])


def documentation(root: Path | None = None) -> Iterator[Document]:
    """Docstrings of the other modules, and the language reference's topics as ``help()`` has them.

    Raises:
        AssetError: this Python has no sources.
    """
    folder = _root(root)
    for topic, text in _topics(folder / "pydoc_data" / "topics.py"):
        for passage in cut(tidy(text)):
            yield _document(
                passage, f"Python reference: {topic}", "documentation", "en", "reference"
            )
    for name, text in _shares(folder)[1]:
        for passage in cut(tidy("\n\n\n".join(_docstrings(text)))):
            yield _document(passage, f"Python {name}, docstrings", "documentation", "en", "library")


def _document(text: str, title: str, domain: str, language: str, topic: str) -> Document:
    return Document(
        text=text, title=title, domain=domain, language=language, licence=LICENCE, topic=topic
    )


def _root(root: Path | None) -> Path:
    return root or Path(sysconfig.get_path("stdlib"))


def _shares(root: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Modules for their code, and modules for their docstrings, each as (path, text) by path."""
    modules: list[tuple[str, str]] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not name.startswith("config-")
        )
        for file in files:
            path = Path(folder, file)
            # _sysconfigdata describes the machine, not the language.
            if path.suffix == ".py" and not file.startswith("_sysconfigdata"):
                with tokenize.open(path) as source:  # honours the encoding a module declares
                    modules.append((path.relative_to(root).as_posix(), source.read()))
    if not modules:
        raise AssetError(
            f"this Python has no standard library sources at {root}; use one that has them"
        )
    modules.sort(key=lambda module: hashlib.sha256(module[0].encode()).digest())
    size = count = 0
    while count < len(modules) and size < CODE_BYTES:
        size += len(modules[count][1].encode())
        count += 1
    return sorted(modules[:count]), sorted(modules[count:])


def _docstrings(text: str) -> Iterator[str]:
    """Docstrings of a module, with the name each belongs to, in the order they stand."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old modules
        tree = ast.parse(text)
    found = [
        (getattr(node, "lineno", 0), getattr(node, "name", ""), document)
        for node in ast.walk(tree)
        if isinstance(node, _DOCUMENTED) and (document := ast.get_docstring(node))
    ]
    for _, name, document in sorted(found):
        yield f"{name}\n{document}" if name else document


def _topics(path: Path) -> list[tuple[str, str]]:
    """The strings of the dictionary ``topics``, read without running the module.

    A topic that is a section of another one is left out.
    """
    if not path.is_file():
        return []
    texts: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    texts[str(key.value)] = inspect.cleandoc(str(value.value))
    # Longest first; the line below a heading differs with its rank.
    kept: dict[str, str] = {}
    for topic in sorted(texts, key=lambda topic: (-len(texts[topic]), topic)):
        body = re.sub(r"^([*=~^\"-])\1*$", "", texts[topic], flags=re.M)
        if not any(body in longer for longer in kept.values()):
            kept[topic] = body
    return [(topic, text) for topic, text in texts.items() if topic in kept]
