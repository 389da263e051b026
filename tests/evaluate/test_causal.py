"""Interventions against forward passes done by hand, and attributions against their axioms."""

import json
import math

import numpy as np
import pytest
import torch
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.errors import ConfigError, DataError, UnknownName
from interp.evaluate.causal import (
    Downstream,
    Intervention,
    LogitDifference,
    Loss,
    attribution_graph,
    changed,
    continuations,
    control,
    direct,
    effect,
    intervene,
    part,
    unchanged,
)
from interp.features.bases import DictionaryBasis, NeuronBasis, RandomDirections
from interp.models import LoadedModel
from interp.sae import BatchTopK, Origin

WIDTH, MLP, VOCAB, CONTEXT = 16, 32, 20, 12
RESID, NEURONS = "resid_post.0", "mlp_post.0"


def tiny(**settings) -> LoadedModel:
    config = TransformerBridgeConfig(
        d_model=WIDTH, d_head=8, n_heads=2, n_layers=2, n_ctx=CONTEXT, d_vocab=VOCAB, d_mlp=MLP,
        act_fn="relu", seed=3, **settings,
    )  # fmt: skip
    bridge = TransformerBridge.boot_native(config)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.mul_(2)  # far from uniform predictions
    return LoadedModel("tiny", bridge, None, digest="0" * 64)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.tensor([0, 7, 3, 11, 19, 2, 5, 8])


def latents(site: str, width: int, count: int = 48) -> DictionaryBasis:
    """A dictionary of random weights, about a third of whose latents are active on a row."""
    torch.manual_seed(5)
    origin = Origin(model="tiny", site=site, store="tiny", store_digest="0")
    dictionary = BatchTopK(latents=count, k=4).dictionary(width, origin)
    with torch.no_grad():
        rows = torch.nn.functional.normalize(torch.randn(count, width), dim=1)
        dictionary.W_dec.copy_(rows)
        dictionary.W_enc.copy_(rows.T)
        dictionary.b_dec.copy_(torch.randn(width))
        dictionary.threshold.fill_(0.3)
    return DictionaryBasis(dictionary.requires_grad_(False), "sae")


def site_of(model, tokens, name) -> torch.Tensor:
    return model.activations(tokens[None], [model.site(name)])[name][0].float()


def under(model, unit, what, tokens) -> torch.Tensor:
    """The site's activation as the model computes on with it."""
    seen = []
    look = model.substitute(unit.site, lambda x: seen.append(x) or x)
    with model.substitute(unit.site, changed(unit, what)), look:
        model.forward(tokens[None])
    return seen[0][0].detach()


ABLATE = Intervention()


def test_ablating_a_neuron_sets_it_to_zero_and_nothing_else(model, tokens):
    unit = part(model, NeuronBasis(NEURONS, MLP, signed=False), 4)
    before, after = site_of(model, tokens, NEURONS), under(model, unit, ABLATE, tokens)
    assert before[1:, 4].abs().max() > 0
    expected = before.clone()
    expected[1:, 4] = 0
    torch.testing.assert_close(after, expected)


def test_sides_of_a_neuron(model, tokens):
    before = site_of(model, tokens, RESID)
    neuron = 3
    for side, sign in ((0, 1), (1, -1)):
        unit = part(model, NeuronBasis(RESID, WIDTH, signed=True), 2 * neuron + side)
        after = under(model, unit, ABLATE, tokens)
        column = before[1:, neuron]
        kept = torch.where(sign * column > 0, torch.zeros_like(column), column)
        torch.testing.assert_close(after[1:, neuron], kept, atol=1e-5, rtol=0)
        clamped = under(model, unit, Intervention(kind="clamp", value=2.5), tokens)
        assert torch.allclose(clamped[1:, neuron], torch.tensor(sign * 2.5))
        steered = under(model, unit, Intervention(kind="steer", value=2.5), tokens)
        torch.testing.assert_close(steered[1:, neuron], column + sign * 2.5)
        assert torch.equal(after[0], before[0])


def test_a_latents_change_leaves_the_error_untouched(model, tokens):
    basis = latents(RESID, WIDTH)
    before = site_of(model, tokens, RESID)
    z = basis.encode(before)
    index = int((z[1:] > 0).sum(dim=0).argmax())
    unit = part(model, basis, index)
    error = before - basis.dictionary(before)
    for what, target in (
        (ABLATE, torch.zeros(len(tokens))),
        (Intervention(kind="clamp", value=1.5), torch.full((len(tokens),), 1.5)),
        (Intervention(kind="steer", value=1.5), z[:, index] + 1.5),
    ):
        changed_z = z.clone()
        changed_z[:, index] = target
        expected = basis.dictionary.decode(changed_z) + error
        after = under(model, unit, what, tokens)
        torch.testing.assert_close(after[1:], expected[1:], atol=1e-3, rtol=1e-4)


def test_the_control_pushes_as_far_in_one_direction(model, tokens):
    unit = part(model, latents(RESID, WIDTH), 5)
    what = Intervention(kind="steer", value=2.0)
    x = site_of(model, tokens, RESID)[None]
    moved, pushed = changed(unit, what)(x) - x, control(unit, what, seed=1)(x) - x
    assert torch.allclose(moved[:, 1:].norm(dim=-1), pushed[:, 1:].norm(dim=-1), atol=1e-5)
    assert not moved[:, 0].any()
    assert not pushed[:, 0].any()
    directions = pushed[0, 1:] / pushed[0, 1:].norm(dim=-1, keepdim=True)
    assert (directions @ directions[0]).min() == pytest.approx(1, abs=1e-4)
    assert torch.equal(control(unit, what, 1)(x), control(unit, what, 1)(x))
    assert not torch.allclose(control(unit, what, 2)(x), control(unit, what, 1)(x))


def test_effect_against_float64_by_hand(model, tokens):
    unit = part(model, NeuronBasis(NEURONS, MLP, signed=False), 4)

    def zero(x):
        out = x.clone()
        out[:, 1:, 4] = 0
        return out

    with torch.no_grad():
        p = model.forward(tokens[None])[0].double().softmax(-1).numpy()
        with model.substitute(unit.site, zero):
            q = model.forward(tokens[None])[0].double().softmax(-1).numpy()
    kl = (p * (np.log(p) - np.log(q))).sum(axis=1)
    nexts = tokens[1:].numpy()
    ce = [-np.log(each[np.arange(7), nexts]) for each in (p, q)]
    found = effect(model, unit, ABLATE, tokens, seeds=3)
    np.testing.assert_allclose(found.after.kl, kl, atol=1e-5)
    assert found.kl == pytest.approx(kl[1:].mean(), abs=1e-5)
    assert found.delta_ce == pytest.approx((ce[1] - ce[0])[1:].mean(), abs=1e-5)
    assert found.changed == (p[1:].argmax(1) != q[1:].argmax(1)).mean()
    np.testing.assert_array_equal(found.after.top[:, 0], q.argmax(axis=1))
    np.testing.assert_allclose(found.after.probability[:, 0], q.max(axis=1), atol=1e-5)
    assert found.after.kl[0] == 0
    assert not found.before.kl.any()
    assert len(found.controls) == 3
    assert found.control_kl.low <= found.control_kl.mean <= found.control_kl.high
    again = effect(model, unit, ABLATE, tokens, seeds=3)
    assert (again.kl, again.control_kl) == (found.kl, found.control_kl)


def test_hooks_are_gone_after_the_context(model, tokens):
    unit = part(model, NeuronBasis(NEURONS, MLP, signed=False), 4)
    before = model.forward(tokens[None])

    def fails():
        with intervene(model, unit, Intervention(kind="clamp", value=50.0)):
            assert not torch.equal(model.forward(tokens[None]), before)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert torch.equal(model.forward(tokens[None]), before)


@torch.no_grad()
def test_continuations_are_those_of_single_greedy_runs(model, tokens):
    unit = part(model, NeuronBasis(NEURONS, MLP, signed=False), 4)
    strong = Intervention(kind="steer", value=30.0)
    found = continuations(model, unit.site, [unchanged, changed(unit, strong)], tokens[:4], steps=6)
    for written, what in zip(found, (Intervention(kind="steer", value=0.0), strong), strict=True):
        window = tokens[:4]
        for _ in range(6):
            with intervene(model, unit, what):
                best = model.forward(window[None])[0, -1].argmax()
            window = torch.cat([window, best[None]])
        assert written == window[4:].tolist()
    assert found[0] != found[1]


@torch.no_grad()
def test_direct_attribution_is_the_last_layers_share_of_the_logits(model, tokens):
    """With the final norm's divisor held, taking a unit out of the last MLP moves the logits so."""
    unit = part(model, NeuronBasis("mlp_post.1", MLP, signed=False), 6)
    found = direct(model, unit, tokens)
    position = int(found.activation.argmax())
    residual = site_of(model, tokens, "resid_post.1")[position].double().numpy()
    written = model.bridge.blocks[1].mlp.W_out[6].double().numpy() * float(
        found.activation[position]
    )
    centred = residual - residual.mean()
    scale = math.sqrt((centred**2).mean() + model.bridge.cfg.eps)
    weight = model.bridge.ln_final.weight.double().numpy()
    direction = (written - written.mean()) * weight / scale
    logits = direction @ model.bridge.W_U.double().numpy()
    np.testing.assert_allclose(
        found.logits(position).numpy(), logits - logits.mean(), atol=1e-4, rtol=1e-4
    )
    assert found.activation[position] > 0


@pytest.mark.parametrize("method", ["integrated", "gradient"])
def test_integrated_gradients_are_complete(model, tokens, method):
    basis = latents(RESID, WIDTH)
    # Where a trained dictionary's bias lies; far from the data the path has kinks.
    basis.dictionary.b_dec.copy_(site_of(model, tokens, RESID)[1:].mean(dim=0))

    def bias(x):
        out = x.clone()
        out[:, 1:] = basis.dictionary.b_dec
        return out

    with torch.no_grad():
        logits = model.forward(tokens[None])[0, -1]
        with model.substitute(model.site(RESID), bias):
            without = model.forward(tokens[None])[0, -1]
    moved = logits - without
    up, down = int(moved.argmax()), int(moved.argmin())
    target = LogitDifference(up, down)
    graph = attribution_graph(model, basis, tokens, target, method=method, steps=40, top=5)
    assert graph.value == pytest.approx(float(logits[up] - logits[down]), abs=1e-4)
    assert graph.without == pytest.approx(float(without[up] - without[down]), abs=1e-4)
    if method == "integrated":
        assert graph.completeness == pytest.approx(1, abs=0.03)
    else:
        assert abs(graph.completeness - 1) > 0.03
    assert len(graph.nodes) == 5
    assert json.loads(json.dumps(graph.to_dict(), allow_nan=False))["method"] == method


def test_gradient_attributions_are_derivatives(model, tokens):
    """Each node's attribution is z times the change per unit of its latent, by differences."""
    basis = latents(RESID, WIDTH)
    graph = attribution_graph(model, basis, tokens, Loss(), method="gradient", top=3)
    step = 1e-2

    def loss(node, sign):
        def push(x):
            out = x.clone()
            out[0, node.position] += sign * step * basis.dictionary.W_dec[node.latent]
            return out

        with torch.no_grad(), model.substitute(model.site(RESID), push):
            return float(Loss().measure(model, tokens))

    for node in graph.nodes:
        slope = (loss(node, 1) - loss(node, -1)) / (2 * step)
        assert node.attribution == pytest.approx(node.activation * slope, rel=0.03, abs=1e-4)


def test_a_downstream_unit_as_target(model, tokens):
    later = latents("resid_post.1", WIDTH)
    z = later.encode(site_of(model, tokens, "resid_post.1"))[-1]
    unit = int(z.argmax())
    target = Downstream(model.site("resid_post.1"), later, unit)
    graph = attribution_graph(model, latents(RESID, WIDTH), tokens, target, steps=2)
    assert graph.value == pytest.approx(float(z[unit]), abs=1e-4)
    assert graph.target == f"resid_post.1/sae/{unit}"
    earlier = Downstream(model.site("mlp_post.0"), NeuronBasis("mlp_post.0", MLP, signed=False), 1)
    with pytest.raises(DataError, match="does not depend on"):
        attribution_graph(model, later, tokens, earlier)


def test_wrong_use_is_one_sentence(model, tokens):
    neurons = NeuronBasis(NEURONS, MLP, signed=False)
    with pytest.raises(ConfigError, match="units 0 to 31, not 32"):
        part(model, neurons, 32)
    with pytest.raises(UnknownName, match="mlp_post.9"):
        part(model, NeuronBasis("mlp_post.9", MLP, signed=False), 0)
    with pytest.raises(DataError, match="wide"):
        part(model, latents(RESID, WIDTH + 1), 0)
    with pytest.raises(ConfigError, match="crosscoder"):
        part(model, latents("resid_post.0+resid_post.1", WIDTH), 0)
    with pytest.raises(ConfigError, match="takes no value"):
        Intervention(kind="ablate", value=2.0)
    with pytest.raises(ConfigError, match="must be a number"):
        Intervention(kind="clamp", value=math.nan)
    unit = part(model, neurons, 0)
    with pytest.raises(DataError, match="at least two tokens"):
        effect(model, unit, ABLATE, tokens[:1])
    with pytest.raises(ConfigError, match="seeds"):
        effect(model, unit, ABLATE, tokens, seeds=0)
    with pytest.raises(DataError, match="do not fit"):
        continuations(model, unit.site, [unchanged], tokens, steps=CONTEXT)
    with pytest.raises(ConfigError, match="no gradient"):
        Downstream(
            model.site(RESID), RandomDirections(RESID, torch.randn(9, WIDTH), n=2, seed=0), 0
        )
    with pytest.raises(ConfigError, match="steps and top"):
        attribution_graph(model, latents(RESID, WIDTH), tokens, Loss(), steps=0)
    model.masked = True
    try:
        with pytest.raises(ConfigError, match="does not predict the next token"):
            effect(model, unit, ABLATE, tokens)
    finally:
        model.masked = False


def test_a_transcoder_cannot_be_intervened_on(model):
    origin = Origin(
        model="tiny", site=RESID, store="tiny", store_digest="0", target="mlp_out.1",
        target_width=WIDTH,
    )  # fmt: skip
    basis = DictionaryBasis(BatchTopK(latents=8, k=2).dictionary(WIDTH, origin), "trans")
    with pytest.raises(ConfigError, match="transcoder"):
        part(model, basis, 0)
