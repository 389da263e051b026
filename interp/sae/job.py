"""One dictionary that is asked for: its name, and whether its folder holds it already."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from interp.config import from_dict, to_dict
from interp.errors import ConfigError
from interp.files import resource_error
from interp.sae import files
from interp.sae.architecture import Architecture
from interp.sae.base import Origin
from interp.sae.config import TrainConfig
from interp.sae.crosslayer import CrossLayerLearner, Widths
from interp.sae.learner import Learner
from interp.sae.transcoder import TranscoderLearner, TranscodingArchitecture


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained on what, and where it goes."""

    architecture: Architecture
    config: TrainConfig
    origin: Origin
    d_in: int
    folder: Path
    widths: Widths | None = None
    """Of a cross-layer transcoder, those of the sites it reads and of those it writes."""

    def learner(self, device: torch.device) -> Learner:
        """What trains it; weights not yet initialised."""
        width = self.origin.target_width
        if width is None:
            return self.architecture.learner(self.d_in, device)
        assert isinstance(self.architecture, TranscodingArchitecture)
        if self.widths is not None:
            return CrossLayerLearner(self.architecture, self.widths, device)
        return TranscoderLearner(self.architecture, self.d_in, width, device)

    def request(self) -> dict[str, Any]:
        """The part of config.json that names this run and no other."""
        return {
            "kind": self.architecture.kind,
            "d_in": self.d_in,
            "architecture": to_dict(self.architecture),
            "origin": self.origin.to_dict(),
            "train": to_dict(self.config),
        }

    def finished(self) -> bool:
        """Whether the folder holds this run, finished; False if it holds none or part of this one.

        Raises:
            ConfigError: it holds another.
            FormatError: its config.json is damaged.
        """
        if not (self.folder / files.CONFIG).exists():
            return False
        there = files.read_config(self.folder)
        for key, wanted in self.request().items():
            found = self._completed(key, there.get(key))
            if found != wanted:
                raise ConfigError(
                    f"{self.folder} holds another dictionary ({_difference(found, wanted, key)}); "
                    "choose another folder with --out, or delete that one"
                )
        return there.get("state") == "finished"

    def _completed(self, key: str, found: Any) -> Any:
        """Settings as they were saved; those that did not exist yet had what is now the default."""
        config = {"architecture": self.architecture, "train": self.config}.get(key)
        if config is None or not isinstance(found, dict):
            return found
        try:
            return to_dict(from_dict(type(config), found))
        except ConfigError:
            return found

    @contextmanager
    def only_writer(self) -> Generator[None, None, None]:
        """Hold the lock file beside the folder; the system drops it when the process dies.

        Raises:
            ConfigError: another process holds it.
            ResourceError: the place cannot be written.
        """
        lock = FileLock(self.folder.parent / f".{self.folder.name}.lock", timeout=0)
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise ConfigError(
                f"another training is writing {self.folder}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise resource_error(error, self.folder) from error
        try:
            yield
        finally:
            lock.release()


def _difference(there: Any, wanted: Any, key: str) -> str:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in wanted:
            if there.get(name) != wanted[name]:
                return f"{name} is {there.get(name)} there and {wanted[name]} here"
    return f"{key} is {there} there and {wanted} here"


def names(
    d_in: int, runs: Sequence[tuple[Architecture, TrainConfig]], target: str | None = None
) -> list[str]:
    """The default name of each run: ``<architecture>-s<seed>``, or ``...-to-<target>-s<seed>``.

    Runs that share it are told apart by the settings in which they differ, such as
    ``topk-4608-k32-s0-lr=0.001``.

    Raises:
        ConfigError: two runs are the same.
    """
    to = f"-to-{target}" if target else ""
    plain = [f"{each.label(d_in)}{to}-s{config.seed}" for each, config in runs]
    found: list[str] = []
    for name, run in zip(plain, runs, strict=True):
        alike = [_settings(other) for other, same in zip(runs, plain, strict=True) if same == name]
        own = _settings(run)
        varied = [key for key in own if any(other[key] != own[key] for other in alike)]
        found.append("-".join([name, *(f"{key}={_written(own[key])}" for key in varied)]))
    for name, count in Counter(found).items():
        if count > 1:
            raise ConfigError(f"{name} is asked for {count} times; leave the repetitions out")
    return found


def _settings(run: tuple[Architecture, TrainConfig]) -> dict[str, Any]:
    return {**to_dict(run[0]), **to_dict(run[1])}


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_written(item) for item in value)
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
