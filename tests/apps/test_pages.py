"""Every page in every state: what it shows, and that it never shows a traceback."""

import re

import pytest

from apps.listing import PAGE
from tests.apps.conftest import shown
from tests.apps.workspace import DEAD, HOSTILE, LATENTS, MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"


# -- home ---------------------------------------------------------------------------------------


def test_empty_workspace_explains_the_next_command(workspace, show, monkeypatch):
    monkeypatch.setenv("HOME", str(workspace.root.parent / "elsewhere"))
    page = shown(show())
    assert "This workspace is empty" in page
    assert "make demo" in page
    assert str(workspace.root) in page
    monkeypatch.setenv("HOME", str(workspace.root.parent))
    assert f"<b>~/{workspace.root.name}</b>" in shown(show())


def test_home_lists_what_is_there(full, show):
    page = shown(show())
    for name in (f"{ADDRESS}/neurons", f"{ADDRESS}/{LATENTS}", f"{ADDRESS}/random"):
        assert name in page
    for figure in ("0.873", "3.9", "94.2 %", "1.04 %", "3,000"):
        assert figure in page
    assert "0123456789ab" in page
    assert "its training has not ended" in page


def test_foreign_and_half_written_files_have_their_own_state(own, show):
    folder = own.units(MODEL, SITE, "x").parent
    (folder / "foreign.h5").write_bytes(b"no HDF5")
    (folder / "late.h5.partial").write_bytes(b"")
    (own.root / "stores" / "odd").mkdir()
    (own.root / "stores" / "odd" / "manifest.json").write_text('{"format": "other"}')
    (own.root / "stores" / "worse").mkdir()
    (own.root / "stores" / "worse" / "manifest.json").write_text("[1")
    (own.dictionary(MODEL, SITE, "broken")).mkdir()
    (own.dictionary(MODEL, SITE, "broken") / "config.json").write_text("{}")
    (own.root / "models" / "half").mkdir()
    page = shown(show())
    assert page.count("unreadable") >= 4
    assert "its extraction has not ended" in page
    assert "is no manifest" in page or "is not an activation store" in page


def test_what_a_job_makes_or_someone_deletes_is_seen_at_once(own, show):
    path = own.units(MODEL, SITE, "neurons")
    page = shown(show())
    assert f"{ADDRESS}/neurons<" in page
    path.rename(path.with_name("new.h5"))
    dictionary = own.dictionary(MODEL, SITE, LATENTS)
    dictionary.rename(dictionary.with_name("topk-1-k1-s0"))
    page = shown(show())
    assert f"{ADDRESS}/neurons<" not in page
    assert f"{ADDRESS}/new<" in page
    assert f"{ADDRESS}/topk-1-k1-s0<" in page


def test_tables_of_another_store_are_stale_and_still_browsable(own, show):
    manifest = own.store(MODEL) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    page = shown(show())
    assert page.count(">stale<") == 3
    assert f"store {MODEL} was captured again since" in page
    manifest.unlink()
    assert f"store {MODEL} is gone" in shown(show())
    assert len(show("units").dataframe[0].value) == PAGE


def test_hostile_names_in_manifests_are_text(own, show):
    manifest = own.store(MODEL) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"test"', '"<img src=x onerror=1>"'))
    page = shown(show())
    assert "<img" not in page
    assert "&lt;img src=x onerror=1&gt;" in page


# -- units --------------------------------------------------------------------------------------


def test_units_without_any_table(workspace, show):
    assert "No unit table here yet" in shown(show("units"))


def test_units_lists_a_page_of_all_bases_sorted(full, show):
    at = show("units")
    frame = at.dataframe[0].value
    assert len(frame) == PAGE
    assert frame["monosemanticity"].is_monotonic_decreasing
    assert "165 of 168 units, 3 dead hidden" in shown(at)


def test_units_read_their_state_from_the_url(full, show):
    at = show("units", site=ADDRESS, basis="random", sort="density", ascending="true", page="1")
    frame = at.dataframe[0].value
    assert len(frame) == 23
    assert frame["basis"].str.contains("random").all()
    assert frame["density"].is_monotonic_increasing


def test_units_filter_by_score_and_density(full, show):
    high = show("units", least="0.5").dataframe[0].value
    assert (high["monosemanticity"] >= 0.5).all()
    dense = show("units", density=["-1.25", "0.0"]).dataframe[0].value
    assert len(dense)
    assert (dense["density"] >= 100 * 10**-1.25 - 1e-6).all()


def test_units_that_nothing_passes(full, show):
    assert "No unit passes these filters" in shown(show("units", least="1000"))


def test_units_within_a_rectangle_of_the_map(full, show):
    every = show("units").dataframe[0].value
    at = show("units", area="0.001,0.03,0.3,0.6")
    frame = at.dataframe[0].value
    assert 0 < len(frame) <= len(every)
    assert frame["density"].between(0.1, 3).all()
    assert frame["monosemanticity"].between(0.3, 0.6).all()
    assert "units of the rectangle: density 0.1 % to 3 %" in shown(at)
    at.button(key="no-area").click().run()
    assert "units of the rectangle" not in shown(at)
    assert "is no area of the map" in shown(show("units", area="1,2,nonsense"))
    empty = show("units", area="0,0,5,6")
    assert not empty.dataframe
    assert "0 units of the rectangle" in shown(empty)


def test_names_with_a_plus_survive_a_url_written_by_hand(own, show):
    joined = own.root / "units" / MODEL / "resid_post.0+mlp_post.0"
    joined.mkdir()
    (own.units(MODEL, SITE, "random")).rename(joined / "random.h5")
    at = show("units", site=f"{MODEL}/resid_post.0 mlp_post.0")
    assert at.selectbox(key="site").value == f"{MODEL}/resid_post.0+mlp_post.0"
    assert "No units of site" not in shown(at)
    assert "<li>" in shown(show("unit", unit=f"{MODEL}/resid_post.0 mlp_post.0/random/3"))


def test_units_show_dead_ones_on_request(full, show):
    at = show("units", dead="true", sort="density", ascending="true")
    assert list(at.dataframe[0].value["density"][:3]) == [0, 0, 0]
    assert "168 of 168 units" in shown(at)


def test_units_answer_an_unknown_site(full, show):
    page = shown(show("units", site="gpt9/mlp_post.77"))
    assert "No units of site 'gpt9/mlp_post.77'" in page


def test_second_page_continues_the_first(full, show):
    first = show("units", page="1").dataframe[0].value
    second = show("units", page="2").dataframe[0].value
    assert first["monosemanticity"].min() >= second["monosemanticity"].max()


def test_units_leave_a_foreign_table_out_and_say_so(own, show):
    (own.units(MODEL, SITE, "x").parent / "foreign.h5").write_bytes(b"no HDF5")
    at = show("units")
    assert "foreign.h5" in shown(at)
    assert len(at.dataframe[0].value) == PAGE


def test_units_without_their_store_still_list(own, show):
    import shutil

    shutil.rmtree(own.store(MODEL))
    frame = show("units").dataframe[0].value
    assert len(frame) == PAGE
    assert (frame["strongest context"] == "").all()


# -- unit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["neurons", LATENTS, "random"])
def test_unit_page_shows_contexts_figures_and_provenance(full, show, basis):
    page = shown(show("unit", unit=f"{ADDRESS}/{basis}/3"))
    assert page.count("<li>") >= 5
    assert "tk-peak" in page
    assert "monosemanticity" in page
    assert "null" in page
    assert "of 3,000 tokens" in page
    assert "0123456789ab" in page
    assert f"interp extract {MODEL} {SITE} --bases {basis} --seed 0" in page
    assert "Promotes" in page


def test_neurons_are_named_by_sign(full, show):
    assert "Neuron 1-" in shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    assert "Latent 3" in shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/3"))


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("", "Choose one"),
        ("nonsense", "no unit address"),
        (f"{ADDRESS}/neurons/-1", "no unit address"),
        (f"{ADDRESS}/neurons/48", "units 0 to 47"),
        (f"{ADDRESS}/neurons/999999999", "units 0 to 47"),
        (f"{ADDRESS}/topk-1-k1-s0/0", "unknown unit table"),
        ("../../etc/passwd/0", "cannot name a file"),
        (f"{MODEL}/../neurons/0", "cannot name a file"),
        (f"{ADDRESS}/..%2f..%2fsecret/0", "cannot name a file"),
        (f"{ADDRESS}/<script>alert(1)</script>/0", "cannot name a file"),
    ],
)
def test_addresses_that_lead_nowhere_are_answered(full, show, unit, words):
    page = shown(show("unit", unit=unit))
    assert words in page
    assert "<li>" not in page


def test_dead_unit(full, show):
    page = shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/{DEAD}"))
    assert "is dead: active on none of 3,000 tokens" in page
    assert "<li>" not in page


def test_unit_whose_store_is_gone_or_another(own, show):
    manifest = own.store(MODEL) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    page = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    assert "is not the one this unit table was made from" in page
    assert "monosemanticity" in page
    manifest.unlink()
    assert "is no activation store" in shown(show("unit", unit=f"{ADDRESS}/neurons/3"))


def test_unit_of_a_damaged_table(own, show):
    path = own.units(MODEL, SITE, "neurons")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    assert "malformed" in shown(show("unit", unit=f"{ADDRESS}/neurons/3"))


def test_previous_next_and_random_change_the_url(full, show):
    at = show("unit", unit=f"{ADDRESS}/neurons/0")
    assert at.button(key="previous").disabled
    at.button(key="next").click().run()
    assert at.query_params["unit"] == f"{ADDRESS}/neurons/1"
    assert "neurons/<b>1</b>" in shown(at)
    at.button(key="random").click().run()
    assert re.fullmatch(f"{ADDRESS}/neurons/\\d+", at.query_params["unit"])
    assert not at.exception


def test_values_and_length_are_options(full, show):
    plain = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    numbers = shown(show("unit", unit=f"{ADDRESS}/neurons/3", values="true"))
    short = shown(show("unit", unit=f"{ADDRESS}/neurons/3", length="short"))
    assert "<sub>" not in plain
    assert "<sub>" in numbers
    assert len(short) < len(plain)


def test_hostile_tokens_are_inert_on_every_page(full, show):
    pages = [shown(show("unit", unit=f"{ADDRESS}/neurons/{unit}")) for unit in range(6)]
    text = "\n".join([*pages, shown(show("units"))])
    assert "&lt;script&gt;" in text
    for token in HOSTILE[:4]:
        assert token not in text
    assert not re.search("<(script|img)", text)  # not even the part of one that a rule quotes
    assert "\u202e" not in text
    assert "‹U+202E›" in text
    assert len(max(pages, key=len)) < 200_000
