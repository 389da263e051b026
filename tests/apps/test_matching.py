"""Matched, split, merged, missing: against `interp.evaluate.shared` and by hand; and Compare."""

import json
import shutil

import numpy as np
import pytest
import torch

from apps import matching, sides
from apps.matching import MATCHED, MERGED, MISSING, SPLIT
from interp.errors import ConfigError, DataError, FormatError
from interp.evaluate import shared
from interp.features.table import UnitTable
from interp.sae import BatchTopK, Origin, save_dictionary
from interp.store import ActivationStore
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"
ONE, OTHER = f"{ADDRESS}/{LATENTS}", f"{ADDRESS}/batchtopk-96-k4-s1"


def unit_rows(values):
    values = np.asarray(values, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30)


def test_kinds_by_hand():
    one = unit_rows([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.9, 0.1, 0], [0, 0, 0, 1]])
    other = unit_rows([[1, 0.1, 0, 0], [1, -0.1, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1]])
    found = matching.match(one, other)
    assert found.kinds(0.7).tolist() == [SPLIT, MATCHED, MERGED, MISSING]
    assert found.kinds(0.7, 1).tolist() == [MATCHED, MERGED, SPLIT, MISSING]
    assert sorted(found.partners(0, 0.7)) == [0, 1]
    assert found.partners(1, 0.7) == [2]
    assert found.partners(2, 0.7) == [2]  # no child of its own: what is nearest to it
    assert found.partners(2, 0.7, 1) == [1, 2]


@pytest.fixture(scope="module")
def pair():
    """Two dictionaries that share some of their latents."""
    made = []
    common = np.random.default_rng(0).normal(size=(40, 24))
    for seed in range(2):
        own = np.random.default_rng(seed + 1).normal(size=(56, 24))
        noise = 0.2 * np.random.default_rng(seed + 9).normal(size=common.shape)
        origin = Origin(model=MODEL, site=SITE, store=MODEL, store_digest="0")
        each = BatchTopK(k=4, latents=96).dictionary(24, origin)
        state = {name: torch.zeros_like(value) for name, value in each.state_dict().items()}
        rows = unit_rows(np.concatenate([common + noise, own]))
        state["W_dec"] = torch.from_numpy(rows)
        each.load_state_dict(state)
        made.append(each)
    return made


def test_agrees_with_evaluate(pair, monkeypatch):
    monkeypatch.setattr(matching, "BLOCK", 17)
    one, other = (each.directions().numpy() for each in pair)
    found = matching.match(one, other)
    ((truth,), _) = shared(pair, ["one", "other"], thresholds=(0.5, 0.7, 0.9))
    for side in (0, 1):
        assert found.cosine[side].mean() == pytest.approx(truth.found.nearest[side], abs=1e-5)
        for at, threshold in enumerate((0.5, 0.7, 0.9)):
            share = float((found.kinds(threshold, side) != MISSING).mean())
            assert share == pytest.approx(truth.found.share_nearest[side][at])
        missing = np.flatnonzero(found.kinds(0.7, side) == MISSING)
        assert missing.tolist() == list(truth.unique[side])
        assert found.chance[side].mean() == pytest.approx(truth.baseline.nearest[side], abs=0.05)


def test_contexts_match_by_what_they_share(built):
    neurons = UnitTable.open(built.units(MODEL, SITE, "neurons"))
    latents = UnitTable.open(built.units(MODEL, SITE, LATENTS))
    found = matching.match_contexts(neurons, latents)
    sets = [[set(line[line >= 0].tolist()) for line in each.peaks()] for each in (neurons, latents)]
    for unit in range(0, 48, 7):
        cosines = [
            len(sets[0][unit] & b) / max(np.sqrt(len(sets[0][unit]) * len(b)), 1) for b in sets[1]
        ]
        assert found.cosine[0][unit] == pytest.approx(max(cosines), abs=1e-4)
        assert cosines[found.nearest[0][unit]] == pytest.approx(max(cosines))
    same = matching.match_contexts(latents, latents)
    live = latents.columns["density"] > 0
    assert same.cosine[0][live] == pytest.approx(1)
    assert not same.cosine[0][~live].any()


def test_stores_hold_the_same_rows_if_their_plans_and_documents_agree(own):
    here, other = own.store(MODEL), own.store("tuned")
    shutil.copytree(here, other)
    stores = {}
    for name, plan in (("tuned", "p"), (MODEL, "p"), ("tuned", "q"), ("tuned", "")):
        path = own.store(name) / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model": name, "plan": plan}))
        stores[name, plan] = ActivationStore.open(path.parent)
    first = stores[MODEL, "p"]
    assert first.digest != stores["tuned", "p"].digest
    assert matching.same_rows(first, first)
    assert matching.same_rows(first, stores["tuned", "p"])
    assert not matching.same_rows(first, stores["tuned", "q"])
    assert not matching.same_rows(first, stores["tuned", ""])


def test_two_models_on_the_same_texts_compare(own, show):
    shutil.copytree(own.root / "units" / MODEL, own.root / "units" / "tuned")
    page = shown(show("compare", one=f"{ADDRESS}/neurons", other=f"tuned/{SITE}/neurons"))
    assert "cannot be matched" not in page
    assert "B has something like 47 of A's 48 units; by chance it would be 0" in page  # one is dead
    assert f"unit?unit=tuned/{SITE}/neurons/" in page
    assert "Medians: A 0." in page


def test_what_does_not_compare_is_answered(built, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="3 and 4 wide do not compare"):
        matching.match(np.eye(3, dtype=np.float32), np.eye(4, dtype=np.float32))
    monkeypatch.setattr(matching, "MOST", 1.0)
    with pytest.raises(ConfigError, match="--shared"):
        matching.match(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    with pytest.raises(FormatError, match="does not exist"):
        matching.directions(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(FormatError, match="damaged"):
        matching.directions(tmp_path)
    one = UnitTable.open(built.units(MODEL, SITE, "neurons"))
    other = UnitTable.open(built.units(MODEL, SITE, LATENTS))
    other.rows += 1
    with pytest.raises(DataError, match="do not compare"):
        matching.match_contexts(one, other)


def test_a_partner_is_a_dictionary_of_the_same_site():
    names = ["a/x/neurons", "a/x/topk", "a/y/topk", "b/x/neurons"]
    assert sides.partner("a/x/neurons", names) == "a/x/topk"
    assert sides.partner("a/x/topk", names) == "a/x/neurons"
    assert sides.partner("b/x/neurons", names) == "a/x/neurons"


# -- the page -------------------------------------------------------------------------------------


@pytest.fixture
def two(own, pair):
    """A workspace with two real dictionaries of a site, one of them measured."""
    for name, each in zip((LATENTS, "batchtopk-96-k4-s1"), pair, strict=True):
        save_dictionary(each, own.dictionary(MODEL, SITE, name))
    return own


def test_compare_shows_kinds_figures_and_links(two, show):
    at = show("compare", one=ONE, other=OTHER, unit=f"{ONE}/3")
    page = shown(at)
    assert "mean cosine" in page
    assert "unit?unit=toy-1l/resid_post.0/batchtopk-96-k4-s0/3" in page
    assert "latent 3" in page
    missing = shown(show("compare", one=ONE, other=OTHER, kind="missing", of="B"))
    assert missing.count("latent ") >= 25
    assert f"unit={OTHER}" not in missing  # nobody measured those units, so no link leads there


def test_compare_by_contexts_and_its_distributions(full, show):
    at = show("compare", one=f"{ADDRESS}/neurons", other=ONE)
    page = shown(at)
    assert "0.873" in page
    assert "Medians: A 0." in page
    assert f"unit?unit={ADDRESS}/neurons/" in page
    assert f"unit?unit={ONE}/" in page


def test_compare_answers_what_cannot_be(own, show):
    assert "Nothing called" in shown(show("compare", one="../../etc", other=ONE))
    assert "These are the same" in shown(show("compare", one=ONE, other=ONE))
    shutil.rmtree(own.store(MODEL))
    page = shown(show("compare", one=f"{ADDRESS}/neurons", other=ONE))
    assert "cannot be matched" in page
    assert "Medians" in page


def test_compare_with_damaged_weights(two, show):
    (two.dictionary(MODEL, SITE, LATENTS) / "weights.safetensors").write_bytes(b"x")
    assert "is damaged" in shown(show("compare", one=ONE, other=OTHER))


def test_compare_needs_two(workspace, show):
    assert "are needed" in shown(show("compare"))


def test_the_unit_page_leads_to_compare(full, show):
    at = show("unit", unit=f"{ONE}/3")
    at.button(key="compare").click().run()
    assert not at.exception
    assert [title.value for title in at.title] == ["Compare"]
