"""Train a dictionary on a site of a store, so that it can be killed at any instant and run again.

1. Check every setting and name; look at the data once (`interp.sae.survey`).
2. A folder that holds the same finished run is loaded and returned; one that holds the same run
   unfinished is continued from its checkpoint; any other run's folder is refused.
3. Step; log; checkpoint. Interrupted, the next call gives the same bytes as an unbroken run.
4. Measure on held-out rows, write the result, delete the checkpoint.
"""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from interp.config import from_dict, to_dict
from interp.errors import ConfigError, DataError, FormatError, ResourceError
from interp.files import resource_error, write_json
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.sae import files
from interp.sae.architecture import Architecture
from interp.sae.base import Dictionary, Origin
from interp.sae.interrupt import interrupts_held
from interp.sae.kernels import StepResult
from interp.sae.log import Log
from interp.sae.metrics import reconstruction
from interp.sae.survey import input_scale, survey
from interp.sae.trainer import TrainConfig, Trainer, diverged
from interp.store import ActivationStore, ShuffledBatches
from interp.workspace import Workspace


def train(
    store: ActivationStore,
    site: str,
    architecture: Architecture,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    workspace: Workspace | str | Path | None = None,
    device: str | torch.device | None = None,
    progress: Progress = silent,
    **overrides: Any,
) -> Dictionary:
    """Train a dictionary, or continue or return the one already there.

    Args:
        store: a sealed store; its training rows without attention sinks are used.
        site: the site's name.
        architecture: such as ``TopK(k=32, expansion=8)``.
        config: the run; by default ``TrainConfig()``.
        out: the dictionary's folder, by default
            ``<workspace>/dictionaries/<model>/<site>/<architecture>-s<seed>``.
        workspace: where that lies, by default the current workspace.
        device: by default a GPU if there is one.
        progress: told the tokens done, with loss, FVE, L0, dead latents and speed.
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
    config = _configured(config or TrainConfig(), overrides)
    architecture.check(place.width)
    origin = Origin(model=store.model, site=place.name, store=store.name, store_digest=store.digest)
    if out is None:
        root = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)
        name = f"{architecture.label(place.width)}-s{config.seed}"
        folder = root.dictionary(store.model, place.name, name)
    else:
        folder = Path(out)
    request = {
        "kind": architecture.kind,
        "d_in": place.width,
        "architecture": to_dict(architecture),
        "origin": asdict(origin),
        "train": to_dict(config),
    }
    if _is_finished(folder, request):
        return files.load_dictionary(folder)
    try:
        with _only_writer(folder):
            return _run(store, architecture, config, origin, folder, request, device, progress)
    except (RuntimeError, MemoryError) as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise ResourceError(
                f"not enough memory for {architecture.width(place.width)} latents and batches of "
                f"{config.batch}; lower batch or latents"
            ) from error
        raise


@contextmanager
def _only_writer(folder: Path) -> Generator[None, None, None]:
    """Hold the lock file beside a folder; the system drops it when the process dies."""
    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"another training is writing {folder}; wait for it or choose another --out"
        ) from error
    except OSError as error:
        raise resource_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def _configured(config: TrainConfig, overrides: dict[str, Any]) -> TrainConfig:
    return from_dict(TrainConfig, {**to_dict(config), **overrides})


def _is_finished(folder: Path, request: dict[str, Any]) -> bool:
    """Whether the folder holds this run, finished; False if it holds none or part of this one."""
    if not (folder / files.CONFIG).exists():
        return False
    there = files.read_config(folder)
    for key, wanted in request.items():
        if there.get(key) != wanted:
            raise ConfigError(
                f"{folder} holds another dictionary ({_difference(there.get(key), wanted, key)}); "
                "choose another folder with --out, or delete that one"
            )
    return there.get("state") == "finished"


def _difference(there: Any, wanted: Any, key: str) -> str:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in wanted:
            if there.get(name) != wanted[name]:
                return f"{name} is {there.get(name)} there and {wanted[name]} here"
    return f"{key} is {there} there and {wanted} here"


def _run(
    store: ActivationStore,
    architecture: Architecture,
    config: TrainConfig,
    origin: Origin,
    folder: Path,
    request: dict[str, Any],
    device: str | torch.device | None,
    progress: Progress,
) -> Dictionary:
    place = store.sites[origin.site]
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    data = survey(store, place, seed=config.seed)
    centre = data.centre()
    scale = input_scale(config.scale, data.sample, centre)
    learner = architecture.learner(place.width, target)
    learner.initialise((centre * scale).float(), torch.Generator().manual_seed(config.seed))
    batches = ShuffledBatches(store, place.name, batch=config.batch, seed=config.seed)
    trainer = Trainer(learner, batches, config, scale=scale, variance=data.spread() * scale * scale)
    if not (folder / files.CONFIG).exists():
        files.write_config(folder, "training", request)
    checkpoint = folder / files.CHECKPOINT
    if checkpoint.exists():
        tensors, metadata = files.read_tensors(checkpoint)
        try:
            trainer.load(tensors, metadata.get("state", ""))
        except FormatError as error:
            raise FormatError(f"{checkpoint}: {error}") from error
    log = Log(folder / files.LOG, keep=trainer.done)
    _steps(trainer, log, checkpoint, progress)

    dictionary = learner.dictionary(architecture.dictionary(place.width, origin), scale)
    dictionary = dictionary.eval().requires_grad_(False)
    measured = reconstruction(dictionary.to(target), store, place.name, split="heldout")
    dead = int(trainer.dead().sum())
    training = {"tokens": trainer.done * config.batch, "steps": trainer.done, "dead": dead}
    write_json(folder / files.METRICS, {"heldout": measured.to_dict(), "training": training})
    provenance = Provenance(
        job="train",
        seed=config.seed,
        config={"architecture": architecture.kind, **to_dict(architecture), **to_dict(config)},
        parents={store.name: store.digest},
    )
    files.save_dictionary(
        dictionary, folder, train=request["train"], scale=scale, provenance=provenance.to_dict()
    )
    checkpoint.unlink(missing_ok=True)
    return dictionary.cpu()


def _steps(trainer: Trainer, log: Log, checkpoint: Path, progress: Progress) -> None:
    config = trainer.config
    total = config.steps()
    saved, begun, first = trainer.done, time.perf_counter(), trainer.done
    every = max(1, config.checkpoint_every // config.batch)

    def save() -> None:
        nonlocal saved
        tensors, state = trainer.save()
        files.write_tensors(checkpoint, tensors, {"state": state})
        saved = trainer.done

    with interrupts_held() as pending:
        while not trainer.finished:
            result = trainer.step()
            stop = pending.asked  # read once: a later Ctrl-C waits for the next step
            due = trainer.done - saved >= every or stop
            if trainer.done % config.log_every == 0 or trainer.finished or due:
                loss = float(result.loss)
                if not (math.isfinite(loss) and trainer.healthy()):
                    raise _lost(loss, trainer.done, checkpoint, saved)
                if trainer.done % config.log_every == 0 or trainer.finished:
                    log.write(_line(trainer, result))
                speed = (trainer.done - first) * config.batch / (time.perf_counter() - begun)
                done = min(trainer.done * config.batch, config.tokens)
                progress(done, config.tokens, _note(trainer, result, speed))
            if due:
                save()
            if stop:
                raise KeyboardInterrupt
        if saved != total:
            save()


def _lost(loss: float, step: int, checkpoint: Path, saved: int) -> DataError:
    remedy = "train again with a lower lr"
    if checkpoint.exists():
        remedy = f"the last good checkpoint is {checkpoint} (step {saved}); {remedy}"
    return diverged(loss, step, remedy)


def _line(trainer: Trainer, result: StepResult) -> dict[str, float | int]:
    return {
        "step": trainer.done,
        "tokens": trainer.done * trainer.config.batch,
        "loss": float(result.loss),
        "unexplained": float(result.unexplained),
        "aux": float(result.aux),
        "l0": float(result.l0),
        "dead": int(trainer.dead().sum()),
        "lr": trainer.optimizer.param_groups[0]["lr"],
    }


def _note(trainer: Trainer, result: StepResult, speed: float) -> str:
    return (
        f"loss {float(result.loss):.4f} · FVE {1 - float(result.unexplained):.3f} · "
        f"L0 {float(result.l0):.1f} · dead {int(trainer.dead().sum())} · {speed:,.0f} tok/s"
    )
