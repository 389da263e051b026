"""Input scaling: the linear map that training sees activations through, and the way back.

Training sees x' = A x, with μ the site's mean, c its geometric median, Σ its covariance (all of
the survey's sample), and

    none        A = I
    mean-norm   A = √d / E‖x - c‖ · I          a coordinate's usual size is 1
    per-dim     A = diag(Σ̃)^(-1/2)             every dimension has spread 1
    whitening   A = Σ̃^(-1/2), symmetric (ZCA)  every direction has spread 1
    Σ̃ = (1 - ρ) Σ + ρ (tr Σ / d) I

Directions of hardly any variance would be blown up to the size of the others, and with them what is
only rounding; so ρ is Ledoit and Wolf's (2004, "A well-conditioned estimator for large-dimensional
covariance matrices"; scikit-learn) and at least 10⁻³: no direction grows more than √1000 ≈ 32
times as much as one of average variance.

Of a joint site each part is scaled by itself, so that sites of different norm weigh alike; A has
the parts' matrices along its diagonal. The same for a transcoder's source and target.

A saved dictionary takes raw activations, whatever it was trained on. Write A = s M with the number
s = √d / ‖A⁻¹‖_F, so that ‖M⁻¹‖_F = √d, as of the identity:

1. The learner folds s as if it were all (`interp.sae.learner`): a dictionary of y = M x.
2. W_enc ← Mᵀ W_enc,  W_dec ← W_dec M⁻ᵀ,  b_dec ← M⁻¹ b_dec. Biases, thresholds and latents stay:
   encode(x) = z'/s as ever, so what is selected, and by which threshold, is what was trained.
   A transcoder's encoder takes the source's block of M, its decoder the target's, its skip path
   (W_skip ← M_xᵀ W_skip M_y⁻ᵀ) both.

Of a single site with ``none`` and ``mean-norm`` M = I and decoder rows keep their unit norm. Else a
row's norm is how far one unit of its latent moves *raw* activations, about 1 in the mean of
squares over random directions. The loss counts error in scaled coordinates: under whitening a
direction of little variance weighs as much as one of much. Held-out figures are of raw activations.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.errors import UnknownName
from interp.sae.base import Dictionary
from interp.sae.survey import Survey

SHRINKAGE = 1e-3
KINDS = ("mean-norm", "none", "per-dim", "whitening")


@dataclass(frozen=True)
class Scaling:
    """A = scale · matrix; a vector stands for a diagonal matrix, none for the identity."""

    scale: float
    matrix: Float64[Tensor, "d_in d_in"] | Float64[Tensor, " d_in"] | None = None

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Scaled activations; ``x`` itself where nothing scales it."""
        scaled = x if self.scale == 1 else x * self.scale
        if self.matrix is None:
            return scaled
        matrix = self.matrix.to(x)
        return scaled * matrix if matrix.ndim == 1 else scaled @ matrix.T

    @torch.no_grad()
    def fold(self, dictionary: Dictionary) -> Dictionary:
        """Turn a dictionary of ``matrix · x`` into one of x, in place; step 2 above."""
        if self.matrix is None:
            return dictionary
        source = target = self.matrix.to(dictionary.W_enc.device)
        if dictionary.origin.target is not None:
            d_in = dictionary.d_in
            source, target = _block(source, slice(d_in)), _block(source, slice(d_in, None))
        back = 1 / target if target.ndim == 1 else torch.linalg.inv(target).T  # M⁻ᵀ
        dictionary.W_enc.copy_(_rows(dictionary.W_enc.double().T, source).T)
        dictionary.W_dec.copy_(_rows(dictionary.W_dec.double(), back))
        dictionary.b_dec.copy_(_rows(dictionary.b_dec.double()[None], back)[0])
        if dictionary.W_skip is not None:
            skip = _rows(dictionary.W_skip.double().T, source).T
            dictionary.W_skip.copy_(_rows(skip, back))
        return dictionary


def _block(matrix: Float64[Tensor, "..."], some: slice) -> Float64[Tensor, "..."]:
    return matrix[some] if matrix.ndim == 1 else matrix[some, some]


def _rows(rows: Float64[Tensor, "n d"], matrix: Float64[Tensor, "..."]) -> Float64[Tensor, "n d"]:
    """Rows times a matrix."""
    return rows * matrix if matrix.ndim == 1 else rows @ matrix


def input_scaling(kind: str, data: Survey, centre: Float64[Tensor, " d_in"]) -> Scaling:
    """The scaling of one kind for a site.

    Raises:
        UnknownName: there is no such kind.
    """
    if kind == "none":
        return Scaling(1.0)
    if len(data.widths) > 1:
        return _side_by_side(kind, data, centre)
    sample = data.sample.astype(np.float64)
    if kind == "mean-norm":
        return Scaling(usual_scale(data, centre))
    if kind not in KINDS:
        raise UnknownName("input scaling", kind, KINDS)
    values, vectors = torch.linalg.eigh(shrunk_covariance(sample, diagonal=kind == "per-dim"))
    inverse = (vectors * values.sqrt()) @ vectors.T  # A⁻¹ = Σ̃^(1/2)
    scale = float(sample.shape[1] ** 0.5 / inverse.norm())
    return Scaling(scale, (vectors / values.sqrt()) @ vectors.T / scale)


def usual_scale(data: Survey, centre: Float64[Tensor, " d_in"]) -> float:
    """The factor that brings the mean distance from the centre to √d."""
    sample = data.sample.astype(np.float64)
    norm = (torch.from_numpy(sample) - centre).norm(dim=1).mean()
    return float(sample.shape[1] ** 0.5 / norm)


def _side_by_side(kind: str, data: Survey, centre: Float64[Tensor, " d_in"]) -> Scaling:
    """Each part's own scaling, in one."""
    centres = centre.split(list(data.widths))
    pairs = zip(data.parts(), centres, strict=True)
    found = [input_scaling(kind, part, middle) for part, middle in pairs]
    if kind == "mean-norm":
        factors = [torch.full_like(c, f.scale) for f, c in zip(found, centres, strict=True)]
        whole = torch.cat(factors)
        inverse = 1 / whole
    else:
        whole = torch.block_diag(*(f.scale * f.matrix for f in found if f.matrix is not None))
        inverse = torch.linalg.inv(whole)
    scale = float(len(centre) ** 0.5 / inverse.norm())
    return Scaling(scale, whole / scale)


FITTED_ROWS = 512
"""Rows that the encoder's length is fitted to: one number, so that few are enough."""


def evenly(n: int, most: int) -> Int[np.ndarray, " some"]:
    """The numbers 0 .. n - 1, or where there are more, so many of them evenly apart."""
    return np.linspace(0, n - 1, min(n, most)).astype(int)


def scaled_rows(data: Survey, scaling: Scaling, data_init: float = 0.0) -> Float[Tensor, "n d_in"]:
    """What `Learner.begin` takes of the sample: a few rows, all if its latents begin with them."""
    chosen = evenly(len(data.sample), len(data.sample) if data_init else FITTED_ROWS)
    return scaling(torch.from_numpy(data.sample[chosen].astype(np.float64))).float()


def scaled_spread(data: Survey, scaling: Scaling, start: int = 0) -> float:
    """E‖x' - E x'‖² over the sample, of the columns from ``start``."""
    if scaling.matrix is None and start == 0:
        return data.spread() * scaling.scale * scaling.scale
    scaled = scaling(torch.from_numpy(data.sample.astype(np.float64)))[:, start:]
    return float((scaled - scaled.mean(dim=0)).square().sum(dim=1).mean())


def shrunk_covariance(
    sample: Float64[np.ndarray, "m d_in"], *, diagonal: bool = False
) -> Float64[Tensor, "d_in d_in"]:
    """Σ̃ of the module's docstring, or its diagonal part alone."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = sample - sample.mean(axis=0)
    covariance = torch.from_numpy(centred.T @ centred / len(sample))
    share = max(SHRINKAGE, float(ledoit_wolf_shrinkage(centred, assume_centered=True)))
    if diagonal:
        covariance = covariance.diag().diag()
    mean = covariance.diag().mean() * torch.eye(len(covariance), dtype=torch.float64)
    return (1 - share) * covariance + share * mean
