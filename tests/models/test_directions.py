"""Replacing a site, and the linear paths from a site to the logits, against torch hooks."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from interp.models import LoadedModel, Site, load_model
from tests.models.tiny import Tiny, save_tiny

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


def moved_by(
    model: LoadedModel, site: Site, step: torch.Tensor, held: list[str], tokens: torch.Tensor
) -> torch.Tensor:
    """How far a block's output moves when a site does, with other sites held at their values."""
    after, still = model.site("resid_post.1"), [model.site(name) for name in held]
    old = model.activations(tokens, [after, *still])
    with ExitStack() as stack:
        stack.enter_context(model.substitute(site, lambda x: x + step))
        for other in still:
            value = old[other.name]
            stack.enter_context(model.substitute(other, lambda x, value=value: value))
        new = model.activations(tokens, [after])
    return new[after.name] - old[after.name]


HELD = {
    "resid_pre": ["attn_out.1", "mlp_out.1"],
    "attn_z": ["mlp_out.1"],
    "attn_out": ["mlp_out.1"],
}
"""What the later layers of the block would make of a step is no part of its direct path."""


@pytest.mark.parametrize("name", SITES)
def test_a_step_moves_the_residual_stream_as_predicted(tiny, tokens, name) -> None:
    site = tiny.model.site(name)
    directions = torch.randn(3, site.width, generator=torch.Generator().manual_seed(1))
    written = tiny.model.write_directions(site, directions)
    assert written.shape == (3, 24)
    held = HELD.get(name.removesuffix(".1"), [])
    for direction, expected in zip(directions, written, strict=True):
        moved = moved_by(tiny.model, site, 0.5 * direction, held, tokens)
        torch.testing.assert_close(moved, (0.5 * expected).expand_as(moved), rtol=1e-3, atol=1e-4)
        assert expected.norm() > 0.1


def test_directions_of_a_bfloat16_model_are_float32(tiny) -> None:
    half = load_model(str(tiny.folder), dtype="bfloat16")
    for name in SITES:
        site = half.site(name)
        exact = tiny.model.write_directions(site, torch.eye(site.width))
        found = half.write_directions(site, torch.eye(site.width))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, rtol=0.01, atol=0.01)
        lens = half.logit_lens(found)
        assert lens.dtype == torch.float32
        assert (lens - tiny.model.logit_lens(exact)).abs().max() < 0.05


def other(family: str, folder: Path) -> LoadedModel:
    """A family that does something of its own between a layer and the logits."""
    save_tiny(family, folder)
    return load_model(str(folder), device="cpu")


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_layers_whose_output_is_normed_write_no_direction(family, tmp_path, tokens) -> None:
    model = other(family, tmp_path)
    for name in ("mlp_post.1", "mlp_out.1", "attn_z.1", "attn_out.1"):
        site = model.site(name)
        assert model.write_directions(site, torch.eye(site.width)) is None, name
    step = torch.randn(24, generator=torch.Generator().manual_seed(1))
    moved = moved_by(model, model.site("mlp_out.1"), step, [], tokens)
    assert not torch.allclose(moved, step.expand_as(moved), atol=0.1)  # and rightly so
    stream = model.write_directions(model.site("resid_post.1"), step[None])
    assert torch.equal(stream, step[None])


def test_a_block_whose_layers_add_the_residual_stream_themselves(tmp_path, tokens) -> None:
    """BLOOM's attention and MLP return their sum with it; a step of theirs passes unchanged."""
    model = other("bloom", tmp_path)
    for name in ("mlp_post.1", "mlp_out.1", "attn_z.1", "attn_out.1"):
        site = model.site(name)
        step = torch.randn(site.width, generator=torch.Generator().manual_seed(1))
        written = model.write_directions(site, step[None])
        held = ["mlp_post.1"] if name.startswith("attn") else []
        moved = moved_by(model, site, step, held, tokens)
        torch.testing.assert_close(moved, written.expand_as(moved), rtol=1e-3, atol=1e-4)


def test_a_masked_model_has_no_lens(tmp_path) -> None:
    """BERT puts another layer between its residual stream and its unembedding."""
    model = other("bert", tmp_path)
    for kind in ("resid_post", "mlp_post", "attn_z"):
        site = model.site(f"{kind}.1")
        assert model.write_directions(site, torch.eye(site.width)) is None


# -- logit lens ---------------------------------------------------------------------------------


def check_lens(model: LoadedModel, tokens: torch.Tensor, tolerance: float = 1e-3) -> None:
    """With the last residual stream replaced by a direction, the logits differ from the lens only
    by the norm's positive divisor, the final norm's bias and a constant."""
    after = model.site("resid_post.2")
    directions = torch.randn(5, 24, generator=torch.Generator().manual_seed(2)) * 10
    lens = model.logit_lens(directions)
    assert lens.shape == (5, 300)
    for direction, found in zip(directions, lens, strict=True):
        there, nothing = (
            _logits_of(model, after, value, tokens)
            for value in (direction, torch.zeros_like(direction))
        )
        effect = there - nothing  # the final norm's bias is gone
        effect = effect - effect.mean()
        factor = (effect @ found) / (found @ found)
        assert factor > 0
        assert (factor * found - effect).norm() < tolerance * effect.norm()
        assert effect.norm() > 1


def test_the_lens_agrees_with_the_model_up_to_a_factor_and_a_constant(tiny, tokens) -> None:
    check_lens(tiny.model, tokens)


@pytest.mark.parametrize("family", ["gemma", "gemma2", "olmo2", "bloom"])
def test_the_lens_of_other_families(family, tmp_path, tokens) -> None:
    """Gemma's norms multiply by one more than their weight; Gemma 2 bends its logits a little."""
    check_lens(other(family, tmp_path), tokens, tolerance=0.01 if family == "gemma2" else 1e-3)


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
