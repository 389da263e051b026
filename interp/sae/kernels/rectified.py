"""Rectifiers over dense pairs on a CPU, differentiable, one pass over memory each way.

What they compute is stated where they are used, in `interp.sae.kinds.jumprelu` and `gated`, in
torch operations; tests hold the two together.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.kernels import rectifying
from interp.sae.kernels.compiled import even, share


def jump(
    pre: Float[Tensor, "n latents"], threshold: Float[Tensor, " latents"], bandwidth: float
) -> Float[Tensor, "n latents"]:
    """`interp.sae.kinds.jumprelu.jump`."""
    return cast(Tensor, _Jump.apply(pre, threshold, bandwidth))


def count_above(
    pre: Float[Tensor, "n latents"], threshold: Float[Tensor, " latents"], bandwidth: float
) -> Float[Tensor, ""]:
    """The sum of `interp.sae.kinds.jumprelu.step` over all pairs."""
    return cast(Tensor, _Above.apply(pre, threshold, bandwidth))


def gate(
    products: Float[Tensor, "n latents"],
    b_gate: Float[Tensor, " latents"],
    gain: Float[Tensor, " latents"],
    b_mag: Float[Tensor, " latents"],
) -> tuple[Float[Tensor, "n latents"], Float[Tensor, "n latents"]]:
    """`interp.sae.kinds.gated.gate`."""
    return cast(tuple[Tensor, Tensor], _Gate.apply(products, b_gate, gain, b_mag))


def _run(loop: Any, *args: Any) -> None:
    """Call a loop of `rectifying` on all latents."""
    arrays = [arg.numpy() if isinstance(arg, Tensor) else arg for arg in args]
    share(loop, even(arrays[0].shape[1]), *arrays)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        z = torch.empty_like(pre)
        _run(rectifying.jump, pre, threshold, z)
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        by_pre, near = torch.empty_like(pre), torch.zeros_like(threshold)
        half = ctx.bandwidth / 2
        _run(rectifying.jump_back, gradients[0].contiguous(), pre, threshold, half, by_pre, near)
        return by_pre, near * (-threshold / ctx.bandwidth), None


class _Above(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        counts = torch.zeros(len(threshold), dtype=torch.int64)
        _run(rectifying.count_above, pre, threshold, counts)
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return counts.sum().to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        counts = torch.zeros(len(threshold), dtype=torch.int64)
        _run(rectifying.count_near, pre, threshold, ctx.bandwidth / 2, counts)
        return None, counts * (gradients[0] / -ctx.bandwidth), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, products: Tensor, b_gate: Tensor, gain: Tensor, b_mag: Tensor
    ) -> tuple[Tensor, Tensor]:
        z, signal = torch.empty_like(products), torch.empty_like(products)
        _run(rectifying.gate, products, b_gate, gain, b_mag, z, signal)
        ctx.save_for_backward(products, b_gate, gain, z)
        return z, signal

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        products, b_gate, gain, z = ctx.saved_tensors
        by_products = torch.empty_like(products)
        sums = [torch.zeros_like(gain) for _ in range(3)]
        given = [g.contiguous() for g in gradients]
        _run(rectifying.gate_back, *given, products, b_gate, gain, z, by_products, *sums)
        return by_products, sums[0], sums[1], sums[2]
