"""Measure a result for every seed, judge it, and write ``<workspace>/lab/<name>/result.json``."""

import dataclasses
from pathlib import Path
from typing import Any

from interp.config import to_dict
from interp.errors import FormatError
from interp.files import check_writable, read_json, write_json
from interp.lab.result import (
    Check,
    Effort,
    Experiment,
    Measurement,
    Reported,
    Result,
    experiments,
)
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.workspace import Workspace, working_in

FILE = "result.json"
VERSION = 1


@faster_products()
def reproduce(
    experiment: Experiment,
    *,
    effort: Effort = "quick",
    workspace: Workspace | str | Path | None = None,
    progress: Progress = silent,
) -> Result:
    """Measure a result and write it down, passed or failed.

    Args:
        experiment: the result with its settings, such as ``Pentagon.at("quick")``.
        effort: what is written down as the effort.
        workspace: where it is written and packaged texts and models lie, by default the current
            workspace.
        progress: told the work done over all seeds, in percent.

    Raises:
        ConfigError: a setting cannot work.
        DataError: a training diverged.
        ResourceError: the file cannot be written.
    """
    root = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)
    check_writable(root.lab(experiment.name) / FILE)
    found: list[Measurement] = []
    for seed in range(experiment.seeds):

        def told(done: int, total: int, note: str = "", seed: int = seed) -> None:
            share = (seed + done / max(total, 1)) / experiment.seeds
            progress(int(100 * share), 100, f"seed {seed} {note}".strip())

        with working_in(root):
            found.append(experiment.measure(seed, told))
    values = {name: tuple(one.values[name] for one in found) for name in found[0].values}
    checks = tuple(
        Check(expected=each, values=values.pop(each.quantity)) for each in experiment.expected()
    )
    result = Result(
        name=experiment.name,
        paper=experiment.paper,
        claim=experiment.claim,
        effort=effort,
        setting=to_dict(experiment),
        checks=checks,
        reported=tuple(Reported(quantity=name, values=rest) for name, rest in values.items()),
        figures=found[0].figures,
        notes=found[0].notes,
    )
    provenance = Provenance(job="lab", seed=0, config={"result": result.name, **result.setting})
    content = {"version": VERSION, **result.to_dict(), "provenance": provenance.to_dict()}
    write_json(root.lab(result.name) / FILE, content)
    return result


def with_seeds(experiment: Experiment, seeds: int | None) -> Experiment:
    """The same settings with another number of seeds, if one is given.

    Raises:
        ConfigError: it is below 1.
    """
    return experiment if seeds is None else dataclasses.replace(experiment, seeds=seeds)


def reproduced(workspace: Workspace) -> dict[str, dict[str, Any] | None]:
    """What was written for each known result, or None where nothing was.

    Raises:
        FormatError: a file is damaged, or of another version.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for name in experiments():
        path = workspace.lab(name) / FILE
        found[name] = read_json(path) if path.exists() else None
        version = (found[name] or {}).get("version", VERSION)
        if version != VERSION:
            raise FormatError(
                f"{path} is of version {version}, this program reads {VERSION}; "
                f"`interp lab run {name}` writes it again"
            )
    return found
