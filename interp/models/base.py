"""A model with one face, whatever it is: run it, read sites, replace a site, read directions.

TransformerLens' `TransformerBridge` supplies every hook. Hooks are only ever set by context
managers that remove them on the way out.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import TransformerBridge
from transformer_lens.model_bridge.exceptions import StopAtLayerException

from interp.errors import ConfigError, DataError
from interp.models import sites as naming
from interp.models.directions import Directions
from interp.models.tokenizer import Tokenizer
from interp.models.weights import CheckedWeights
from interp.store.site import Site

Hook = Callable[..., Tensor | None]


class LoadedModel(Directions):
    """One loaded transformer, in evaluation mode."""

    def __init__(
        self,
        name: str,
        bridge: TransformerBridge,
        tokenizer: Tokenizer | None,
        *,
        digest: str,
        headless: bool = False,
        original: CheckedWeights | None = None,
    ) -> None:
        """Wrap a bridge.

        Args:
            name: what the user calls it; the first part of its units' addresses.
            bridge: the model.
            tokenizer: the model's, if it reads text.
            digest: SHA-256 of its weights and configuration.
            headless: an encoder saved without a head, so that it gives no logits.
            original: loads the same model without hooks, for `interp.models.check`.
        """
        self.name, self.bridge, self.tokenizer, self.digest = name, bridge, tokenizer, digest
        self.headless, self.original = headless, original
        bridge.eval()
        parameter = next(bridge.parameters())
        # Of several devices that of the embedding, where tokens go; what is read is brought there.
        self.device, self.dtype = parameter.device, parameter.dtype
        config: Any = bridge.cfg
        self.n_ctx = int(config.n_ctx)
        self.d_model, self.d_vocab = int(config.d_model), int(config.d_vocab)
        self.masked = getattr(config, "attention_dir", "causal") != "causal"
        """Whether every token sees those after it, as in BERT."""
        self.blocks = naming.blocks_of(bridge.hook_dict, masked=self.masked)
        """In the order they run, the encoder's first; a site's ``layer`` counts them."""
        self.n_layers = len(self.blocks)
        settings: Any = getattr(bridge.original_model, "config", None)
        self.encoder_decoder = bool(getattr(settings, "is_encoder_decoder", False))
        source: Any = settings if self.encoder_decoder else bridge.tokenizer
        pad = getattr(source, "pad_token_id", None) if self.masked or self.encoder_decoder else None
        self.pad: int = 0 if pad is None else int(pad)
        """The id to fill short windows with; a causal model's tokens do not see what follows."""
        start = getattr(settings, "decoder_start_token_id", None)
        self.start: int = self.pad if start is None else int(start)
        """What a decoder reads first (T5: the pad token)."""

    def __repr__(self) -> str:
        size = f"{self.n_layers} blocks, d_model {self.d_model}"
        return f"LoadedModel({self.name}: {size}, {self.dtype}, {self.device})"

    # -- sites ----------------------------------------------------------------------------------

    @cached_property
    def _measured(self) -> tuple[dict[str, Site], dict[str, Site]]:
        """Whole sites, and single heads."""
        hooks = self.bridge.hook_dict.keys()
        found = naming.candidates(self.blocks, hooks)
        shapes: dict[str, torch.Size] = {}

        def measure(activation: Tensor, hook: Any) -> None:
            shapes[hook.name] = activation[0, 0].shape

        token = torch.zeros((1, 1), dtype=torch.long, device=self.device)
        with torch.inference_mode():
            self.run(token, [(hook, measure) for _, hook, _ in found])
        sites: dict[str, Site] = {}
        heads: dict[str, Site] = {}
        config: Any = self.bridge.cfg
        for name, hook, layer in found:
            if hook not in shapes or name in sites:
                continue
            shape = shapes[hook]
            sites[name] = Site(name=name, hook=hook, width=shape.numel(), layer=layer)
            if naming.kind_of(name) in naming.WITH_HEADS:
                count = shape[0] if len(shape) == 2 else int(config.n_heads)
                heads |= naming.heads(sites[name], count)
        return sites, heads

    def sites(self) -> dict[str, Site]:
        """Every whole site that can be captured, by short name."""
        return dict(self._measured[0])

    def site(self, name: str) -> Site:
        """A site by its short or canonical name; ``attn_z.5.h3`` is one head of ``attn_z.5``.

        Raises:
            UnknownName: the model has no such site.
        """
        return naming.find(*self._measured, name, self.name)

    def find_sites(self, names: Sequence[str]) -> list[Site]:
        """Sites by names or patterns such as ``resid_post.*`` and ``attn_z.5.h*``, each once.

        Raises:
            ConfigError: no names are given.
            UnknownName: a name or pattern matches nothing.
        """
        return naming.find_all(*self._measured, names, self.name)

    # -- running --------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        fwd_hooks: Sequence[tuple[str, Hook]] = (),
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Logits, or the residual stream before block ``stop_at_layer`` if there is such a block.

        A masked model does not attend to tokens that are `pad`, nor does an encoder. A decoder
        beside an encoder reads what T5's training lets it read when the target is the window
        itself: `start`, then the window. Position i is where it reads token i and predicts the
        next, as in any other model; what it makes of `start` is left out. Its encoder, though, has
        read the whole window.

        Raises:
            DataError: the windows are longer than the model's context.
            ConfigError: logits of a model without a head.
        """
        if self.headless and (stop_at_layer is None or stop_at_layer >= self.n_layers):
            raise ConfigError(
                f"{self.name} was saved without a language-model head, so it has no logits; read "
                "its sites with activations()"
            )
        return self.run(tokens, fwd_hooks, stop_at_layer)

    def run(
        self,
        tokens: Int[Tensor, "batch length"],
        fwd_hooks: Sequence[tuple[str, Hook]] = (),
        stop_at_layer: int | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """`forward` without its refusal: the logits of a model without a head are random.

        Raises:
            DataError: the windows are longer than the model's context.
        """
        if tokens.shape[1] > self.n_ctx:
            raise DataError(
                f"{self.name} reads at most {self.n_ctx} tokens at once, got {tokens.shape[1]}; "
                "use a shorter context"
            )
        hooks, options = list(fwd_hooks), dict[str, Any]()
        if stop_at_layer is not None and stop_at_layer < self.n_layers:
            hooks.append((f"{self.blocks[stop_at_layer].path}.hook_in", _stop))
        if (self.masked or self.encoder_decoder) and bool((tokens == self.pad).any()):
            options["attention_mask"] = (tokens != self.pad).long()
        if self.encoder_decoder:
            options["decoder_input"] = nn.functional.pad(tokens, (1, 0), value=self.start)
        with self.bridge.hooks(fwd_hooks=hooks):
            output: Tensor = self.bridge(tokens, **options)
        return output[:, output.shape[1] - tokens.shape[1] :]

    def activations(
        self, tokens: Int[Tensor, "batch length"], sites: Sequence[Site]
    ) -> dict[str, Float[Tensor, "batch length width"]]:
        """The activations of sites, by short name; the model stops after the deepest of them."""
        read: dict[str, Tensor] = {}

        def keep(site: Site) -> Hook:
            def hook_function(activation: Tensor, hook: Any) -> None:
                rows = _flat(activation)[:, self._before(site) :].to(self.device)
                read[site.name] = rows[..., naming.part(site)]

            return hook_function

        hooks = [(site.hook, keep(site)) for site in sites]
        with torch.inference_mode():
            self.run(tokens, hooks, naming.deepest(sites))
        return read

    @contextmanager
    def substitute(
        self, site: Site, function: Callable[[Tensor], Tensor]
    ) -> Generator[None, None, None]:
        """Within the context, a site's activation ``[batch, length, width]`` becomes
        ``function`` of it in every forward pass."""

        def replace(activation: Tensor, hook: Any) -> Tensor:
            before, part = self._before(site), naming.part(site)
            old = _flat(activation).to(self.device)
            new = function(old[:, before:, part])
            if part != slice(None):
                rest = old[:, before:]
                new = torch.cat([rest[..., : part.start], new.to(old), rest[..., part.stop :]], -1)
            if before:
                new = torch.cat([old[:, :before], new.to(old)], 1)
            return new.reshape(activation.shape).to(activation)

        with self.bridge.hooks(fwd_hooks=[(site.hook, replace)]):
            yield

    def _before(self, site: Site) -> int:
        """How many positions a site has before the window's first: a decoder's start token."""
        return int(site.hook.startswith("decoder_blocks."))


def _stop(activation: Tensor, hook: Any) -> None:
    """End a forward pass here; TransformerBridge returns what the exception carries.

    Its own ``stop_at_layer`` raises the same at the same place, but only in blocks whose path it
    recognises: BERT's run to the end without a word.
    """
    raise StopAtLayerException(activation)


def _flat(activation: Tensor) -> Tensor:
    """Heads side by side, if there are heads."""
    if activation.ndim == 4:
        return rearrange(activation, "batch length head d -> batch length (head d)")
    return activation
