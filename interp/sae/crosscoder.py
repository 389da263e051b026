"""Crosscoders: one dictionary over several sites, whose latents may live at one of them or at all.

Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing"
(transformer-circuits.pub):

1. The sites' activations at a row, each scaled by itself so that its coordinates' usual size is 1
   (`interp.sae.scaling`), are read together: z = activation(Σ_l a_l W_enc_l + b_enc).
2. The same latents write them all: â_l = z W_dec_l + b_dec_l, and the error counts in all.

That is a dictionary of the concatenation, the *joint site* ``resid_post.4+resid_post.9``: every
architecture trains on one as it is, and the acausal crosscoder of the paper is what comes out.

3. How much of a latent is at each site is told by its decoder, the *relative norm*

       r_jl = ‖W_dec_jl‖ / Σ_m ‖W_dec_jm‖      in scaled coordinates

   Of two sites, ½ is a latent that both share alike, and near 0 or 1 one that only one has.

Differences from the paper, on purpose: while it is trained a decoder row has unit norm over the
*concatenation* of the scaled sites, where the paper leaves norms free and weighs its penalty by
their sum over sites; so the penalty of `L1` here (of the norm over all sites) does not by itself
drive latents to few sites. For comparing sites TopK or BatchTopK are the better choice anyway: a
penalty on norms shrinks what a second site shares weakly to nothing, and so shows exclusive
latents that are none (Minder et al. 2025, 2504.02922).

A saved crosscoder takes and gives raw activations, side by side in the order of the site's name;
the scales are folded into its weights, where rows have no unit norm therefore, and named in
``parts``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.base import Dictionary


def relative_norms(dictionary: Dictionary) -> Float[Tensor, "latents parts"]:
    """The share of each site in each latent's decoder norm; rows sum to 1, NaN for a zero row.

    Raises:
        ConfigError: the dictionary writes to one site only.
    """
    parts = dictionary.parts
    if len(parts) < 2:
        raise ConfigError(
            f"{dictionary.origin.writes} is one site, so all of each latent is there; train on "
            "several, joined by +"
        )
    rows = dictionary.directions().split([part.width for part in parts], dim=1)
    pairs = zip(parts, rows, strict=True)
    norms = torch.stack([some.norm(dim=1) * part.scale for part, some in pairs], dim=1)
    return norms / norms.sum(dim=1, keepdim=True)
