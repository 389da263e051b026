"""Answering and preferring, against the formulas written out; features over stages."""

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.lab.toys import dialogue
from interp.lab.toys.alphabet import encode
from interp.lab.toys.characters import CharacterConfig, CharacterModel
from interp.lab.toys.dialogue import Exchange
from interp.lab.toys.stage_features import Joined, shared

GIVEN = [Exchange("Are you sad?", "No, I am not."), Exchange("Why?", "Because")]


def _model(seed=0):
    config = CharacterConfig(d_model=8, d_mlp=16, context=32)
    return CharacterModel(config, seed=seed)


def test_rows_mark_the_answer_and_the_line_break_that_ends_it():
    rows = dialogue.rows_of(GIVEN, 32)
    for row, given in enumerate(GIVEN):
        assert rows.tokens[row, : len(given.text)].tolist() == encode(given.text).tolist()
        assert rows.tokens[row, len(given.text) :].eq(0).all()
        marked = rows.tokens[row][rows.answered[row]]
        assert marked.tolist() == encode(given.answer + "\n").tolist()
    assert GIVEN[0].ending("!").answer == "No, I am not!"
    assert GIVEN[1].ending(".").answer == "Because."
    with pytest.raises(DataError, match="leave it out"):
        dialogue.rows_of(GIVEN, 20)
    with pytest.raises(DataError, match="no exchange"):
        dialogue.rows_of([], 20)


def test_log_probability_is_the_sum_over_the_answers_characters():
    model, rows = _model(), dialogue.rows_of(GIVEN, 32)
    with torch.no_grad():
        found = dialogue.log_probability(model, rows)
        for row, given in enumerate(GIVEN):
            question, whole = len(given.question) + 1, encode(given.text)
            total = 0.0
            for place in range(question, len(whole)):  # one character at a time
                logits = model(torch.from_numpy(whole[None, :place]))[0, -1].double().numpy()
                total += logits[whole[place]] - np.log(np.exp(logits).sum())
            assert float(found[row]) == pytest.approx(total, rel=1e-5)
        count = sum(len(given.answer) + 1 for given in GIVEN)
        loss = float(dialogue.tuning_loss(model, rows))
        assert loss == pytest.approx(-float(found.sum()) / count, rel=1e-6)


def test_the_preference_loss_is_the_log_odds_that_the_better_answer_wins():
    """Bradley and Terry's model with rewards β log π/π_ref, probabilities multiplied out."""
    draw = np.random.default_rng(0)
    good, bad, ref_good, ref_bad = draw.uniform(0.01, 0.9, (4, 50))
    beta = 0.3
    strength_good, strength_bad = (good / ref_good) ** beta, (bad / ref_bad) ** beta
    wanted = -np.log(strength_good / (strength_good + strength_bad)).mean()
    logs = [torch.from_numpy(np.log(each)) for each in (good, bad, ref_good, ref_bad)]
    found = dialogue.preference_loss((logs[0], logs[1]), (logs[2], logs[3]), beta=beta)
    assert float(found) == pytest.approx(wanted, rel=1e-12)
    same = dialogue.preference_loss((logs[0], logs[1]), (logs[0], logs[1]), beta=beta)
    assert float(same) == pytest.approx(np.log(2))

    def loss(better, worse):
        return dialogue.preference_loss((better, worse), (logs[2], logs[3]), beta=beta)

    inputs = [each.clone().requires_grad_() for each in logs[:2]]
    assert torch.autograd.gradcheck(loss, inputs)


def test_tuning_and_preferring_do_what_they_are_for():
    model = _model()
    given = [*GIVEN, Exchange("Who?", "The king."), Exchange("Where?", "In the castle.")]
    rows, pair = dialogue.rows_of(given, 32), dialogue.pair_of(given, 32)
    with torch.no_grad():
        before = float(dialogue.tuning_loss(model, rows))
    steps = list(dialogue.tune(model, rows, steps=30, batch=4, lr=1e-2, seed=0))
    assert steps == list(range(1, 31))
    reference = _model()
    reference.load_state_dict(model.state_dict())
    kept = {name: value.clone() for name, value in reference.state_dict().items()}
    with torch.no_grad():
        assert float(dialogue.tuning_loss(model, rows)) < before - 0.5
        start = dialogue.both(model, pair)
    more = dialogue.prefer(model, reference, pair, beta=0.1, steps=20, batch=4, lr=1e-2, seed=0)
    assert len(list(more)) == 20
    with torch.no_grad():
        assert (dialogue.margins(dialogue.both(model, pair), start) > 0.2).all()
    assert all(torch.equal(value, kept[name]) for name, value in reference.state_dict().items())


def test_packaged_exchanges_hold_out_questions(furnished):
    train, heldout = dialogue.exchanges(64)
    assert len(train) > 5 * len(heldout) > 50
    assert not {each.question for each in train} & {each.question for each in heldout}
    assert max(len(each.text) for each in train + heldout) < 64


def test_a_latents_share_of_the_later_stage():
    norms = np.array([[0.5, 0.5, 0.0], [0.1, 0.3, 0.6], [0.8, 0.2, 0.0]])
    active = np.zeros((20, 3), np.float32)
    active[[4, 17], 1] = [1.0, 2.0]
    stages = Joined(norms, active, encode("abcdefghijklmnopqrst"))
    np.testing.assert_allclose(stages.later(0), [0.5, 0.75, 0.2])
    assert stages.later(1)[1] == pytest.approx(2 / 3)
    assert shared(stages.later(0)) == pytest.approx(1 / 3)
    first = stages.where(stages.later(0)).splitlines()[0]
    assert first.startswith("0.75  cdefghijklmnopqr | abcde | ")
