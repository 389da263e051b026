"""`interp plant`, and what every other verb makes of such a store."""

import json

import pytest

from interp.cli import main
from interp.errors import DataError
from interp.lab.planted import PlantedConfig
from interp.lab.planted_store import heldout_rows, planted_in
from interp.lab.tree import Tree
from interp.store import ActivationStore

SMALL = ["--rows", "20k", "--features", "24", "--d-in", "16", "--first-rate", "0.06"]
SMALL += ["--last-rate", "0.06", "--out", "p"]


def result(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_planted_trained_and_judged_against_the_truth(workspace, capsys):
    planted = result(capsys, "plant", "easy", *SMALL)
    assert (planted["rows"], planted["width"], planted["features"]) == (20_000, 16, 24)
    assert result(capsys, "plant", "easy", *SMALL)["digest"] == planted["digest"]
    flags = ["--architecture", "topk", "--k", "2", "--latents", "24", "--tokens", "400k"]
    result(capsys, "train", "p", "planted", *flags, "--batch", "512")
    found = result(capsys, "evaluate", "p", "planted")
    (truth,) = found["truth"].values()
    (report,) = [each for each in found["reports"] if "topk" in each["address"]]
    assert truth["mmcs"] > 0.9
    assert 0.5 < truth["f1"] < 1
    assert truth["true_l0"] == pytest.approx(24 * 0.06, abs=0.1)
    # The same rows, once from the store in float16 and once drawn again in float32.
    assert truth["rows"] == planted["heldout_rows"]
    assert truth["fve"] == pytest.approx(report["heldout"]["fve"], abs=1e-3)
    assert main(["evaluate", "p", "planted"]) == 0
    said = capsys.readouterr().out
    assert "no model" in said
    assert "the truth: 24 planted features" in said
    assert main(["verify", "p"]) == 0
    assert main(["extract", "p", "planted"]) == 0


def test_every_number_of_the_world_is_a_flag(workspace, capsys):
    flags = ["--rates", "zipf", "--last-rate", "0.01", "--roots", "2", "--branching", "3"]
    flags += ["--rank", "2", "--world-seed", "5", "--seed", "9", "--no-scaled"]
    made = result(capsys, "plant", "easy", *SMALL[:-4], *flags, "--out", "tree")
    planted, config = planted_in(ActivationStore.open(made["path"]))
    assert planted.config == PlantedConfig(
        features=24,
        d_in=16,
        first_rate=0.06,
        last_rate=0.01,
        rates="zipf",
        rank=2,
        seed=5,
        tree=Tree(roots=2, branching=3, scaled=False),
    )
    assert (config.seed, config.rows) == (9, 20_000)


def test_heldout_rows_are_those_of_the_store(workspace, capsys):
    made = result(capsys, "plant", "easy", *SMALL)
    store = ActivationStore.open(made["path"])
    planted, config = planted_in(store)
    batches = list(heldout_rows(store, planted, config))
    assert sum(len(rows) for rows, _ in batches) == made["heldout_rows"]
    stored = next(block for _, block in store.blocks("planted", split="heldout"))
    assert stored[:1000] == pytest.approx(batches[0][0][:1000], abs=5e-3)
    rows, codes = batches[0]
    assert rows == pytest.approx(codes @ planted.directions.numpy(), abs=1e-5)
    assert len(list(heldout_rows(store, planted, config, most=1))) == 1


def test_a_store_that_was_not_planted_has_no_known_truth(workspace, capsys, tmp_path):
    made = result(capsys, "plant", "easy", *SMALL)
    store = ActivationStore.open(made["path"])
    store.manifest.provenance["job"] = "capture"
    with pytest.raises(DataError, match="p are not known: it was not planted"):
        planted_in(store)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rows", "1000"], "at least 2048 rows"),
        (["--features", "4", "--roots", "16"], "the forest has 80 features but there are 4"),
        (["--first-rate", "0.01", "--last-rate", "0.1"], "rises"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_impossible_worlds_are_refused_before_anything_is_written(workspace, capsys, flags, said):
    assert main(["plant", "easy", *flags]) == 2
    assert said in capsys.readouterr().err
    assert not workspace.store("easy").exists()
