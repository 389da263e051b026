"""A self-test of one loaded model: does what is read at its sites mean what their names say?

Every family of transformers is wired differently, and a wrong hook gives plausible numbers. Each
check compares two ways to the same thing and states how far apart they are.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.base import LoadedModel
from interp.models.identities import identity_error
from interp.models.references import framework_states
from interp.products import faster_products

TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""Largest relative distance of two rows that count as the same, by the model's dtype."""
LENS_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""The same for logits, whose own rounding is larger than their differences' by their mean."""
EXACT = 1e-6
"""For two runs of the same sums."""
TEXT = "In the beginning there was 1 model; it wrote: what do I mean? Nobody knew, yet."
LENGTH = 24


@dataclass(frozen=True)
class Check:
    """One outcome."""

    name: str
    passed: bool | None
    """None: the question does not arise for this model."""
    measured: float | None
    """How far apart the two ways are; at most ``tolerance`` is a pass."""
    tolerance: float
    remedy: str
    """What to do if it failed, or why it does not apply; empty after a pass."""


@faster_products()
def check_model(model: LoadedModel) -> list[Check]:
    """Test a model; takes a few forward passes of 24 tokens, and its memory a second time."""
    return _Checker(model).all()


def distance(found: Float[Tensor, "*rows width"], expected: Float[Tensor, "*rows width"]) -> float:
    """Largest relative distance of two rows; not a number counts as infinite.

    By row, since a few tokens are a hundred times longer than the others and would hide them.
    """
    a, b = found.float(), expected.float().to(found.device)
    each = (a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-12)
    worst = float(each.max())
    return worst if math.isfinite(worst) else math.inf


class _Checker:
    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.hooks = self._count_hooks()
        self.tolerance = TOLERANCE.get(model.dtype, 1e-4)
        self.tokens = self._probe()
        sites = list(model.sites().values())
        self.read = model.activations(self.tokens, sites)
        with torch.inference_mode():
            self.logits = model.run(self.tokens)

    def all(self) -> list[Check]:
        return [
            *self._framework(),
            self._identities(),
            *self._stopping(),
            self._undisturbed(),
            self._padding(),
            self._lens(),
            self._dtype(),
            *self._tokenizer(),
        ]

    def _probe(self) -> Int[Tensor, "2 length"]:
        """A text and random tokens."""
        model = self.model
        length = min(LENGTH, model.n_ctx)
        draw = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, model.d_vocab, (2, length), generator=draw)
        if model.tokenizer is not None:
            bos = [] if model.tokenizer.bos is None else [model.tokenizer.bos]
            ids = [*bos, *model.tokenizer.encode(TEXT)][:length]
            tokens[0, : len(ids)] = torch.tensor(ids) % model.d_vocab  # a foreign one may exceed
        if model.masked or model.encoder_decoder:
            tokens[tokens == model.pad] = (model.pad + 1) % model.d_vocab
        return tokens.to(model.device)

    def _check(
        self, name: str, measured: float | int, remedy: str, tolerance: float | int | None = None
    ) -> Check:
        limit = float(self.tolerance if tolerance is None else tolerance)
        passed = measured <= limit
        return Check(name, passed, float(measured), limit, "" if passed else remedy)

    def _framework(self) -> list[Check]:
        states, logits = framework_states(self.model, self.tokens)
        worst = max(
            (distance(self.read[name], value) for name, value in states.items()), default=math.inf
        )
        name = "the residual stream equals the framework's"
        remedy = (
            "do not use this model's sites: its hooks read something else; report the architecture "
            "to TransformerLens"
        )
        found = [self._check(name, worst, remedy)]
        name = "the logits equal the framework's"
        if logits is None or self.model.headless:
            why = "it has no head" if self.model.headless else "it was made here"
            return [*found, Check(name, None, None, self.tolerance, why)]
        remedy = "do not trust losses or evaluations of this model; try --model-dtype float32"
        return [*found, self._check(name, distance(self.logits, logits), remedy)]

    def _identities(self) -> Check:
        remedy = (
            "use resid_pre and resid_post alone: this family's attn_out and mlp_out are not what "
            "is added to the residual stream"
        )
        worst = identity_error(self.model, self.tokens, distance)
        return self._check("block input + attention + MLP = block output", worst, remedy)

    def _stopping(self) -> list[Check]:
        model, sites = self.model, list(self.model.sites().values())
        worst, extra = 0.0, 0
        for layer in sorted({0, model.n_layers // 2, model.n_layers - 1}):
            some = [s for s in sites if s.layer is not None and s.layer <= layer]
            ran: list[int] = []

            def count(*_: object, ran: list[int] = ran) -> None:
                ran.append(1)

            blocks = [model.bridge.get_submodule(block.path) for block in model.blocks]
            handles = [block.register_forward_hook(count) for block in blocks]
            try:
                found = model.activations(self.tokens, some)
            finally:
                for handle in handles:
                    handle.remove()
            errors = [distance(found[n], self.read[n]) for n in found]
            worst = max(worst, *errors) if len(found) == len(some) else math.inf
            extra = max(extra, abs(len(ran) - layer - 1))
        return [
            self._check(
                "stopping early changes no activation",
                worst,
                "capture a site of the last block along with the others, so that nothing stops",
                EXACT,
            ),
            self._check(
                "stopping early runs no further block",
                extra,
                "numbers are right but captures slower than need be; report the architecture",
                0,
            ),
        ]

    def _count_hooks(self) -> int:
        return sum(len(point.fwd_hooks) for point in self.model.bridge.hook_dict.values())

    def _undisturbed(self) -> Check:
        with torch.inference_mode():
            hooks = [(s.hook, _look) for s in self.model.sites().values()]
            hooked = self.model.run(self.tokens, hooks)
            again = self.model.run(self.tokens)
        left = self._count_hooks() - self.hooks  # TransformerLens keeps some of its own in BERT
        worst = max(distance(hooked, self.logits), distance(again, self.logits))
        return self._check(
            "reading changes no logit and leaves no hook",
            math.inf if left else worst,
            "load the model anew; in evaluation mode a model must be deterministic",
            EXACT,
        )

    def _padding(self) -> Check:
        """A short window alone, and beside a long one."""
        model, half = self.model, max(self.tokens.shape[1] // 2, 1)
        padded = self.tokens.clone()
        padded[1, half:] = model.pad
        site = model.site(model.blocks[-1].site("resid_post"))
        alone = model.activations(self.tokens[1:, :half], [site])[site.name]
        beside = model.activations(padded, [site])[site.name][1:, :half]
        remedy = "capture windows of one length, with --batch-tokens at most the --context"
        return self._check("padding changes no activation", distance(beside, alone), remedy)

    def _lens(self) -> Check:
        name, limit = (
            "the logit lens at the end is the logits",
            LENS_TOLERANCE.get(self.model.dtype, 1e-3),
        )
        model, site = self.model, self.model.site(self.model.blocks[-1].site("resid_post"))
        if model.headless or not model.has_lens:
            why = "more than a norm stands before its logits"
            if model.encoder_decoder:
                why = "it is an encoder–decoder, for which there is no lens here"
            return Check(name, None, None, limit, why)
        with torch.inference_mode(), model.substitute(site, torch.zeros_like):
            nothing = model.forward(self.tokens)
        # What is left after the biases are taken off is linear in the lens, but for a factor.
        effect = (self._uncapped(self.logits) - self._uncapped(nothing)).flatten(0, 1)
        effect = effect - effect.mean(dim=-1, keepdim=True)
        lens = model.logit_lens(self.read[site.name].flatten(0, 1))
        factor = (effect * lens).sum(-1, keepdim=True) / (lens * lens).sum(-1, keepdim=True)
        worst = distance(factor * lens, effect) if bool((factor > 0).all()) else math.inf
        remedy = "do not trust a feature's top tokens for this model; report the architecture"
        return self._check(name, worst, remedy, limit)

    def _uncapped(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """Gemma 2 bends its logits by a hyperbolic tangent."""
        cap = float(getattr(self.model.bridge.cfg, "output_logits_soft_cap", -1.0) or -1.0)
        values = logits.float()
        return cap * torch.atanh((values / cap).clamp(-0.999999, 0.999999)) if cap > 0 else values

    def _dtype(self) -> Check:
        parameters = [p.dtype for p in self.model.bridge.parameters() if p.is_floating_point()]
        dtypes = [*parameters, *(value.dtype for value in self.read.values())]
        others = sum(dtype != self.model.dtype for dtype in dtypes)
        what = str(self.model.dtype).removeprefix("torch.")
        remedy = f"{others} tensors are not {what} as recorded; load the model in float32"
        return self._check("weights and activations have the recorded dtype", others, remedy, 0)

    def _tokenizer(self) -> list[Check]:
        names = ("the tokenizer gives its text back", "BOS is the model's own")
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            return [Check(name, None, None, 0.0, "it has no tokenizer") for name in names]
        ids = tokenizer.encode(TEXT)
        vocabulary = tokenizer.vocabulary()
        spelt = b"".join(vocabulary[id] for id in ids).decode(errors="replace")
        wrong = sum(_letters(text) != _letters(TEXT) for text in (tokenizer.decode(ids), spelt))
        wrong += len(vocabulary) > self.model.d_vocab and max(ids) >= self.model.d_vocab
        remedy = "save the model with the tokenizer it was trained with (tokenizer.json)"
        return [self._check(names[0], wrong, remedy, 0), self._bos(names[1])]

    def _bos(self, name: str) -> Check:
        tokenizer, original = self.model.tokenizer, self.model.original
        bos = None if tokenizer is None else tokenizer.bos
        if tokenizer is None or bos is None:
            return Check(name, None, None, 0.0, "windows begin without one")
        wrong = int(bos not in tokenizer.specials) + int(bos >= self.model.d_vocab)
        if original is not None:
            theirs = original.tokenizer_again()
            ids = [theirs.cls_token_id] if self.model.masked else [theirs.bos_token_id]
            # Without a BOS of its own a causal model's texts were parted by the end of the last.
            if ids == [None]:
                ids = [theirs.eos_token_id, theirs.convert_tokens_to_ids("<|endoftext|>")]
            wrong += bos not in ids
        remedy = f"name the token that begins its texts as bos_token in its tokenizer, not id {bos}"
        return self._check(name, wrong, remedy, 0)


def _look(activation: Tensor, hook: object) -> None:
    """A hook that does nothing."""


def _letters(text: str) -> str:
    """What every tokenizer keeps: letters and digits, whatever their case."""
    return "".join(c for c in text.casefold() if c.isalnum())
