"""Jobs of one store brought to their ends, those that read the same batches side by side."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from interp.errors import DataError, ResourceError
from interp.products import faster_products
from interp.progress import Progress
from interp.sae import files
from interp.sae.base import Dictionary
from interp.sae.interrupt import interrupts_held
from interp.sae.job import Job
from interp.sae.kernels import StepResult
from interp.sae.parallel import Mesh
from interp.sae.parallel.trainer import check
from interp.sae.run import Run
from interp.sae.stream import SharedBatches
from interp.sae.survey import Survey, survey
from interp.sae.trackers import check_trackers
from interp.store import ActivationStore, ShuffledBatches


@faster_products()
def train_jobs(
    store: ActivationStore,
    jobs: Sequence[Job],
    device: str | torch.device | None,
    trackers: Sequence[str],
    progress: Progress,
    mesh: Mesh,
) -> list[Dictionary]:
    """The finished dictionaries in the order of the jobs; `interp.sae.train` says the rest."""
    check_trackers(trackers)
    for job in jobs:
        check(job, mesh)
    open_jobs = [job for job in jobs if not job.finished()]
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    groups: dict[tuple[int, int], list[Job]] = {}
    for job in open_jobs:
        groups.setdefault((job.config.order(), job.config.batch), []).append(job)
    made: dict[Path, Dictionary] = {}
    lost: list[DataError] = []
    surveys: dict[int, Survey] = {}
    tell = _Tally(progress, open_jobs)
    with ExitStack() as locks:
        for job in open_jobs if mesh.leads else ():
            locks.enter_context(job.only_writer())
        for (order, batch), group in groups.items():
            site = store.site(group[0].origin.reads)
            if order not in surveys:
                surveys[order] = survey(store, site, seed=order)
            shared = SharedBatches(ShuffledBatches(store, site.name, batch=batch, seed=order))
            begin = partial(
                Run,
                store=store,
                shared=shared,
                data=surveys[order],
                device=target,
                trackers=trackers,
                mesh=mesh,
            )
            try:
                made |= _train_group(group, begin, lost, tell, mesh)
            except (RuntimeError, MemoryError) as error:
                if "out of memory" in str(error) or "can't allocate memory" in str(error):
                    raise _too_large(group) from error
                raise
    mesh.everyone.wait()  # for what the first process writes
    if lost:
        raise lost[0] if len(jobs) == 1 else DataError("; ".join(map(str, lost)))
    return [
        made[job.folder] if job.folder in made else files.load_dictionary(job.folder)
        for job in jobs
    ]


def _train_group(
    jobs: Sequence[Job],
    begin: Callable[[Job], Run],
    lost: list[DataError],
    tell: "_Tally",
    mesh: Mesh,
) -> dict[Path, Dictionary]:
    """Train jobs that share a stream; what diverges is added to ``lost``."""
    with ExitStack() as opened:
        runs: list[Run] = []
        for job in jobs:
            runs.append(begin(job))
            opened.callback(runs[-1].close)
        _side_by_side(runs, lost, tell, mesh)
        ended = {run.job.folder: run.finish() for run in runs if run.trainer.finished}
        return {folder: found for folder, found in ended.items() if found is not None}


def _side_by_side(runs: Sequence[Run], lost: list[DataError], tell: "_Tally", mesh: Mesh) -> None:
    """Step runs of one stream to their ends, always those that are furthest behind."""
    active = [run for run in runs if not run.trainer.finished]
    tell.begin(runs)
    with interrupts_held() as pending:
        while active:
            place = min(run.trainer.done for run in active)
            together = [run for run in active if run.trainer.done == place]
            results = [run.trainer.step() for run in together]
            # read once: a later Ctrl-C waits for the next step
            stop = mesh.everyone.any(pending.asked)
            for run, result in zip(together, results, strict=True):
                try:
                    if run.settle(result, stop):
                        tell(run, result)
                except DataError as error:
                    lost.append(error)
                    active.remove(run)
            if stop:
                raise KeyboardInterrupt
            active = [run for run in active if not run.trainer.finished]


class _Tally:
    """One progress bar over all the jobs of a call."""

    def __init__(self, progress: Progress, jobs: Sequence[Job]) -> None:
        self._progress, self._several = progress, len(jobs) > 1
        self._total = sum(job.config.tokens for job in jobs)
        self._done: dict[Path, int] = {}
        self._found, self._begun = 0, time.perf_counter()

    def begin(self, runs: Sequence[Run]) -> None:
        """Count a group's runs from here on; what they had done before is no merit of this call."""
        if not self._done:
            self._begun = time.perf_counter()
        self._done |= {run.job.folder: run.tokens for run in runs}
        self._found += sum(run.tokens for run in runs)

    def __call__(self, run: Run, result: StepResult) -> None:
        self._done[run.job.folder] = run.tokens
        done = sum(self._done.values())
        speed = (done - self._found) / (time.perf_counter() - self._begun)
        which = f"{run.job.folder.name}: " if self._several else ""
        self._progress(done, self._total, f"{which}{run.note(result)} · {speed:,.0f} tok/s")


def _too_large(jobs: Sequence[Job]) -> ResourceError:
    latents = ", ".join(str(job.architecture.width(job.d_in)) for job in jobs)
    fewer = "" if len(jobs) == 1 else ", or train fewer dictionaries at once"
    return ResourceError(
        f"not enough memory for {latents} latents and batches of {jobs[0].config.batch}; lower "
        f"batch or latents{fewer}"
    )
