"""Replacing a site, and the linear paths from a site to the logits, against torch hooks."""

import pytest
import torch

from interp.models import LoadedModel
from tests.models.tiny import Tiny

SITES = ("resid_pre.1", "resid_post.1", "attn_z.1", "attn_out.1", "mlp_post.1", "mlp_out.1")


def logits(model: LoadedModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.forward(tokens)


def reference_with(tiny: Tiny, name: str, function, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of transformers' model with ``function`` put in by a plain torch hook."""

    def before(module, inputs):
        return (function(inputs[0]), *inputs[1:])

    def after(module, inputs, output):
        if isinstance(output, tuple):
            return (function(output[0]), *output[1:])
        return function(output)

    kind, block = name.removesuffix(".1"), tiny.block(1)
    attention = block.get_submodule(
        {"gpt2": "attn", "neox": "attention"}.get(tiny.family, "self_attn")
    )
    handle = {
        "resid_pre": lambda: block.register_forward_pre_hook(before),
        "resid_post": lambda: block.register_forward_hook(after),
        "attn_z": lambda: tiny.attention_out(1).register_forward_pre_hook(before),
        "attn_out": lambda: attention.register_forward_hook(after),
        "mlp_post": lambda: tiny.mlp_out(1).register_forward_pre_hook(before),
        "mlp_out": lambda: block.mlp.register_forward_hook(after),
    }[kind]()
    try:
        with torch.inference_mode():
            return tiny.reference(tokens).logits
    finally:
        handle.remove()


# -- substitute ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITES)
def test_the_identity_changes_nothing(tiny, tokens, name) -> None:
    before = logits(tiny.model, tokens)
    shapes = []

    def same(x):
        shapes.append(tuple(x.shape))
        return x

    site = tiny.model.site(name)
    with tiny.model.substitute(site, same):
        during = logits(tiny.model, tokens)
    assert torch.equal(during, before)
    assert shapes == [(2, 9, site.width)]  # heads side by side


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("change", ["zero", "halve and shift"])
def test_a_substitution_equals_a_torch_hook(tiny, tokens, name, change) -> None:
    site = tiny.model.site(name)
    shift = torch.linspace(-1, 1, site.width)

    def function(x):
        return torch.zeros_like(x) if change == "zero" else x / 2 + shift

    plain = logits(tiny.model, tokens)
    with tiny.model.substitute(site, function):
        found = logits(tiny.model, tokens)
    expected = reference_with(tiny, name, function, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.01  # it mattered


def test_a_substitution_ends_with_its_context_even_by_an_exception(tiny, tokens) -> None:
    site, plain = tiny.model.site("mlp_out.1"), logits(tiny.model, tokens)
    with tiny.model.substitute(site, torch.zeros_like):
        assert not torch.equal(logits(tiny.model, tokens), plain)
    assert torch.equal(logits(tiny.model, tokens), plain)
    with pytest.raises(ZeroDivisionError), tiny.model.substitute(site, torch.zeros_like):
        raise ZeroDivisionError
    assert torch.equal(logits(tiny.model, tokens), plain)
    with (
        pytest.raises(ZeroDivisionError),
        tiny.model.substitute(site, lambda x: 1 // 0),
    ):
        logits(tiny.model, tokens)  # fails in the middle of the forward pass
    assert torch.equal(logits(tiny.model, tokens), plain)
    assert not any(point.fwd_hooks for point in tiny.model.bridge.hook_dict.values())


def test_reading_inside_a_substitution_sees_it_and_does_not_end_it(tiny, tokens) -> None:
    site, later = tiny.model.site("mlp_out.1"), tiny.model.site("resid_post.2")
    with tiny.model.substitute(site, torch.zeros_like):
        first = logits(tiny.model, tokens)
        read = tiny.model.activations(tokens, [site, later])
        assert torch.equal(logits(tiny.model, tokens), first)
    assert not read[site.name].any()
    plain = tiny.model.activations(tokens, [later])[later.name]
    assert not torch.allclose(read[later.name], plain, atol=1e-3)


def test_substitutions_nest(tiny, tokens) -> None:
    one, two = tiny.model.site("mlp_out.0"), tiny.model.site("attn_out.1")
    with tiny.model.substitute(one, torch.zeros_like):
        outer = logits(tiny.model, tokens)
        with tiny.model.substitute(two, torch.zeros_like):
            both = logits(tiny.model, tokens)
        assert torch.equal(logits(tiny.model, tokens), outer)
    with tiny.model.substitute(two, torch.zeros_like):
        inner = logits(tiny.model, tokens)
    assert not torch.allclose(both, outer, atol=1e-3)
    assert not torch.allclose(both, inner, atol=1e-3)


# -- write directions ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITES)
def test_a_step_along_a_direction_moves_the_residual_stream_as_predicted(
    tiny, tokens, name
) -> None:
    """Attention of the same block reads before the MLP writes, so the step is exactly linear.

    In a block whose MLP reads what its attention wrote, a step in attention also moves the MLP;
    the MLP's output is pinned to its old value there, and only the direct path remains.
    """
    site, after = tiny.model.site(name), tiny.model.site("resid_post.1")
    mlp = tiny.model.site("mlp_out.1")
    directions = torch.randn(3, site.width, generator=torch.Generator().manual_seed(1))
    written = tiny.model.write_directions(site, directions)
    assert written is not None
    assert written.shape == (3, 24)
    old = tiny.model.activations(tokens, [after, mlp, tiny.model.site("attn_out.1")])
    size = 0.5
    for direction, step in zip(directions, written, strict=True):
        with tiny.model.substitute(site, lambda x, d=direction: x + size * d):
            if name.startswith(("attn", "resid_pre")):
                pinned = tiny.model.substitute(mlp, lambda x: old[mlp.name])
            else:
                pinned = tiny.model.substitute(after, lambda x: x)
            with pinned:
                if name.startswith("resid_pre"):
                    attention = tiny.model.site("attn_out.1")
                    with tiny.model.substitute(attention, lambda x, a=attention: old[a.name]):
                        new = tiny.model.activations(tokens, [after])[after.name]
                else:
                    new = tiny.model.activations(tokens, [after])[after.name]
        moved = new - old[after.name]
        torch.testing.assert_close(moved, (size * step).expand_as(moved), rtol=1e-3, atol=1e-4)
        assert step.norm() > 0.1


# -- logit lens ---------------------------------------------------------------------------------


def test_the_lens_agrees_with_the_model_up_to_a_factor_and_a_constant(tiny, tokens) -> None:
    """With the last residual stream replaced by a direction, the logits differ from the lens only
    by the norm's positive divisor, the final norm's bias and a constant."""
    after = tiny.model.site("resid_post.2")
    directions = torch.randn(5, 24, generator=torch.Generator().manual_seed(2)) * 10
    lens = tiny.model.logit_lens(directions)
    assert lens.shape == (5, 300)
    for direction, found in zip(directions, lens, strict=True):
        there, nothing = (
            _logits_of(tiny.model, after, value, tokens)
            for value in (direction, torch.zeros_like(direction))
        )
        effect = there - nothing  # the final norm's bias is gone
        effect = effect - effect.mean()
        factor = (effect @ found) / (found @ found)
        assert factor > 0
        torch.testing.assert_close(factor * found, effect, rtol=1e-3, atol=1e-4)
        assert effect.norm() > 1


def _logits_of(model, site, value, tokens) -> torch.Tensor:
    with model.substitute(site, lambda x: value.expand_as(x)):
        return logits(model, tokens)[0, -1]


def test_the_lens_is_linear_and_centred(tiny) -> None:
    a, b = torch.randn(2, 24, generator=torch.Generator().manual_seed(4))
    lens = tiny.model.logit_lens(torch.stack([a, b, 2 * a - 3 * b]))
    torch.testing.assert_close(lens[2], 2 * lens[0] - 3 * lens[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(lens.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-5)
    shifted = tiny.model.logit_lens((a + 5)[None])[0]
    layer_norm = tiny.family != "llama"  # a LayerNorm takes the mean away, an RMSNorm does not
    assert torch.allclose(shifted, lens[0], atol=1e-3) == layer_norm
