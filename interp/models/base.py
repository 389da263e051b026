"""A model with one face, whatever it is: run it, read sites, replace a site, read directions.

TransformerLens' `TransformerBridge` supplies every hook. Hooks are only ever set by context
managers that remove them on the way out.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import TransformerBridge

from interp.errors import DataError
from interp.models import sites as naming
from interp.models.tokenizer import Tokenizer
from interp.store.site import Site

Hook = Callable[..., Tensor | None]


class LoadedModel:
    """One loaded transformer, in evaluation mode."""

    def __init__(
        self, name: str, bridge: TransformerBridge, tokenizer: Tokenizer | None, *, digest: str
    ) -> None:
        """Wrap a bridge.

        Args:
            name: what the user calls it; the first part of its units' addresses.
            bridge: the model.
            tokenizer: the model's, if it reads text.
            digest: SHA-256 of its weights and configuration.
        """
        self.name, self.bridge, self.tokenizer, self.digest = name, bridge, tokenizer, digest
        bridge.eval()
        parameter = next(bridge.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        config: Any = bridge.cfg
        self.n_layers, self.n_ctx = int(config.n_layers), int(config.n_ctx)
        self.d_model, self.d_vocab = int(config.d_model), int(config.d_vocab)
        self._linear: dict[str, bool] = {}

    def __repr__(self) -> str:
        size = f"{self.n_layers} blocks, d_model {self.d_model}"
        return f"LoadedModel({self.name}: {size}, {self.dtype}, {self.device})"

    # -- sites ----------------------------------------------------------------------------------

    @cached_property
    def _sites(self) -> dict[str, Site]:
        found = naming.candidates(self.n_layers, self.bridge.hook_dict.keys())
        widths: dict[str, int] = {}

        def measure(activation: Tensor, hook: Any) -> None:
            widths[hook.name] = activation[0, 0].numel()

        hooks = [(hook, measure) for _, hook, _ in found]
        token = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        with torch.inference_mode(), self.bridge.hooks(fwd_hooks=hooks):
            self.bridge(token)
        return {
            name: Site(name=name, hook=hook, width=widths[hook], layer=layer)
            for name, hook, layer in found
            if hook in widths
        }

    def sites(self) -> dict[str, Site]:
        """Every site that can be captured, by short name."""
        return dict(self._sites)

    def site(self, name: str) -> Site:
        """A site by its short or canonical name.

        Raises:
            UnknownName: the model has no such site.
        """
        return naming.find(self._sites, name, self.name)

    # -- running --------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        fwd_hooks: Sequence[tuple[str, Hook]] = (),
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Logits, or the residual stream before block ``stop_at_layer`` if there is such a block.

        Raises:
            DataError: the windows are longer than the model's context.
        """
        if tokens.shape[1] > self.n_ctx:
            raise DataError(
                f"{self.name} reads at most {self.n_ctx} tokens at once, got {tokens.shape[1]}; "
                "use a shorter context"
            )
        if stop_at_layer is not None and stop_at_layer >= self.n_layers:
            stop_at_layer = None
        with self.bridge.hooks(fwd_hooks=list(fwd_hooks)):
            if stop_at_layer is None:
                return self.bridge(tokens)
            return self.bridge(tokens, stop_at_layer=stop_at_layer)

    def activations(
        self, tokens: Int[Tensor, "batch length"], sites: Sequence[Site]
    ) -> dict[str, Float[Tensor, "batch length width"]]:
        """The activations of sites, by short name; the model stops after the deepest of them."""
        read: dict[str, Tensor] = {}

        def keep(name: str) -> Hook:
            def hook_function(activation: Tensor, hook: Any) -> None:
                read[name] = _flat(activation)

            return hook_function

        hooks = [(site.hook, keep(site.name)) for site in sites]
        with torch.inference_mode():
            self.forward(tokens, fwd_hooks=hooks, stop_at_layer=naming.deepest(sites))
        return read

    @contextmanager
    def substitute(
        self, site: Site, function: Callable[[Tensor], Tensor]
    ) -> Generator[None, None, None]:
        """Within the context, a site's activation ``[batch, length, width]`` becomes
        ``function`` of it in every forward pass."""

        def replace(activation: Tensor, hook: Any) -> Tensor:
            return function(_flat(activation)).reshape(activation.shape).to(activation.dtype)

        with self.bridge.hooks(fwd_hooks=[(site.hook, replace)]):
            yield

    # -- directions -----------------------------------------------------------------------------

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
        kind = site.name.split(".")[0]
        if site.layer is None or kind not in naming.HOOKS or not self._has_lens:
            return None
        if kind in ("resid_pre", "resid_post"):
            return directions.to(self.device)
        matrix = self._writing_matrix(kind, site.layer)
        if site.name not in self._linear:
            self._linear[site.name] = self._writes(site, site.layer, matrix)
        if not self._linear[site.name]:
            return None
        return directions.to(self.device) if matrix is None else directions.to(self.device) @ matrix

    @property
    def _has_lens(self) -> bool:
        """Whether the residual stream meets the unembedding with only a norm in between."""
        bridge: Any = self.bridge
        masked = getattr(bridge.cfg, "attention_dir", "causal") != "causal"
        return not masked and bridge.W_U.shape[0] == self.d_model

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
        after = self._sites[f"resid_post.{layer}"]
        names = [f"mlp_post.{layer}", f"mlp_out.{layer}"] if site.name.startswith("attn") else []
        held = [self._sites[name] for name in names if name in self._sites][:1]
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


def _flat(activation: Tensor) -> Tensor:
    """Heads side by side, if there are heads."""
    if activation.ndim == 4:
        return rearrange(activation, "batch length head d -> batch length (head d)")
    return activation
