"""log.jsonl's numbers, also sent to where people watch runs: TensorBoard or Weights & Biases.

Both are optional: a tracker is imported when it is asked for. They write under the dictionary's
folder and touch no result. wandb stays offline (``wandb sync`` uploads) unless ``WANDB_MODE`` says
otherwise.
"""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from interp.errors import ConfigError, UnknownName


@runtime_checkable
class Tracker(Protocol):
    """Takes the numbers of a step."""

    def write(self, step: int, values: Mapping[str, float | int]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files under ``tensorboard/``; those of steps that a resumed run repeats are purged."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], done: int) -> None:
        """Continue after step ``done``."""
        writer = _imported("tensorboard", "torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


class WeightsAndBiases:
    """A run under ``wandb/``, named like the dictionary."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], done: int) -> None:
        """Begin a run; wandb has no way to take back the steps that a resumed run repeats."""
        self._run = _imported("wandb", "wandb").init(
            project="interp",
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",
        )

    def write(self, step: int, values: Mapping[str, float | int]) -> None:
        """See `Tracker`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        UnknownName: nobody knows it.
        ConfigError: its package is missing.
    """
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
        _imported(name, name)


def _imported(package: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{package} is not installed; `pip install interp-workbench[{package}]` brings it, or "
            "leave the tracker out: log.jsonl has the same numbers"
        ) from error
