"""Grokking: a transformer memorises a + b mod p, and much later finds the rule behind it.

1. Train the one-layer transformer of Nanda et al. 2023 on 30 % of all pairs (`toys.modular`).
2. It is right on the training pairs soon, on the others many times later.
3. By then it computes with waves of few frequencies (`toys.waves`): 3 to 5 of them, most neurons
   with one each, the logits nearly a sum of cos w(a+b-c).

The quick form has p = 59, 40 % of the pairs, 8,000 epochs, and half of each width: the residual
stream (so that an epoch takes 18 ms on one core instead of 33), heads and neurons. Twice the decay
gives the table up sooner, but takes neurons with it: measured once with the full residual stream,
82 % of them were of one of four frequencies after 4,000 epochs; then one of the four died, and the
neurons it left behind, all but silent, count as of none (64 % after 10,000). The full form is the
paper's: estimated at half an hour a seed on one core, at 40 ms an epoch.
"""

from dataclasses import dataclass, fields

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.modular import ModularConfig, Run, grok
from interp.lab.toys.waves import (
    frequency_norms,
    key_frequencies,
    logits_explained,
    neurons_explained,
)
from interp.progress import Progress, silent

ONE_FREQUENCY = 0.85
"""The share of its variance from which a neuron counts as one of a single frequency."""


@dataclass(frozen=True, kw_only=True)
class Grokking(Experiment, ModularConfig):
    """See the module."""

    name = "grokking"
    paper = "Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability"
    claim = "Generalisation comes long after memorisation, by waves of three to five frequencies."

    def __post_init__(self) -> None:
        """Check every setting."""
        Experiment.__post_init__(self)
        ModularConfig.__post_init__(self)

    @classmethod
    def at(cls, effort: Effort) -> "Grokking":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(seeds=1, p=59, d_model=64, heads=2, d_mlp=256, share=0.4, epochs=8_000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="test accuracy", value=1.0, low=0.99),
            Expected(quantity="epochs to 99 %, test / train", value=10.0, low=2.0),
            Expected(quantity="key frequencies", value=5.0, low=3.0, high=5.0),
            Expected(quantity="neurons of one frequency", value=0.846, low=0.80),
            Expected(quantity="logits explained", value=0.95, low=0.90),
        )

    def run(self, seed: int, progress: Progress = silent) -> Run:
        """The training, or the one of this process with the same settings."""
        settings = {each.name: getattr(self, each.name) for each in fields(ModularConfig)}
        return grok(ModularConfig(**settings), seed=seed, progress=progress)

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        run = self.run(seed, progress)
        model = run.model(-1)
        keys = key_frequencies(model)
        share, frequency = neurons_explained(model)
        trained, tested = (run.first(0.99, test=test) for test in (False, True))
        return Measurement(
            values={
                "test accuracy": run.snapshots[-1].accuracy[1],
                # A run that never gets there says so by its length, which is a lower bound.
                "epochs to 99 %, test / train": min(tested, self.epochs)
                / max(min(trained, self.epochs), 1),
                "key frequencies": float(len(keys)),
                "neurons of one frequency": float((share > ONE_FREQUENCY).double().mean()),
                "logits explained": logits_explained(model, keys),
            },
            figures=(
                Figure(
                    title="Accuracy",
                    kind="line",
                    x="epoch",
                    y="share of pairs",
                    series={
                        name: [(float(s.epoch), s.accuracy[i]) for s in run.snapshots]
                        for i, name in enumerate(("train", "test"))
                    },
                ),
                Figure(
                    title="The neuron-logit map by frequency",
                    kind="line",
                    x="frequency k",
                    y="share of squared norm",
                    series={
                        f"{run.snapshots[at].epoch}": [
                            (k + 1.0, float(norm))
                            for k, norm in enumerate(frequency_norms(run.model(at)))
                        ]
                        for at in range(0, len(run.snapshots), max(1, len(run.snapshots) // 20))
                    },
                    slider="epoch",
                ),
                Figure(
                    title="Neurons by the one frequency that explains most of them",
                    kind="scatter",
                    x="frequency k",
                    y="share of variance",
                    series={
                        "neurons": [
                            (float(k), float(part))
                            for k, part in zip(frequency, share, strict=True)
                        ]
                    },
                ),
            ),
        )
