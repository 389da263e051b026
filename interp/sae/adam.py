"""Adam on a learner's weights, its constraint included: one compiled pass, or torch's otherwise.

Both compute the same formulas (`interp.sae.kernels.update`), equal up to rounding; which one runs
depends on the device and the settings alone, so a run is repeatable either way. State is kept as
`torch.optim.Adam` keeps it. Why no newer optimiser: `interp/sae/README.md`, with figures.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.config import TrainConfig
from interp.sae.kernels import Weights, has_compiled, has_triton
from interp.sae.learner import Learner

EPS = 6.25e-10
"""As Gao et al.: gradients of a loss near 1 over millions of weights are small."""


def norm(gradients: Weights) -> Float[Tensor, ""]:
    """Of all gradients together; stays on their device."""
    return torch.nn.utils.get_total_norm([gradient for _, gradient in gradients.items()])


class Adam:
    """Steps a learner's weights by their gradients."""

    def __init__(
        self,
        learner: Learner,
        config: TrainConfig,
        peak: float,
        variance: float = 1.0,
        norm: Callable[[Weights], Float[Tensor, ""]] = norm,
    ) -> None:
        """Start with empty moments.

        Args:
            learner: whose weights are changed in place.
            config: betas and clipping.
            peak: the learning rate before schedules.
            variance: what the loss has been divided by.
            norm: of all gradients together, where not all are here.
        """
        self._learner, self._config, self.lr = learner, config, peak
        clip = learner.clip if config.clip is None else config.clip
        self._longest, self._norm = clip / variance, norm
        self._tensors = [tensor for _, tensor in learner.weights.items()]
        betas = (config.beta1, config.beta2)
        self._torch = torch.optim.Adam(self._tensors, lr=peak, betas=betas, eps=EPS, fused=True)
        usual = type(learner)
        # A constraint of its own needs the gradients as they are.
        self._in_one_pass = (
            (has_compiled(self._tensors[0].device) or has_triton(self._tensors[0].device))
            and usual.constrain_gradients is Learner.constrain_gradients
            and usual.constrain_weights is Learner.constrain_weights
        )

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """Per weight ``step``, ``exp_avg`` and ``exp_avg_sq``; empty before the first step."""
        state: Any = self._torch.state
        return state

    def step(self, gradients: Weights, lr: float) -> None:
        """One step.

        Args:
            gradients: of the loss; may be changed in place.
            lr: the learning rate of this step.
        """
        self.lr = lr
        factor = self._factor(gradients)
        if self._in_one_pass:
            self._one_pass(gradients, factor)
            return
        if factor is not None:
            for _, gradient in gradients.items():
                gradient.mul_(factor)
        self._learner.constrain_gradients(gradients)
        self._torch.param_groups[0]["lr"] = lr
        for weight, (_, gradient) in zip(self._tensors, gradients.items(), strict=True):
            weight.grad = gradient
        self._torch.step()
        self._learner.constrain_weights()

    def _factor(self, gradients: Weights) -> Float[Tensor, ""] | None:
        """What clips a step's gradients; those of frozen rows are of no loss, and do not count."""
        if not self._longest:
            return None
        if self._learner.frozen:
            gradients.decoder.zero_()
        return (self._longest / self._norm(gradients)).clamp(max=1.0)

    def _one_pass(self, gradients: Weights, factor: Float[Tensor, ""] | None) -> None:
        from interp.sae.kernels import update  # numba takes long to import

        step = update.update
        if has_triton(self._tensors[0].device):
            from interp.sae.kernels.tritonupdate import update as step

        given = dict(gradients.items())
        for name, weight in self._learner.weights.items():
            state = self.state.setdefault(weight, {})
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(weight)
                state["exp_avg_sq"] = torch.zeros_like(weight)
            state["step"] += 1
            if name == "decoder" and self._learner.frozen:
                continue
            settings = update.Adam(
                lr=self.lr,
                step=int(state["step"]),
                beta1=self._config.beta1,
                beta2=self._config.beta2,
                eps=EPS,
            )
            unit_rows = name == "decoder" and self._learner.unit_rows
            weight, gradient, mean, square = (
                array if array.ndim == 2 else array.reshape(1, -1)
                for array in (weight, given[name], state["exp_avg"], state["exp_avg_sq"])
            )
            step(weight, gradient, mean, square, settings, unit_rows=unit_rows, factor=factor)
