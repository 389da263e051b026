"""What every architecture must do; a new one is tested here without an edit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.config import field_docs
from interp.errors import ConfigError, DataError, UnknownName
from interp.sae import (
    TopK,
    TrainConfig,
    architectures,
    find_architecture,
    load_dictionary,
    save_dictionary,
    train,
    train_many,
)
from interp.sae.job import names
from interp.store import ActivationStore
from tests.sae.planted import Planted, matched, mmcs
from tests.sae.shared import ORIGIN, finish, planted_store, small, trainer_on

KINDS = sorted(architectures())
every = pytest.mark.parametrize("kind", KINDS)
every_with_k = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if hasattr(architectures()[kind], "k")]
)

ONE_TO_ONE = {
    # its shortest prefixes earn more by mixtures of features than by one feature a latent
    "matryoshka": (0.955, 0.94),
}
"""Lower bounds for what cannot recover every feature by the nature of its loss."""


def test_architectures_are_found_by_themselves() -> None:
    known = {"topk", "batchtopk", "jumprelu", "l1", "gated", "matryoshka"}
    known |= {"matchingpursuit", "lista"}
    assert known <= set(KINDS)
    with pytest.raises(UnknownName, match="did you mean: batchtopk"):
        find_architecture("batchtop")


@every
def test_every_setting_is_documented(kind: str) -> None:
    cls = architectures()[kind]
    docs = field_docs(cls)
    assert all(docs.get(field.name) for field in dataclasses.fields(cls))


@every
def test_planted_features_are_recovered(kind: str, record_property) -> None:
    """d = 64, 128 unit features, p = 0.03: a random dictionary has an MMCS of .35."""
    source = Planted(batch=512)
    config = TrainConfig(tokens=700_000, batch=512, lr=1e-2, decay=0.3, seed=3, dead_after=20_000)
    chosen = small(kind, latents=128, k=4)
    trainer = trainer_on(source, chosen, config)
    before = mmcs(source.features, trainer.learner.weights.decoder.numpy())
    dictionary = finish(trainer, chosen)
    after = mmcs(source.features, dictionary.W_dec.numpy())
    record_property("MMCS", after)
    assert before < 0.4
    assert after >= 0.96
    rows = source.draw(4096, -1 % 2**32)
    error = rows - dictionary(torch.from_numpy(rows)).numpy()
    assert 1 - error.var(axis=0).sum() / rows.var(axis=0).sum() > 0.83


@pytest.mark.slow
@every
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_features_are_recovered_one_to_one_at_any_seed(kind: str, seed: int) -> None:
    source = Planted(batch=1024, seed=seed)
    config = TrainConfig(tokens=3_000_000, batch=1024, lr=1e-2, decay=0.4, seed=seed + 10)
    chosen = small(kind, latents=128, k=4)
    decoder = finish(trainer_on(source, chosen, config), chosen).W_dec.numpy()
    assert mmcs(source.features, decoder) >= ONE_TO_ONE.get(kind, (0.98, 0.96))[0]
    assert matched(source.features, decoder) >= ONE_TO_ONE.get(kind, (0.98, 0.96))[1]


@every
def test_decoder_rows_stay_of_unit_norm_and_unprojected_gradients_vanish(kind: str) -> None:
    """An architecture that trains its rows' norms folds them when it is saved."""
    source = Planted(batch=64)
    chosen = small(kind, latents=96, k=4)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=64 * 12, batch=64, lr=1e-2))
    weights = trainer.learner.weights
    while trainer.learner.unit_rows and not trainer.finished:
        before = weights.decoder.clone()
        trainer.step()
        torch.testing.assert_close(weights.decoder.norm(dim=1), torch.ones(96))
        if trainer.done == 1:  # Adam's first moments are a tenth of the gradients it was given
            moments = trainer.optimizer.state[weights.decoder]["exp_avg"]
            along = (moments * before).sum(dim=1)
            assert along.abs().max() <= 1e-6 * moments.abs().max()
    saved = finish(trainer, chosen).W_dec
    torch.testing.assert_close(saved.norm(dim=1), torch.ones(96))


@every_with_k
def test_k_is_the_number_of_active_latents(kind: str) -> None:
    """Exactly in each batch of training, and nearly so of new rows where a threshold decides."""
    source, chosen = Planted(batch=256, p=0.06), small(kind, latents=128, k=4)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=256 * 150, batch=256, lr=1e-2))
    least = 3.5 if kind == "matchingpursuit" else 4  # a pursuit may choose a latent again
    while not trainer.finished:
        assert least <= float(trainer.step().l0) <= 4
    z = finish(trainer, chosen).encode(torch.from_numpy(source.draw(4096, 9)))
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.15)


@every_with_k
def test_k_beyond_the_width_or_the_latents_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="k=20 is more than the 128 latents or the site's width"):
        small(kind, k=20).check(16)
    with pytest.raises(ConfigError, match="k=9 is more than the 8 latents"):
        small(kind, k=9, latents=8).check(16)
    small(kind, k=16).check(16)


@every
def test_the_scale_is_folded_into_what_is_saved(kind: str) -> None:
    """Trained on s·x, the dictionary of x gives the same reconstruction divided by s.

    In float64, where no two latents of a row are within rounding of each other.
    """
    source = Planted(batch=64, bias=3.0)
    chosen = small(kind, latents=96, k=4)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=64 * 50, batch=64, lr=1e-2))
    dictionary = finish(trainer, chosen).double()
    x = torch.from_numpy(source.draw(200, 5)).double()
    scaled = trainer.learner.dictionary(chosen.dictionary(64, ORIGIN), 1.0).double()
    with torch.no_grad():
        expected = scaled(x * trainer.scale) / trainer.scale
    torch.testing.assert_close(dictionary(x), expected, rtol=1e-4, atol=1e-4)


@every
def test_encode_is_the_same_after_save_and_load(kind: str, tmp_path) -> None:
    chosen = small(kind, latents=96, k=4)
    dictionary = finish(
        trainer_on(Planted(batch=64), chosen, TrainConfig(tokens=640, batch=64)), chosen
    )
    folder = save_dictionary(dictionary, tmp_path / "d", note="kept")
    again = load_dictionary(folder)
    x = torch.from_numpy(Planted().draw(50, 7))
    assert torch.equal(again.encode(x), dictionary.encode(x))
    assert torch.equal(again(x), dictionary(x))
    assert (again.config, again.origin, again.kind) == (chosen, ORIGIN, kind)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "weights.safetensors"]


VARIANTS = [
    *((kind, {}) for kind in KINDS),
    ("topk", {"multi_coefficient": 0.125, "start_k": 8}),
    ("batchtopk", {"frozen_decoder": True}),
    ("matryoshka", {"nesting": "random"}),
    ("l1", {"p_end": 0.2, "p_start": 0.1}),
    ("lista", {"iterations": 2, "start_k": 8, "nesting": "random"}),
]


@pytest.mark.parametrize(("kind", "more"), VARIANTS)
def test_a_resumed_run_gives_the_same_weights_to_the_bit(kind: str, more: dict) -> None:
    chosen = small(kind, latents=96, k=4, **more)
    run = TrainConfig(tokens=64 * 20, batch=64, lr=1e-2, dead_after=200)
    whole, stopped, resumed = (trainer_on(Planted(batch=64), chosen, run) for _ in range(3))
    for _ in range(9):
        stopped.step()
    resumed.load(*stopped.save())
    ours, theirs = (finish(trainer, chosen).state_dict() for trainer in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return planted_store(tmp_path_factory.mktemp("store") / "planted")


@every
def test_in_a_sweep_it_trains_to_the_bytes_of_the_run_alone(
    kind: str, store, workspace, tmp_path
) -> None:
    config = TrainConfig(tokens=64 * 15, batch=64, lr=1e-2)
    runs = [(small(kind, latents=48, k=3), config), (TopK(latents=40, k=2), config)]
    train_many(store, "resid_post.0", runs)
    train(store, "resid_post.0", *runs[0], out=tmp_path / "alone")
    together = workspace.dictionary(store.model, "resid_post.0", names(16, runs)[0])

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert contents(together) == contents(tmp_path / "alone")


@every
@settings(deadline=None, max_examples=15)
@given(
    rows=st.integers(1, 40),
    d_in=st.integers(4, 12),
    latents=st.integers(4, 40),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e15]),
)
def test_encode_is_finite_non_negative_and_independent_of_the_batch(
    kind: str, rows: int, d_in: int, latents: int, scale: float
) -> None:
    chosen = small(kind, latents=latents, k=min(3, d_in, latents))
    learner = chosen.learner(d_in, torch.device("cpu"))
    g = torch.Generator().manual_seed(rows)
    learner.initialise(torch.zeros(d_in), g)
    x = torch.randn(rows, d_in, generator=g) * scale
    learner.step(x, 1.0, None)
    learner.step(0.9 * x, 1.0, None)  # else a threshold is a value of x, up to rounding
    dictionary = learner.dictionary(chosen.dictionary(d_in, ORIGIN), 1.0).requires_grad_(False)
    z = dictionary.encode(x)
    assert z.shape == (rows, latents)
    assert torch.isfinite(z).all()
    assert (z >= 0).all()
    torch.testing.assert_close(dictionary.encode(x[:1]), z[:1], rtol=1e-5, atol=1e-5 * scale)


@every
def test_training_on_rows_of_any_kind_stays_finite(kind: str) -> None:
    """One row, constant rows, every latent dead, huge norms: no NaN, decoder rows of unit norm."""
    for batch, rows in {
        "one row": np.random.default_rng(1).standard_normal((1, 8)),
        "constant": np.full((16, 8), 2.0),
        "zero": np.zeros((16, 8)),
        "huge": 1e12 * np.random.default_rng(1).standard_normal((16, 8)),
    }.items():
        chosen = small(kind, latents=24, k=2)
        source = Planted(d_in=8, features=8, batch=len(rows))
        config = TrainConfig(tokens=len(rows) * 10, batch=len(rows), dead_after=1)
        trainer = trainer_on(source, chosen, config)
        trainer.scale = 1.0
        source.draw = lambda n, key, rows=rows: rows.astype(np.float32)
        while not trainer.finished:
            trainer.step()
        assert trainer.healthy(), batch
        norms = finish(trainer, chosen).W_dec.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(24), msg=batch)


@every
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"latents": 0}, "latents must be at least 1"),
        ({"expansion": 0}, "expansion must be at least 1"),
        ({"aux_k": -1}, "aux_k must not be negative"),
        ({"aux_coefficient": -0.1}, "aux_coefficient must be a number ≥ 0"),
        ({"aux_coefficient": float("nan")}, "aux_coefficient must be a number ≥ 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(kind: str, wrong: dict, message: str) -> None:
    known = {field.name for field in dataclasses.fields(architectures()[kind])}
    if not wrong.keys() <= known:
        pytest.skip("this architecture has no such setting")
    with pytest.raises(ConfigError, match=message):
        architectures()[kind](**wrong)


@every
def test_rows_of_another_width_are_refused(kind: str) -> None:
    dictionary = small(kind, latents=24, k=2).dictionary(8, ORIGIN)
    with pytest.raises(DataError, match="8 wide, but was given rows 9 wide"):
        dictionary.encode(torch.zeros(2, 9))
