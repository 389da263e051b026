"""A neuron of two planted senses, taken apart; contributions and effects by hand in float64."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.cli import main
from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.evaluate.disentangle import DisentangleConfig, contributions, disentangle
from interp.evaluate.disentangle.ablation import Ablation, Neuron, effects
from interp.evaluate.disentangle.find import dictionary_for
from interp.features import DictionaryBasis, ExtractConfig, UnitTable, extract, neurons
from interp.features.disentangled import CarriedSense, Compared, found, path_of, read
from interp.features.spread import participation, spread
from interp.files import read_json, write_json
from interp.models import LoadedModel
from interp.sae import BatchTopK, Origin
from interp.sae.base import Dictionary
from interp.sae.files import save_dictionary
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.stores import make_store

SITE, WIDTH, ROWS, DOCUMENTS = "mlp_post.0", 12, 6000, 24
KING, RIVER = 1, 3
WORDS = [f" w{i}" for i in range(40)] + ["<bos>"]
NAME = "planted"


def planted_dictionary() -> Dictionary:
    """Latents 0 and 1 both write neuron 0; latent 2 a little of it; the others elsewhere."""
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0")
    dictionary = BatchTopK(latents=8, k=4).dictionary(WIDTH, origin)
    rows = torch.zeros(8, WIDTH)
    rows[0, [0, 1]] = torch.tensor([0.8, 0.6])
    rows[1, [0, 2]] = torch.tensor([0.6, 0.8])
    rows[2, [0, 3]] = torch.tensor([0.1, 0.99])
    for latent in range(3, 8):
        rows[latent, latent + 1] = 1.0
    with torch.no_grad():
        dictionary.W_dec.copy_(rows)
        dictionary.W_enc.copy_(torch.linalg.pinv(rows))  # latents come back exactly
        dictionary.b_dec.copy_(torch.linspace(-0.03, 0.03, WIDTH))
        dictionary.threshold.fill_(0.05)
    return dictionary.requires_grad_(False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Workspace, ActivationStore, UnitTable]:
    """A workspace with a store, the table of its neurons and the dictionary that made it."""
    workspace = Workspace(tmp_path_factory.mktemp("planted"))
    draw = np.random.default_rng(0)
    share = np.full(40, 0.88 / 38)
    share[[KING, RIVER]] = 0.06
    tokens = draw.choice(40, ROWS, p=share)
    z = draw.gamma(3.0, 0.5, (ROWS, 8)) * (draw.random((ROWS, 8)) < 0.25)
    z[:, 0] = np.where(tokens == KING, 1 + draw.gamma(2.0, 1.0, ROWS), 0)
    z[:, 1] = np.where(tokens == RIVER, 1 + draw.gamma(2.0, 1.0, ROWS), 0)
    z[:, 2] *= draw.random(ROWS) < 0.4
    dictionary = planted_dictionary()
    x = z @ dictionary.W_dec.double().numpy() + dictionary.b_dec.double().numpy()
    x[:, 9:] += 0.2 * draw.normal(size=(ROWS, 3))  # no latent writes there: error
    store = make_store(
        workspace.store("toy"), activations={SITE: x.astype(np.float32)}, tokens=tokens,
        vocabulary=WORDS, bos=40, documents=DOCUMENTS, model="toy", dtype="float32",
        shard_rows=2048,
    )  # fmt: skip
    units = extract(
        [neurons(store, SITE)], store, config=ExtractConfig(score_rows=2000), workspace=workspace
    )
    save_dictionary(dictionary, workspace.dictionary("toy", SITE, NAME))
    return workspace, store, units.tables[0]


@pytest.fixture(scope="module")
def basis() -> DictionaryBasis:
    return DictionaryBasis(planted_dictionary(), NAME)


@pytest.fixture(scope="module")
def result(planted, basis):
    _, store, table = planted
    return disentangle(table, 0, basis, store)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, WIDTH - 1), st.sampled_from([1, -1]))
def test_contributions_bias_and_error_are_the_activation(seed, neuron, sign):
    dictionary = planted_dictionary()
    x = np.random.default_rng(seed).normal(size=(9, WIDTH)).astype(np.float32)
    parts = contributions(DictionaryBasis(dictionary, NAME), x, neuron, sign)
    total = parts.each.sum(axis=1) + parts.bias + parts.error
    np.testing.assert_allclose(total, sign * x[:, neuron].astype(np.float64), atol=1e-12, rtol=0)
    # Each part by itself, written differently.
    pre = (x - dictionary.b_dec.numpy()).astype(np.float64) @ dictionary.W_enc.double().numpy()
    z = pre * (pre > 0.05)
    for at, latent in enumerate(parts.latents):
        expected = sign * z[:, latent] * float(dictionary.W_dec[latent, neuron])
        np.testing.assert_allclose(parts.each[:, at], expected, atol=1e-5)
    reconstruction = dictionary(torch.from_numpy(x))[:, neuron].numpy()
    np.testing.assert_allclose(parts.error, sign * (x[:, neuron] - reconstruction), atol=1e-5)
    assert parts.bias == pytest.approx(sign * float(dictionary.b_dec[neuron]))


def test_each_planted_sense_is_carried_by_its_latent(planted, result):
    _, store, _ = planted
    tokens = {
        sense.sense: int(store.tokens[sense.exemplar])
        for sense in result.senses
        if sense.sense is not None
    }
    carriers = {tokens[s.sense]: s.carriers for s in result.senses if s.sense in tokens}
    assert carriers[KING] == (0,)
    assert carriers[RIVER] == (1,)
    assert result.agreement > 0.95


def test_every_row_adds_up_and_shares_make_a_whole(result):
    assert sum(sense.share for sense in result.senses) == pytest.approx(1, abs=1e-5)
    for sense in result.senses:
        parts = (*sense.contributions, sense.others, sense.bias, sense.error)
        assert sum(parts) == pytest.approx(sense.activation, abs=1e-9)
        assert sense.bias == pytest.approx(-0.03)
        assert sense.activation > 0


def test_carriers_hold_up_and_leave_the_other_sense_alone(planted, result):
    _, store, _ = planted
    senses = [sense for sense in result.senses if sense.sense is not None]
    for at, sense in enumerate(senses):
        if int(store.tokens[sense.exemplar]) not in (KING, RIVER):
            continue
        assert sense.verdict == "holds up"
        assert sense.removed.value > 0.9
        assert sense.removed.low <= sense.removed.value <= sense.removed.high
        assert abs(sense.removed.control) < 0.2
        assert sense.effect_removed is None
        assert sense.removed_in[at] == pytest.approx(sense.removed.value)
        others = [value for place, value in enumerate(sense.removed_in) if place != at]
        assert max(map(abs, others)) < 0.1


def test_random_latents_are_active_of_equal_number_and_norm(planted, basis):
    _, store, _ = planted
    x = torch.from_numpy(store.take(SITE, np.flatnonzero(store.tokens == KING)[:40]))
    carriers, chosen = np.array([0, 3], np.int64), torch.tensor([0, 3])
    z, ablation = basis.encode(x), Ablation(basis)
    written = ablation.written(x, carriers)
    torch.testing.assert_close(written, z[:, chosen] @ basis.dictionary.W_dec[chosen])
    pushed = ablation.random(x, carriers, np.random.default_rng(0))
    back = pushed @ basis.dictionary.W_enc  # the pseudo-inverse: which latents it is made of
    for row in range(len(x)):
        used = set(torch.nonzero(back[row].abs() > 1e-4)[:, 0].tolist())
        free = set(torch.nonzero(z[row] > 0)[:, 0].tolist()) - {0, 3}
        assert used <= free
        assert len(used) == min(int((z[row, chosen] > 0).sum()), len(free))
        if free:
            assert float(pushed[row].norm()) == pytest.approx(float(written[row].norm()), rel=1e-4)


def test_it_is_the_same_again_and_reads_back(planted, basis, result, tmp_path):
    _, store, table = planted
    again = disentangle(table, 0, basis, store)
    assert again == result
    path = result.write(table.path)
    assert found(table, 0) == {NAME: path}
    back = read(path, table)
    assert back.senses == result.senses
    assert back.latents == result.latents


def test_foreign_broken_and_stale_files_are_refused(planted, result):
    _, _, table = planted
    path = result.write(table.path)
    whole = read_json(path)
    for change, words in (
        ({"version": 2}, "newer"),
        ({"table": "other"}, "earlier unit table"),
        ({"latents": [1]}, "one contribution a latent"),
        ({"senses": [{"sense": "x"}]}, "malformed"),
        ({"senses": 3}, "malformed"),
        ({"extra": 3}, "malformed"),
    ):
        write_json(path, {**whole, **change})
        with pytest.raises(FormatError, match=words):
            read(path, table)
    path.unlink()
    with pytest.raises(FormatError, match="does not exist"):
        read(path, table)
    assert found(table, 0) == {}


def test_verdicts():
    def sense(**tests: Compared) -> CarriedSense:
        return CarriedSense(
            sense=0, share=1.0, exemplar=0, rows=9, activation=1.0, contributions=(), active=(),
            others=0.0, bias=0.0, error=0.0, **tests,
        )  # fmt: skip

    def test(value: float, low: float, control: float) -> Compared:
        return Compared(
            value=value, low=low, high=1.0, control=0.0, control_low=0.0, control_high=control
        )

    good, weak, chance = test(0.8, 0.6, 0.2), test(0.3, 0.2, 0.1), test(0.8, 0.1, 0.2)
    assert sense().verdict == "not tried"
    assert sense(removed=good).verdict == "holds up"
    assert sense(removed=good, effect_removed=weak).verdict == "in part"
    assert sense(removed=good, effect_removed=chance).verdict == "not told from random"


def test_command_writes_beside_the_table(planted, result, capsys):
    workspace, _, table = planted
    command = ["disentangle", f"toy/{SITE}/neurons/0", "--workspace", str(workspace.root)]
    assert main([*command, "--no-model"]) == 0
    printed = capsys.readouterr().out
    assert "holds up" in printed
    path = path_of(table.path, 0, NAME)
    assert str(path) in printed
    assert read(path, table).senses == result.senses
    assert main([*command, "--no-model", "--json", "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["dictionary"] == NAME
    path.unlink()
    assert main([*command, "--dictionary", "nothing"]) == 2
    assert NAME in capsys.readouterr().err
    assert main(["disentangle", "nonsense"]) == 2
    assert "no unit address" in capsys.readouterr().err


def test_wrong_use_is_one_sentence(planted, basis):
    workspace, store, table = planted
    with pytest.raises(FormatError, match="units 0 to 23"):
        disentangle(table, 24, basis, store)
    with pytest.raises(DataError, match="has no senses"):
        disentangle(table, 17, basis, store)  # dead
    target = Origin(
        model="toy", site=SITE, store="toy", store_digest="0", target="mlp_out.0",
        target_width=WIDTH,
    )  # fmt: skip
    transcoder = DictionaryBasis(BatchTopK(latents=8, k=2).dictionary(WIDTH, target), "t")
    with pytest.raises(ConfigError, match="transcoder"):
        disentangle(table, 0, transcoder, store)
    other = Origin(model="toy", site="mlp_post.1", store="toy", store_digest="0")
    elsewhere = DictionaryBasis(BatchTopK(latents=8, k=2).dictionary(WIDTH, other), "o")
    with pytest.raises(ConfigError, match="not of mlp_post.0"):
        disentangle(table, 0, elsewhere, store)
    with pytest.raises(UnknownName, match="interp train"):
        dictionary_for(workspace, store, table, "nothing")
    with pytest.raises(ConfigError, match="share"):
        DisentangleConfig(share=0.0)
    with pytest.raises(ConfigError, match="carriers"):
        DisentangleConfig(carriers=0)


def test_spread_of_a_latent(planted):
    workspace, _, _ = planted
    folder = workspace.dictionary("toy", SITE, NAME)
    dictionary = planted_dictionary()
    one = spread(folder, 0)
    np.testing.assert_allclose(one.decoder, dictionary.W_dec[0].numpy())
    np.testing.assert_allclose(one.encoder, dictionary.W_enc[:, 0].numpy())
    assert spread(folder, 5).written == pytest.approx(1)
    assert participation(np.full(7, -0.3)) == pytest.approx(7)
    assert np.isnan(participation(np.zeros(3)))
    with pytest.raises(ConfigError, match="latents 0 to 7"):
        spread(folder, 8)
    with pytest.raises(FormatError, match="no weights"):
        spread(folder.parent / "nowhere", 0)


# -- with a model --------------------------------------------------------------------------------


def test_effects_against_float64_by_hand(tmp_path):
    """The neuron's effect with and without the carriers, from logits of passes set up by hand."""
    config = TransformerBridgeConfig(
        d_model=16, d_head=8, n_heads=2, n_layers=2, n_ctx=12, d_vocab=20, d_mlp=WIDTH,
        act_fn="relu", seed=3,
    )  # fmt: skip
    bridge = TransformerBridge.boot_native(config)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.mul_(3)
    model = LoadedModel("tiny", bridge, None, digest="0" * 64)
    site = model.site(SITE)
    draw = np.random.default_rng(2)
    tokens = draw.integers(1, 20, 4 * 11)
    windows = [torch.tensor([[0, *tokens[11 * i : 11 * i + 11]]]) for i in range(4)]
    x = torch.cat([model.activations(w, [site])[SITE][0, 1:] for w in windows]).numpy()
    store = make_store(
        tmp_path / "tiny", activations={SITE: x}, tokens=tokens, documents=4, context=12, bos=0,
        vocabulary=[f" {i}" for i in range(20)], model="tiny", dtype="float32",
    )  # fmt: skip
    dictionary = planted_dictionary()
    ablation = Ablation(DictionaryBasis(dictionary, NAME))
    z = dictionary.encode(torch.from_numpy(x))
    unit = int((x > 0).mean(axis=0).argmax())
    neuron, carriers = Neuron(unit, 1), np.array([0, 1, 4], np.int64)
    rows = np.array([3, 9, 14, 27, 41], np.int64)
    found = effects(model, store, ablation, site, neuron, rows, carriers, 2, 0)
    above = below = 0.0
    kls = []
    for row in rows:
        window, position = windows[row // 11], row % 11 + 1
        v = (
            z[row, torch.from_numpy(carriers)] @ dictionary.W_dec[torch.from_numpy(carriers)]
        ).detach()

        def run(new, window=window, position=position):
            def put(old):
                out = old.clone()
                out[0, position] = new
                return out

            with torch.no_grad(), model.substitute(site, put):
                return model.forward(window)[0, position].double().numpy()

        def silent(value):
            out = value.clone()
            out[unit] = min(float(out[unit]), 0.0)
            return out

        own = torch.from_numpy(x[row])
        base, off, carried, both = (run(n) for n in (own, silent(own), own - v, silent(own - v)))
        p = np.exp(base - base.max())
        p /= p.sum()

        def inner(a, b, p=p):
            return (p * (a - (p * a).sum()) * (b - (p * b).sum())).sum()

        below += inner(off - base, off - base)
        above += inner(off - base, off - base) - inner(both - carried, off - base)
        q = np.exp(carried - carried.max())
        q /= q.sum()
        kls.append((p * np.log(p / q)).sum())
    assert below > 0
    assert found.effect_removed.value == pytest.approx(above / below, rel=1e-3, abs=1e-4)
    assert found.kl_carriers == pytest.approx(np.mean(kls), rel=1e-3, abs=1e-6)
    assert found.kl_neuron > 0
