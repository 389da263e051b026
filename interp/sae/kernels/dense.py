"""The reference: the step's formulas as they are written, differentiated by autograd."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.kernels.interface import Rule, StepResult, Weights


class DenseBackend:
    """Simple and slow; every other backend must agree with it."""

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`."""
        leaves = [tensor.detach().requires_grad_() for _, tensor in weights.items()]
        with torch.enable_grad():
            encoder, b_enc, decoder, b_dec = leaves
            pre = (x - b_dec) @ encoder.T + b_enc
            z = selected(pre, rule.k, rule.per)
            error = x - (z @ decoder + b_dec)
            unexplained = error.square().sum() / (len(x) * variance)
            aux = auxk(pre, error.detach(), decoder, rule, dead)
            loss = unexplained + rule.aux_coefficient * aux
            gradients = weights.like(torch.autograd.grad(loss, leaves))
        active = z.detach() > 0
        return StepResult(
            loss=loss.detach(),
            unexplained=unexplained.detach(),
            aux=aux.detach(),
            gradients=gradients,
            fired=active.any(dim=0),
            l0=active.sum().to(x.dtype) / len(x),
            smallest=z.detach()[active].min() if active.any() else x.new_zeros(()),
        )


def auxk(
    pre: Float[Tensor, "n latents"],
    error: Float[Tensor, "n d_in"],
    decoder: Float[Tensor, "latents d_in"],
    rule: Rule,
    dead: Bool[Tensor, " latents"] | None,
) -> Float[Tensor, ""]:
    """The AuxK loss, not yet weighted: how badly dead latents explain a constant error."""
    if dead is None or not dead.any() or rule.aux_k == 0 or rule.aux_coefficient == 0:
        return error.new_zeros(())
    spread = (error - error.mean(dim=0)).square().sum()
    if spread == 0:
        return error.new_zeros(())
    candidates = pre.masked_fill(~dead, -torch.inf)
    z = selected(candidates, min(rule.aux_k, int(dead.sum())), "row")
    return (error - z @ decoder).square().sum() / spread


def selected(pre: Float[Tensor, "n latents"], k: int, per: str) -> Float[Tensor, "n latents"]:
    """relu(pre) with all but the k largest of each row (or the n·k largest in all) set to zero."""
    flat = pre if per == "row" else pre.reshape(1, -1)
    count = k if per == "row" else k * len(pre)
    values, indices = flat.topk(count, dim=-1)
    return torch.zeros_like(flat).scatter(-1, indices, values.relu()).reshape(pre.shape)


def kth_largest(values: Tensor, k: int) -> float:
    """The k-th largest of all values; on a CPU without `topk`'s copy of four times their size."""
    if values.device.type != "cpu":
        return float(values.flatten().topk(k, sorted=False).values.min())
    flat = values.numpy().flatten()
    flat.partition(len(flat) - k)
    return float(flat[len(flat) - k])
