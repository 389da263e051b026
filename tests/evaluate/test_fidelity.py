"""Every definition of reconstruction against numpy, written out; controls at equal L0."""

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.errors import DataError
from interp.evaluate import candidate, compare, measure, table, variants
from interp.evaluate.fidelity import redundancy
from interp.features import FitConfig, fit_basis
from interp.files import read_json
from interp.sae import Origin, TopK, TrainConfig, reconstruction, train
from tests.stores import make_store

SITE, WIDTH, ROWS = "resid_post.0", 6, 900


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    draw = np.random.default_rng(2)
    values = draw.normal(size=(ROWS, WIDTH)) * np.arange(1, WIDTH + 1) + 4
    sinks = np.zeros(ROWS, bool)
    sinks[200:210] = True
    return make_store(
        tmp_path_factory.mktemp("s") / "toy",
        activations={SITE: values},
        sinks=sinks,
        dtype="float32",
    )


@pytest.fixture(scope="module")
def dictionary():
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0")
    made = TopK(latents=10, k=3).dictionary(WIDTH, origin)
    torch.manual_seed(1)
    with torch.no_grad():
        made.W_dec.copy_(torch.nn.functional.normalize(torch.randn(10, WIDTH), dim=1))
        made.W_enc.copy_(made.W_dec.T * 0.8)
        made.b_dec.fill_(3.0)
        made.b_enc[0] = -1e6  # a dead latent
        made.W_dec[2].copy_(made.W_dec[1])  # twins
    return made.requires_grad_(False)


def test_every_definition_equals_its_formula(store, dictionary) -> None:
    (found,) = measure([candidate(dictionary, "a")], store)
    x = store.take(SITE, store.rows_of("heldout")).astype(np.float64)
    z = dictionary.encode(torch.from_numpy(x).float()).double().numpy()
    back = z @ dictionary.W_dec.double().numpy() + dictionary.b_dec.double().numpy()
    error, n = x - back, len(x)
    own, other = found.heldout, reconstruction(dictionary, store)
    assert own.fve == pytest.approx(1 - (error**2).sum() / ((x - x.mean(0)) ** 2).sum(), abs=1e-6)
    for field in ("fve", "mse", "l0", "dead", "dead_fraction", "rows", "latents"):
        assert getattr(own, field) == pytest.approx(getattr(other, field), rel=1e-9)
    assert own.density_histogram == other.density_histogram
    f = found.fidelity
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(back, axis=1)
    expected = {
        "fve_uncentred": 1 - (error**2).sum() / (x**2).sum(),
        "fve_blind_to_bias": 1 - error.var(axis=0).sum() / x.var(axis=0).sum(),
        "fve_saebench": 1
        - (error**2).sum(axis=1).mean()
        / ((x**2).sum(axis=1).mean() - (x**2).mean(axis=0).mean() ** 2),
        "cosine": ((x * back).sum(axis=1) / lengths[0] / lengths[1]).mean(),
        "length_ratio": (lengths[1] / lengths[0]).mean(),
        "length_bias": (back**2).sum() / (x * back).sum(),
        "dense_fraction": ((z > 0).mean(axis=0) > 0.1).mean(),
    }
    for name, value in expected.items():
        assert getattr(f, name) == pytest.approx(value, abs=1e-5), name
    density = (z > 0).mean(axis=0)
    np.testing.assert_allclose(
        f.density_quantiles, np.quantile(density[density > 0], [0.05, 0.5, 0.95])
    )
    assert (n, found.alive.tolist()) == (own.rows, (density > 0).tolist())
    assert not found.alive[0]


def test_redundancy_is_the_nearest_live_neighbour(dictionary) -> None:
    of = candidate(dictionary)
    alive = np.ones(10, bool)
    alive[[0, 5]] = False
    rows = dictionary.W_dec.double().numpy()[alive]
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -np.inf)
    for block in (3, 2048):
        np.testing.assert_allclose(redundancy(of, alive, block), cosine.max(axis=1), atol=1e-6)
    assert redundancy(of, alive)[0] == pytest.approx(1, abs=1e-6)
    one = np.zeros(10, bool)
    one[3] = True
    assert len(redundancy(of, one)) == 0


def test_the_two_sides_of_a_direction_are_not_redundant(store) -> None:
    basis = fit_basis(store, SITE, "ica", FitConfig(k=2)).basis
    (found,) = measure([candidate(basis)], store)
    rows = basis.components.double().numpy()
    cosine = np.abs(rows @ rows.T) - 2 * np.eye(WIDTH)
    assert found.fidelity.redundancy_mean == pytest.approx(cosine.max(axis=1).mean(), abs=1e-6)
    assert found.heldout.l0 == pytest.approx(2)


def test_controls_stand_at_the_dictionary_s_l0(store, dictionary) -> None:
    fitted = [fit_basis(store, SITE, kind, FitConfig(k=1)).basis for kind in ("pca", "ica")]
    reports = compare([candidate(dictionary, "topk")], store, fitted=fitted)
    names = [report.address.split("/")[2] for report in reports]
    k = round(reports[0].heldout.l0)
    assert k == 3
    others = ["rotation", "neurons", "pca-6-k1-s0", "ica-6-k1-s0"]
    assert names == ["topk", *(f"{name}@k{k}" for name in others)]
    for report in reports[1:]:
        assert report.heldout.l0 == pytest.approx(k)
    fve = {name: report.heldout.fve for name, report in zip(names, reports, strict=True)}
    x = store.take(SITE, store.rows_of("heldout")).astype(np.float64)
    mean = store.take(SITE, store.rows_of("train")).astype(np.float64).mean(axis=0)
    least = np.sort((x - mean) ** 2, axis=1)[:, : WIDTH - k].sum()
    assert fve[f"neurons@k{k}"] == pytest.approx(1 - least / ((x - x.mean(0)) ** 2).sum(), abs=1e-5)
    again = compare([candidate(dictionary, "topk")], store, fitted=fitted)
    assert [r.to_dict() for r in again] == [r.to_dict() for r in reports]
    lines = variants(reports).splitlines()
    assert lines[0].split()[:3] == ["dictionary", "FVE", "uncentred"]
    assert len(lines) == len(reports) + 1 == len(table(reports).splitlines())


@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_is_measured_on_its_target(tmp_path, skip: bool) -> None:
    """The same figures as training writes beside it, and controls of none."""
    store = make_store(tmp_path / "s", rows=900, sites={SITE: 8, "mlp_out.0": 5, "mlp_out.1": 3})
    target, config = "mlp_out.0+mlp_out.1", TrainConfig(tokens=2048, batch=256)
    across = train(store, SITE, TopK(latents=16, k=2, skip=skip), config, out=tmp_path / "d",
                   target=target)  # fmt: skip
    (found,) = compare([candidate(across, "a")], store)
    expected, given = reconstruction(across, store).to_dict(), found.heldout.to_dict()
    assert given.pop("fve_by_site") == pytest.approx(expected.pop("fve_by_site"))
    assert {
        k: pytest.approx(v) if isinstance(v, float) else v for k, v in given.items()
    } == expected
    assert set(found.heldout.fve_by_site) == {"mlp_out.0", "mlp_out.1"}
    assert found.fidelity.length_ratio is not None


def test_constant_rows_are_refused(store, dictionary, tmp_path) -> None:
    flat = make_store(tmp_path / "flat", activations={SITE: np.ones((90, WIDTH))})
    with pytest.raises(DataError, match="are constant"):
        measure([candidate(dictionary)], flat)
    with pytest.raises(DataError, match="wide"):
        measure([candidate(dictionary)], make_store(tmp_path / "wide", sites={SITE: 9}))


def test_the_command_line_sets_controls_beside_dictionaries(workspace, monkeypatch, capsys) -> None:
    import json

    store = make_store(workspace.store("toy"), rows=900, sites={SITE: 8})
    config = TrainConfig(tokens=2048, batch=256)
    for frozen in (False, True):
        architecture = TopK(latents=16, k=2, frozen_decoder=frozen)
        name = architecture.label(8) + "-s0"
        train(store, SITE, architecture, config, out=workspace.dictionary("toy", SITE, name))
    assert main(["fit", "toy", SITE]) == 0
    command = ["evaluate", "toy", SITE, "topk-16-k2-s0", "--no-model"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = [each["address"].split("/")[2] for each in found["reports"]]
    k = max(1, round(found["metrics"]["heldout"]["l0"]))
    others = [f"{name}@k{k}" for name in ("rotation", "neurons", "pca-8-k32-s0")]
    assert kinds == ["topk-16-k2-s0", "topk-16-k2-frozen-s0", *others]
    written = read_json(workspace.dictionary("toy", SITE, "topk-16-k2-s0") / "metrics.json")
    assert written["fidelity"] == found["metrics"]["fidelity"]
    assert main(command) == 0
    assert "uncentred" in capsys.readouterr().out
    blocked = workspace.dictionary("toy", SITE, "topk-16-k2-s0") / "metrics.json"
    blocked.rename(blocked.with_name("aside.json"))
    blocked.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("interp.evaluate.compare", None)  # nothing is measured first
        assert main(command) == 1
    assert "it is a folder" in capsys.readouterr().err
    blocked.rmdir()
    blocked.with_name("aside.json").rename(blocked)
    store = make_store(
        workspace.store("two"), rows=900, sites={SITE: 8, "mlp_out.0": 5}, model="toy"
    )
    name = "topk-16-k2-to-mlp_out.0-s0"
    train(store, SITE, TopK(latents=16, k=2), config, target="mlp_out.0",
          out=workspace.dictionary("toy", SITE, name))  # fmt: skip
    capsys.readouterr()
    assert main(["evaluate", "two", SITE, "--no-model", "--json"]) == 0
    every = [each["address"] for each in json.loads(capsys.readouterr().out)["reports"]]
    names = [each.split("/")[2] for each in every]
    assert names[:2] == ["topk-16-k2-frozen-s0", "topk-16-k2-s0"]
    assert names[-1] == name
    written = read_json(workspace.dictionary("toy", SITE, name) / "metrics.json")
    assert {"heldout", "fidelity", "training"} <= set(written)


def test_the_command_line_finds_dictionaries_of_the_model_with_random_weights(
    workspace, capsys
) -> None:
    import json

    config = TrainConfig(tokens=2048, batch=256)
    for model in ("toy", "toy@random", "toy@0"):
        store = make_store(workspace.store(model), rows=900, sites={SITE: 8}, model=model)
        for seed in (0, 1) if model == "toy" else (0,):
            name = f"topk-16-k2-s{seed}"
            out = workspace.dictionary(model, SITE, name)
            train(store, SITE, TopK(latents=16, k=2), config, out=out)
    capsys.readouterr()
    assert main(["evaluate", "toy", SITE, "--no-model", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    addresses = [each["address"] for each in found["reports"]]
    assert [each for each in addresses if "@" in each.split("/")[0]] == [
        f"toy@random/{SITE}/topk-16-k2-s0",
        f"toy@0/{SITE}/topk-16-k2-s0",
    ]
    assert main(["evaluate", "toy@0", SITE, "--no-model", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["reports"]
    theirs = next(each for each in found["reports"] if each["address"].startswith("toy@0"))
    assert alone[0] == theirs
