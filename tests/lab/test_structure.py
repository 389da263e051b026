"""The structure of neurons, against the ratio computed neuron by neuron."""

import numpy as np
import pytest

from interp.lab.toys.alphabet import ALPHABET, encode
from interp.lab.toys.character_store import PASSAGE, character_store
from interp.lab.toys.characters import CharacterConfig, CharacterModel
from interp.lab.toys.structure import CLASSES, character_classes, explained, structure


def _eta_squared(values, labels):
    """One neuron's share of variance between classes, by definition."""
    mean = values.mean()
    between = sum(
        (labels == kind).sum() * (values[labels == kind].mean() - mean) ** 2
        for kind in np.unique(labels)
    )
    return between / ((values - mean) ** 2).sum()


def test_explained_is_the_mean_ratio_and_weights_count_passages_so_often():
    draw = np.random.default_rng(0)
    labels, passage = draw.integers(0, 4, 300), np.repeat(np.arange(6), 50)
    values = draw.normal(size=(300, 3)) + labels[:, None] * np.array([0.0, 1.0, 5.0])
    values = np.concatenate([values, np.full((300, 1), 2.0)], axis=1)  # one that never varies
    weights = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 3, 0]], float)
    found = explained(values, labels, passage, weights)
    for weight, value in zip(weights.astype(int), found, strict=True):
        rows = np.concatenate([np.flatnonzero(passage == p) for p in np.repeat(range(6), weight)])
        wanted = np.mean([_eta_squared(values[rows, n], labels[rows]) for n in range(3)])
        assert value == pytest.approx(wanted, rel=1e-9)


def test_classes_of_characters():
    names = [CLASSES[kind] for kind in character_classes()]
    found = dict(zip(ALPHABET, names, strict=True))
    assert [found[each] for each in "aqZ \n7;"] == list(CLASSES)


def test_structure_is_nothing_for_noise_and_found_where_it_is_planted(tmp_path):
    text = encode("To be, or not to be, that is the question: whether 'tis nobler. " * 60)
    model = CharacterModel(CharacterConfig(d_model=8, d_mlp=8, context=8))
    place = {"mlp": (model, "blocks.1.hook_mlp_post")}
    store = character_store(place, {"t": text}, tmp_path / "s", windows=20 * PASSAGE, name="c")
    draw = np.random.default_rng(1)
    noise = draw.normal(size=(store.rows, 5)).astype(np.float32)
    classes = character_classes()[store.tokens.astype(int)]
    planted = noise + 2 * draw.normal(size=(len(CLASSES), 5)).astype(np.float32)[classes]
    found = structure([noise, planted], store, seed=0)["character"]
    assert abs(found.mean[0]) < 0.01
    assert found.mean[1] > 0.3
    assert found.low[1] < found.mean[1] < found.high[1]
    assert 0.2 < found.gain_low < found.mean[1] - found.mean[0]
    backwards = structure([planted, noise], store, seed=0)["character"]
    assert backwards.gain_low < 0
    # What follows is only known as far as the text is predictable, which noise does not show.
    assert abs(structure([noise, planted], store, seed=0)["next"].mean[0]) < 0.01
