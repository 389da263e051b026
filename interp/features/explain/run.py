"""Explaining units one after the other, continuing where it was interrupted."""

import time
from collections.abc import Sequence

from filelock import FileLock, Timeout

from interp.config import to_dict
from interp.errors import ResourceError
from interp.features.bases import Basis
from interp.features.explain.config import ExplainConfig
from interp.features.explain.contexts import Chosen, Contexts
from interp.features.explain.detection import Detection, detection
from interp.features.explain.explainer import Explainer
from interp.features.explain.files import (
    Explained,
    ExplanationFile,
    explanations_path,
    read_explanations,
)
from interp.features.table import UnitTable
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import ActivationStore

EVERY = 5.0
"""Seconds between two writes; an interruption writes what there is."""
TOGETHER = 256
"""Units whose contexts are looked up at a time."""


def explain_units(
    table: UnitTable,
    units: Sequence[int],
    store: ActivationStore,
    explainer: Explainer,
    *,
    basis: Basis | None = None,
    config: ExplainConfig | None = None,
    progress: Progress = silent,
) -> dict[int, Explained]:
    """Explain units, judge each explanation, and write both beside the table.

    Units that the same model has explained with the same prompt, settings and table are skipped,
    and so are units without contexts.

    Args:
        table: of the units.
        units: their numbers.
        store: from which the table was extracted.
        explainer: whom to ask.
        basis: of the table; without it explanations are not judged.
        config: settings; the defaults if None.
        progress: called with units done.

    Returns:
        What this explainer says, or has said before, of those units that it has an answer for.

    Raises:
        DataError: another store or basis than the table's; an odd answer.
        FormatError: no such unit, or a malformed file.
        ResourceError: the model cannot be reached, another process explains units of this table, or
            nothing can be written.
    """
    settings = config or ExplainConfig()
    for unit in units:
        table.check(unit)
    contexts = Contexts(table, store, basis, settings)
    run = {
        "backend": explainer.backend,
        "model": explainer.model,
        "prompt": explainer.prompt,
        "table": table.key,
        "judged": basis is not None and settings.judged > 0,
        "config": to_dict(settings),
        "provenance": Provenance(
            job="explain",
            seed=settings.seed,
            config={**to_dict(settings), "backend": explainer.backend, "model": explainer.model},
            parents={table.path.name: table.key, store.name: store.digest},
        ).to_dict(),
    }
    path = explanations_path(table.path)
    lock = FileLock(path.with_name(f"{path.name}.lock"), timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise ResourceError(
            f"another process explains units of {table.path}; wait until it has ended"
        ) from error
    with held:
        file = ExplanationFile(table)
        key = file.start(run)
        missing = [unit for unit in dict.fromkeys(units) if not file.has(unit, key)]
        written, added = time.monotonic(), False
        try:
            for start in range(0, len(missing), TOGETHER):
                part = missing[start : start + TOGETHER]
                for number, (unit, chosen) in enumerate(zip(part, contexts.of(part), strict=True)):
                    progress(start + number, len(missing), f"unit {unit}")
                    text, judged = _explained(explainer, contexts, chosen)
                    if text:
                        file.add(unit, key, text, len(chosen.shown), judged)
                        added = True
                    if added and time.monotonic() - written > EVERY:
                        file.write()
                        written, added = time.monotonic(), False
        finally:
            if added:
                file.write()
        progress(len(missing), len(missing))
    found = read_explanations(table)
    return {
        unit: each
        for unit in dict.fromkeys(units)
        for each in found.get(unit, [])
        if each.run == key
    }


def _explained(
    explainer: Explainer, contexts: Contexts, chosen: Chosen
) -> tuple[str, Detection | None]:
    """The explanation, empty where there is none, and how it is judged."""
    if not len(chosen.shown):
        return "", None
    text = explainer.explain([contexts.text(int(row)) for row in chosen.shown])
    if not text or not len(chosen.active):
        return text, None
    answers = [
        [explainer.judge(text, contexts.text(int(row))) for row in rows]
        for rows in (chosen.active, chosen.silent)
    ]
    return text, detection(answers[0], answers[1])
