"""What training does to a small language model's text, its neurons and its features.

The character model (`interp.lab.toys.characters`) learns Shakespeare; an epoch is as many random
windows as cover the training text once. At each stage:

1. Its text, and the last layer's neurons over "To be, or not to be, that is the question:".
2. The structure of those neurons on held-out text. Characters fall into seven classes (vowels,
   consonants, capitals, spaces, line breaks, digits, others); η² is the share of a neuron's
   variance between the classes, Σ_c n_c (μ_c - μ)² / Σ (a - μ)². The structure is the mean of η²
   over neurons less the same under shuffled classes: by the character read, which also an untrained
   net knows, and by the one that follows, which only a trained net can tell.
3. Its interval: passages are drawn anew 500 times, the same for all stages, 95 % of the gains kept.
4. A BatchTopK dictionary of the residual stream, and every unit's monosemanticity.

There is no published figure; the ranges are what a reader of primers would expect. The loss may
be as that of nanoGPT's small character model on a CPU (1.88, on fewer plays), within .35. Gains are
of the last stage over the first; structure may well be greatest between, when classes are what has
been learnt and finer things are not.
`--full` takes about 40 minutes on one core.
"""

import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from interp.errors import ConfigError
from interp.features import ExtractConfig, Units, extract, neurons
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.alphabet import ALPHABET, encode, shakespeare
from interp.lab.toys.character_store import character_store
from interp.lab.toys.characters import (
    CharacterConfig,
    CharacterModel,
    heldout_loss,
    pretrain,
    write,
)
from interp.lab.toys.structure import structure
from interp.models import wrap_module
from interp.progress import Progress, silent
from interp.sae import BatchTopK, TrainConfig, train
from interp.store import ActivationStore
from interp.workspace import Workspace

LINE = "To be, or not to be, that is the question:"
_BATCH, _SHOWN = 64, 32


@dataclass(frozen=True, kw_only=True)
class BeforeAndAfter(Experiment):
    """See the module."""

    name = "before-and-after"
    paper = "no paper; what primers on language models say of training"
    claim = "Training turns noise into words, and neurons without a pattern into ones with one."

    epochs: tuple[int, ...] = (0, 1, 3, 10)
    """Stages, rising from 0."""
    characters: int | None = None
    """Characters of the training text, all by default."""
    windows: int = 1280
    """Held-out windows whose activations are kept."""
    latents: int = 256
    """Latents of each stage's dictionary."""
    k: int = 8
    """Active latents a row."""
    tokens: int = 1_000_000
    """Rows each dictionary is trained on."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if len(self.epochs) < 2 or list(self.epochs) != sorted({0, *self.epochs}):
            raise ConfigError(f"epochs must rise from 0 on, got {list(self.epochs)}")

    @classmethod
    def at(cls, effort: Effort) -> "BeforeAndAfter":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(seeds=1, characters=400_000, windows=640, tokens=300_000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        chance = float(np.log(len(ALPHABET) + 1))
        return (
            Expected(quantity="loss, untrained", value=chance, low=chance - 0.1, high=chance + 0.1),
            Expected(quantity="loss, trained", value=1.88, low=1.53, high=2.23),
            Expected(quantity="structure gained by character, lower end", value=0.0, low=0.0),
            Expected(quantity="structure gained by next character, lower end", value=0.0, low=0.0),
            Expected(quantity="monosemanticity, latents - neurons", value=0.0, low=0.0),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = shakespeare(self.characters)
        config = CharacterConfig()
        epoch = max(1, len(text.train) // (_BATCH * config.context))
        steps = epoch * self.epochs[-1]
        model = CharacterModel(config, seed=seed)
        stages = {0: deepcopy(model)}
        for done in pretrain(model, text.train, steps=steps, batch=_BATCH, seed=seed):
            if done % epoch == 0 and done // epoch in self.epochs:
                stages[done // epoch] = deepcopy(model)
            progress(done, 2 * steps, "training")
        losses = [(float(each), heldout_loss(net, text.heldout)) for each, net in stages.items()]
        with tempfile.TemporaryDirectory() as folder:
            sites = {f"mlp@{each}": (net, "blocks.1.hook_mlp_post") for each, net in stages.items()}
            sites |= {f"resid@{e}": (net, "blocks.1.hook_resid_post") for e, net in stages.items()}
            store = character_store(
                sites,
                {"Shakespeare": text.heldout},
                Path(folder) / "store",
                windows=self.windows,
                name="characters",
                seed=seed,
            )
            ordered = structure(
                [store.read(f"mlp@{e}", 0, store.rows) for e in stages], store, seed
            )
            units = self._units(store, Path(folder), seed)
            curves = {name: _sorted(units, name) for name in sites}
            rules = {f"Features, {_after(e)}": _rules(units, f"resid@{e}") for e in stages}
        progress(2 * steps, 2 * steps)
        medians = {name: float(np.median([y for _, y in each])) for name, each in curves.items()}
        last = self.epochs[-1]
        return Measurement(
            values={
                "loss, untrained": losses[0][1],
                "loss, trained": losses[-1][1],
                "structure gained by character, lower end": ordered["character"].gain_low,
                "structure gained by next character, lower end": ordered["next"].gain_low,
                "monosemanticity, latents - neurons": medians[f"resid@{last}"]
                - medians[f"mlp@{last}"],
            },
            figures=(
                Figure(
                    title="Loss on held-out text",
                    kind="line",
                    x="epochs",
                    y="nats a character",
                    series={"loss": losses},
                ),
                Figure(
                    title="Variance of neurons explained by classes of characters, with 95 % ends",
                    kind="line",
                    x="epochs",
                    y="η² beyond shuffled classes",
                    series={
                        f"{by}{end}": [(float(e), v) for e, v in zip(stages, values, strict=True)]
                        for by, found in ordered.items()
                        for end, values in (
                            ("", found.mean),
                            (", low", found.low),
                            (", high", found.high),
                        )
                    },
                ),
                Figure(
                    title=f"Neurons of the last layer over “{LINE}”",
                    kind="heatmap",
                    x="character",
                    y="neuron",
                    series=_maps(stages),
                ),
                Figure(
                    title="Monosemanticity of neurons (mlp) and latents (resid), sorted",
                    kind="line",
                    x="share of units",
                    y="monosemanticity",
                    series=curves,
                ),
            ),
            notes={f"Text, {_after(e)}": write(net, LINE, seed=seed) for e, net in stages.items()}
            | rules,
        )

    def _units(self, store: ActivationStore, folder: Path, seed: int) -> Units:
        """Neurons and latents of every stage, measured."""
        bases = [
            train(
                store,
                f"resid@{each}",
                BatchTopK(k=self.k, latents=self.latents),
                TrainConfig(tokens=self.tokens, batch=1024, seed=seed),
                out=folder / f"dictionary@{each}",
                device="cpu",
            )
            for each in self.epochs
        ]
        return extract(
            [*bases, *(neurons(store, f"mlp@{each}") for each in self.epochs)],
            store,
            config=ExtractConfig(seed=seed, score_rows=20_000, shifts=8, contexts=2),
            workspace=Workspace(folder),
        )


def _after(epochs: int) -> str:
    return "untrained" if epochs == 0 else f"after {epochs} epoch{'s' * (epochs > 1)}"


def _sorted(units: Units, site: str) -> list[tuple[float, ...]]:
    """Monosemanticity of a site's units that have one, greatest first."""
    (table,) = (each for each in units.tables if each.site == site)
    values = table.column("monosemanticity")
    values = np.sort(values[~np.isnan(values)])[::-1]
    return [
        (float(x), float(y)) for x, y in zip(np.linspace(0, 1, len(values)), values, strict=True)
    ]


def _rules(units: Units, site: str, count: int = 8) -> str:
    """The most monosemantic latents of a site in words."""
    (table,) = (each for each in units.tables if each.site == site)
    lines: list[str] = []
    for row in Units([table]).sort().rows(count):
        score, density = row["monosemanticity"], row["density"]
        lines.append(f"{score:.2f}  in {density:.2%} of characters  {row.get('rule', '')}")
    return "\n".join(lines)


def _maps(stages: dict[int, CharacterModel]) -> dict[str, list[tuple[float, ...]]]:
    """Activations over `LINE` of the neurons that vary most over it after the last stage."""
    tokens: Int[torch.Tensor, "1 length"] = torch.from_numpy(encode(LINE))[None]
    maps: dict[str, Float[np.ndarray, "length neuron"]] = {}
    for each, net in stages.items():
        face = wrap_module(net, name="characters", example=tokens)
        site = face.site("blocks.1.hook_mlp_post")
        maps[_after(each)] = face.activations(tokens, [site])[site.name][0].numpy()
    chosen = np.argsort(-list(maps.values())[-1].std(axis=0))[:_SHOWN]
    return {
        stage: [
            (float(x), float(y), float(value))
            for x, row in enumerate(found[:, chosen])
            for y, value in enumerate(row)
        ]
        for stage, found in maps.items()
    }
