"""One dictionary under way: a trainer with its log, its checkpoint and its last act."""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from interp.config import to_dict
from interp.errors import DataError, FormatError, ResourceError
from interp.files import write_json
from interp.provenance import Provenance
from interp.sae import files
from interp.sae.base import Dictionary, Part
from interp.sae.job import Job
from interp.sae.kernels import StepResult
from interp.sae.log import Log
from interp.sae.metrics import Reconstruction, reconstruction
from interp.sae.parallel import ALONE, Mesh
from interp.sae.parallel.trainer import learner_of, trainer_of
from interp.sae.scaling import input_scaling, scaled_rows, scaled_spread, usual_scale
from interp.sae.stream import SharedBatches
from interp.sae.survey import Survey
from interp.sae.trackers import TRACKERS
from interp.store import ActivationStore


class Run:
    """Steps a job; between steps its folder always holds what a later call needs.

    Of several processes that train it, each has a run of it; the first one's writes the folder.
    """

    def __init__(
        self,
        job: Job,
        *,
        store: ActivationStore,
        shared: SharedBatches,
        data: Survey,
        device: torch.device,
        trackers: Sequence[str] = (),
        mesh: Mesh = ALONE,
    ) -> None:
        """Begin, or continue from the folder's checkpoint.

        Raises:
            FormatError: the checkpoint is damaged or does not fit.
            ResourceError: no space is left, or the folder cannot be written.
        """
        self.job, self.store, self.device, config = job, store, device, job.config
        self.mesh = mesh
        centre = data.centre()
        scaling = input_scaling(config.scale, data, centre)
        written = 0  # the first column that is reconstructed or predicted
        if job.origin.target is not None:
            written = job.d_in
            centre = torch.cat([centre[:written], torch.from_numpy(data.mean[written:])])
        start = scaling(centre[None])[0].float()
        self.parts = _parts(store, job, data)
        self.trainer = trainer_of(job, mesh)(
            learner_of(job, mesh, device, start, scaled_rows(data, scaling, config.data_init)),
            shared.reader(),
            config,
            scale=scaling.scale,
            variance=scaled_spread(data, scaling, written),
            matrix=scaling.matrix,
            empty=self._empty,
        )
        if mesh.leads and not (job.folder / files.CONFIG).exists():
            files.write_config(job.folder, "training", job.request())
        self.checkpoint = job.folder / files.CHECKPOINT
        if self.checkpoint.exists():
            tensors, metadata = files.read_tensors(self.checkpoint)
            try:
                self.trainer.load(tensors, metadata.get("state", ""))
            except FormatError as error:
                raise FormatError(f"{self.checkpoint}: {error}") from error
        self.saved = self.trainer.done
        self.log = Log(job.folder / files.LOG, keep=self.saved) if mesh.leads else None
        settings, told = job.request(), trackers if mesh.leads else ()
        self.trackers = [TRACKERS[name](job.folder, settings, self.saved) for name in told]

    @property
    def tokens(self) -> int:
        """Training tokens done."""
        return min(self.trainer.done * self.job.config.batch, self.job.config.tokens)

    def settle(self, result: StepResult, stop: bool) -> bool:
        """Log and save what is due after a step, everything if the run is to stop.

        Returns:
            Whether there is news to tell.

        Raises:
            DataError: the loss or a weight is no number any more.
            ResourceError: no space is left.
        """
        trainer, config = self.trainer, self.job.config
        every = max(1, config.checkpoint_every // config.batch)
        line = trainer.done % config.log_every == 0 or trainer.finished
        due = trainer.done - self.saved >= every or stop or trainer.finished
        if line or due:
            loss = float(result.loss)
            if not (math.isfinite(loss) and trainer.healthy()):
                raise _diverged(loss, trainer.done, self.checkpoint, self.saved)
        with self._checkpoint_named():
            if line:
                self._write(self._line(result))
            if config.evaluates(trainer.done):
                self._evaluate()
            if due:
                self.save()
        return line or due

    def _evaluate(self) -> None:
        """Log what held-out rows say by now."""
        dictionary = self._dictionary()
        if dictionary is None:
            return
        measured = self._measure(dictionary).to_dict()
        del measured["density_edges"]
        place = {"step": self.trainer.done, "tokens": self.trainer.done * self.job.config.batch}
        self._write({**place, "heldout": measured})

    def save(self) -> None:
        """Write the checkpoint."""
        tensors, state = self.trainer.save()
        if self.mesh.leads:
            files.write_tensors(self.checkpoint, tensors, {"state": state})
        self.saved = self.trainer.done

    def close(self) -> None:
        """Close what was opened; the folder stays as it is."""
        for tracker in self.trackers:
            tracker.close()

    def finish(self) -> Dictionary | None:
        """Measure on held-out rows, write the result, delete the checkpoint.

        Returns:
            The dictionary, in the process that wrote it.
        """
        job, trainer = self.job, self.trainer
        dictionary, dead = self._dictionary(), trainer.dead_count()
        if dictionary is None:
            return None
        measured = self._measure(dictionary)
        tokens = trainer.done * job.config.batch
        training = {"tokens": tokens, "steps": trainer.done, "dead": dead}
        metrics = {"heldout": measured.to_dict(), "training": training}
        settings = {**to_dict(job.architecture), **to_dict(job.config)}
        provenance = Provenance(
            job="train",
            seed=job.config.seed,
            config={"architecture": job.architecture.kind, **settings},
            parents={self.store.name: self.store.digest},
        )
        with self._checkpoint_named():
            write_json(job.folder / files.METRICS, metrics)
            files.save_dictionary(
                dictionary,
                job.folder,
                train=to_dict(job.config),
                scale=trainer.scale,
                provenance=provenance.to_dict(),
            )
        self.checkpoint.unlink(missing_ok=True)
        return dictionary.cpu()

    def note(self, result: StepResult) -> str:
        """Where the run stands, for a progress bar."""
        return (
            f"loss {float(result.loss):.4f} · FVE {1 - float(result.unexplained):.3f} · "
            f"L0 {float(result.l0):.1f} · dead {self.trainer.dead_count()}"
        )

    @contextmanager
    def _checkpoint_named(self) -> Generator[None, None, None]:
        """Let the message about a full disk say what is still good."""
        try:
            yield
        except ResourceError as error:
            if not self.checkpoint.exists():
                raise
            raise ResourceError(f"{error}; {_last(self.checkpoint, self.saved)}") from error

    def _empty(self) -> Dictionary:
        empty = self.job.architecture.dictionary(self.job.d_in, self.job.origin)
        empty.parts = self.parts
        return empty

    def _dictionary(self) -> Dictionary | None:
        """What the training has come to, in the process that writes."""
        whole = self.trainer.whole()
        if whole is None or not self.mesh.leads:
            return None
        filled = whole.dictionary(self._empty(), self.trainer.scale)
        return self.trainer.scaling.fold(filled).eval().requires_grad_(False)

    def _measure(self, dictionary: Dictionary) -> Reconstruction:
        return reconstruction(dictionary.to(self.device), self.store, split="heldout")

    def _write(self, line: Mapping[str, Any]) -> None:
        """One line of the log; trackers get its numbers under ``train/`` or ``heldout/``."""
        if self.log is None:
            return
        self.log.write(line)
        part = "heldout" if "heldout" in line else "train"
        values = line["heldout"] if part == "heldout" else line
        numbers = {f"{part}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self.trackers:
            tracker.write(line["step"], numbers)

    def _line(self, result: StepResult) -> dict[str, float | int]:
        return {
            "step": self.trainer.done,
            "tokens": self.trainer.done * self.job.config.batch,
            "loss": float(result.loss),
            "unexplained": float(result.unexplained),
            "aux": float(result.aux),
            "l0": float(result.l0),
            "dead": self.trainer.dead_count(),
            "lr": self.trainer.optimizer.lr,
        }


def _parts(store: ActivationStore, job: Job, data: Survey) -> tuple[Part, ...]:
    """The sites that are written to, if they are several."""
    places = store.parts(store.site(job.origin.writes))
    if len(places) < 2:
        return ()
    found = list(zip(data.parts(), data.centre().split(list(data.widths)), strict=True))
    return tuple(
        Part(site=place.name, width=place.width, scale=usual_scale(part, centre))
        for place, (part, centre) in zip(places, found[-len(places) :], strict=True)
    )


def _diverged(loss: float, step: int, checkpoint: Path, saved: int) -> DataError:
    remedy = "train again with a lower lr"
    if checkpoint.exists():
        remedy = f"{_last(checkpoint, saved)}; {remedy}"
    return DataError(f"the loss became {loss} at step {step}; {remedy}")


def _last(checkpoint: Path, step: int) -> str:
    return f"the last good checkpoint is {checkpoint} (step {step})"
