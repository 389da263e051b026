"""The character model: what its objectives let it see and ask it to tell; stores of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import ConfigError, DataError
from interp.lab.toys.alphabet import ALPHABET, MASK, decode, encode, shakespeare
from interp.lab.toys.character_store import PASSAGE, character_store
from interp.lab.toys.characters import (
    MASKED_SHARE,
    OBJECTIVES,
    CharacterConfig,
    CharacterModel,
    heldout_loss,
    loss_of,
    pretrain,
    windows,
    write,
)

SMALL = {"d_model": 8, "d_mlp": 16, "context": 8}
TEXT = encode("Shall I compare thee to a summer's day?\nThou art more lovely. " * 40)


def _model(objective="causal", **settings):
    return CharacterModel(CharacterConfig(**{**SMALL, "objective": objective, **settings}), seed=1)


def _tokens(seed=0, count=4, length=8):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, MASK, (count, length)))


@settings(deadline=None)
@given(st.text())
def test_characters_of_the_alphabet_come_back_and_others_are_left_out(text):
    assert decode(encode(text)) == "".join(each for each in text if each in ALPHABET)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("changed", range(8))
def test_a_position_depends_on_exactly_what_its_objective_lets_it_see(objective, changed):
    model, tokens = _model(objective), _tokens(count=1)
    other = tokens.clone()
    other[0, changed] = (other[0, changed] + 1) % MASK
    with torch.no_grad():
        same = (model(tokens)[0] - model(other)[0]).abs().amax(dim=1) < 1e-7
    seen = {
        "causal": [position >= changed for position in range(8)],
        "masked": [True] * 8,
        "prefix": [position >= changed or changed < 4 for position in range(8)],
    }[objective]
    assert (~same).tolist() == seen


@pytest.mark.parametrize(("objective", "first"), [("causal", 1), ("prefix", 4)])
def test_the_loss_is_that_of_the_characters_asked_for(objective, first):
    model, tokens = _model(objective), _tokens()
    with torch.no_grad():
        logits = model(tokens).double().numpy()
        found = float(loss_of(model, tokens, np.random.default_rng(0)))
    losses = [
        np.log(np.exp(logits[row, place - 1]).sum()) - logits[row, place - 1, tokens[row, place]]
        for row in range(4)
        for place in range(first, 8)
    ]
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_masked_loss_is_of_masked_characters_that_the_model_does_not_see():
    model, tokens = _model("masked", context=20), _tokens(length=20)
    given_to_model = []
    hook = model.register_forward_pre_hook(lambda _, inputs: given_to_model.append(inputs[0]))
    with torch.no_grad():
        found = float(loss_of(model, tokens, np.random.default_rng(3)))
    hook.remove()
    (seen,) = given_to_model
    masked = seen == MASK
    assert masked.sum(dim=1).tolist() == [round(MASKED_SHARE * 20)] * 4
    assert torch.equal(seen[~masked], tokens[~masked])
    with torch.no_grad():
        logs = model(seen).double().log_softmax(dim=-1)
    wanted = -logs[masked].gather(1, tokens[masked][:, None]).mean()
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_training_is_repeatable_and_lowers_the_loss_and_initial_weights_agree_over_objectives():
    first, second = _model(), _model("masked")
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    second = _model()
    before = heldout_loss(first, TEXT)
    for model in (first, second):
        assert list(pretrain(model, TEXT, steps=30, batch=8, lr=1e-2)) == list(range(1, 31))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert heldout_loss(first, TEXT) < before - 0.5
    told = write(first, "Shall", count=20)
    assert told.startswith("Shall")
    assert len(told) == 25
    assert told == write(second, "Shall", count=20)


def test_impossible_settings_and_texts_are_refused():
    for wrong, words in (
        ({"d_model": 9}, "multiple of heads"),
        ({"context": 2}, "at least 4 characters"),
        ({"layers": 0}, "layers"),
    ):
        with pytest.raises(ConfigError, match=words):
            CharacterConfig(**{**SMALL, **wrong})
    with pytest.raises(DataError, match="a window 8"):
        windows(TEXT[:5], 2, 8, np.random.default_rng(0))
    with pytest.raises(DataError, match="reads 8 characters"):
        _model()(_tokens(length=9))
    with pytest.raises(DataError, match="lower the lr"):
        list(pretrain(_model(), TEXT, steps=20, lr=1e30))


def test_shakespeare_holds_out_whole_works(furnished):
    text = shakespeare(1000)
    assert len(text.train) == 1000
    assert decode(text.train[:25]) == "ALL'S WELL THAT ENDS WELL"
    assert len(text.heldout) > 200_000
    assert "ALL'S WELL THAT ENDS WELL" not in decode(text.heldout)


def test_a_store_holds_what_the_models_make_of_the_texts(tmp_path):
    models = {
        "mlp": (_model(), "blocks.1.hook_mlp_post"),
        "resid": (_model("prefix"), "blocks.0.hook_resid_post"),
    }
    texts = {"verse": TEXT, "prose": TEXT[100:]}
    store = character_store(models, texts, tmp_path / "s", windows=4 * PASSAGE + 3, name="c")
    span = 8 * PASSAGE
    assert store.rows == 4 * span
    assert [each.domain for each in store.documents] == ["verse", "prose"] * 2
    assert [each.heldout for each in store.documents] == [False, False, True, True]
    assert store.vocabulary.text(store.tokens[:span].tolist()) == decode(TEXT[:span])
    tokens = torch.from_numpy(store.tokens.astype(np.int64)).reshape(-1, 8)
    for site, (model, hook) in models.items():
        _, cache = model.run_with_cache(tokens)
        wanted = cache[hook].flatten(0, 1).detach().numpy()
        np.testing.assert_allclose(store.read(site, 0, store.rows), wanted, atol=1e-6)
    for windows_wanted, text in ((PASSAGE - 1, TEXT), (PASSAGE, TEXT[: span - 1])):
        with pytest.raises(DataError, match="ask for more windows or give more text"):
            character_store(models, {"t": text}, tmp_path, windows=windows_wanted, name="c")
