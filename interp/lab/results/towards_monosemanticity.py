"""Dictionaries of a one-layer language model's neurons, scaled down from Bricken et al. 2023.

1. Train the one-layer transformer with 512 ReLU neurons on Shakespeare, twice, from two seeds (the
   paper: 100 billion tokens of the Pile), and store the neurons of both on the same text.
2. Train a dictionary of each width on the first model's neurons (BatchTopK of k = 16; the paper has
   an L1 penalty and aims at fewer than 10 to 20 active features), and the widest on the second's.
   Splice them in: the loss recovered, against zero ablation as in the paper.
3. Density: the modes of the widest dictionary's latents over log10 density. The paper sees two,
   an ultralow one and an ordinary one. A mode is a peak of a Gaussian kernel density estimate of
   bandwidth ¼ decade whose prominence is at least a tenth of the greatest peak.
4. Every purity score of `interp.features` on the widest dictionary's latents and on neurons: how
   often a latent is purer than a neuron (`superiority`). As scores depend on density, neurons are
   measured a second time cut to the latents' densities. The paper has a person's rubric: median
   neuron 0, median feature interval 12 of 14.
5. Universality: the best correlation of each latent with a latent of the other seed, and of each
   neuron with a neuron; medians .72 and .46 in the paper.

In the quick form latents are purer than neurons by every score, but than neurons cut to their
density by one of five: there, much of what sets latents apart is that they are rare.

The paper's loss recovered is 79 % at 8 x (A/1) and 94.5 % at 256 x (A/5). The quick form takes one
seed, two widths and less training; the full form is estimated at an hour a seed on one core.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde
from torch import Tensor

from interp.capture import capture
from interp.errors import ConfigError, DataError
from interp.evaluate.candidate import candidate
from interp.evaluate.downstream import Downstream, downstream_many
from interp.features import UnitTable, extract, neurons
from interp.lab.language_latents import PURITY, QUICK, LanguageLatents, purer, scoring
from interp.lab.matching import SparseNeurons, best_correlations
from interp.lab.result import Effort, Expected, Figure, Measurement
from interp.lab.toys.language import LanguageConfig, before_and_after, find_text
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.sae import Dictionary, train_many
from interp.store import ActivationStore
from interp.workspace import Workspace

SITE = "mlp_post.0"


@dataclass(frozen=True, kw_only=True)
class TowardsMonosemanticity(LanguageLatents):
    """See the module."""

    name = "towards-monosemanticity"
    paper = "Bricken et al. 2023, Towards Monosemanticity"
    claim = "Latents of a one-layer model are purer and more universal than its neurons."

    d_mlp: int = 512
    """Neurons."""
    steps: int = 700
    """Training steps of each of the two models, 4,096 tokens each."""
    widths: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16_384)
    """Latents of the dictionaries, rising."""
    windows: int = 256
    """Held-out windows on which the loss is measured."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if not self.widths or list(self.widths) != sorted(set(self.widths)):
            raise ConfigError(f"widths must rise, got {list(self.widths)}")

    @classmethod
    def at(cls, effort: Effort) -> "TowardsMonosemanticity":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(
            **QUICK,
            tokens=150_000,
            widths=(512, 2048),
            dictionary_tokens=300_000,
            windows=64,
        )

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        rare = (
            "much of what sets latents apart is that they are rare, and these neurons are as rare"
        )
        pure = [
            Expected(
                quantity=f"latent purer than {other}, {score}",
                value=0.9,
                low=0.55,
                high=1.0,
                why=why,
            )
            for other, why in (("neuron", ""), ("sparse neuron", rare))
            for score in PURITY
        ]
        return (
            Expected(quantity="loss recovered, widest", value=0.945, low=0.79),
            Expected(quantity="loss recovered, widest minus narrowest", value=0.1, low=0.0),
            Expected(quantity="density modes, widest", value=2.0, low=2.0, high=2.0),
            *pure,
            Expected(quantity="universality, latents minus neurons", value=0.26, low=0.0),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        text = find_text(self.corpus)
        with TemporaryDirectory() as place:
            scratch = Workspace(Path(place))
            models: list[LoadedModel] = []
            stores: list[ActivationStore] = []
            for twin in (2 * seed, 2 * seed + 1):
                config = LanguageConfig(
                    seed=twin, steps=self.steps, vocabulary=self.vocabulary, d_mlp=self.d_mlp
                )
                _, trained = before_and_after(config, text)
                models.append(trained)
                stores.append(capture(trained, [SITE], text, workspace=scratch, tokens=self.tokens))
                progress(len(models), 6, "models")
            runs = [self.dictionary(width, seed) for width in self.widths]
            first = train_many(stores[0], SITE, runs, workspace=scratch)
            progress(4, 6, "dictionaries")
            (second,) = train_many(stores[1], SITE, runs[-1:], workspace=scratch)
            losses = downstream_many(
                [candidate(each) for each in first], models[0], stores[0], windows=self.windows
            )
            progress(5, 6, "units")
            tables = _extract(stores[0], first[-1], seed, scratch)
            agreement = _universality(stores, (first[-1], second), tables)
        progress(6, 6)
        return self._measurement(losses, tables, agreement)

    def _measurement(
        self,
        losses: list[Downstream],
        tables: dict[str, UnitTable],
        agreement: dict[str, Float[np.ndarray, " unit"]],
    ) -> Measurement:
        recovered = [_recovered(each) for each in losses]
        density = tables["latent"].column("density")
        modes, curve = density_modes(density[density > 0])
        values = {
            "loss recovered, widest": recovered[-1],
            "loss recovered, widest minus narrowest": recovered[-1] - recovered[0],
            "density modes, widest": float(modes),
            "universality, latents minus neurons": float(
                np.median(agreement["latents"]) - np.median(agreement["neurons"])
            ),
        }
        for other in ("neuron", "sparse neuron"):
            for score, share in purer(tables["latent"], tables[other]).items():
                values[f"latent purer than {other}, {score}"] = share
        widths = [float(width) for width in self.widths]
        return Measurement(
            values=values,
            figures=(
                Figure(
                    title="Loss recovered",
                    kind="line",
                    x="latents",
                    y="share of the loss of zero ablation",
                    series={"dictionaries": list(zip(widths, recovered, strict=True))},
                    log=("x",),
                ),
                Figure(
                    title="Density of the widest dictionary's latents",
                    kind="line",
                    x="log10 density",
                    y="latents",
                    series={"latents": curve},
                ),
                Figure(
                    title="Best correlation with a unit of another seed, sorted",
                    kind="line",
                    x="share of units",
                    y="correlation",
                    series={name: _sorted(each) for name, each in agreement.items()},
                ),
                Figure(
                    title="Token purity of units, sorted",
                    kind="line",
                    x="share of units",
                    y="token purity",
                    series={
                        name: _sorted(table.column("token_purity"))
                        for name, table in tables.items()
                    },
                ),
            ),
        )


def _extract(
    store: ActivationStore, dictionary: Dictionary, seed: int, scratch: Workspace
) -> dict[str, UnitTable]:
    """Tables of latents, of neurons, and of neurons as rarely active as the latents."""
    settings = scoring(seed)
    plain = neurons(store, SITE)
    first = extract([plain, dictionary], store, config=settings, workspace=scratch).tables
    latents = first[1]
    measured = latents.column("density")[~np.isnan(latents.column("token_purity"))]
    draw = np.random.default_rng([seed, 14])
    width = store.site(SITE).width
    # As many neurons at each density as there are latents, dealt out by lot.
    shares = np.quantile(measured, draw.permutation((np.arange(width) + 0.5) / width))
    rows = store.rows_of("all")
    sample = store.take(SITE, rows[:: max(1, len(rows) // 20_000)])
    cut = SparseNeurons(SITE, torch.from_numpy(sample), shares)
    (sparse,) = extract([cut], store, config=settings, workspace=scratch).tables
    return {"latent": latents, "neuron": first[0], "sparse neuron": sparse}


def _universality(
    stores: list[ActivationStore],
    dictionaries: tuple[Dictionary, Dictionary],
    tables: dict[str, UnitTable],
) -> dict[str, Float[np.ndarray, " unit"]]:
    """Best correlations of the first model's units with the second's, unscored latents left out."""

    if not np.array_equal(stores[0].tokens, stores[1].tokens):
        raise DataError("the two models did not read the same tokens, so units do not compare")
    sinks = stores[0].sinks | stores[1].sinks

    def blocks(latents: bool) -> Iterator[tuple[Tensor, Tensor]]:
        for (rows, a), (_, b) in zip(*(each.blocks(SITE) for each in stores), strict=True):
            x, y = (torch.from_numpy(values[~sinks[rows]]) for values in (a, b))
            with torch.inference_mode():
                yield (dictionaries[0].encode(x), dictionaries[1].encode(y)) if latents else (x, y)

    found = {name: best_correlations(blocks(name == "latents")) for name in ("latents", "neurons")}
    found["latents"][np.isnan(tables["latent"].column("token_purity"))] = np.nan
    return {name: values[~np.isnan(values)] for name, values in found.items()}


def _recovered(loss: Downstream) -> float:
    if loss.loss_recovered_zero is None:
        raise DataError("zero ablation of the neurons costs nothing; train the model longer")
    return loss.loss_recovered_zero


def _sorted(values: Float[np.ndarray, " unit"]) -> list[tuple[float, ...]]:
    """At most 200 points of the sorted values."""
    kept = np.sort(values[~np.isnan(values)])
    shares = np.linspace(0, 1, min(len(kept), 200))
    return [(float(share), float(np.quantile(kept, share))) for share in shares]


def density_modes(
    density: Float[np.ndarray, " unit"],
) -> tuple[int, list[tuple[float, ...]]]:
    """How many modes the densities have on a log10 scale, and the estimated curve.

    Args:
        density: of units that fire at all.
    """
    logs = np.log10(density)
    places = np.linspace(logs.min() - 1, logs.max() + 1, 200)
    heights = gaussian_kde(logs, bw_method=0.25 / logs.std(ddof=1))(places) * len(logs)
    peaks, _ = find_peaks(heights, prominence=heights.max() / 10)
    return len(peaks), [(float(x), float(y)) for x, y in zip(places, heights, strict=True)]
