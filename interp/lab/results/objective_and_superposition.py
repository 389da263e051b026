"""Does cross-entropy make superposition?

Bricken et al. 2023 ("Towards Monosemanticity") believe that models trained with cross-entropy
prefer more features polysemantically to fewer monosemantically, even where superposition is
impossible, and that squared error may not care. The same net, the same rows and the same starting
weights under four objectives (`toys.classifier`): cross-entropy; squared error of the same softmax
(Brier), so that only the loss differs; squared error of a ReLU and of a linear output, so that the
output differs too.

1. Bottleneck: 20 features through 5 numbers; which of the active ones is greatest? Features told
   apart for each number, of which 1 needs no superposition; at several densities.
2. One neuron: 10 equally likely features, one active at a time, through 4 neurons of which only the
   strongest passes. With silence there are five answers. Cross-entropy is least, log 2, where each
   stands for two features; squared error is 1 - 5/10 however the features are dealt out to the
   five. The share of neurons with a single feature, in the better half of the restarts.
3. Classifier: digits of 8 x 8 pixels, 16 ReLU neurons, ten classes. Effective number of classes a
   neuron's mean activation is spread over, at the accuracy that each objective reaches.

No figures are published; what is expected is the claim's sign, and where the loss alone is asked
about, cross-entropy against Brier. The answer of the quick form, seed 0: the bottleneck tells apart
4.0 sparse features for each number under cross-entropy and 4.0 under Brier, 2.1 under ReLU, .35
under linear; a neuron of the classifier serves 7.5, 7.4, 5.7 and 2.5 classes, at test accuracies of
.97, .96, .63 and .88, so that only the first two compare. So superposition comes with the softmax,
hardly with the logarithm.

The full form is estimated at ten minutes a seed on one core.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from sklearn.datasets import load_digits
from torch import Tensor

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.classifier import (
    OBJECTIVES,
    Classifier,
    effective_number,
    told_apart,
    train,
)
from interp.lab.toys.sampling import check_density
from interp.progress import Progress, silent

_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class ObjectiveAndSuperposition(Experiment):
    """See the module."""

    name = "objective-and-superposition"
    paper = "Bricken et al. 2023, Towards Monosemanticity; Elhage et al. 2022, Toy Models"
    claim = "Cross-entropy makes more superposition and polysemanticity than squared error does."

    seeds: int = 5
    """How often it is measured: with seeds 0, 1, 2, ..."""
    inverse_densities: tuple[float, ...] = (1.0, 2.0, 5.0, 20.0)
    """1/(1-S) of the bottleneck's features, rising; the last is called sparse, the first dense."""
    restarts: int = 16
    """Instances of each toy under each objective."""
    steps: int = 10_000
    """Optimiser steps of the toys."""
    epochs: int = 6000
    """Full-batch steps of the classifier."""
    lr: float = 5e-3
    """First learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(*(1 / inverse for inverse in self.inverse_densities))
        if min(self.restarts, self.steps, self.epochs) < 1:
            raise ConfigError("restarts, steps and epochs must be at least 1")

    @classmethod
    def at(cls, effort: Effort) -> "ObjectiveAndSuperposition":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=3, restarts=4, steps=1500, epochs=1000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="told apart / number, cross-entropy, sparse", value=4.0, low=1.2),
            Expected(
                quantity="sparse, cross-entropy minus brier",
                value=1.0,
                low=0.05,
                why="both tell all features apart: superposition comes with the softmax, which "
                "both have",
            ),
            Expected(quantity="sparse, cross-entropy minus relu", value=1.0, low=0.05),
            Expected(
                quantity="dense, cross-entropy minus relu",
                value=1.0,
                low=0.05,
                why="hardly any dense feature is told apart under either objective",
            ),
            Expected(
                quantity="single-feature neurons, cross-entropy",
                value=0.0,
                low=0.0,
                high=0.05,
                why="even in the better half of the restarts some end in local minima, where a "
                "neuron keeps one feature",
            ),
            Expected(
                quantity="single-feature neurons, brier minus cross-entropy",
                value=0.5,
                low=0.05,
                why="Brier's softmax deals features out nearly as cross-entropy's does",
            ),
            Expected(quantity="classes / neuron, cross-entropy minus brier", value=1.0, low=0.05),
            Expected(quantity="classes / neuron, cross-entropy minus linear", value=1.0, low=0.05),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        work = len(self.inverse_densities) + 2
        apart: list[dict[str, float]] = []
        for number, inverse in enumerate(self.inverse_densities):
            apart.append(self.bottleneck(1 / inverse, seed))
            progress(number + 1, work, "bottleneck")
        single = self.one_neuron(seed)
        progress(work - 1, work, "one neuron")
        classes, accuracy = self.digits(seed)
        progress(work, work)
        dense, sparse = apart[0], apart[-1]
        return Measurement(
            values={
                "told apart / number, cross-entropy, sparse": sparse["cross-entropy"],
                "sparse, cross-entropy minus brier": sparse["cross-entropy"] - sparse["brier"],
                "sparse, cross-entropy minus relu": sparse["cross-entropy"] - sparse["relu"],
                "dense, cross-entropy minus relu": dense["cross-entropy"] - dense["relu"],
                "single-feature neurons, cross-entropy": single["cross-entropy"],
                "single-feature neurons, brier minus cross-entropy": single["brier"]
                - single["cross-entropy"],
                "classes / neuron, cross-entropy minus brier": classes["cross-entropy"]
                - classes["brier"],
                "classes / neuron, cross-entropy minus linear": classes["cross-entropy"]
                - classes["linear"],
            },
            figures=(
                Figure(
                    title="Features told apart for each number of the bottleneck",
                    kind="line",
                    x="1/(1-S)",
                    y="features / numbers",
                    series={
                        each: [
                            (inverse, row[each])
                            for inverse, row in zip(self.inverse_densities, apart, strict=True)
                        ]
                        for each in OBJECTIVES
                    },
                    log=("x",),
                ),
                Figure(
                    title="Neurons with a single feature, where only the strongest passes",
                    kind="scatter",
                    x="objective: " + ", ".join(f"{i} {o}" for i, o in enumerate(OBJECTIVES)),
                    y="share of neurons",
                    series={each: [(float(i), single[each])] for i, each in enumerate(OBJECTIVES)},
                ),
                Figure(
                    title="The digit classifier",
                    kind="scatter",
                    x="test accuracy",
                    y="effective classes / neuron",
                    series={each: [(accuracy[each], classes[each])] for each in OBJECTIVES},
                ),
            ),
        )

    def bottleneck(
        self, density: float, seed: int, features: int = 20, numbers: int = 5
    ) -> dict[str, float]:
        """Features told apart for each number of the bottleneck, by objective."""
        model = Classifier(
            len(OBJECTIVES), self.restarts, features, numbers, features, gate="none", seed=seed
        )
        draw = torch.Generator().manual_seed(seed + 1)

        def rows(_: int) -> tuple[Tensor, Tensor]:
            u = torch.rand(_BATCH, features, generator=draw) / density
            x = torch.where(u < 1, 1 - u, 0.0)
            spare = torch.randint(features, (_BATCH,), generator=draw)
            empty = ~x.any(dim=1)
            x[empty, spare[empty]] = 1.0
            return x, x.argmax(dim=1)

        train(model, rows, steps=self.steps, lr=self.lr)
        return _means(told_apart(model, features) / numbers)

    def one_neuron(self, seed: int, features: int = 10, neurons: int = 4) -> dict[str, float]:
        """Share of neurons that pass for one feature alone, by objective."""
        restarts = 8 * self.restarts
        model = Classifier(
            len(OBJECTIVES), restarts, features, neurons, features, gate="strongest", seed=seed
        )
        x, label = torch.eye(features), torch.arange(features)
        losses = train(model, lambda _: (x, label), steps=self.steps, lr=self.lr)
        _, cache = model.run_with_cache(x, names_filter="hook_hidden")
        passing = (cache["hook_hidden"] > 0).sum(dim=1)
        single = (passing == 1).double().mean(dim=-1)
        single = rearrange(single, "(objective restart) -> objective restart", restart=restarts)
        better = losses <= losses.median(dim=1, keepdim=True).values
        return _means((single * better).sum(dim=1, keepdim=True) / better.sum(dim=1, keepdim=True))

    def digits(self, seed: int, neurons: int = 16) -> tuple[dict[str, float], dict[str, float]]:
        """Effective classes of a neuron that fires at all, and test accuracy, by objective."""
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng([seed, 20]).permutation(len(images))
        x = torch.from_numpy(images[order] / 16).float()
        label = torch.from_numpy(labels[order]).long()
        train_x, train_label, test_x, test_label = x[:1200], label[:1200], x[1200:], label[1200:]
        model = Classifier(len(OBJECTIVES), self.restarts, 64, neurons, 10, gate="relu", seed=seed)
        train(model, lambda _: (train_x, train_label), steps=self.epochs, lr=self.lr)
        with torch.no_grad():
            z, cache = model.run_with_cache(test_x, names_filter="hook_hidden")
        hidden = cache["hook_hidden"]
        means = torch.stack([hidden[:, test_label == c].mean(dim=1) for c in range(10)], dim=-1)
        number = effective_number(means.double())
        alive = (number > 0).double()
        right = (z.argmax(dim=-1) == test_label).double().mean(dim=1)
        restart = {"restart": self.restarts}
        each = number.sum(dim=1) / alive.sum(dim=1).clamp_min(1)
        grid = "(objective restart) -> objective restart"
        return _means(rearrange(each, grid, **restart)), _means(rearrange(right, grid, **restart))


def _means(values: Float[Tensor, "objective restart"]) -> dict[str, float]:
    """By objective, over restarts."""
    means = values.double().mean(dim=1).tolist()
    return dict(zip(OBJECTIVES, means, strict=True))
