"""The loss of tiny language models by size and data, and that of dictionaries by width and k.

1. Train the causal character model in several widths, each on several numbers of characters, none
   seen twice on purpose, each run with a learning rate schedule of its own.
2. Power laws (`interp.lab.power_law`): in N, the parameters without embeddings, at the most data;
   in D, the characters, in the widest model; and in both together. Intervals are 95 % of bootstrap
   draws of runs; those of one variable rest on few runs and are crude.
3. BatchTopK dictionaries of several widths and k on one store, the widest model's residual stream:
   1 - FVE on held-out rows, which should fall with either, along a plane between logarithms.

Published exponents are of models a thousand times larger and of tokens, not characters: Kaplan et
al. 2020 give α_N = .076 and α_D = .095; Hoffmann et al. 2022 α = .34 and β = .28. A factor of two
either way is accepted, decided beforehand. `--full` takes about two hours on one core.
"""

import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from interp.errors import ConfigError
from interp.lab.power_law import bootstrap, fit_line, fit_surface, fit_width_and_k
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.alphabet import Text, shakespeare
from interp.lab.toys.character_store import character_store
from interp.lab.toys.characters import CharacterConfig, CharacterModel, heldout_loss, pretrain
from interp.progress import Progress, silent
from interp.sae import BatchTopK, Dictionary, TrainConfig
from interp.sae.train import train_many
from interp.store import ActivationStore
from interp.workspace import Workspace

SITE = "resid"


@dataclass(frozen=True, kw_only=True)
class ScalingLaws(Experiment):
    """See the module."""

    name = "scaling-laws"
    paper = "Kaplan et al. 2020, Scaling Laws for Neural Language Models; Hoffmann et al. 2022"
    claim = "Loss falls with parameters and with data along power laws; so does a dictionary's."

    widths: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Widths of the models' residual stream, rising; even."""
    characters: tuple[int, ...] = (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000)
    """Training characters, rising."""
    batch: int = 16
    """Windows a step."""
    windows: int = 1280
    """Held-out windows for the dictionaries."""
    latents: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Widths of the dictionaries, rising."""
    k: tuple[int, ...] = (4, 8, 16)
    """Active latents a row, rising."""
    tokens: int = 1_000_000
    """Rows each dictionary is trained on."""
    replicates: int = 200
    """Bootstrap draws."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        for name in ("widths", "characters", "latents", "k"):
            sizes: tuple[int, ...] = getattr(self, name)
            if len(sizes) < 2 or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
                raise ConfigError(f"{name} must be two sizes or more, rising, got {list(sizes)}")
        if min(self.batch, self.replicates) < 1:
            raise ConfigError("batch and replicates must be at least 1")

    @classmethod
    def at(cls, effort: Effort) -> "ScalingLaws":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(
            seeds=1,
            widths=(8, 16, 32, 64),
            characters=(100_000, 200_000, 400_000, 800_000),
            windows=640,
            latents=(64, 128, 256, 512),
            tokens=200_000,
            replicates=40,
        )

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        floor = (
            "over so small a range of sizes the loss that would remain is fitted as nothing, and "
            "the exponents come out lower for it"
        )
        brief = "the wider dictionaries are trained too briefly to reach the narrower ones"
        exponents = (
            ("exponent of N", 0.076, ""),
            ("exponent of D", 0.095, ""),
            ("exponent of N, both together", 0.34, floor),
            ("exponent of D, both together", 0.28, floor),
        )
        return (
            *(
                Expected(quantity=quantity, value=value, low=value / 2, high=2 * value, why=why)
                for quantity, value, why in exponents
            ),
            Expected(quantity="R² in N", value=0.99, low=0.95, high=1.0),
            Expected(quantity="R² in D", value=0.99, low=0.95, high=1.0),
            Expected(
                quantity="steps in width and k that lower 1 - FVE", value=1.0, low=0.9, why=brief
            ),
            Expected(quantity="R² in width and k", value=0.99, low=0.95, high=1.0, why=brief),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = shakespeare()
        N, D, loss, widest = self._models(text, seed, progress)
        most, whole = np.equal(D, D.max()), np.equal(N, N.max())
        by_n, by_d = fit_line(N[most], loss[most]), fit_line(D[whole], loss[whole])
        both = fit_surface(N, D, loss)
        ends = [
            bootstrap(
                int(chosen.sum()),
                lambda drawn, x=x, chosen=chosen: np.array(
                    [fit_line(x[chosen][drawn], loss[chosen][drawn]).exponent]
                ),
                replicates=10 * self.replicates,
                seed=seed,
            )
            for x, chosen in ((N, most), (D, whole))
        ]

        def surface(drawn: Int64[np.ndarray, " run"]) -> np.ndarray:
            found = fit_surface(N[drawn], D[drawn], loss[drawn], near=both)
            return np.array([found.alpha, found.beta, found.E])

        low, high = bootstrap(len(N), surface, replicates=self.replicates, seed=seed, least=6)
        error = self._dictionaries(text, widest, seed)
        n, few = (
            each.ravel().astype(float) for each in np.meshgrid(self.latents, self.k, indexing="ij")
        )
        numbers, explained = fit_width_and_k(n, few, error.ravel())
        steps = np.concatenate([np.diff(error, axis=axis).ravel() for axis in (0, 1)])
        progress(1, 1)
        return Measurement(
            values={
                "exponent of N": by_n.exponent,
                "exponent of D": by_d.exponent,
                "exponent of N, both together": both.alpha,
                "exponent of D, both together": both.beta,
                "R² in N": by_n.r_squared,
                "R² in D": by_d.r_squared,
                "steps in width and k that lower 1 - FVE": float((steps < 0).mean()),
                "R² in width and k": explained,
            },
            figures=(
                _lines("Loss by parameters", "parameters without embeddings", N, D, loss),
                _lines("Loss by data", "characters", D, N, loss),
                Figure(
                    title="What a dictionary misses by its width",
                    kind="line",
                    x="latents",
                    y="1 - FVE on held-out rows",
                    series={
                        f"k = {k}": [
                            (float(x), float(y)) for x, y in zip(self.latents, part, strict=True)
                        ]
                        for k, part in zip(self.k, error.T, strict=True)
                    },
                    log=("x", "y"),
                ),
            ),
            notes={
                "Fitted, with 95 % bootstrap intervals": "\n".join(
                    [
                        f"L ~ N^-{by_n.exponent:.3f}  [{ends[0][0][0]:.3f}, {ends[0][1][0]:.3f}]",
                        f"L ~ D^-{by_d.exponent:.3f}  [{ends[1][0][0]:.3f}, {ends[1][1][0]:.3f}]",
                        f"L = {both.E:.2f} [{low[2]:.2f}, {high[2]:.2f}]"
                        f" + {both.A:.3g}/N^{both.alpha:.3f} [{low[0]:.3f}, {high[0]:.3f}]"
                        f" + {both.B:.3g}/D^{both.beta:.3f} [{low[1]:.3f}, {high[1]:.3f}]",
                        "log(1 - FVE) = {:.2f}{:+.3f} log n{:+.3f} log k{:+.4f} log n log k".format(
                            *numbers
                        ),
                    ]
                )
            },
        )

    def _models(
        self, text: Text, seed: int, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, CharacterModel]:
        """Parameters, characters and held-out loss of every run, and the last model."""
        work, done = len(self.widths) * sum(self.characters), 0
        models: list[CharacterModel] = []
        for width, characters in product(self.widths, self.characters):
            model = CharacterModel(CharacterConfig(d_model=width, d_mlp=4 * width), seed=seed)
            step, ids = self.batch * model.config.context, text.train[:characters]
            steps = max(1, characters // step)
            for _ in pretrain(model, ids, steps=steps, batch=self.batch, seed=seed):
                done += step
                progress(min(done, work), work + work // 4, f"width {width}")
            models.append(model)
        N = [sum(p.numel() for p in each.blocks.parameters()) for each in models]
        loss = [heldout_loss(each, text.heldout) for each in models]
        D = np.tile(np.array(self.characters, float), len(self.widths))
        return np.array(N, float), D, np.array(loss), models[-1]

    def _dictionaries(self, text: Text, model: CharacterModel, seed: int) -> np.ndarray:
        """1 - FVE by width and k."""
        hook = f"blocks.{model.config.layers - 1}.hook_resid_post"
        config = TrainConfig(tokens=self.tokens, batch=1024, seed=seed)
        sizes = product(self.latents, self.k)
        runs = [(BatchTopK(k=k, latents=latents), config) for latents, k in sizes]
        with tempfile.TemporaryDirectory() as folder:
            store = character_store(
                {SITE: (model, hook)},
                {"Shakespeare": text.heldout},
                Path(folder) / "store",
                windows=self.windows,
                name="characters",
                seed=seed,
            )
            found = train_many(store, SITE, runs, workspace=Workspace(Path(folder)), device="cpu")
            errors = [_unexplained(each, store) for each in found]
        return np.array(errors).reshape(len(self.latents), len(self.k))


@torch.no_grad()
def _unexplained(dictionary: Dictionary, store: ActivationStore) -> float:
    """1 - FVE on held-out rows."""
    x = torch.from_numpy(store.read(SITE, 0, store.rows)[store.heldout])
    rest = x - dictionary.decode(dictionary.encode(x))
    spread = (x - x.double().mean(dim=0)).square().sum()
    return float(rest.double().square().sum() / spread)


def _lines(title: str, x: str, sizes: np.ndarray, others: np.ndarray, loss: np.ndarray) -> Figure:
    return Figure(
        title=title,
        kind="line",
        x=x,
        y="nats a character",
        series={
            f"{other:,.0f}": [
                (float(a), float(b))
                for a, b in zip(sizes[others == other], loss[others == other], strict=True)
            ]
            for other in np.unique(others)
        },
        log=("x", "y"),
    )
