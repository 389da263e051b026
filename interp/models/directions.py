"""The linear paths from a site to the residual stream, and from there to the logits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import TransformerBridge

from interp.models import sites as naming
from interp.store.site import Site


class Directions(ABC):
    """What directions of a model's sites do; the part of `LoadedModel` that only measures them."""

    bridge: TransformerBridge
    device: torch.device
    d_model: int
    masked: bool
    encoder_decoder: bool

    @abstractmethod
    def sites(self) -> dict[str, Site]:
        """Every whole site, by short name."""

    @abstractmethod
    def activations(
        self, tokens: Int[Tensor, "batch length"], sites: Sequence[Site]
    ) -> dict[str, Float[Tensor, "batch length width"]]:
        """The activations of sites, by short name."""

    @abstractmethod
    def substitute(
        self, site: Site, function: Callable[[Tensor], Tensor]
    ) -> AbstractContextManager[None]:
        """Within the context, a site's activation becomes ``function`` of it."""

    @cached_property
    def _linear(self) -> dict[str, bool]:
        """Whether sites write as their matrix says, once tried."""
        return {}

    @torch.no_grad()
    def write_directions(
        self, site: Site, directions: Float[Tensor, "n width"]
    ) -> Float[Tensor, "n d_model"] | None:
        """What a step along a direction of a site adds to the residual stream; None if not linear.

        The residual stream and what is added to it write themselves; MLP neurons write through
        W_out, attention's z through W_O. Some families put a norm between a layer and the residual
        stream (Gemma 2, OLMo 2); others, and all masked models, a further layer before the
        unembedding, so that `logit_lens` says nothing: None for those.
        """
        kind = naming.kind_of(site.name)
        if site.layer is None or kind not in naming.HOOKS or not self.has_lens:
            return None
        if kind in ("resid_pre", "resid_post"):
            return directions.to(self.device)
        matrix = self._writing_matrix(kind, site.layer)
        matrix = None if matrix is None else matrix[naming.part(site)]
        if site.name not in self._linear:
            self._linear[site.name] = self._writes(site, site.layer, matrix)
        if not self._linear[site.name]:
            return None
        return directions.to(self.device) if matrix is None else directions.to(self.device) @ matrix

    @property
    def has_lens(self) -> bool:
        """Whether the residual stream meets the unembedding with only a norm in between."""
        bridge: Any = self.bridge
        if self.masked or self.encoder_decoder:
            return False
        return bridge.W_U.shape[0] == self.d_model

    def _writing_matrix(self, kind: str, layer: int) -> Float[Tensor, "width d_model"] | None:
        """From a site's numbers to the layer's output; None where they are the same."""
        block: Any = self.bridge.blocks[layer]
        if kind == "mlp_post":
            return block.mlp.W_out.float()
        if kind == "attn_z":
            weight: Tensor = block.attn.W_O
            return rearrange(weight, "head d_head d_model -> (head d_head) d_model").float()
        return None

    def _writes(self, site: Site, layer: int, matrix: Tensor | None) -> bool:
        """Try a step: does the block's output move by just what the matrix says?

        What the MLP makes of a step in attention is no part of it, so its neurons are held still.
        """
        sites = self.sites()
        after = sites[f"resid_post.{layer}"]
        names = [f"mlp_post.{layer}", f"mlp_out.{layer}"] if site.name.startswith("attn") else []
        held = [sites[name] for name in names if name in sites][:1]
        tokens = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        old = self.activations(tokens, [after, *held])
        draw = torch.Generator().manual_seed(0)
        step = torch.randn(site.width, generator=draw).to(self.device)
        written = step if matrix is None else step @ matrix
        size = old[after.name][0, -1].float().norm() / written.norm()  # as long as the stream
        with ExitStack() as stack:
            stack.enter_context(self.substitute(site, lambda x: x + size * step))
            for each in held:
                value = old[each.name]
                stack.enter_context(self.substitute(each, lambda _, value=value: value))
            new = self.activations(tokens, [after])
        moved = (new[after.name] - old[after.name])[0, -1].float()
        return bool((moved - size * written).norm() < 0.05 * moved.norm())

    @torch.no_grad()
    def logit_lens(self, residual: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """The effect of residual-stream directions on the logits, each up to a positive factor.

        The final norm divides by a number that depends on the token; apart from it the path is
        linear: (centred, for LayerNorm) direction ⊙ norm weight, times W_U, less its mean over
        the vocabulary, which softmax ignores (nostalgebraist 2020, "the logit lens").
        """
        bridge: Any = self.bridge
        direction = residual.to(self.device).float()
        if str(bridge.cfg.normalization_type).startswith("LN"):
            direction = direction - direction.mean(dim=-1, keepdim=True)
        norm = getattr(bridge, "ln_final", None)
        weight = getattr(norm, "weight", None)
        if weight is not None:
            # Gemma's family keeps the weight less one.
            offset = 1.0 if getattr(bridge.cfg, "rmsnorm_uses_offset", False) else 0.0
            direction = direction * (weight.float() + offset)
        logits = direction @ bridge.W_U.float()
        return logits - logits.mean(dim=-1, keepdim=True)
