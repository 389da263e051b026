"""A trainer with a part of the latents: its weights and moments are rows of the whole ones.

What it saves is the whole, on the first process, as one process saves it; so any number of
processes can continue a checkpoint. Of what it loads it takes its own rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.architecture import Architecture, architectures
from interp.sae.job import Job
from interp.sae.kernels import Weights
from interp.sae.learner import Learner
from interp.sae.parallel.mesh import Mesh
from interp.sae.parallel.rows import RowsTrainer
from interp.sae.parallel.step import ParallelBackend
from interp.sae.trainer import Trainer
from interp.sae.transcoder import TranscodingArchitecture

ROOM = 4
"""A part has at least so many times k latents (Multi-TopK selects 4k)."""


def check(job: Job, mesh: Mesh) -> None:
    """Refuse what several processes cannot train together.

    Raises:
        ConfigError: names the setting.
    """
    if mesh.alone:
        return
    architecture, config = job.architecture, job.config
    rows, parts = mesh.rows.world, mesh.latents.world
    alone = f"{mesh.everyone.world} processes cannot train one dictionary"
    if job.origin.target is not None:
        raise ConfigError(f"{alone} that is a transcoder; start one process")
    if not (selects(architecture) or (architecture.by_rows() and parts == 1)):
        known = " and ".join(kind for kind, cls in architectures().items() if selects(cls()))
        how = "its latents" if parts > 1 else "with these settings its batch"
        raise ConfigError(
            f"{alone} of {architecture.kind}, as {how} cannot be divided; {known} can, or start "
            "one process"
        )
    if config.precision == "bf16":
        raise ConfigError(f"{alone} in bf16; choose fp32 or tf32")
    if config.search != "full":
        raise ConfigError(f"{alone} with search={config.search}; leave it out")
    if config.batch % rows:
        raise ConfigError(f"a batch of {config.batch} cannot be divided evenly among {rows}")
    if rows > 1 and config.micro_batch is not None:
        raise ConfigError(f"{rows} processes divide each batch already; leave micro_batch out")
    if parts > 1:
        if config.resample:
            raise ConfigError(
                "resample needs all latents in one process; leave it out or do not divide them"
            )
        assert selects(architecture)
        width, k = architecture.width(job.d_in), architecture.k_at(0.0)
        if width % parts or width // parts < ROOM * k:
            raise ConfigError(
                f"{width} latents cannot be divided evenly into {parts} parts of at least "
                f"{ROOM} times k={k}; choose another number of latents"
            )


def selects(architecture: Architecture) -> TypeGuard[TranscodingArchitecture]:
    """Whether all of its step is a selection that `ParallelBackend` can make."""
    return isinstance(architecture, TranscodingArchitecture)


def trainer_of(job: Job, mesh: Mesh) -> Callable[..., Trainer]:
    """What makes the trainer of this process' part."""
    if mesh.latents.world > 1:
        return partial(PartTrainer, job=job, mesh=mesh)
    if mesh.rows.world > 1 and not selects(job.architecture):
        return partial(RowsTrainer, rows=mesh.rows)
    return Trainer


def learner_of(
    job: Job,
    mesh: Mesh,
    device: torch.device,
    centre: Float[Tensor, " d_in"],
    sample: Float[Tensor, "n d_in"],
) -> Learner:
    """What trains this process' part of a job, initialised as one process would.

    Args:
        job: what is trained.
        mesh: the processes that train it.
        device: where this process' part lies.
        centre: of the scaled activations.
        sample: some of them, that the first weights are fitted to.
    """
    architecture, parts = job.architecture, mesh.latents.world
    if mesh.alone or not selects(architecture):
        learner = job.learner(device)
    else:
        narrow = replace(architecture, latents=architecture.width(job.d_in) // parts)
        learner = narrow.learner(job.d_in, device, ParallelBackend(mesh))
    if parts == 1:
        learner.begin(centre, sample.to(device), job.config)
        return learner
    whole = job.learner(torch.device("cpu"))
    whole.begin(centre, sample, job.config)
    own = mesh.latents.part(len(whole.weights.b_enc))
    drawn = dict(whole.weights.items())
    for name, tensor in learner.weights.items():
        tensor.copy_(drawn[name] if name == "b_dec" else drawn[name][own])
    return learner


class PartTrainer(Trainer):
    """Steps a part of the latents beside the processes that have the others."""

    def __init__(self, learner: Learner, *args: Any, job: Job, mesh: Mesh, **settings: Any) -> None:
        """See `Trainer`; ``learner`` is from `learner_of`."""
        super().__init__(learner, *args, **settings)
        self._job, self._mesh = job, mesh
        self.peak = self.config.peak_lr(job.architecture.width(job.d_in))

    def norm(self, gradients: Weights) -> Float[Tensor, ""]:
        """See `Trainer.norm`; the gradient of b_dec is the same everywhere, and counts once."""
        parts = {name: gradient.square().sum() for name, gradient in gradients.items()}
        once = parts.pop("b_dec")
        return (self._mesh.latents.total(torch.stack(list(parts.values())).sum()) + once).sqrt()

    def dead_count(self) -> int:
        """See `Trainer.dead_count`."""
        return int(self._mesh.latents.total(self.dead().sum()))

    def healthy(self) -> bool:
        """See `Trainer.healthy`; asks all processes."""
        return not self._mesh.everyone.any(not super().healthy())

    def whole(self) -> Learner | None:
        """See `Trainer.whole`."""
        found = dict(self._whole({f"weights.{n}": t for n, t in self.learner.weights.items()}))
        if not self._mesh.leads:
            return None
        whole = self._job.learner(torch.device("cpu"))
        for name, tensor in whole.weights.items():
            tensor.copy_(found[f"weights.{name}"])
        for name, tensor in whole.state().items():
            tensor.copy_(self.learner.state()[name])
        return whole

    def save(self) -> tuple[dict[str, Tensor], str]:
        """See `Trainer.save`; complete on the first process only."""
        tensors, state = super().save()
        return dict(self._whole(tensors)), state

    def load(self, tensors: Mapping[str, Tensor], text: str) -> None:
        """See `Trainer.load`; of the whole."""
        own = self._mesh.latents.part(self._mesh.latents.world * len(self.silent))
        super().load({n: t[own] if _divided(n) else t for n, t in tensors.items()}, text)

    def _whole(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Collect what is divided, one after another, where the batch's first rows are."""
        for name, tensor in tensors.items():
            if not _divided(name):
                yield name, tensor
            elif self._mesh.rows.rank == 0:
                collected = self._mesh.latents.collected(tensor)
                if collected is not None:
                    yield name, collected


def _divided(name: str) -> bool:
    """Whether rows of a saved tensor belong to latents."""
    kind, *rest = name.split(".")
    if kind == "adam" and rest[-1] == "step":
        return False
    return kind == "silent" or kind in ("weights", "adam") and rest[0] != "b_dec"
