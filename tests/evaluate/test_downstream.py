"""Downstream loss against forward passes with hooks set by hand."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.errors import ConfigError, DataError, ResourceError, UnknownName
from interp.evaluate import candidate, downstream, evaluate, table
from interp.evaluate.downstream import downstream_many, splice
from interp.evaluate.windows import heldout_windows
from interp.models import LoadedModel
from interp.sae import Dictionary, Origin, TopK
from interp.store import ActivationStore
from tests.stores import make_store

BOS, VOCAB, CONTEXT, WIDTH = 0, 20, 12, 16
LENGTHS = (11, 11, 11, 5)
"""Stored tokens of each document's windows."""
DOCUMENTS = 6
SITE = "resid_post.0"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    config = TransformerBridgeConfig(
        d_model=WIDTH,
        d_head=8,
        n_heads=2,
        n_layers=2,
        n_ctx=CONTEXT,
        d_vocab=VOCAB,
        d_mlp=32,
        act_fn="relu",
        seed=3,
    )
    bridge = TransformerBridge.boot_native(config)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.mul_(4)  # far from uniform predictions, so that ablation costs something
    return LoadedModel("tiny", bridge, None, digest="0" * 64)


@pytest.fixture(scope="module")
def windows(model) -> list[torch.Tensor]:
    """Text the model itself wrote: no other model of it has a lower expected loss."""
    torch.manual_seed(4)
    written = []
    with torch.inference_mode():
        for length in LENGTHS * DOCUMENTS:
            tokens = torch.tensor([[BOS]])
            for _ in range(length):
                nexts = torch.multinomial(model.forward(tokens)[:, -1].softmax(-1), 1)
                tokens = torch.cat([tokens, nexts], dim=1)
            written.append(tokens)
    return written


@pytest.fixture(scope="module")
def activations(model, windows) -> np.ndarray:
    site = model.site(SITE)
    found = [model.activations(w, [site])[SITE][0, 1:].numpy() for w in windows]
    return np.concatenate(found).astype(np.float32)


def store_at(path, windows, activations, **settings) -> ActivationStore:
    values = activations if isinstance(activations, dict) else {SITE: activations}
    return make_store(
        path,
        activations=values,
        tokens=torch.cat([w[0, 1:] for w in windows]).numpy(),
        vocabulary=[f" {i}" for i in range(VOCAB)],
        documents=DOCUMENTS,
        context=CONTEXT,
        bos=BOS,
        model="tiny",
        dtype="float32",
        **settings,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory, windows, activations) -> ActivationStore:
    return store_at(tmp_path_factory.mktemp("stores") / "tiny", windows, activations)


def held(windows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Documents 1 and 4 are held out by `make_store`."""
    per = len(LENGTHS)
    return [window for index, window in enumerate(windows) if (index // per) % 3 == 1]


def dictionary_of(k: int, centre=None) -> Dictionary:
    """± unit axes: perfect at k = width, worse below; with a centre, that centre and no latent."""
    origin = Origin(model="tiny", site=SITE, store="tiny", store_digest="0")
    dictionary = TopK(latents=2 * WIDTH, k=k).dictionary(WIDTH, origin)
    axes = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    with torch.no_grad():
        dictionary.W_dec.copy_(axes)
        dictionary.W_enc.copy_(axes.T)
        if centre is not None:
            dictionary.b_dec.copy_(torch.from_numpy(centre))
            dictionary.b_enc.fill_(-1e9)
    return dictionary.requires_grad_(False)


def by_hand(model, windows, hook=None) -> tuple[float, int]:
    """Mean next-token loss, window by window, with a raw TransformerLens hook."""
    total, count = 0.0, 0
    for window in windows:
        hooks = [] if hook is None else [("blocks.0.hook_out", hook)]
        with torch.inference_mode():
            logits = model.bridge.run_with_hooks(window, fwd_hooks=hooks, return_type="logits")
        total += float(cross_entropy(logits[0, :-1], window[0, 1:], reduction="sum"))
        count += window.shape[1] - 1
    return total / count, count


def test_every_loss_equals_hooks_set_by_hand(model, windows, store, activations) -> None:
    dictionary = dictionary_of(k=4)
    found = downstream(dictionary, model, store, batch=3)
    mean = torch.from_numpy(activations[~store.heldout].mean(axis=0))

    def put(value):
        def hook(x, hook):
            x = x.clone()
            x[:, 1:] = value(x[0, 1:]) if callable(value) else value
            return x

        return hook

    plain, count = by_hand(model, held(windows))
    assert found.ce == pytest.approx(plain, abs=1e-5)
    assert found.tokens == count == sum(LENGTHS) * 2
    expected = {
        "ce_dictionary": put(lambda x: dictionary(x)),
        "ce_mean_ablation": put(mean),
        "ce_zero_ablation": put(0.0),
    }
    for name, hook in expected.items():
        loss, _ = by_hand(model, held(windows), hook)
        assert getattr(found, name) == pytest.approx(loss, abs=1e-5), name
    recovered = (found.ce_mean_ablation - found.ce_dictionary) / (found.ce_mean_ablation - found.ce)
    assert found.loss_recovered == pytest.approx(recovered)
    assert found.loss_recovered_low <= found.loss_recovered <= found.loss_recovered_high
    assert 0 < found.loss_recovered < 1
    assert found.kl > 0
    assert (found.windows, found.documents) == (8, 2)
    assert (found.replaced, found.passed) == (sum(LENGTHS) * 2, 8)


def test_a_perfect_dictionary_loses_nothing_and_the_mean_recovers_nothing(
    model, store, activations
) -> None:
    perfect = downstream(dictionary_of(k=WIDTH), model, store)
    assert perfect.loss_recovered == pytest.approx(1, abs=1e-5)
    assert perfect.kl == pytest.approx(0, abs=1e-6)
    mean = activations[~store.heldout].mean(axis=0)
    nothing = downstream(dictionary_of(k=1, centre=mean), model, store)
    assert nothing.loss_recovered == pytest.approx(0, abs=1e-4)
    assert nothing.ce_dictionary == pytest.approx(nothing.ce_mean_ablation, abs=1e-5)


def test_kl_equals_its_definition(model, windows, store) -> None:
    dictionary = dictionary_of(k=2)
    total, count = 0.0, 0
    for window in held(windows):

        def hook(x, hook):
            return torch.cat([x[:, :1], dictionary(x[0, 1:])[None]], dim=1)

        with torch.inference_mode():
            p = model.bridge(window)[0, :-1].double().softmax(-1).numpy()
            hooks = [("blocks.0.hook_out", hook)]
            q = model.bridge.run_with_hooks(window, fwd_hooks=hooks)[0, :-1]
        q = q.double().softmax(-1).numpy()
        total += float((p * (np.log(p) - np.log(q))).sum())
        count += len(p)
    assert downstream(dictionary, model, store).kl == pytest.approx(total / count, rel=1e-4)


def test_sinks_pass_through_in_every_variant(model, windows, activations, tmp_path) -> None:
    sinks = np.zeros(len(activations), bool)
    sinks[sum(LENGTHS) + 3] = True  # a row of document 1
    marked = store_at(tmp_path / "tiny", windows, activations, sinks=sinks)
    found = downstream(dictionary_of(k=2), model, marked)
    assert (found.replaced, found.passed) == (sum(LENGTHS) * 2 - 1, 9)

    def zero(x, hook):
        x = x.clone()
        keep = x[:, 4].clone()
        x[:, 1:] = 0
        if zero.first:
            x[:, 4] = keep  # BOS is position 0, so row 3 of the window is position 4
        zero.first = False
        return x

    zero.first = True
    loss, _ = by_hand(model, held(windows), zero)
    assert found.ce_zero_ablation == pytest.approx(loss, abs=1e-5)


def test_windows_are_those_that_were_captured(windows, store) -> None:
    groups = heldout_windows(store, BOS, limit=100)
    assert [group.tokens.shape for group in groups] == [(6, 12), (2, 6)]
    expected = {tuple(window[0].tolist()) for window in held(windows)}
    assert {tuple(row) for group in groups for row in group.tokens.tolist()} == expected
    assert all(not group.replaced[:, 0].any() for group in groups)
    fewer = heldout_windows(store, BOS, limit=3, seed=1)
    assert sum(len(group.tokens) for group in fewer) == 3


DEEPER = "resid_post.1"


@pytest.fixture(scope="module")
def both(tmp_path_factory, model, windows, activations) -> ActivationStore:
    """The site before the last block and the one after it."""
    deeper = model.site(DEEPER)
    found = [model.activations(w, [deeper])[DEEPER][0, 1:].numpy() for w in windows]
    values = {SITE: activations, DEEPER: np.concatenate(found).astype(np.float32)}
    return store_at(tmp_path_factory.mktemp("stores") / "both", windows, values)


def across(site: str, target: str | None, widths: tuple[int, int]) -> Dictionary:
    """Arbitrary weights from a site to another, or of a joint site."""
    generator = torch.Generator().manual_seed(5)
    origin = Origin(model="tiny", site=site, store="both", store_digest="0", target=target,
                    target_width=None if target is None else widths[1])  # fmt: skip
    dictionary = TopK(latents=40, k=6, skip=target is not None).dictionary(widths[0], origin)
    with torch.no_grad():
        for weight in dictionary.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 3)
    return dictionary.requires_grad_(False)


def replaced_by_hand(model, windows, read, rows) -> float:
    """Loss with hooks that put the parts of ``rows(what was read)`` in place of sites."""
    total, count = 0.0, 0
    for window in held(windows):
        clean = model.activations(window, [model.site(name) for name in read])
        new = rows(torch.cat([clean[name][0, 1:] for name in read], dim=1))

        def put(part):
            return lambda x, hook: torch.cat([x[:, :1], part[None]], dim=1)

        hooks = [(f"blocks.{block}.hook_out", put(part)) for block, part in new.items()]
        with torch.inference_mode():
            logits = model.bridge.run_with_hooks(window, fwd_hooks=hooks)
        total += float(cross_entropy(logits[0, :-1], window[0, 1:], reduction="sum"))
        count += window.shape[1] - 1
    return total / count


def test_a_transcoder_is_spliced_in_at_its_target(model, windows, both) -> None:
    dictionary = across(SITE, DEEPER, (WIDTH, WIDTH))
    found = downstream(dictionary, model, both, batch=3)
    expected = replaced_by_hand(model, windows, [SITE], lambda x: {1: dictionary(x)})
    assert found.ce_dictionary == pytest.approx(expected, abs=1e-5)
    mean = torch.from_numpy(both.take(DEEPER, both.rows_of("train"))).mean(dim=0)
    ablated = replaced_by_hand(model, windows, [SITE], lambda x: {1: mean.expand(len(x), -1)})
    assert found.ce_mean_ablation == pytest.approx(ablated, abs=1e-5)


def test_a_crosscoder_replaces_all_its_sites_at_once(model, windows, both) -> None:
    dictionary = across(f"{SITE}+{DEEPER}", None, (2 * WIDTH, 2 * WIDTH))
    found = downstream(dictionary, model, both, batch=3)

    def rows(x):
        return dict(enumerate(dictionary(x).split(WIDTH, dim=1)))

    expected = replaced_by_hand(model, windows, [SITE, DEEPER], rows)
    assert found.ce_dictionary == pytest.approx(expected, abs=1e-5)


def test_only_masked_positions_are_replaced() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[False, True, True, False], [False, False, False, True]])
    out = splice(-x[mask], mask)(x)
    assert torch.equal(out[mask], -x[mask])
    assert torch.equal(out[~mask], x[~mask])
    assert x[0, 1, 0] == 3  # the original is left alone


def test_wrong_use_is_refused(model, store, windows, activations, tmp_path) -> None:
    dictionary = dictionary_of(k=2)
    other = make_store(tmp_path / "other", model="big")
    with pytest.raises(ConfigError, match="captured from big, not from tiny"):
        downstream(dictionary, model, other)
    with pytest.raises(ConfigError, match="at least 1"):
        downstream(dictionary, model, store, windows=0)
    elsewhere = dictionary_of(k=2)
    elsewhere.origin = dataclasses.replace(elsewhere.origin, site="resid_post.1")
    with pytest.raises(UnknownName, match=SITE):
        downstream(elsewhere, model, store)
    pair = [candidate(dictionary, "a"), candidate(elsewhere, "b")]
    with pytest.raises(ConfigError, match="b is of resid_post.1, a of resid_post.0"):
        downstream_many(pair, model, store)
    heldout = store.heldout
    none = store_at(tmp_path / "none", windows, activations, sinks=heldout)
    with pytest.raises(DataError, match="heldout"):
        downstream(dictionary, model, none)


def test_a_report_is_written_beside_the_dictionary_and_shown_as_a_table(
    model, store, tmp_path
) -> None:
    folder = tmp_path / "topk-32-k4-s0"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"training": {"tokens": 7}}))
    report = evaluate(dictionary_of(k=4), store, model, folder=folder)
    written = json.loads((folder / "metrics.json").read_text())
    assert written["training"] == {"tokens": 7}
    assert written["heldout"]["fve"] == report.heldout.fve
    assert report.downstream is not None
    assert written["downstream"]["loss_recovered"] == report.downstream.loss_recovered
    without = dataclasses.replace(report, address="a/b/c", downstream=None)
    lines = table([report, without]).splitlines()
    assert lines[0].split()[:2] == ["dictionary", "FVE"]
    assert lines[1].startswith(f"tiny/{SITE}/topk-32-k4-s0  {report.heldout.fve:.4f}")
    assert len({len(line.rstrip()) for line in lines[:2]}) == 1
    assert lines[2].endswith("-")
    told = []
    with pytest.raises(ResourceError, match="a file where a folder should be"):
        evaluate(
            dictionary_of(k=4), store, folder=folder / "metrics.json",
            progress=lambda *done: told.append(done),
        )  # fmt: skip
    assert told == []
