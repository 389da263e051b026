"""The toy model that computes: |x| of sparse features through a hidden ReLU layer.

Elhage et al. 2022, "Toy Models of Superposition", section on computation in superposition:

    h = ReLU(W₁ x),   y' = ReLU(W₂ h + b),   loss = E Σ_i I_i (|x_i| - y'_i)²

The hidden ReLU gives the neurons a privileged basis, so each can be called mono- or polysemantic.
"""

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError


class Computation(HookedRootModule):
    """Models ``[instance]`` from features through hidden neurons to as many outputs."""

    def __init__(self, instances: int, features: int, hidden: int, *, seed: int = 0) -> None:
        """Xavier-normal weights and zero biases.

        Raises:
            ConfigError: a size is below 1.
        """
        super().__init__()
        if min(instances, features, hidden) < 1:
            raise ConfigError(
                f"instances, features and hidden must be at least 1, got {instances}, {features} "
                f"and {hidden}"
            )
        draw = torch.Generator().manual_seed(seed)
        scale = (2 / (features + hidden)) ** 0.5
        self.W_in = nn.Parameter(scale * torch.randn(instances, hidden, features, generator=draw))
        self.W_out = nn.Parameter(scale * torch.randn(instances, features, hidden, generator=draw))
        self.b = nn.Parameter(torch.zeros(instances, features))
        self.hook_hidden = HookPoint()
        self.hook_out = HookPoint()
        self.setup()

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        """Each instance's outputs for its own rows."""
        hidden = torch.relu(
            einsum(
                x,
                self.W_in,
                "instance batch feature, instance hidden feature -> instance batch hidden",
            )
        )
        out = einsum(
            self.hook_hidden(hidden),
            self.W_out,
            "instance batch hidden, instance feature hidden -> instance batch feature",
        )
        return self.hook_out(torch.relu(out + self.b[:, None]))


@torch.no_grad()
def primary_share(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance hidden"]:
    """How monosemantic each neuron is: max_i |w_i| / Σ_i |w_i| of its input weights, 0 if none."""
    size = W.double().abs()
    return size.amax(dim=2) / size.sum(dim=2).clamp_min(1e-12)


@torch.no_grad()
def features_per_neuron(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance hidden"]:
    """How many features a neuron reads: (Σ w²)² / Σ w⁴, which is n for n weights alike; 0: none."""
    squares = W.double().square()
    return squares.sum(dim=2).square() / squares.square().sum(dim=2).clamp_min(1e-24)


@torch.no_grad()
def living(W: Float[Tensor, "instance hidden feature"]) -> Bool[Tensor, "instance hidden"]:
    """Which neurons have an input weight above a tenth of their instance's largest."""
    size = W.abs().amax(dim=2)
    return size > 0.1 * size.amax(dim=1, keepdim=True)


def monosemantic(W: Float[Tensor, "instance hidden feature"]) -> list[float]:
    """The share of each instance's living neurons whose `primary_share` is above ½."""
    return [
        float((own[some] > 0.5).double().mean()) if some.any() else float("nan")
        for own, some in zip(primary_share(W), living(W), strict=True)
    ]


def cells(W: Float[Tensor, "hidden feature"]) -> list[tuple[float, ...]]:
    """Input weights as (feature, neuron, weight), neurons in the order of their main features."""
    rows = W[W.abs().argmax(dim=1).argsort(stable=True)]
    return [
        (float(feature), float(neuron), round(float(value), 4))
        for neuron, row in enumerate(rows)
        for feature, value in enumerate(row)
    ]
