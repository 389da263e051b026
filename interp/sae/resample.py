"""Resampling: dead latents begin again as directions that the dictionary reconstructs badly.

Bricken et al. 2023, "Towards monosemanticity", appendix on neuron resampling:

1. Every so many tokens, find the latents that are dead.
2. Compute each row's loss l_i = ‖x_i - x̂_i‖² and draw one row for each of them, with a
   probability proportional to l_i².
3. The latent's decoder row becomes the direction of the row drawn; its encoder row the same
   direction at ``resample_scale`` times the mean norm of the alive latents' encoder rows; its bias
   zero.
4. Adam's moments of all that was set begin again at zero.

Differences from the paper, on purpose: the direction is that of the *residual* x_i - x̂_i, which is
what the dictionary lacks, where the paper takes x_i; rows come from the step's own batch, each at
most once, so that no two latents begin alike (the longest silent first, if they are more than the
rows); where the decoder's norms are trained, a new row gets the alive rows' mean norm; whatever
else an architecture trains per latent gets its mean over the alive.

The paper's scale of 0.2 is for latents that need only be positive. Where they compete for k
places so small a value seldom wins one: of 60 latents silenced on planted features (128 latents,
400 steps, mean of three seeds; all 60 without any help) TopK had 26 dead at the end with 0.2 and 6
with 0.5, BatchTopK 44 and 13, L1 fewer than 1 with either. Hence the default of 0.5.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.sae.kernels import Weights


def drawn_rows(
    residual: Float[Tensor, "n d_in"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, " m"]:
    """Up to ``count`` different rows, drawn with probabilities proportional to ‖residual‖⁴."""
    loss = residual.double().square().sum(dim=1).cpu().numpy()
    weight = np.square(loss / max(loss.max(), np.finfo(np.float64).tiny))
    possible = min(count, int(np.count_nonzero(weight)))
    if possible == 0:
        return np.empty(0, np.int64)
    return rng.choice(len(weight), size=possible, replace=False, p=weight / weight.sum())


@torch.no_grad()
def revive(
    weights: Weights,
    moments: Mapping[Tensor, Mapping[str, Tensor]],
    latents: Int[Tensor, " m"],
    residual: Float[Tensor, "m d_in"],
    alive: Bool[Tensor, " latents"],
    *,
    scale: float,
    unit_rows: bool,
) -> None:
    """Let each latent begin again along its row of the residual, in place.

    Args:
        weights: the trained weights.
        moments: the optimiser's state of each of them.
        latents: which to set.
        residual: one row for each of them.
        alive: those whose norms are the measure; if none is, all are.
        scale: norm of their encoder rows, as a share of the alive ones' mean.
        unit_rows: whether decoder rows have unit norm.
    """
    alive = alive if bool(alive.any()) else torch.ones_like(alive)
    direction = residual / residual.norm(dim=1, keepdim=True)
    norm = 1.0 if unit_rows else weights.decoder[alive].norm(dim=1).mean()
    weights.encoder[latents] = direction * scale * weights.encoder[alive].norm(dim=1).mean()
    weights.decoder[latents] = direction * norm
    weights.b_enc[latents] = 0
    own = [weights.encoder, weights.decoder, weights.b_enc]
    for tensor in weights.extra.values():
        if tensor.shape[:1] == weights.b_enc.shape:
            tensor[latents] = tensor[alive].mean(dim=0)
            own.append(tensor)
    for tensor in own:
        for name in ("exp_avg", "exp_avg_sq"):
            moments[tensor][name][latents] = 0
