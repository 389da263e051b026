"""One head of attention as a site: its slice, its replacement, its writing, its name."""

import pytest
import torch

from interp.capture import capture
from interp.errors import ConfigError, UnknownName
from interp.models import load_model


def test_a_head_is_its_slice(tiny, tokens) -> None:
    whole = tiny.model.site("attn_z.1")
    heads = [tiny.model.site(f"attn_z.1.h{head}") for head in range(4)]
    found = tiny.model.activations(tokens, [whole, *heads])
    assert [head.width for head in heads] == [6] * 4
    assert {head.layer for head in heads} == {1}
    joined = torch.cat([found[head.name] for head in heads], dim=-1)
    assert torch.equal(joined, found[whole.name])
    alone = tiny.model.activations(tokens, [heads[2]])[heads[2].name]
    assert torch.equal(alone, found[whole.name][..., 12:18])


def test_a_head_equals_torchs_own_hook(tiny, tokens) -> None:
    found = []
    handle = tiny.attention_out(2).register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    try:
        with torch.inference_mode():
            tiny.reference(tokens)
    finally:
        handle.remove()
    site = tiny.model.site("attn_z.2.h1")
    mine = tiny.model.activations(tokens, [site])[site.name]
    torch.testing.assert_close(mine, found[0][0][..., 6:12], rtol=1e-4, atol=1e-5)


def test_replacing_a_head_leaves_the_others(tiny, tokens) -> None:
    site, whole = tiny.model.site("attn_z.1.h3"), tiny.model.site("attn_z.1")
    plain = tiny.model.activations(tokens, [whole])[whole.name]
    with tiny.model.substitute(site, torch.zeros_like):
        found = tiny.model.activations(tokens, [whole])[whole.name]
        changed = tiny.model.forward(tokens)
    assert torch.equal(found[..., :18], plain[..., :18])
    assert not found[..., 18:].any()
    with tiny.model.substitute(site, lambda x: x):
        assert torch.equal(tiny.model.forward(tokens), tiny.model.forward(tokens))
    assert not torch.allclose(changed, tiny.model.forward(tokens), atol=1e-3)


def test_a_head_writes_through_its_rows(tiny) -> None:
    site, whole = tiny.model.site("attn_z.1.h2"), tiny.model.site("attn_z.1")
    directions = torch.randn(3, site.width, generator=torch.Generator().manual_seed(1))
    padded = torch.zeros(3, whole.width)
    padded[:, 12:18] = directions
    torch.testing.assert_close(
        tiny.model.write_directions(site, directions), tiny.model.write_directions(whole, padded)
    )


def test_patterns(tiny) -> None:
    def names(*patterns):
        return [site.name for site in tiny.model.find_sites(patterns)]

    assert names("attn_z.*") == ["attn_z.0", "attn_z.1", "attn_z.2"]
    assert names("attn_z.1.h*") == [f"attn_z.1.h{head}" for head in range(4)]
    assert names("attn_z.*.h0") == ["attn_z.0.h0", "attn_z.1.h0", "attn_z.2.h0"]
    assert names("resid_*.1", "attn_z.1.h2", "resid_pre.1") == [
        "resid_pre.1",
        "resid_post.1",
        "attn_z.1.h2",
    ]
    assert names("blocks.1.hook_out") == ["resid_post.1"]
    assert len(names("*")) == 21
    assert tiny.model.find_sites("mlp_post.1") == [tiny.model.site("mlp_post.1")]


def test_heads_are_not_among_the_whole_sites(tiny) -> None:
    assert not any(".h" in name for name in tiny.model.sites())


def test_a_head_is_captured_like_any_site(trained, tmp_path) -> None:
    model = load_model("shakespeare-1l", workspace=trained, device="cpu")
    store = capture(
        model,
        ["attn_z.0", "attn_z.0.h1"],
        "shakespeare",
        out=tmp_path / "store",
        workspace=trained,
        tokens=400,
        context=16,
        dtype="float32",
    )
    whole, head = (store.read(name, 0, store.rows) for name in ("attn_z.0", "attn_z.0.h1"))
    assert head.shape == (store.rows, 8)
    assert (head == whole[:, 8:]).all()
    assert head.any()


def test_names_that_are_nothing(tiny) -> None:
    with pytest.raises(UnknownName, match=r"'attn_z\.1\.h4'; did you mean: attn_z\.1\.h"):
        tiny.model.site("attn_z.1.h4")
    with pytest.raises(UnknownName, match=r"'mlp_post\.1\.h0'"):
        tiny.model.site("mlp_post.1.h0")
    with pytest.raises(UnknownName, match=r"'rseid\.\*'"):
        tiny.model.find_sites(["rseid.*"])
    with pytest.raises(ConfigError, match="no site was named"):
        tiny.model.find_sites([])
