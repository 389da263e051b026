"""Shared latents are found where they were planted, and chance is what chance gives."""

import json

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.evaluate.shared import shared
from interp.evaluate.truth import pairwise_mcc
from interp.sae import Dictionary, Origin, TopK, TrainConfig, train
from tests.stores import make_store

SITE, WIDTH = "resid_post.0", 48


def dictionary_of(rows: np.ndarray, site: str = SITE) -> Dictionary:
    origin = Origin(model="toy", site=site, store="toy", store_digest="0")
    made = TopK(latents=len(rows), k=1).dictionary(rows.shape[1], origin)
    with torch.no_grad():
        made.W_dec.copy_(torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)))
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def planted() -> list[Dictionary]:
    """32 latents; 20 of them in another order beside 12 strangers; and those all turned about."""
    draw = np.random.default_rng(0)
    one = draw.normal(size=(32, WIDTH))
    other = np.concatenate([draw.normal(size=(12, WIDTH)), one[20:][::-1], one[:8]])
    return [dictionary_of(rows) for rows in (one, other, -one)]


def test_planted_latents_are_shared_and_the_others_unique(planted) -> None:
    (found,), stability = shared(planted[:2], ["a", "b"])
    assert found.unique == (tuple(range(8, 20)), tuple(range(12)))
    assert found.found.share_nearest == ((20 / 32,) * 3, (20 / 32,) * 3)
    assert found.found.share_matched == found.found.share_nearest
    rows = [each.directions().double().numpy() for each in planted[:2]]
    similar = rows[0] @ rows[1].T
    np.testing.assert_allclose(
        found.found.nearest, [similar.max(axis=1).mean(), similar.max(axis=0).mean()]
    )
    assert found.found.matched is not None
    assert found.found.matched <= min(found.found.nearest)
    assert stability == pytest.approx(pairwise_mcc(rows))


def test_chance_is_far_below_and_near_that_of_fresh_directions(planted) -> None:
    (found,), _ = shared(planted[:2], ["a", "b"])
    assert found.baseline.share_nearest[0][1] == 0
    draw = np.random.default_rng(9)
    fresh = draw.normal(size=(32, WIDTH))
    fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
    expected = (planted[0].directions().numpy() @ fresh.T).max(axis=1).mean()
    assert found.baseline.nearest[0] == pytest.approx(expected, abs=0.05)


def test_opposite_directions_are_different_features(planted) -> None:
    (found,), stability = shared([planted[0], planted[2]], ["a", "-a"])
    assert found.found.share_nearest[0] == (0, 0, 0)
    assert stability == pytest.approx(1)  # PW-MCC takes |cos|


def test_only_live_latents_count_and_keep_their_numbers(planted) -> None:
    alive = [np.arange(32) >= 15, np.arange(32) >= 5]
    (found,), _ = shared(planted[:2], ["a", "b"], alive=alive)
    assert found.found.latents == (17, 27)
    assert found.unique[0] == tuple(range(15, 20))
    assert found.found.share_nearest[0][0] == pytest.approx(12 / 17)


def test_unequal_widths_compare_without_a_stability(planted) -> None:
    small = dictionary_of(planted[0].directions().numpy()[:10])
    comparisons, stability = shared([planted[0], small], ["a", "small"])
    assert stability is None
    assert comparisons[0].found.share_matched == ((10 / 32,) * 3, (1.0,) * 3)
    assert comparisons[0].to_dict()["unique"] == [list(range(10, 32)), []]
    three, _ = shared([*planted[:2], small], ["a", "b", "c"])
    assert [(c.found.one, c.found.other) for c in three] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_wrong_use_is_one_sentence(planted) -> None:
    with pytest.raises(ConfigError, match="at least two"):
        shared(planted[:1], ["a"])
    elsewhere = dictionary_of(np.eye(WIDTH), site="resid_post.1")
    with pytest.raises(ConfigError, match="toy/resid_post.0 and toy/resid_post.1 do not compare"):
        shared([planted[0], elsewhere], ["a", "b"])
    with pytest.raises(ConfigError, match="thresholds"):
        shared(planted[:2], ["a", "b"], thresholds=[1.5])
    with pytest.raises(ConfigError, match="mask"):
        shared(planted[:2], ["a", "b"], alive=[np.ones(32, bool)])
    with pytest.raises(DataError, match="b has no latent"):
        shared(planted[:2], ["a", "b"], alive=[np.ones(32, bool), np.zeros(32, bool)])


def test_the_command_line_compares_seeds(workspace, capsys) -> None:
    store = make_store(workspace.store("toy"), rows=900, sites={SITE: 8})
    names = []
    for seed in (0, 1):
        names.append(f"topk-16-k2-s{seed}")
        config = TrainConfig(tokens=2048, batch=256, seed=seed)
        out = workspace.dictionary("toy", SITE, names[-1])
        train(store, SITE, TopK(latents=16, k=2), config, out=out)
    command = ["evaluate", "toy", SITE, *names, "--no-model", "--shared"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["shared"]
    assert [found["comparisons"][0]["found"][key] for key in ("one", "other")] == names
    assert 0 < found["pw_mcc"] <= 1
    assert main(command) == 0
    assert "PW-MCC" in capsys.readouterr().out
    assert main([*command[:3], names[0], "--no-model", "--shared"]) == 2
