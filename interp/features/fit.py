"""Fitting the classical baselines of `interp.features.fitted` with scikit-learn.

1. A seeded sample of training rows without attention sinks, in float64.
2. pca        singular vectors of the centred sample, by falling variance.
   ica        FastICA (Hyvärinen & Oja 2000), parallel, logcosh, on the whitened sample.
   nmf        coordinate descent on ½‖X - C D‖², NNDSVD start; no site that goes below zero.
   dictlearn  online dictionary learning (Mairal et al. 2009, "Online dictionary learning for sparse
              coding"), λ = 1.2/√width as there, on the centred sample scaled to mean norm 1.
3. Components to unit norm, and the analysis matrix the other way: a code is then as long as what it
   adds to the reconstruction.

Directions in which the sample does not vary (singular value below 1e-6 of the largest) carry no
component of pca or ica. ICA and NMF stop where scikit-learn's own tolerance says; the file states
whether they did before ``iterations`` ran out.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from interp.config import to_dict
from interp.errors import ConfigError, DataError, UnknownName
from interp.features.bases import any_negative
from interp.features.fitted import KINDS, FittedBasis
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.sae.survey import check_finite, check_rows
from interp.store import ActivationStore, Site

ROUND = 10
"""Iterations between reports of progress."""
BATCH = 256
"""Rows of a step of online dictionary learning."""
FLAT = 1e-6


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a classical baseline is fitted."""

    k: int = 32
    """Components a row keeps, those of the largest codes; evaluation sets its own."""
    components: int | None = None
    """How many to fit; by default as many as the site is wide."""
    rows: int = 16_384
    """Training rows to fit on, a seeded sample; all if there are fewer."""
    iterations: int = 100
    """At most so many iterations of ICA and NMF, and so many steps of dictionary learning."""
    seed: int = 0
    """Governs the sample and the start."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("k", "components", "rows", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")

    def label(self, kind: str, width: int) -> str:
        """The name of the basis, such as ``pca-576-k32-s0``."""
        return f"{kind}-{self.components or width}-k{self.k}-s{self.seed}"


@dataclass(frozen=True)
class Fit:
    """A fitted basis and what its file says about it."""

    basis: FittedBasis
    model: str
    rows: int
    iterations: int
    converged: bool
    provenance: Provenance


@dataclass(frozen=True)
class _Found:
    """Components as scikit-learn gives them, of any norm."""

    components: Float64[np.ndarray, "m width"]
    analysis: Float64[np.ndarray, "width m"] | None = None
    mean: Float64[np.ndarray, " width"] | None = None
    iterations: int = 1
    converged: bool = True


@faster_products()
def fit_basis(
    store: ActivationStore,
    site: str,
    kind: str,
    config: FitConfig | None = None,
    *,
    progress: Progress = silent,
) -> Fit:
    """Fit a classical baseline to a site's training rows.

    Args:
        store: captured activations.
        site: short or canonical name.
        kind: ``pca``, ``ica``, ``nmf`` or ``dictlearn``.
        config: settings; the defaults if None.
        progress: told the iterations done.

    Raises:
        UnknownName: no such kind or site.
        ConfigError: more components than the sample allows, or nmf of a site that goes below zero.
        DataError: fewer than two rows, NaN, or a constant site.
    """
    settings = config or FitConfig()
    if kind not in KINDS:
        raise UnknownName("baseline", kind, KINDS)
    place = store.site(site)
    check_rows(store, "train")
    if settings.components is not None and settings.components > place.width and kind in _FEW:
        raise ConfigError(
            f"{kind} of {place.name} has at most {place.width} components, its width; ask for "
            f"fewer than {settings.components}"
        )
    if kind == "nmf" and any_negative(store, place.name):
        raise ConfigError(
            f"nmf needs a site without negative activations, and {place.name} has some; take pca, "
            "ica or dictlearn there"
        )
    x = _sample(store, place, settings)
    if not (x != x[0]).any():
        raise DataError(
            f"site {place.name} of store {store.name} is constant over its training rows; there is "
            "nothing to fit, capture another site"
        )
    found = _FITS[kind](x, settings, progress)
    norm = np.maximum(np.linalg.norm(found.components, axis=1, keepdims=True), 1e-30)
    mean = np.zeros(place.width) if found.mean is None else found.mean
    tensors: dict[str, Tensor] = {
        "mean": torch.from_numpy(mean).float(),
        "components": torch.from_numpy(found.components / norm).float(),
    }
    if found.analysis is not None:
        tensors["analysis"] = torch.from_numpy(found.analysis * norm.T).float()
    return Fit(
        basis=KINDS[kind](place.name, tensors, settings.k, settings.label(kind, place.width)),
        model=store.model,
        rows=len(x),
        iterations=found.iterations,
        converged=found.converged,
        provenance=Provenance(
            job="fit",
            seed=settings.seed,
            config={"kind": kind, "site": place.name, **to_dict(settings)},
            parents={store.name: store.digest},
        ),
    )


def _sample(
    store: ActivationStore, site: Site, config: FitConfig
) -> Float64[np.ndarray, "rows width"]:
    rows = store.rows_of("train")
    draw = np.random.default_rng([config.seed, 0xF17])
    chosen = np.sort(draw.choice(rows, size=min(config.rows, len(rows)), replace=False))
    values = store.take(site.name, chosen)
    check_finite(store, site, chosen, values)
    return values.astype(np.float64)


def _principal(
    x: Float64[np.ndarray, "rows width"], config: FitConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, directions and their standard deviations, no more than the sample spans."""
    from sklearn.decomposition import PCA

    found = PCA(svd_solver="full").fit(x)
    values = np.asarray(found.singular_values_, dtype=np.float64)
    rank = int((values > FLAT * values.max()).sum())
    if config.components is not None and config.components > rank:
        raise ConfigError(
            f"the {len(x):,} sampled rows vary in {rank} directions only; ask for at most {rank} "
            "components or more rows"
        )
    kept = config.components or rank
    return found.mean_, np.asarray(found.components_)[:kept], values[:kept] / np.sqrt(len(x))


def _pca(x: np.ndarray, config: FitConfig, progress: Progress) -> _Found:
    mean, directions, _ = _principal(x, config)
    progress(1, 1, "")
    return _Found(directions, directions.T, mean)


def _ica(x: np.ndarray, config: FitConfig, progress: Progress) -> _Found:
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    mean, directions, spread = _principal(x, config)
    whitened = (x - mean) @ (directions.T / spread)
    draw = np.random.default_rng([config.seed, 0x1CA])
    unmixing, done, converged = draw.normal(size=(len(spread), len(spread))), 0, False
    while done < config.iterations and not converged:
        turn = min(ROUND, config.iterations - done)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            # A round starts from the unmixing the last one ended with, as if it had gone on.
            ica = FastICA(
                whiten=False,  # type: ignore[reportArgumentType]
                w_init=unmixing,
                max_iter=turn,
            ).fit(whitened)
        converged = not any(issubclass(each.category, ConvergenceWarning) for each in told)
        unmixing, done = ica.components_, done + ica.n_iter_
        progress(done, config.iterations, "converged" if converged else "")
    # The unmixing is orthogonal: its transpose mixes.
    return _Found(
        (unmixing * spread) @ directions,
        (directions.T / spread) @ unmixing.T,
        mean,
        done,
        converged,
    )


def _nmf(x: np.ndarray, config: FitConfig, progress: Progress) -> _Found:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    count = config.components or x.shape[1]
    if count > len(x):
        raise ConfigError(
            f"{count} components of nmf need as many rows, and {len(x)} are sampled; ask for fewer "
            "components or more rows"
        )
    start: dict[str, np.ndarray] = {}
    done, converged = 0, False
    while done < config.iterations and not converged:
        turn = min(ROUND, config.iterations - done)
        model = NMF(
            n_components=count,  # type: ignore[reportArgumentType]
            init="custom" if start else "nndsvda",
            max_iter=turn,
            random_state=config.seed,
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            start = {"W": model.fit_transform(x, **start), "H": model.components_}
        converged = not any(issubclass(each.category, ConvergenceWarning) for each in told)
        done += model.n_iter_
        progress(done, config.iterations, "converged" if converged else "")
    return _Found(start["H"], iterations=done, converged=converged)


def _dictlearn(x: np.ndarray, config: FitConfig, progress: Progress) -> _Found:
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    mean = x.mean(axis=0)
    centred = x - mean
    centred /= np.linalg.norm(centred, axis=1).mean()
    draw = np.random.default_rng([config.seed, 0xD1C])
    model = MiniBatchDictionaryLearning(
        n_components=config.components or x.shape[1],
        alpha=1.2 / np.sqrt(x.shape[1]),
        batch_size=BATCH,
        fit_algorithm="cd",
        random_state=config.seed,
    )
    for step in range(config.iterations):
        batch = centred[draw.choice(len(x), size=min(BATCH, len(x)), replace=False)]
        with warnings.catch_warnings():
            # A lasso that stops short of its last digit is one noisy step among many.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.partial_fit(batch)
        progress(step + 1, config.iterations, "")
    return _Found(model.components_, mean=mean, iterations=config.iterations)


_FITS: Mapping[str, Callable[[np.ndarray, FitConfig, Progress], _Found]] = {
    "pca": _pca,
    "ica": _ica,
    "nmf": _nmf,
    "dictlearn": _dictlearn,
}
_FEW = ("pca", "ica")
"""Kinds that have at most as many components as the site is wide."""
