"""What we read at a site is what transformers computes there, by its own hooks."""

import shutil
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.models import load_model
from tests.models.tiny import load_reference

KINDS = ("resid_pre", "resid_post", "attn_z", "attn_out", "mlp_in", "mlp_post", "mlp_out")


def hidden_states(reference, tokens) -> list[torch.Tensor]:
    """Input of every block, then the output of the last after the final norm."""
    with torch.inference_mode():
        return list(reference(tokens, output_hidden_states=True).hidden_states)


@contextmanager
def reading(module, where):
    """Collect a module's first input or its output, by a plain torch hook."""
    found = []

    def hook(module, inputs, output):
        value = inputs[0] if where == "input" else output
        found.append(value[0] if isinstance(value, tuple) else value)

    handle = module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def by_torch(reference, module, where, tokens) -> torch.Tensor:
    with reading(module, where) as found, torch.inference_mode():
        reference(tokens)
    (value,) = found
    return value


def test_the_logits_are_those_of_transformers(tiny, tokens) -> None:
    with torch.inference_mode():
        expected = tiny.reference(tokens).logits
        found = tiny.model.forward(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1  # far from trivial


def test_every_kind_of_site_is_there_for_every_block(tiny) -> None:
    sites = tiny.model.sites()
    assert set(sites) == {f"{kind}.{layer}" for kind in KINDS for layer in range(3)}
    widths = {kind: sites[f"{kind}.1"].width for kind in KINDS}
    hidden = 96 if tiny.family == "gpt2" else 40
    assert widths == dict.fromkeys(KINDS, 24) | {"mlp_post": hidden}
    assert [sites[f"attn_z.{layer}"].layer for layer in range(3)] == [0, 1, 2]
    assert all(tiny.model.site(site.hook) == site for site in sites.values())


def test_the_residual_stream_equals_hidden_states(tiny, tokens) -> None:
    expected = hidden_states(tiny.reference, tokens)
    for layer in range(3):
        before, after = (
            tiny.model.site(f"resid_pre.{layer}"),
            tiny.model.site(f"resid_post.{layer}"),
        )
        found = tiny.model.activations(tokens, [before, after])
        torch.testing.assert_close(found[before.name], expected[layer], rtol=1e-4, atol=1e-5)
        if layer < 2:
            torch.testing.assert_close(found[after.name], expected[layer + 1], rtol=1e-4, atol=1e-5)
    # The last of hidden_states is normed; the block's own output is not.
    last = by_torch(tiny.reference, tiny.block(2), "output", tokens)
    found = tiny.model.activations(tokens, [tiny.model.site("resid_post.2")])["resid_post.2"]
    torch.testing.assert_close(found, last, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, expected[3], atol=0.1)


@pytest.mark.parametrize("layer", range(3))
def test_the_inside_of_a_block_equals_torch_hooks(tiny, tokens, layer) -> None:
    mlp, attention = tiny.mlp_out(layer), tiny.attention_out(layer)
    expected = {
        f"mlp_in.{layer}": by_torch(tiny.reference, tiny.block(layer).mlp, "input", tokens),
        f"mlp_post.{layer}": by_torch(tiny.reference, mlp, "input", tokens),
        f"mlp_out.{layer}": by_torch(tiny.reference, mlp, "output", tokens),
        f"attn_z.{layer}": by_torch(tiny.reference, attention, "input", tokens),
        f"attn_out.{layer}": by_torch(tiny.reference, attention, "output", tokens),
    }
    found = tiny.model.activations(tokens, [tiny.model.site(name) for name in expected])
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_stopping_early_changes_nothing(tiny, tokens) -> None:
    """The deepest site decides how far the model runs; the shallow ones read the same."""
    shallow = tiny.model.site("mlp_post.0")
    alone = tiny.model.activations(tokens, [shallow])[shallow.name]
    everything = tiny.model.activations(tokens, list(tiny.model.sites().values()))
    assert len(everything) == len(tiny.model.sites())
    assert torch.equal(alone, everything[shallow.name])


def test_the_blocks_after_the_deepest_site_do_not_run(tiny, tokens) -> None:
    ran = []
    bridge = tiny.model.bridge
    hooks = [
        (f"blocks.{layer}.hook_out", lambda x, hook: ran.append(hook.name)) for layer in (0, 1)
    ]
    with bridge.hooks(fwd_hooks=hooks):
        tiny.model.activations(tokens, [tiny.model.site("mlp_out.0")])
    assert ran == ["blocks.0.hook_out"]
    full = tiny.model.forward(tokens)  # and nothing stays stopped
    assert full.shape == (2, 9, 300)


def test_forward_stopped_at_a_block_returns_its_input(tiny, tokens) -> None:
    expected = hidden_states(tiny.reference, tokens)
    for layer in range(3):
        with torch.inference_mode():
            found = tiny.model.forward(tokens, stop_at_layer=layer)
        torch.testing.assert_close(found, expected[layer], rtol=1e-4, atol=1e-5)


def test_no_hook_is_left_behind(tiny, tokens) -> None:
    count = sum(len(point.fwd_hooks) for point in tiny.model.bridge.hook_dict.values())
    tiny.model.activations(tokens, list(tiny.model.sites().values()))
    after = sum(len(point.fwd_hooks) for point in tiny.model.bridge.hook_dict.values())
    assert after == count == 0


def test_bfloat16_is_kept_and_close_to_transformers_own(tiny, tokens) -> None:
    model = load_model(str(tiny.folder), dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert {p.dtype for p in model.bridge.parameters()} == {torch.bfloat16}
    reference = load_reference(tiny.folder, torch.bfloat16)
    expected = hidden_states(reference, tokens)
    sites = [model.site("resid_post.0"), model.site("resid_post.1"), model.site("mlp_post.1")]
    found = model.activations(tokens, sites)
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    for layer in (0, 1):
        mine, theirs = found[f"resid_post.{layer}"].float(), expected[layer + 1].float()
        assert (mine - theirs).norm() < 0.02 * theirs.norm()
    exact = tiny.model.activations(tokens, [tiny.model.site("resid_post.1")])["resid_post.1"]
    error = (found["resid_post.1"].float() - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.1  # it really computed in bfloat16


def test_the_digest_is_of_the_weights(tiny, tmp_path) -> None:
    again = load_model(str(tiny.folder))
    assert again.digest == tiny.model.digest
    copy = tmp_path / "copy"
    shutil.copytree(tiny.folder, copy)
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).flatten()[0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(copy)).digest != tiny.model.digest
