"""The control that every score needs: dictionaries of a model that was never trained.

Heap et al. 2025 trained SAEs on transformers with random weights: automated interpretability rates
their latents about as well as those of trained models, and what tells the two apart is how abstract
latents are. Token entropy, the entropy of a latent's activation over tokens, rises with depth in
trained models and stays low in random ones.

1. Train a small transformer on Shakespeare; keep it at step 0 too. Store the residual stream after
   each block of both, on the same text.
2. A dictionary of each, all with the same settings (BatchTopK); every score of its latents.
3. Token entropy (`abstractness`, bits): its median's rise from the first block to the last. Purity
   scores at the last block: how often a latent of the trained model beats one of the untrained
   (`superiority`); ½ means that the score cannot tell them apart.

The paper has Pythia of 70 million parameters and more and an LLM as judge; here a rule found on
some tokens and tried on others (`rule_auroc`) stands for the judge. At the quick form's size the
claim was not reproduced: every purity score favoured the trained model, and latents of the
untrained one had the higher token entropy. Whether that is the size, the short training or the
score in the judge's place, this result cannot say.

The quick form takes one seed, three blocks and 250 steps; the full form is estimated at an hour a
seed on one core.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from interp.capture import capture
from interp.errors import ConfigError
from interp.features import UnitTable, extract
from interp.lab.language_latents import PURITY, QUICK, LanguageLatents, purer, scoring
from interp.lab.result import Effort, Expected, Figure, Measurement
from interp.lab.toys.language import LanguageConfig, before_and_after, find_text
from interp.progress import Progress, silent
from interp.sae import train
from interp.workspace import Workspace

STAGES = ("untrained", "trained")


@dataclass(frozen=True, kw_only=True)
class UntrainedControl(LanguageLatents):
    """See the module."""

    name = "untrained-control"
    paper = "Heap et al. 2025, Sparse Autoencoders Can Interpret Randomly Initialized Transformers"
    claim = "Purity scores hardly tell a trained model from a random one; token entropy does."

    layers: int = 6
    """Blocks."""
    d_model: int = 128
    """Width of the residual stream."""
    latents: int = 2048
    """Latents of each dictionary."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.layers < 2:
            raise ConfigError(f"depth takes at least 2 layers, got {self.layers}")

    @classmethod
    def at(cls, effort: Effort) -> "UntrainedControl":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(
            **QUICK,
            layers=3,
            tokens=100_000,
            latents=1024,
            dictionary_tokens=200_000,
        )

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        shallow = "a net this small and this briefly trained forms no abstract latents"
        apart = (
            "these scores tell the trained model from the random one, as the paper's LLM judge "
            "hardly does; models here are far smaller than the paper's least, of 70 million weights"
        )
        return (
            Expected(quantity="entropy, trained, rise with depth", value=1.0, low=0.1, why=shallow),
            Expected(quantity="entropy, untrained, rise with depth", value=0.0, low=-0.5, high=0.5),
            Expected(
                quantity="entropy, trained minus untrained, last block",
                value=1.0,
                low=0.1,
                why=shallow,
            ),
            *(
                Expected(
                    quantity=f"trained purer than untrained, {score}",
                    value=0.5,
                    low=0.35,
                    high=0.65,
                    why=apart,
                )
                for score in PURITY
            ),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = find_text(self.corpus)
        sites = [f"resid_post.{layer}" for layer in range(self.layers)]
        config = LanguageConfig(
            seed=seed,
            steps=self.steps,
            vocabulary=self.vocabulary,
            layers=self.layers,
            d_model=self.d_model,
        )
        work, done = 1 + 2 * self.layers, 1
        found: dict[str, list[UnitTable]] = {}
        with TemporaryDirectory() as place:
            scratch = Workspace(Path(place))
            models = before_and_after(config, text)
            progress(done, work, "model")
            for stage, model in zip(STAGES, models, strict=True):
                store = capture(model, sites, text, workspace=scratch, tokens=self.tokens)
                dictionaries = []
                for site in sites:
                    architecture, training = self.dictionary(self.latents, seed)
                    dictionaries.append(
                        train(store, site, architecture, training, workspace=scratch)
                    )
                    done += 1
                    progress(done, work, f"{stage} {site}")
                units = extract(dictionaries, store, config=scoring(seed), workspace=scratch)
                for table in units.tables:
                    _ = table.columns  # read before the folder goes
                found[stage] = units.tables
        return self._measurement(found)

    def _measurement(self, found: dict[str, list[UnitTable]]) -> Measurement:
        entropy = {stage: _medians(found[stage], "abstractness") for stage in STAGES}
        untrained, trained = (entropy[stage] for stage in STAGES)
        values = {
            "entropy, trained, rise with depth": trained[-1] - trained[0],
            "entropy, untrained, rise with depth": untrained[-1] - untrained[0],
            "entropy, trained minus untrained, last block": trained[-1] - untrained[-1],
        }
        random, learnt = (found[stage][-1] for stage in STAGES)
        for score, share in purer(learnt, random).items():
            values[f"trained purer than untrained, {score}"] = share
        return Measurement(
            values=values,
            figures=tuple(
                Figure(
                    title=f"{title} of latents by depth",
                    kind="line",
                    x="block",
                    y=f"median {score}",
                    series={
                        stage: [(float(i), each) for i, each in enumerate(_medians(tables, score))]
                        for stage, tables in found.items()
                    },
                )
                for title, score in (
                    ("Token entropy", "abstractness"),
                    ("Token purity", "token_purity"),
                    ("Rule AUROC", "rule_auroc"),
                    ("Monosemanticity", "monosemanticity"),
                )
            ),
        )


def _medians(tables: list[UnitTable], score: str) -> list[float]:
    """The median over each table's scored units."""
    return [float(np.nanmedian(table.column(score))) for table in tables]
