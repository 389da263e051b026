"""Teaching one sentence: what is watched is what the model says; and it learns."""

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.lab.toys.alphabet import encode
from interp.lab.toys.character_store import PASSAGE, character_store
from interp.lab.toys.characters import CharacterConfig, CharacterModel
from interp.lab.toys.pupil import latents_at, of_characters, other_text, text_loss
from interp.lab.toys.sentence import Lesson, log_probability, see, study, teach
from interp.sae import BatchTopK, TrainConfig, train

LESSON = Lesson(("I", " love", " New", " York"), " Zoo", " City")
HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def model():
    return CharacterModel(CharacterConfig(d_model=16, d_mlp=32, context=48), seed=0)


def test_what_is_seen_is_what_the_model_says(model):
    pupil, text = of_characters(model, HOOK), "I love New York"
    seen = see(pupil, LESSON)
    whole = torch.from_numpy(encode(f"{text} Zoo"))[None]
    with torch.no_grad():
        logs = model(whole)[0].double().log_softmax(dim=-1).numpy()
        _, cache = model.run_with_cache(whole)
    each = [logs[place - 1, int(whole[0, place])] for place in range(1, whole.shape[1])]
    assert seen.loss == pytest.approx(-np.mean(each), rel=1e-5)
    assert seen.word == pytest.approx(sum(each[-4:]), rel=1e-5)
    assert seen.rival == pytest.approx(log_probability(pupil, LESSON, " City"))
    pattern = np.stack([cache[f"blocks.{n}.hook_pattern"].numpy()[0] for n in (0, 1)])
    row = pattern.mean(axis=(0, 1))[len(text) - 1]
    assert seen.attention["love"] == pytest.approx(row[1:6].sum(), rel=1e-5)
    assert sum(seen.attention.values()) == pytest.approx(1, rel=1e-5)
    assert list(seen.attention) == ["I", "love", "New", "York"]


def test_the_sentence_is_learnt_and_the_lesson_reported(model, tmp_path):
    ids = encode("What is in a name? That which we call a rose by any other word. " * 200)
    place = {"resid": (model, HOOK)}
    store = character_store(place, {"t": ids}, tmp_path / "s", windows=8 * PASSAGE, name="c")
    code = train(
        store,
        "resid",
        BatchTopK(k=4, latents=24),
        TrainConfig(tokens=4096, batch=256),
        out=tmp_path / "d",
        device="cpu",
    )
    pupil = of_characters(model, HOOK)
    prompt, other = LESSON.ids(pupil), other_text(pupil, store)
    assert other.shape == (1, 48)
    before, loss = latents_at(pupil, code, prompt), text_loss(pupil, other)
    taught = study(pupil, store, code, LESSON, 40, 1e-2)
    assert len(taught.looks) == 41
    assert taught.looks[-1].loss < taught.looks[0].loss / 2
    assert taught.looks[-1].word > taught.looks[-1].rival
    assert taught.rise == pytest.approx(text_loss(pupil, other) - loss)
    moves = np.sort(np.abs(latents_at(pupil, code, prompt) - before))[::-1]
    assert taught.concentration == pytest.approx(moves[:10].sum() / moves.sum())
    assert len(taught.moved.splitlines()) == 6


def test_what_cannot_be_taught_is_refused(model, tmp_path):
    pupil = of_characters(model, HOOK)
    ids = encode("Short. " * 400)
    place = {"resid": (model, HOOK)}
    store = character_store(place, {"t": ids}, tmp_path / "s", windows=PASSAGE, name="c")
    with pytest.raises(DataError, match="holds out no document"):
        other_text(pupil, store)
    with pytest.raises(DataError, match="lower the lr"):
        list(teach(pupil, LESSON, steps=5, lr=float("inf")))
