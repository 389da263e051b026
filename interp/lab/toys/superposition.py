"""The toy model of superposition, many instances at once.

Elhage et al. 2022, "Toy Models of Superposition": n sparse features through m < n hidden numbers,

    h = W x,   x' = ReLU(Wᵀ h + b)   (or without the ReLU: the linear model;
                                      or h = ReLU(W x): a privileged basis)
    loss = E Σ_i I_i (x_i - x'_i)²

Instances share nothing but the clock: Adam treats every number alone, so each is trained exactly
as it would be by itself.
"""

from typing import Literal

import torch
from einops import einsum, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError

REPRESENTED = 0.5
"""A feature counts as represented when its column of W is longer than this."""


class Superposition(HookedRootModule):
    """Models ``[instance]`` with weights W ``[instance, hidden, feature]``; see the module."""

    def __init__(
        self,
        instances: int,
        features: int,
        hidden: int,
        *,
        seed: int = 0,
        activation: Literal["relu", "linear"] = "relu",
        hidden_activation: Literal["relu", "linear"] = "linear",
    ) -> None:
        """Xavier-normal weights and zero biases.

        Raises:
            ConfigError: a size is below 1, or there are more hidden numbers than features.
        """
        super().__init__()
        if min(instances, features, hidden) < 1:
            raise ConfigError(
                f"instances, features and hidden must be at least 1, got {instances}, {features} "
                f"and {hidden}"
            )
        if hidden > features:
            raise ConfigError(
                f"{hidden} hidden numbers for {features} features leave nothing to superpose; "
                "choose hidden at most the number of features"
            )
        draw = torch.Generator().manual_seed(seed)
        scale = (2 / (features + hidden)) ** 0.5
        self.W = nn.Parameter(scale * torch.randn(instances, hidden, features, generator=draw))
        self.b = nn.Parameter(torch.zeros(instances, features))
        self.activation, self.hidden_activation = activation, hidden_activation
        self.hook_hidden = HookPoint()
        self.hook_out = HookPoint()
        self.setup()

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        """Each instance's reconstruction of its own rows."""
        hidden = einsum(
            x, self.W, "instance batch feature, instance hidden feature -> instance batch hidden"
        )
        if self.hidden_activation == "relu":
            hidden = torch.relu(hidden)
        back = einsum(
            self.hook_hidden(hidden),
            self.W,
            "instance batch hidden, instance hidden feature -> instance batch feature",
        )
        out = back + self.b[:, None]
        return self.hook_out(torch.relu(out) if self.activation == "relu" else out)


@torch.no_grad()
def dimensionality(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature"]:
    """The share of a dimension that each feature has: D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)².

    Zero for a feature that is not represented at all.
    """
    columns = W.double()
    norms = columns.norm(dim=1)
    unit = columns / norms.clamp_min(1e-12)[:, None]
    overlaps = einsum(
        unit, columns, "instance hidden feature, instance hidden other -> instance feature other"
    )
    total = reduce(overlaps.square(), "instance feature other -> instance feature", "sum")
    return norms.square() / total.clamp_min(1e-24)


@torch.no_grad()
def represented(
    W: Float[Tensor, "instance hidden feature"],
) -> Bool[Tensor, "instance feature"]:
    """Which features' columns are longer than one half."""
    return W.norm(dim=1) > REPRESENTED


@torch.no_grad()
def features_per_dimension(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, " instance"]:
    """‖W‖²_F / m, the inverse of the paper's D*: 1 without superposition."""
    squares = reduce(W.double().square(), "instance hidden feature -> instance", "sum")
    return squares / W.shape[1]


@torch.no_grad()
def cosines(
    W: Float[Tensor, "instance hidden feature"],
) -> Float[Tensor, "instance feature other"]:
    """Cosines between the features' columns."""
    unit = W.double() / W.double().norm(dim=1, keepdim=True).clamp_min(1e-12)
    return einsum(
        unit, unit, "instance hidden feature, instance hidden other -> instance feature other"
    )
