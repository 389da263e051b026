"""What a workspace holds, and in which state each thing is. Reads small files only.

Every item gets one of three states, so that a half-written or foreign file is a line on the page
and never a traceback: *ready*, *unfinished* (its job has not ended) and *unreadable* (foreign,
damaged or written by a newer version; the note says which).
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from apps.notes import BLIND, SUFFIX
from interp.errors import FormatError, InterpError
from interp.features.table import UnitTable
from interp.files import read_json
from interp.workspace import Workspace

_BESIDE = (".lock", SUFFIX, BLIND)
"""Ends of the names of files that lie beside artefacts and are none."""
State = Literal["ready", "unfinished", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One artefact of a workspace."""

    name: str
    """Where it stands below its folder: a model, a store, ``model/site/dictionary``, ..."""
    path: Path
    state: State = "ready"
    note: str = ""
    """Why it is not ready, in words."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What its own small files say, as read."""


def models(workspace: Workspace) -> list[Item]:
    """Models that were fetched, converted or trained here."""
    return [_guarded(path, path.name, _model) for path in _folders(workspace.root / "models", 1)]


def stores(workspace: Workspace) -> list[Item]:
    """Activation stores, by their manifest alone."""
    return [_guarded(path, path.name, _store) for path in _folders(workspace.root / "stores", 1)]


def dictionaries(workspace: Workspace) -> list[Item]:
    """Trained dictionaries with their held-out figures."""
    found = _folders(workspace.root / "dictionaries", 3)
    return [_guarded(path, "/".join(path.parts[-3:]), _dictionary) for path in found]


def tables(workspace: Workspace) -> list[Item]:
    """Unit tables; their columns stay unread."""
    root = workspace.root / "units"
    found = sorted(path for path in root.glob("*/*/*") if path.is_file() and _shown(path))
    return [_guarded(path, "/".join(path.relative_to(root).parts), _table) for path in found]


def stale(items: Iterable[Item], workspace: Workspace) -> dict[str, str]:
    """Unit tables whose store is gone or another one by now, by name, with what follows."""
    digests: dict[str, str] = {}
    found: dict[str, str] = {}
    for item in items:
        if item.state != "ready":
            continue
        name = str(item.facts["store"])
        if name not in digests:
            try:
                manifest = (workspace.store(name) / "manifest.json").read_bytes()
                digests[name] = hashlib.sha256(manifest).hexdigest()
            except (OSError, InterpError):
                digests[name] = ""
        if not digests[name]:
            found[item.name] = f"store {name} is gone: figures only, no contexts"
        elif digests[name] != item.facts["store_digest"]:
            found[item.name] = f"store {name} was captured again since; `interp extract` it again"
    return found


def lab(workspace: Workspace) -> list[Item]:
    """Published results reproduced here."""
    return [_guarded(path, path.name, _result) for path in _folders(workspace.root / "lab", 1)]


def sites(items: Iterable[Item]) -> dict[str, list[str]]:
    """Each model's sites that have a readable unit table, both sorted."""
    found: dict[str, set[str]] = {}
    for item in items:
        if item.state == "ready":
            model, site, _ = item.name.split("/")
            found.setdefault(model, set()).add(site)
    return {model: sorted(names) for model, names in sorted(found.items())}


def _folders(root: Path, depth: int) -> list[Path]:
    found = root.glob("/".join("*" * depth))
    return sorted(path for path in found if path.is_dir() and _shown(path))


def _shown(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(_BESIDE)


def _guarded(path: Path, name: str, read: Callable[[Path, str], Item]) -> Item:
    try:
        return read(path, name)
    except (InterpError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) or type(error).__name__
        return Item(name=name, path=path, state="unreadable", note=why)


def _model(path: Path, name: str) -> Item:
    if not (path / "model.json").exists():
        unfinished = any(path.iterdir())
        note = "no model.json yet: its download or training has not ended; run it again"
        return Item(name=name, path=path, state="unfinished", note=note if unfinished else "empty")
    facts = {"provenance": _record(read_json(path / "model.json"))}
    return Item(name=name, path=path, facts=facts)


def _store(path: Path, name: str) -> Item:
    if not (path / "manifest.json").exists():
        note = "no manifest.json: not an activation store, or its capture has only begun"
        return Item(name=name, path=path, state="unfinished", note=note)
    facts = read_json(path / "manifest.json")
    if facts.get("format") != "interp-activation-store":
        raise FormatError(f"{path / 'manifest.json'} is not an activation store's manifest")
    corpus = facts["corpus"]
    state = facts["state"]
    facts = {
        "model": str(facts["model"]),
        "corpus": str(corpus["name"] if isinstance(corpus, dict) else corpus),
        "rows": int(facts["rows"]),
        "sites": [str(site["name"]) for site in facts["sites"]],
        "provenance": _record(facts),
    }
    if state == "sealed":
        return Item(name=name, path=path, facts=facts)
    note = "its capture has not ended; the same `interp capture` command continues it"
    return Item(name=name, path=path, state="unfinished", note=note, facts=facts)


def _dictionary(path: Path, name: str) -> Item:
    config = read_json(path / "config.json")
    if config.get("format") != "interp-dictionary":
        raise FormatError(f"{path / 'config.json'} describes no dictionary of interp")
    if config.get("state") != "finished":
        note = "its training has not ended; the same `interp train` command continues it"
        return Item(name=name, path=path, state="unfinished", note=note)
    measured = (path / "metrics.json").exists()
    metrics = read_json(path / "metrics.json") if measured else {}
    facts = {**metrics.get("heldout", {}), **metrics.get("downstream", {})}
    note = "" if "loss_recovered" in facts else "`interp evaluate` measures its loss recovered"
    return Item(name=name, path=path, note=note, facts={**facts, "provenance": _record(config)})


def _result(path: Path, name: str) -> Item:
    if not (path / "result.json").exists():
        note = "no result.json: its run has not ended, or broke off; run it again"
        return Item(name=name, path=path, state="unfinished", note=note)
    found = read_json(path / "result.json")
    if found.get("version") != 1:
        raise FormatError(f"{path / 'result.json'} is of another version; run `interp lab` again")
    checks = [
        {
            **_measured(check),
            "expected": float(check["expected"]),
            "low": None if check["low"] is None else float(check["low"]),
            "high": None if check["high"] is None else float(check["high"]),
            "passed": bool(check["passed"]),
            "why": str(check.get("why", "")),
        }
        for check in found["checks"]
    ]
    facts = {
        "paper": str(found["paper"]),
        "claim": str(found["claim"]),
        "effort": str(found["effort"]),
        "setting": dict(found["setting"]),
        "passed": all(check["passed"] for check in checks),
        "checks": checks,
        "reported": [_measured(each) for each in found.get("reported", [])],
        "figures": [_figure(figure) for figure in found["figures"]],
        "notes": {str(name): str(text) for name, text in found.get("notes", {}).items()},
        "provenance": _record(found),
    }
    return Item(name=name, path=path, facts=facts)


def _measured(each: dict[str, Any]) -> dict[str, Any]:
    """A quantity of a result and its values over the seeds."""
    return {
        "quantity": str(each["quantity"]),
        "values": [float(value) for value in each["values"]],
        "mean": float(each["mean"]),
        "spread": None if each["spread"] is None else float(each["spread"]),
    }


def _figure(figure: dict[str, Any]) -> dict[str, Any]:
    kind = str(figure["kind"])
    if kind not in ("line", "scatter", "heatmap"):
        raise FormatError(f"a figure of kind {kind!r} is not known; update interp")
    width = 3 if kind == "heatmap" else 2
    series = {
        str(name): [[float(value) for value in point[:width]] for point in points]
        for name, points in figure["series"].items()
    }
    if any(len(point) != width for points in series.values() for point in points):
        raise FormatError(f"a figure has points that are not {width} numbers; run it again")
    words = {name: str(figure[name]) for name in ("title", "x", "y")}
    words["slider"] = str(figure.get("slider", ""))
    return {**words, "kind": kind, "series": series, "log": list(figure.get("log", []))}


def _record(values: dict[str, Any]) -> dict[str, Any]:
    """The provenance inside a file, or nothing."""
    found = values.get("provenance")
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _table(path: Path, name: str) -> Item:
    if path.suffix == ".partial":
        note = "its extraction has not ended; the same `interp extract` command continues it"
        return Item(name=name, path=path, state="unfinished", note=note)
    if path.suffix != ".h5":
        raise FormatError(f"{path.name} is no unit table (an .h5 file written by interp extract)")
    table = UnitTable.open(path)
    facts: dict[str, Any] = {
        "units": table.n_units,
        "rows": table.rows,
        "kind": table.kind,
        "store": table.store,
        "store_digest": table.store_digest,
    }
    facts["provenance"] = table.provenance
    return Item(name=name.removesuffix(".h5"), path=path, facts=facts)
