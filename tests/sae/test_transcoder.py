"""From one site to another: the step's formulas, what is saved, and maps that are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, FormatError, UnknownName
from interp.features.bases import DictionaryBasis, neurons, written_site
from interp.sae import (
    BatchTopK,
    MatchingPursuit,
    TopK,
    TrainConfig,
    architectures,
    load_dictionary,
    reconstruction,
    train,
    train_many,
)
from interp.sae.job import names
from interp.sae.kernels import Rule, Weights
from interp.sae.scaling import Scaling
from interp.sae.transcoder import TranscoderBackend, TranscoderLearner
from interp.store import ActivationStore
from tests.sae.planted import _cosines
from tests.sae.shared import CPU, ORIGIN
from tests.sae.terms import numeric
from tests.stores import make_store

SOURCE, TARGET = "resid_post.4", "mlp_out.5"
D_IN, D_OUT, FEATURES = 20, 12, 32
CONFIG = TrainConfig(tokens=64 * 60, batch=64, lr=1e-2, checkpoint_every=64 * 7, dead_after=640)
CHOICES = [TopK(latents=48, k=3, skip=True), BatchTopK(latents=48, k=3)]


def mapped(rows: int = 2400, seed: int = 0, linear: float = 0.0):
    """Sparse codes as the source's features far from the origin, and as the target's.

    The target is 30 times shorter, and has besides a dense linear map of the source.
    """
    rng = np.random.default_rng([seed, 301])
    read, write = (rng.standard_normal((FEATURES, width)) for width in (D_IN, D_OUT))
    read /= np.linalg.norm(read, axis=1, keepdims=True)
    write /= np.linalg.norm(write, axis=1, keepdims=True)
    codes = (rng.random((rows, FEATURES)) < 0.05) * rng.uniform(0.5, 1.5, (rows, FEATURES))
    x = 30 * codes @ read + 100
    y = codes @ write - 3 + linear * x @ rng.standard_normal((D_IN, D_OUT)) / 30
    return {SOURCE: x.astype(np.float32), TARGET: y.astype(np.float32)}, read, write


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    values, _, _ = mapped(linear=0.3)
    folder = tmp_path_factory.mktemp("store") / "mapped"
    return make_store(folder, activations=values, documents=6, dtype="float32")


def run(store: ActivationStore, out: Path, architecture=CHOICES[0], **settings):
    return train(store, SOURCE, architecture, CONFIG, out=out, target=TARGET, **settings)


# -- the step -----------------------------------------------------------------------------------


def problem(skip: bool, seed: int = 0) -> tuple[Weights, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    weights = Weights(
        encoder=normal(9, 5),
        b_enc=0.3 * normal(9),
        decoder=normal(9, 3),
        b_dec=normal(3),
        extra={"skip": 0.2 * normal(5, 3)} if skip else {},
    )
    return weights, normal(8, 8) + 2, 0.5 * normal(5) + 2, torch.arange(9) % 3 == 0


def reference(weights: Weights, x, centre, dead, rule: Rule, variance: float, held=None):
    """Loss, its error's share and the error, row by row in numpy; AuxK's target may be given."""
    w = {name: tensor.numpy() for name, tensor in weights.items()}
    source, target = x.numpy()[:, :5] - centre.numpy(), x.numpy()[:, 5:]
    pre = source @ w["encoder"].T + w["b_enc"]
    z = np.zeros_like(pre)
    if rule.per == "batch":
        for flat in np.argsort(-pre, axis=None)[: rule.k * len(pre)]:
            z.flat[flat] = max(pre.flat[flat], 0)
    error = np.empty_like(target)
    helped = np.zeros_like(pre)
    for i, row in enumerate(pre):
        if rule.per == "row":
            for j in np.argsort(-row)[: rule.k]:
                z[i, j] = max(row[j], 0)
        for j in sorted(np.flatnonzero(dead), key=lambda j, row=row: -row[j])[: rule.aux_k]:
            helped[i, j] = max(row[j], 0)
        error[i] = target[i] - w["b_dec"] - sum(z[i, j] * w["decoder"][j] for j in range(9))
        if "skip" in w:
            error[i] -= source[i] @ w["skip"]
    held = error if held is None else held
    unexplained = (error**2).sum() / (len(x) * variance)
    aux = ((held - helped @ w["decoder"]) ** 2).sum() / ((held - held.mean(axis=0)) ** 2).sum()
    return unexplained + rule.aux_coefficient * aux, unexplained, error, z


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("per", ["row", "batch"])
def test_loss_and_gradients_are_those_of_the_formulas(per, skip: bool) -> None:
    weights, x, centre, dead = problem(skip)
    rule = Rule(k=2, per=per, aux_k=2, aux_coefficient=0.5)
    found = TranscoderBackend(centre).step(weights, x, rule, 4.0, dead)
    loss, unexplained, error, z = reference(weights, x, centre, dead, rule, 4.0)
    assert float(found.loss) == pytest.approx(loss, rel=1e-12)
    assert float(found.unexplained) == pytest.approx(unexplained, rel=1e-12)
    assert float(found.l0) == (z > 0).sum() / len(x)
    assert float(found.smallest) == pytest.approx(z[z > 0].min())
    np.testing.assert_array_equal(found.fired.numpy(), (z > 0).any(axis=0))

    def moved(other: Weights) -> float:
        return reference(other, x, centre, dead, rule, 4.0, held=error)[0]

    for name, gradient in found.gradients.items():
        np.testing.assert_allclose(gradient, numeric(moved, weights, name), rtol=1e-5, atol=1e-8)


def test_training_starts_from_the_targets_mean_whatever_the_source() -> None:
    learner = TranscoderLearner(TopK(latents=30, k=4, skip=True), D_IN, D_OUT, CPU)
    centre = torch.arange(32, dtype=torch.float32)
    learner.initialise(centre, torch.Generator().manual_seed(0))
    x = torch.randn(50, 32)
    x[:, D_IN:] = centre[D_IN:]
    assert float(learner.step(x, 1.0, None).unexplained) == 0
    rows = learner.weights.encoder.norm(dim=1)
    torch.testing.assert_close(rows, torch.ones(30))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shape", ["matrix", "diagonal"])
def test_scaled_weights_are_folded_into_raw_ones(shape: str, skip: bool) -> None:
    """What is trained on A_x x and A_y y, in float64, against what the saved dictionary gives."""
    g = np.random.default_rng(0)
    architecture = TopK(latents=9, k=2, skip=skip)
    learner = TranscoderLearner(architecture, 5, 3, CPU)
    learner.initialise(torch.randn(8), torch.Generator().manual_seed(0))
    for _, weight in learner.weights.items():
        weight.copy_(torch.from_numpy(g.standard_normal(weight.shape)))
    w = {name: weight.double().numpy() for name, weight in learner.weights.items()}
    c = learner.state()["source_centre"].double().numpy()
    diagonal = g.uniform(0.5, 2, 8)
    if shape == "matrix":
        whole = np.diag(diagonal) + 0.1 * g.standard_normal((8, 8))
        whole[:5, 5:] = whole[5:, :5] = 0
    else:
        whole = np.diag(diagonal)
    scaling = Scaling(0.3, torch.from_numpy(whole if shape == "matrix" else diagonal))

    x = g.standard_normal((20, 5)) + 1
    source = 0.3 * x @ whole[:5, :5].T - c
    pre = source @ w["encoder"].T + w["b_enc"]
    z = np.where(pre >= np.sort(pre, axis=1)[:, [-2]], np.maximum(pre, 0), 0)
    y = z @ w["decoder"] + w["b_dec"] + (source @ w["skip"] if skip else 0)

    origin = replace(ORIGIN, target=TARGET, target_width=3)
    folded = scaling.fold(learner.dictionary(architecture.dictionary(5, origin), 0.3))
    with torch.no_grad():
        given = torch.from_numpy(x).float()
        np.testing.assert_allclose(folded.encode(given), z / 0.3, atol=1e-4)
        np.testing.assert_allclose(
            folded(given), y @ np.linalg.inv(0.3 * whole[5:, 5:]).T, atol=1e-4
        )


# -- from a store to a folder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "scale"),
    [(CHOICES[1], "mean-norm"), *((CHOICES[0], each) for each in ("whitening", "per-dim", "none"))],
)
def test_what_is_saved_maps_raw_to_raw(store, tmp_path, architecture, scale: str) -> None:
    """Against the formula in float64, from the folder's tensors alone."""
    lr = 1e-4 if scale == "none" else 1e-2  # raw rows are long
    run(store, tmp_path / "d", architecture, scale=scale, lr=lr)
    dictionary = load_dictionary(tmp_path / "d")
    rows = store.rows_of("heldout")
    x, y = (store.take(name, rows).astype(np.float64) for name in (SOURCE, TARGET))
    w = {name: t.double().numpy() for name, t in dictionary.state_dict().items()}
    pre = x @ w["W_enc"] + w["b_enc"]
    if dictionary.kind == "topk":
        z = np.where(pre >= np.sort(pre, axis=1)[:, [-3]], np.maximum(pre, 0), 0)
    else:
        z = pre * (pre > w["threshold"])
    predicted = z @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(
        dictionary.decode(torch.from_numpy(z).float()), torch.from_numpy(predicted).float()
    )
    if architecture.skip:
        predicted += x @ w["W_skip"]
    found = dictionary(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(found, predicted, atol=2e-3)
    metrics = json.loads((tmp_path / "d" / "metrics.json").read_bytes())["heldout"]
    fve = 1 - ((y - predicted) ** 2).sum() / (len(y) * y.var(axis=0).sum())
    assert metrics["fve"] == pytest.approx(fve, abs=1e-4)
    assert metrics["l0"] == pytest.approx((z > 0).sum() / len(y), abs=0.01)
    assert reconstruction(dictionary, store).to_dict() == metrics


@pytest.mark.parametrize("scale", ["mean-norm", "per-dim"])
def test_the_first_loss_is_the_targets_whole_variance(store, tmp_path, scale: str) -> None:
    """A batch of every training row once, on which the first prediction is their mean."""
    rows = len(store.rows_of("train"))
    whole = {"tokens": rows, "batch": rows, "log_every": 1, "dead_after": rows}
    run(store, tmp_path / "d", scale=scale, **whole)
    (line,) = (tmp_path / "d" / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["unexplained"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("architecture", CHOICES)
def test_a_broken_run_continues_to_the_same_bytes(store, tmp_path, architecture) -> None:
    def go(name: str, at: int | None) -> dict[str, bytes]:
        def stop(done: int, total: int, note: str = "") -> None:
            if at is not None and done >= at * 64:
                raise InterruptedError

        run(store, tmp_path / name, architecture, progress=stop)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    with pytest.raises(InterruptedError):
        go("broken", 33)
    assert go("broken", None) == go("whole", None)


def test_the_folder_says_what_it_is(store, workspace) -> None:
    runs = [(TopK(latents=48, k=k), CONFIG) for k in (2, 3)]
    made = train_many(store, SOURCE, runs, target=TARGET)
    folder = workspace.dictionary(store.model, SOURCE, f"topk-48-k3-to-{TARGET}-s0")
    config = json.loads((folder / "config.json").read_bytes())
    assert (config["origin"]["target"], config["origin"]["target_width"]) == (TARGET, D_OUT)
    again = load_dictionary(folder)
    assert torch.equal(again.W_dec, made[1].W_dec)
    assert again.origin == made[1].origin
    assert str(again).startswith("TopKDictionary(topk, 20 -> 48 latents, from toy/resid_post.4 to ")
    basis = DictionaryBasis(again)
    assert (basis.site, written_site(basis)) == (SOURCE, TARGET)
    assert basis.directions().shape == (48, D_OUT)
    assert written_site(neurons(store, SOURCE)) == SOURCE
    config["origin"]["target_width"] = 11
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"holds W_dec \[48, 12\]"):
        load_dictionary(folder)


def test_annealing_several_targets_and_small_parts_of_batches_work(tmp_path) -> None:
    values, _, _ = mapped()
    values["mlp_out.6"] = values[TARGET][:, :7] ** 2
    store = make_store(tmp_path / "s", activations=values, documents=6, dtype="float32")
    architecture = TopK(latents=48, k=3, start_k=8, multi_coefficient=0.125, frozen_decoder=True)
    dictionary = train(
        store,
        SOURCE,
        architecture,
        CONFIG,
        log_every=5,
        target=f"{TARGET}+mlp_out.6",
        out=tmp_path / "d",
        micro_batch=24,
        precision="bf16",
    )
    log = [json.loads(line) for line in (tmp_path / "d" / "log.jsonl").read_text().splitlines()]
    assert log[0]["l0"] > 4  # of the first 8
    assert log[-1]["l0"] <= 3
    assert [part.site for part in dictionary.parts] == [TARGET, "mlp_out.6"]
    assert set(reconstruction(dictionary, store).fve_by_site) == {TARGET, "mlp_out.6"}
    factor = np.repeat([part.scale for part in dictionary.parts], [D_OUT, 7])
    norms = np.linalg.norm(dictionary.directions().numpy() * factor, axis=1)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-4)  # frozen


# -- known maps -----------------------------------------------------------------------------------


def test_a_planted_sparse_map_is_recovered(tmp_path) -> None:
    values, read, write = mapped(rows=12_000)
    store = make_store(tmp_path / "s", activations=values, shard_rows=8192, dtype="float32")
    dictionary = train(
        store,
        SOURCE,
        BatchTopK(latents=FEATURES, k=2),
        TrainConfig(tokens=200_000, batch=256, lr=1e-2, seed=1),
        target=TARGET,
        out=tmp_path / "d",
    )
    written = _cosines(write, dictionary.directions().numpy())
    assert written.max(axis=1).mean() > 0.95
    alone = dictionary.encode(torch.from_numpy(read).float() * 30 + 100).numpy()
    best = written.argmax(axis=1)  # the latent that writes a feature is the one that reads it
    assert (alone.argmax(axis=1) == best)[written.max(axis=1) > 0.95].mean() > 0.95
    assert reconstruction(dictionary, store).fve > 0.85


def test_a_skip_path_takes_what_is_linear(store, tmp_path) -> None:
    longer = {"tokens": 64 * 100}
    plain = run(store, tmp_path / "plain", TopK(latents=48, k=2), **longer)
    skip = run(store, tmp_path / "skip", TopK(latents=48, k=2, skip=True), **longer)
    scores = [reconstruction(each, store).fve for each in (plain, skip)]
    assert scores[1] > scores[0] + 0.05


# -- wrong use ------------------------------------------------------------------------------------


def test_wrong_use_is_refused_before_any_compute(store, tmp_path) -> None:
    out = tmp_path / "d"
    with pytest.raises(UnknownName, match="unknown site .*mlp_out.5"):
        train(store, SOURCE, TopK(k=3), CONFIG, out=out, target="mlp_out.6")
    with pytest.raises(ConfigError, match=r"resid_post.4 is named twice"):
        train(store, SOURCE, TopK(k=3), CONFIG, out=out, target=SOURCE)
    with pytest.raises(ConfigError, match=r"batchtopk and topk can"):
        run(store, out, MatchingPursuit(k=3))
    with pytest.raises(ConfigError, match="resample sets decoder rows"):
        run(store, out, TopK(k=3), resample=640)
    with pytest.raises(ConfigError, match="skip is a path from a site to another"):
        train(store, SOURCE, TopK(k=3, skip=True), CONFIG, out=out)
    assert not out.exists()


def test_names_tell_targets_and_skips_apart() -> None:
    runs = [(TopK(k=3, skip=True), TrainConfig(seed=2))]
    assert names(10, runs, TARGET) == ["topk-80-k3-skip-to-mlp_out.5-s2"]
    assert not any(cls().skips() for cls in architectures().values())
