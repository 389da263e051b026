"""What a transformer that adds modulo p computes with: waves of a few frequencies.

Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability". With
w_k = 2πk / p, k = 1 ... (p-1)/2, over all p² pairs (a, b):

    key frequencies   the fewest k that hold 95 % of the squared norm of the neuron-logit map
                      W_out W_U, each of its rows a function of the answer, constants left out.
                      The paper reads them off a plot of the same map
    neuron explained  the largest share of a neuron's variance that is a polynomial of degree 2 in
                      sines and cosines of a single w_k: of its waves in (a, b), those of
                      frequencies 0 and ±k in either, without the constant
    logits explained  the share of the logits' variance along cos w_k(a+b-c), k key
    restricted loss   of logits of which only the constant and the waves cos w_k(a+b),
                      sin w_k(a+b), k key, are left; over all pairs
    excluded loss     of logits from which those waves, and nothing else, are taken; over the
                      training pairs
"""

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from interp.lab.toys.modular import Modular, all_pairs, answers, losses

HELD = 0.95
"""The share of the neuron-logit map that makes a set of frequencies key."""


@torch.no_grad()
def frequency_norms(model: Modular) -> Float[Tensor, " frequency"]:
    """Squared norm of the neuron-logit map at k = 1 ... (p-1)/2, as shares of 1."""
    waves = torch.fft.rfft((model.W_out @ model.W_U).double(), dim=1)[:, 1:]
    norms = reduce(waves.abs().square(), "neuron frequency -> frequency", "sum")
    return norms / norms.sum()


def key_frequencies(model: Modular) -> list[int]:
    """The key frequencies, strongest first; see the module."""
    norms, order = frequency_norms(model).sort(descending=True)
    needed = int((norms.cumsum(0) < HELD).sum()) + 1
    return [int(k) + 1 for k in order[:needed]]


@torch.no_grad()
def neurons_explained(model: Modular) -> tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """Of each neuron: see `one_frequency`."""
    p = model.config.p
    _, cache = model.run_with_cache(all_pairs(p), names_filter="hook_mlp_post")
    return one_frequency(rearrange(cache["hook_mlp_post"], "(a b) neuron -> neuron a b", a=p))


def one_frequency(
    values: Float[Tensor, "neuron a b"],
) -> tuple[Float[Tensor, " neuron"], Float[Tensor, " neuron"]]:
    """The share of variance explained by one frequency, and that frequency.

    Functions of (a, b) that never vary are explained by none: 0.
    """
    p = values.shape[-1]
    power = torch.fft.fft2(values.double()).abs().square()
    power[:, 0, 0] = 0
    total = reduce(power, "neuron a b -> neuron", "sum")
    shares: list[Tensor] = []
    for k in range(1, (p - 1) // 2 + 1):
        place = torch.tensor([0, k, p - k])
        shares.append(reduce(power[:, place][:, :, place], "neuron a b -> neuron", "sum"))
    best, index = torch.stack(shares).max(dim=0)
    return best / total.clamp_min(1e-12), index + 1.0


@torch.no_grad()
def logits_explained(model: Modular, frequencies: Sequence[int]) -> float:
    """The share of the logits' variance along cos w_k(a+b-c) of the given frequencies.

    Logits count without their mean over answers, which changes no prediction.
    """
    p = model.config.p
    pairs = all_pairs(p)
    logits = model(pairs).double()
    logits = logits - logits.mean(dim=1, keepdim=True)
    turn = answers(pairs, p)[:, None] - torch.arange(p)
    explained = 0.0
    for k in frequencies:
        wave = (2 * torch.pi * k / p * turn.double()).cos()
        explained += float((wave * logits).sum().square() / wave.square().sum())
    return explained / float(logits.square().sum())


def along_sums(
    logits: Float[Tensor, "pair answer"], frequencies: Sequence[int], p: int
) -> Float[Tensor, "pair answer"]:
    """The part of the logits along cos w_k(a+b) and sin w_k(a+b), answer by answer.

    Args:
        logits: of `all_pairs`.
        frequencies: the k.
        p: the modulus.
    """
    phase = 2 * torch.pi / p * answers(all_pairs(p), p).to(logits)[:, None]
    angles = phase * torch.tensor(frequencies).to(logits)
    # Of norm 1 over all pairs, and orthogonal to each other.
    waves = torch.cat([angles.cos(), angles.sin()], dim=1) * (2 / p**2) ** 0.5
    return waves @ (waves.T @ logits)


@torch.no_grad()
def progress_losses(
    model: Modular, frequencies: Sequence[int], train: Tensor
) -> tuple[float, float]:
    """Restricted and excluded loss; see the module.

    Args:
        model: at some moment of its training.
        frequencies: the key frequencies of the trained model.
        train: indices of the training pairs.
    """
    p = model.config.p
    pairs = all_pairs(p)
    wanted = answers(pairs, p)
    logits = model(pairs).double()
    kept = along_sums(logits, frequencies, p)
    restricted = losses(logits.mean(dim=0) + kept, wanted).mean()
    excluded = losses((logits - kept)[train], wanted[train]).mean()
    return float(restricted), float(excluded)
