"""Progress measures: grokking comes suddenly, but what it is made of grows all along.

1. The run of `grokking`, snapshot by snapshot, seen with the key frequencies of its end.
2. Memorisation: train and excluded loss fall. Circuit formation: the excluded loss rises, the
   restricted loss falls, train and test accuracy stand still. Cleanup: the sum of squared weights
   falls, and only then the test loss (`toys.waves` has the definitions).

The paper shows curves, not numbers, so the ranges say in numbers what it says of them in words. A
loss has halved at the first snapshot after its peak at which it is at most half of it; where it
never is, at the last.

Run together with `grokking` it takes no training of its own, in either form; else as long as that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.lab.result import Expected, Figure, Measurement
from interp.lab.results.grokking import Grokking
from interp.lab.toys.waves import key_frequencies, progress_losses
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class ProgressMeasures(Grokking):
    """See the module."""

    name = "progress-measures"
    claim = "Restricted and excluded loss move while the test loss still stands; then it falls."

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="test accuracy", value=1.0, low=0.99),
            Expected(
                quantity="epoch of half restricted / half test loss", value=0.7, low=0.0, high=0.95
            ),
            Expected(
                quantity="excluded loss, rise done by half test loss",
                value=0.8,
                low=0.5,
                high=1.0,
                why="the rise is well under way by then, but in nats most of it comes while the "
                "test loss falls the rest of its way",
            ),
            Expected(quantity="excluded / train loss, end", value=100.0, low=10.0),
            Expected(quantity="squared norm, end / peak", value=0.5, low=0.0, high=0.75),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        run = self.run(seed, progress)
        epochs = [float(s.epoch) for s in run.snapshots]
        train, test = ([s.loss[i] for s in run.snapshots] for i in (0, 1))
        norms = [s.squared_norm for s in run.snapshots]
        keys = key_frequencies(run.model(-1))
        both = [progress_losses(run.model(i), keys, run.train) for i in range(len(epochs))]
        restricted, excluded = ([pair[i] for pair in both] for i in (0, 1))
        half = halved(test)
        least = min(range(half + 1), key=excluded.__getitem__)
        rise = max(excluded[least:]) - excluded[least]
        lines = {"train": train, "test": test, "restricted": restricted, "excluded": excluded}
        accuracy = {
            name: [s.accuracy[i] for s in run.snapshots] for i, name in enumerate(("train", "test"))
        }
        return Measurement(
            values={
                "test accuracy": run.snapshots[-1].accuracy[1],
                "epoch of half restricted / half test loss": epochs[halved(restricted)]
                / epochs[half],
                "excluded loss, rise done by half test loss": (excluded[half] - excluded[least])
                / max(rise, 1e-12),
                "excluded / train loss, end": excluded[-1] / train[-1],
                "squared norm, end / peak": norms[-1] / max(norms),
            },
            figures=(
                _figure("Losses", "nats", epochs, lines, log=True),
                _figure("Sum of squared weights", "", epochs, {"all weights": norms}),
                _figure("Accuracy", "share of pairs", epochs, accuracy),
            ),
        )


def halved(losses: Sequence[float]) -> int:
    """The first place after the peak where a loss is at most half of it; the last if none is."""
    peak = losses.index(max(losses))
    for place in range(peak, len(losses)):
        if losses[place] <= losses[peak] / 2:
            return place
    return len(losses) - 1


def _figure(
    title: str, y: str, epochs: list[float], lines: dict[str, list[float]], *, log: bool = False
) -> Figure:
    series: dict[str, list[tuple[float, ...]]] = {
        name: list(zip(epochs, values, strict=True)) for name, values in lines.items()
    }
    return Figure(
        title=title, kind="line", x="epoch", y=y, series=series, log=("y",) if log else ()
    )
