"""Cross-layer transcoders: which weights there are, their gradients, and a path across layers."""

import json

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import BatchTopK, TopK, TrainConfig, load_dictionary, reconstruction, train
from interp.sae.crosslayer import CrossLayerLearner, check, layers_of
from interp.store import ActivationStore
from tests.sae.planted import _cosines
from tests.sae.shared import CPU
from tests.stores import make_store

READ, WRITTEN = ("mlp_in.4", "mlp_in.5"), ("mlp_out.4", "mlp_out.5")
WIDTHS = ((16, 12), (10, 14))
EACH = 24  # features of each layer
CONFIG = TrainConfig(tokens=64 * 60, batch=64, lr=1e-2, dead_after=640)


def planted(rows: int) -> tuple[dict[str, np.ndarray], list[np.ndarray], dict[tuple, np.ndarray]]:
    """Two layers' sparse features; the first's are written at both outputs, the second's at one."""
    rng = np.random.default_rng(3)

    def directions(width: int) -> np.ndarray:
        d = rng.standard_normal((EACH, width))
        return d / np.linalg.norm(d, axis=1, keepdims=True)

    codes = [
        (rng.random((rows, EACH)) < 0.05) * rng.uniform(0.5, 1.5, (rows, EACH)) for _ in range(2)
    ]
    read = [directions(width) for width in WIDTHS[0]]
    write = {(i, m): directions(WIDTHS[1][m]) for i, m in [(0, 0), (0, 1), (1, 1)]}
    outputs = [codes[0] @ write[0, 0], codes[0] @ write[0, 1] + codes[1] @ write[1, 1] + 2]
    values = {site: codes[i] @ read[i] for i, site in enumerate(READ)}
    values |= dict(zip(WRITTEN, outputs, strict=True))
    return {site: v.astype(np.float32) for site, v in values.items()}, read, write


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    values, _, _ = planted(2400)
    folder = tmp_path_factory.mktemp("layers") / "s"
    return make_store(folder, activations=values, documents=6, dtype="float32")


def run(store: ActivationStore, out, architecture, config=CONFIG, **settings):
    target = "+".join(WRITTEN)
    return train(store, "+".join(READ), architecture, config, out=out, target=target, **settings)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("scale", ["mean-norm", "whitening"])
def test_weights_against_the_direction_of_layers_are_zero(store, tmp_path, scale, frozen) -> None:
    architecture = TopK(latents=30, k=4, cross_layer=True, skip=True, frozen_decoder=frozen)
    run(store, tmp_path / "d", architecture, scale=scale)
    w = {name: t.numpy() for name, t in load_dictionary(tmp_path / "d").state_dict().items()}
    assert not w["W_enc"][16:, :15].any()
    assert not w["W_enc"][:16, 15:].any()
    assert not w["W_dec"][15:, :10].any()
    assert not w["W_skip"][16:, :10].any()
    for block in (w["W_enc"][:16, :15], w["W_enc"][16:, 15:], w["W_dec"][:15], w["W_dec"][15:, 10:],
                  w["W_skip"][:16], w["W_skip"][16:, 10:]):  # fmt: skip
        assert np.abs(block).max(axis=1).min() > 0
    settings = json.loads((tmp_path / "d" / "config.json").read_bytes())["architecture"]
    assert settings["cross_layer"]


def test_gradients_are_those_of_the_sum_over_layers() -> None:
    """Against autograd of the formula layer by layer, with weights of the blocks only."""
    rows, k, latents = 40, 5, 20
    learner = CrossLayerLearner(TopK(latents=latents, k=k, cross_layer=True), WIDTHS, CPU)
    g = torch.Generator().manual_seed(1)
    learner.initialise(torch.randn(52, generator=g), g)
    layer, weights = layers_of(latents, 2), learner.weights
    own = layer == 0
    assert own.sum() == latents / 2
    torch.testing.assert_close(weights.encoder.norm(dim=1), torch.ones(latents))
    weights.decoder.copy_(torch.randn(weights.decoder.shape, generator=g))
    weights.decoder[~own, :10] = 0
    x = torch.randn(rows, 52, generator=g)
    c = learner.state()["source_centre"]
    found = learner.step(x, 3.0, None)

    e = [weights.encoder[own, :16], weights.encoder[~own, 16:]]
    d = {(0, 0): weights.decoder[own, :10], (0, 1): weights.decoder[own, 10:],
         (1, 1): weights.decoder[~own, 10:]}  # fmt: skip
    leaves = [t.clone().requires_grad_() for t in [*e, *d.values()]]
    e0, e1, d00, d01, d11 = leaves
    pre = torch.cat([(x[:, :16] - c[:16]) @ e0.T, (x[:, 16:28] - c[16:]) @ e1.T], dim=1)
    cut = pre.topk(k, dim=1).values[:, -1:]
    z = torch.where(pre >= cut, pre.relu(), 0)
    z0, z1 = z[:, : latents // 2], z[:, latents // 2 :]
    y = x[:, 28:] - weights.b_dec
    loss = ((y[:, :10] - z0 @ d00).square().sum()
            + (y[:, 10:] - z0 @ d01 - z1 @ d11).square().sum()) / (3 * rows)  # fmt: skip
    loss.backward()
    torch.testing.assert_close(found.loss, loss.detach())
    gradients = found.gradients
    pairs = [(e0, gradients.encoder[own, :16]), (e1, gradients.encoder[~own, 16:]),
             (d00, gradients.decoder[own, :10]), (d01, gradients.decoder[own, 10:]),
             (d11, gradients.decoder[~own, 10:])]  # fmt: skip
    for leaf, given in pairs:
        torch.testing.assert_close(leaf.grad, given)
    assert not gradients.encoder[own, 16:].any()
    assert not gradients.decoder[~own, :10].any()


def test_features_of_the_first_layer_are_found_with_what_they_write_later(tmp_path) -> None:
    values, _, write = planted(12_000)
    store = make_store(tmp_path / "s", activations=values, shard_rows=8192, dtype="float32")
    config = TrainConfig(tokens=200_000, batch=256, lr=1e-2, seed=1)
    architecture = BatchTopK(latents=2 * EACH, k=3, cross_layer=True)
    dictionary = run(store, tmp_path / "d", architecture, config)
    first, second = dictionary.directions()[:EACH].numpy(), dictionary.directions()[EACH:].numpy()
    both = np.concatenate([write[0, 0], write[0, 1]], axis=1)
    assert _cosines(both, first).max(axis=1).mean() > 0.9
    assert _cosines(write[1, 1], second[:, 10:]).max(axis=1).mean() > 0.9
    assert reconstruction(dictionary, store).fve > 0.8


def test_a_broken_run_continues_to_the_same_bytes(store, tmp_path) -> None:
    def go(name: str, at: int | None) -> dict[str, bytes]:
        def stop(done: int, total: int, note: str = "") -> None:
            if at is not None and done >= at * 64:
                raise InterruptedError

        architecture = TopK(latents=30, k=4, cross_layer=True)
        run(store, tmp_path / name, architecture, checkpoint_every=64 * 7, progress=stop)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    with pytest.raises(InterruptedError):
        go("broken", 33)
    assert go("broken", None) == go("whole", None)
    assert json.loads(go("whole", None)["config.json"])["origin"]["target"] == "+".join(WRITTEN)


def test_wrong_use_is_refused_before_any_compute(store, tmp_path) -> None:
    out, architecture = tmp_path / "d", TopK(latents=30, k=3, cross_layer=True)
    with pytest.raises(ConfigError, match="at least two pairs, but 1 are read and 1 written"):
        train(store, READ[0], architecture, CONFIG, out=out, target=WRITTEN[0])
    with pytest.raises(ConfigError, match="2 are read and 1 written"):
        train(store, "+".join(READ), architecture, CONFIG, out=out, target=WRITTEN[1])
    with pytest.raises(ConfigError, match="name the others with target"):
        train(store, "+".join(READ), architecture, CONFIG, out=out)
    with pytest.raises(ConfigError, match="2 latents cannot be divided among 3 layers"):
        check((4, 4, 4), (4, 4, 4), latents=2)
    assert not out.exists()
