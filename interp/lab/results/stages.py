"""What fine-tuning and preference tuning do to the features of a tiny model.

1. Pretrain the character model on Shakespeare; fine-tune it on answers of dialogues; tune it by
   direct preference optimisation to end them with "!" (`interp.lab.toys.dialogue`).
2. All three stages read the same text, half of it dialogue. One crosscoder
   (`interp.sae.crosscoder`; Lindsey et al. 2024) reads and writes their residual streams.
3. From one stage to the next a latent's share is r = n_after / (n_before + n_after), n being the
   norms of its decoder: gone below .3, shared from .3 to .7, new above.
4. Control: a crosscoder over the first stage and a copy of it, where all must come out shared.

The cuts are wide; features that a preference moves a little stay shared. That most features are
shared is what Lindsey et al. and Minder et al. 2025 (2504.02922) found of large models; that the
second tuning, which is shorter, changes fewer of them than the first is what one would expect.
Latents that never fire on the store are left out. The loss of answers after preference tuning is
a check since a first run met every preference and wrote no words any more. `--full` takes about 40
minutes on one core.
"""

import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys import dialogue
from interp.lab.toys.alphabet import encode, shakespeare
from interp.lab.toys.character_store import character_store
from interp.lab.toys.characters import (
    CharacterConfig,
    CharacterModel,
    heldout_loss,
    pretrain,
    write,
)
from interp.lab.toys.stage_features import GONE, NEW, Joined, joined, shared
from interp.progress import Progress, silent
from interp.sae import BatchTopK, TrainConfig
from interp.store import ActivationStore

STAGES = ("pretrained", "tuned", "preferred")
COPY = "copy"
QUESTION = "What is your favorite book?\n"


@dataclass(frozen=True, kw_only=True)
class Stages(Experiment):
    """See the module."""

    name = "stages"
    paper = (
        "after Lindsey et al. 2024, Sparse crosscoders for cross-layer features and model diffing"
    )
    claim = "Tuning leaves most features in place; what is new answers to what was taught."

    context: int = 96
    """Characters of a window."""
    steps: int = 4000
    """Steps of pretraining."""
    tuning_steps: int = 400
    """Steps of fine-tuning."""
    preference_steps: int = 200
    """Steps of preference tuning."""
    batch: int = 64
    """Windows or exchanges a step; half as many pairs."""
    beta: float = 0.1
    """β of the preference loss."""
    windows: int = 1280
    """Windows on which the stages are compared."""
    latents: int = 512
    """Latents of a crosscoder."""
    k: int = 16
    """Active latents a row."""
    tokens: int = 2_000_000
    """Rows each crosscoder is trained on."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if min(self.steps, self.tuning_steps, self.preference_steps) < 1 or self.batch < 2:
            raise ConfigError("each stage needs at least 1 step, and batch must be at least 2")
        if self.beta <= 0:
            raise ConfigError(f"beta must be above 0, got {self.beta}")

    @classmethod
    def at(cls, effort: Effort) -> "Stages":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(
            seeds=1,
            steps=350,
            tuning_steps=80,
            preference_steps=50,
            windows=640,
            latents=256,
            tokens=400_000,
        )

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="shared by a stage and its copy", value=1.0, low=0.99, high=1.0),
            Expected(quantity="shared, pretrained to tuned", value=0.9, low=0.5, high=1.0),
            Expected(quantity="shared by second tuning - by first", value=0.0, low=0.0),
            Expected(
                quantity="loss of answers, tuned / pretrained",
                value=0.7,
                low=0.0,
                high=0.9,
                why="so few steps of fine-tuning teach little of how to answer",
            ),
            Expected(
                quantity="loss of answers, preferred / tuned",
                value=1.0,
                low=0.0,
                high=1.2,
                why="the preference loss asks for a difference of likelihoods only, and gets it at "
                "the cost of both: so small a model no longer writes words",
            ),
            Expected(quantity="Shakespeare's loss, tuned - pretrained", value=0.0, low=0.0),
            Expected(quantity="held-out preferences met", value=0.95, low=0.8, high=1.0),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = shakespeare()
        train_set, heldout = dialogue.exchanges(self.context)
        models = self._train(text.train, train_set, seed, progress)
        answers = dialogue.rows_of(heldout, self.context)
        pair = dialogue.pair_of(heldout, self.context)
        with torch.no_grad():
            answer_loss = {
                name: float(dialogue.tuning_loss(each, answers)) for name, each in models.items()
            }
            reference = dialogue.both(models["tuned"], pair)
            margin = dialogue.margins(dialogue.both(models["preferred"], pair), reference)
        losses = {name: heldout_loss(each, text.heldout) for name, each in models.items()}
        hook = f"blocks.{models['tuned'].config.layers - 1}.hook_resid_post"
        places = {name: (each, hook) for name, each in models.items()}
        with tempfile.TemporaryDirectory() as folder:
            store = character_store(
                {**places, COPY: places["pretrained"]},
                {
                    "Shakespeare": text.heldout,
                    "dialogue": encode("\n".join(each.text for each in train_set)),
                },
                Path(folder) / "store",
                windows=self.windows,
                name="characters",
                seed=seed,
            )
            stages = self._joined(store, STAGES, seed)
            control = self._joined(store, (STAGES[0], COPY), seed)
        total = self._work()
        progress(total, total)
        first, second, same = stages.later(0), stages.later(1), control.later(0)
        return Measurement(
            values={
                "shared by a stage and its copy": shared(same),
                "shared, pretrained to tuned": shared(first),
                "shared by second tuning - by first": shared(second) - shared(first),
                "loss of answers, tuned / pretrained": answer_loss["tuned"]
                / answer_loss["pretrained"],
                "loss of answers, preferred / tuned": answer_loss["preferred"]
                / answer_loss["tuned"],
                "Shakespeare's loss, tuned - pretrained": losses["tuned"] - losses["pretrained"],
                "held-out preferences met": float((margin > 0).double().mean()),
            },
            figures=(
                Figure(
                    title="Latents by their share of the later stage: 0 gone, ½ shared, 1 new",
                    kind="line",
                    x="n_after / (n_before + n_after)",
                    y="share of latents",
                    series={
                        "pretrained to tuned": _histogram(first),
                        "tuned to preferred": _histogram(second),
                        "control: a copy": _histogram(same),
                    },
                ),
                Figure(
                    title="Loss on held-out text by stage",
                    kind="line",
                    x="stage: pretrained, tuned, preferred",
                    y="nats a character",
                    series={
                        "Shakespeare": _points(losses),
                        "answers": _points(answer_loss),
                    },
                ),
            ),
            notes={
                "How many are gone, shared, new": "\n".join(
                    f"{what}: {np.mean(r < GONE):.0%}, {shared(r):.0%}, {np.mean(r > NEW):.0%} "
                    f"of {len(r)}"
                    for what, r in (("tuning", first), ("preferences", second), ("control", same))
                ),
                "Newest latents of tuning: where they fire most": stages.where(first),
                "Most gone in tuning": stages.where(1 - first),
                "Newest latents of preferences": stages.where(second),
                **{
                    f"Answer, {name}": write(each, QUESTION, count=60, seed=seed)
                    for name, each in models.items()
                },
            },
        )

    def _work(self) -> int:
        return 2 * (self.steps + self.tuning_steps + self.preference_steps)

    def _train(
        self,
        ids: np.ndarray,
        given: list[dialogue.Exchange],
        seed: int,
        progress: Progress,
    ) -> dict[str, CharacterModel]:
        """The model at each stage."""
        model = CharacterModel(CharacterConfig(context=self.context), seed=seed)
        for done in pretrain(model, ids, steps=self.steps, batch=self.batch, seed=seed):
            progress(done, self._work(), "pretraining")
        tuned = deepcopy(model)
        rows = dialogue.rows_of(given, self.context)
        for done in dialogue.tune(
            tuned, rows, steps=self.tuning_steps, batch=self.batch, lr=1e-3, seed=seed
        ):
            progress(self.steps + done, self._work(), "fine-tuning")
        preferred = deepcopy(tuned)
        for done in dialogue.prefer(
            preferred,
            tuned,
            dialogue.pair_of(given, self.context),
            beta=self.beta,
            steps=self.preference_steps,
            batch=self.batch // 2,
            lr=3e-4,
            seed=seed,
        ):
            progress(self.steps + self.tuning_steps + done, self._work(), "preferences")
        return dict(zip(STAGES, (model, tuned, preferred), strict=True))

    def _joined(self, store: ActivationStore, sites: tuple[str, ...], seed: int) -> Joined:
        """A crosscoder over sites of the store."""
        config = TrainConfig(tokens=self.tokens, batch=1024, seed=seed)
        return joined(store, sites, BatchTopK(k=self.k, latents=self.latents), config)


def _histogram(share: Float[np.ndarray, " latent"]) -> list[tuple[float, ...]]:
    counts, edges = np.histogram(share, bins=20, range=(0, 1))
    centres = (edges[1:] + edges[:-1]) / 2
    return [(float(x), float(y)) for x, y in zip(centres, counts / len(share), strict=True)]


def _points(values: dict[str, float]) -> list[tuple[float, ...]]:
    return [(float(place), value) for place, value in enumerate(values.values())]
