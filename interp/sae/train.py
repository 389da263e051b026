"""Train dictionaries on sites of a store, so that they can be killed at any instant and run again.

1. Check every setting and name; look at the data once (`interp.sae.survey`).
2. A folder that holds the same finished run is loaded and returned; one that holds the same run
   unfinished is continued from its checkpoint; any other run's folder is refused.
3. Step; log; checkpoint. Interrupted, the next call gives the same bytes as an unbroken run.
4. Measure on held-out rows, write the result, delete the checkpoint.

Several dictionaries in one call: those with the same order of data and the same batch go side by
side over one reading of it, each to the bytes that it gets when trained alone. Where some were
further when a call broke off, the next lets the others catch up first.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from interp.config import from_dict, to_dict
from interp.errors import ConfigError
from interp.progress import Progress, silent
from interp.sae import crosslayer
from interp.sae.architecture import Architecture, architectures
from interp.sae.base import Dictionary, Origin
from interp.sae.config import TrainConfig
from interp.sae.job import Job, names
from interp.sae.parallel import ALONE, Mesh
from interp.sae.together import train_jobs
from interp.sae.transcoder import TranscodingArchitecture
from interp.store import ActivationStore, Site
from interp.store.site import joint
from interp.workspace import Workspace


def train(
    store: ActivationStore,
    site: str,
    architecture: Architecture,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    target: str | None = None,
    workspace: Workspace | str | Path | None = None,
    device: str | torch.device | None = None,
    trackers: Sequence[str] = (),
    progress: Progress = silent,
    mesh: Mesh = ALONE,
    **overrides: Any,
) -> Dictionary:
    """Train a dictionary, or continue or return the one already there.

    Args:
        store: a sealed store; its training rows without attention sinks are used.
        site: the site's name, or several joined by ``+`` (`interp.sae.crosscoder`).
        architecture: such as ``TopK(k=32, expansion=8)``.
        config: the run; by default ``TrainConfig()``.
        out: the dictionary's folder, by default
            ``<workspace>/dictionaries/<model>/<site>/<architecture>-s<seed>``.
        target: another site of the same rows, or several joined by ``+``: what a transcoder
            predicts (`interp.sae.transcoder`); by default the site is reconstructed.
        workspace: where that lies, by default the current workspace.
        device: by default a GPU if there is one.
        trackers: "tensorboard" or "wandb", to be told what log.jsonl is told.
        progress: told the tokens done, with loss, FVE, L0, dead latents and speed.
        mesh: the processes that train it together, each of which calls this; by default this one
            alone. `interp.sae.parallel.Mesh.joined` makes one.
        **overrides: settings of `TrainConfig` by name, such as ``seed=1``.

    Returns:
        The finished dictionary, on the CPU, in eval mode.

    Raises:
        ConfigError: a setting cannot work, or the folder holds another run or another writer.
        UnknownName: no such site or setting.
        DataError: too few rows, NaN or constant rows, or a loss that diverged.
        FormatError: the folder's files are damaged.
        ResourceError: no disk space or memory.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    place = store.site(site)
    config = from_dict(TrainConfig, {**to_dict(config or TrainConfig()), **overrides})
    if out is None:
        (name,) = names(place.width, [(architecture, config)], target)
        out = _root(workspace).dictionary(store.model, place.name, name)
    job = _job(store, place, target, architecture, config, Path(out))
    (dictionary,) = train_jobs(store, [job], device, trackers, progress, mesh)
    return dictionary


def train_many(
    store: ActivationStore,
    site: str,
    runs: Sequence[tuple[Architecture, TrainConfig]],
    *,
    target: str | None = None,
    workspace: Workspace | str | Path | None = None,
    device: str | torch.device | None = None,
    trackers: Sequence[str] = (),
    progress: Progress = silent,
    mesh: Mesh = ALONE,
) -> list[Dictionary]:
    """Train several dictionaries on one site, each to the same bytes as `train` alone.

    All those with the same ``data_seed`` (by default ``seed``) and ``batch`` are in memory at once
    and share each reading of the data; the other groups follow one after another. A run whose loss
    diverges is left and named at the end, when the others are finished.

    Args:
        store: as for `train`, like all that follow.
        site: the site's name.
        runs: architecture and settings of each; `interp.sae.sweep.grid` makes such a list.
        target: what transcoders predict.
        workspace: the dictionaries go to ``<workspace>/dictionaries/<model>/<site>/<name>`` with
            the names that `names` gives.
        device: by default a GPU if there is one.
        trackers: "tensorboard" or "wandb", to be told what log.jsonl is told.
        progress: told the tokens done over all runs.
        mesh: the processes that train each of them together.

    Returns:
        The finished dictionaries in the order of ``runs``.

    Raises:
        ConfigError: besides what `train` refuses, the same run twice.
        DataError: besides what `train` refuses, the runs that diverged.
    """
    place = store.site(site)
    root = _root(workspace)
    jobs = [
        _job(store, place, target, *run, root.dictionary(store.model, place.name, name))
        for run, name in zip(runs, names(place.width, runs, target), strict=True)
    ]
    return train_jobs(store, jobs, device, trackers, progress, mesh)


def _root(workspace: Workspace | str | Path | None) -> Workspace:
    return workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)


def _job(
    store: ActivationStore,
    site: Site,
    target: str | None,
    architecture: Architecture,
    config: TrainConfig,
    out: Path,
) -> Job:
    architecture.check(site.width)
    if config.resample is not None and getattr(architecture, "frozen_decoder", False):
        raise ConfigError("resample rewrites decoder rows that frozen_decoder keeps; drop one")
    if config.data_init and getattr(architecture, "frozen_decoder", False):
        raise ConfigError("data_init turns decoder rows that frozen_decoder keeps random; drop one")
    if config.search != "full":
        _check_search(architecture, config, target)
    origin = Origin(model=store.model, site=site.name, store=store.name, store_digest=store.digest)
    place = store.site(target or site.name)
    if target is not None:
        joint([*store.parts(site), *store.parts(place)])  # refuses a target that is also source
        _check_transcoder(architecture, config)
        origin = replace(origin, target=place.name, target_width=place.width)
    elif architecture.skips():
        raise ConfigError("skip is a path from a site to another; name the other with target")
    job = Job(architecture=architecture, config=config, origin=origin, d_in=site.width, folder=out)
    if not (isinstance(architecture, TranscodingArchitecture) and architecture.cross_layer):
        return job
    if target is None:
        raise ConfigError("cross_layer leads from sites to others; name the others with target")
    read, written = ([part.width for part in store.parts(each)] for each in (site, place))
    return replace(job, widths=crosslayer.check(read, written, architecture.width(site.width)))


def _check_search(architecture: Architecture, config: TrainConfig, target: str | None) -> None:
    if not architecture.searches():
        able = ", ".join(kind for kind, cls in architectures().items() if cls().searches())
        raise ConfigError(f"search={config.search} is for {able}; leave it out")
    if target is not None or config.precision == "bf16":
        what = "a transcoder" if target is not None else "precision=bf16"
        raise ConfigError(f"search={config.search} has no effect on {what}; leave it out")


def _check_transcoder(architecture: Architecture, config: TrainConfig) -> None:
    if not isinstance(architecture, TranscodingArchitecture):
        known = architectures().items()
        able = " and ".join(kind for kind, cls in known if issubclass(cls, TranscodingArchitecture))
        raise ConfigError(f"{architecture.kind} cannot predict another site; {able} can")
    if config.resample is not None:
        raise ConfigError(
            "resample sets decoder rows along what is missing of the site that is read; a "
            "transcoder writes to another, so leave it out"
        )
