"""Where polysemanticity sits under three objectives: one net, one text, three questions.

The character model is trained from the same weights on the same windows to tell the next character
(causal), the masked ones (masked), or the rest of a window whose first half it sees (prefix).

1. All three read the same held-out text, unmasked, each attending as it was trained to.
2. Every MLP neuron of every layer gets the project's scores: monosemanticity (how alike its
   contexts are), token purity (the share of its active characters that are the one it means at its
   top), the AUROC of its rule on other passages, and the effective number of senses.

There is no published figure. The claim is what is usually told of large causal models, that early
neurons answer to tokens and later ones to mixtures of them: token purity falls from the first layer
to the last, whatever the objective; and depth matters more than the objective does. A masked model
is asked about 15 % of its characters and learns more slowly from as many steps. `--full` takes
about half an hour on one core.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from interp.errors import ConfigError
from interp.features import ExtractConfig, Units, extract, neurons
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.alphabet import shakespeare
from interp.lab.toys.character_store import character_store
from interp.lab.toys.characters import (
    OBJECTIVES,
    CharacterConfig,
    CharacterModel,
    heldout_loss,
    pretrain,
)
from interp.progress import Progress, silent
from interp.workspace import Workspace

SCORES = ("monosemanticity", "token_purity", "rule_auroc", "senses_effective")


@dataclass(frozen=True, kw_only=True)
class Objectives(Experiment):
    """See the module."""

    name = "objectives"
    paper = "no paper; what primers on language models say of early and late layers"
    claim = "Whatever a net is asked, its first neurons mean single tokens more than its last do."

    layers: int = 2
    """Blocks of the net."""
    steps: int = 3000
    """Optimiser steps for each objective."""
    batch: int = 64
    """Windows a step."""
    windows: int = 1280
    """Held-out windows on which neurons are measured."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.layers < 2:
            raise ConfigError(f"layers are compared, so there are at least 2; got {self.layers}")
        if min(self.steps, self.batch) < 1:
            raise ConfigError("steps and batch must be at least 1")

    @classmethod
    def at(cls, effort: Effort) -> "Objectives":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=1, steps=300, windows=640)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        falls = (
            Expected(quantity=f"token purity, first - last layer, {each}", value=0.0, low=0.0)
            for each in OBJECTIVES
        )
        share = "spread over objectives / spread over layers, token purity"
        why = (
            "the two layers of so small a net differ little, and a masked model, which learns more "
            "slowly, is at another stage than the others after as many steps"
        )
        return (*falls, Expected(quantity=share, value=0.5, low=0.0, high=1.0, why=why))

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = shakespeare()
        work = len(OBJECTIVES) * self.steps
        models: dict[str, CharacterModel] = {}
        for number, objective in enumerate(OBJECTIVES):
            config = CharacterConfig(layers=self.layers, objective=objective)
            model = models[objective] = CharacterModel(config, seed=seed)
            training = pretrain(model, text.train, steps=self.steps, batch=self.batch, seed=seed)
            for done in training:
                progress(number * self.steps + done, work + self.steps, objective)
        losses = {name: heldout_loss(model, text.heldout) for name, model in models.items()}
        with tempfile.TemporaryDirectory() as folder:
            sites = {
                f"{name}.{layer}": (model, f"blocks.{layer}.hook_mlp_post")
                for name, model in models.items()
                for layer in range(self.layers)
            }
            store = character_store(
                sites,
                {"Shakespeare": text.heldout},
                Path(folder) / "store",
                windows=self.windows,
                name="characters",
                seed=seed,
            )
            units = extract(
                [neurons(store, site) for site in sites],
                store,
                config=ExtractConfig(seed=seed, score_rows=20_000, shifts=8, contexts=2),
                workspace=Workspace(Path(folder)),
            )
            found = {score: self._by_layer(units, score) for score in SCORES}
        progress(work + self.steps, work + self.steps)
        purity = np.array([[y for _, y in found["token_purity"][each]] for each in OBJECTIVES])
        fall = purity[:, 0] - purity[:, -1]
        between = float(np.ptp(purity, axis=0).mean() / max(np.ptp(purity, axis=1).mean(), 1e-9))
        return Measurement(
            values={
                **{
                    f"token purity, first - last layer, {each}": float(value)
                    for each, value in zip(OBJECTIVES, fall, strict=True)
                },
                "spread over objectives / spread over layers, token purity": between,
            },
            figures=tuple(
                Figure(
                    title=f"{score.replace('_', ' ')} of neurons, median by layer",
                    kind="line",
                    x="layer",
                    y=score.replace("_", " "),
                    series=series,
                )
                for score, series in found.items()
            ),
            notes={
                "Loss on held-out text, in nats for each character asked": "\n".join(
                    f"{name:8} {loss:.3f}" for name, loss in losses.items()
                )
            },
        )

    def _by_layer(self, units: Units, score: str) -> dict[str, list[tuple[float, ...]]]:
        """The median over neurons that have the score, for each layer of each model."""
        tables = {table.site: table for table in units.tables}
        return {
            name: [
                (float(layer), float(np.nanmedian(tables[f"{name}.{layer}"].column(score))))
                for layer in range(self.layers)
            ]
            for name in OBJECTIVES
        }
