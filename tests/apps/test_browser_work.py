"""Work in the browser: jobs, comparing, two rulers, blind rating, and the map's rectangle."""

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from apps import blind, jobs, rulers, theme
from interp.sae import BatchTopK, Origin, save_dictionary
from tests.apps.workspace import LATENTS, MODEL, SITE

pytestmark = pytest.mark.browser
PLACE = f"{MODEL}/{SITE}"
PATIENT = 120_000
"""Milliseconds for what imports torch in another process, on a busy machine."""


@pytest.mark.slow  # five processes import torch; `test_jobs` has the parts
def test_a_job_is_refused_started_watched_cancelled_and_resumed(visit, site_root):
    page = visit.page
    page.set_default_timeout(PATIENT)
    page.goto(f"{visit.base}/jobs?verb=train")
    begin = page.get_by_role("button", name="Start training")
    for label, value in (("k", "0"), ("tokens", "50000000"), ("expansion", "2")):
        _fill(page, label, value)
    begin.click()
    page.get_by_text("k must be at least 1, got 0").wait_for()
    _fill(page, "k", "2")
    begin.click()
    page.wait_for_url(re.compile(r"/jobs\?job="))
    (job,) = jobs.listed(site_root)
    page.locator("[data-testid=stProgress]").get_by_text("s left").wait_for()
    page.reload()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Resume").wait_for()
    ended = jobs.read(job.path)
    assert (ended.state, ended.code) == ("cancelled", 130)
    said = page.locator("[data-testid=stCode]").inner_text()
    assert "interrupted; what was finished is kept" in said
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Resume").wait_for()
    again = jobs.read(job.path)
    assert again.state == "cancelled"
    assert again.asked > ended.asked


def _fill(page, label, value):
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Tab")


@pytest.fixture
def other(site_root):
    """A second dictionary of the site, turned by a little, and the first with weights."""
    import torch

    origin = Origin(model=MODEL, site=SITE, store=MODEL, store_digest="0")
    for seed, name in enumerate((LATENTS, "batchtopk-96-k4-s1")):
        each = BatchTopK(k=4, latents=96).dictionary(24, origin)
        rows = np.random.default_rng(0).normal(size=(96, 24))
        rows += seed * 0.3 * np.random.default_rng(1).normal(size=rows.shape)
        state = {key: torch.zeros_like(value) for key, value in each.state_dict().items()}
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        state["W_dec"] = torch.from_numpy(rows).float()
        each.load_state_dict(state)
        save_dictionary(each, site_root.dictionary(MODEL, SITE, name))
    return f"{PLACE}/batchtopk-96-k4-s1"


def test_x_on_a_unit_compares_it(visit, other):
    unit = f"{PLACE}/{LATENTS}/3"
    visit.open(f"/unit?unit={unit}", ".ctx-list")
    visit.page.get_by_role("button", name="Compare Shortcut X").wait_for()
    visit.press("x")
    visit.page.wait_for_url(re.compile("/compare"))
    visit.page.get_by_text("of A: one unit of the other is its own").wait_for()
    visit.open(f"/compare?one={PLACE}/{LATENTS}&other={PLACE}/neurons", ".st-key-ecdf canvas")
    visit.page.get_by_role("link", name=re.compile("^neuron ")).first.click()
    visit.page.wait_for_selector(".unit-title")
    assert "/unit?unit=" in visit.page.url


def test_rulers_link_their_tokens_by_mouse_and_keyboard(visit):
    """The component's own script and style on a page of their own: no model is needed for them."""
    share = np.array([[0.9, 0.0], [0.02, 0.5], [0.4, 0.6]])
    bases = {
        name: rulers.Measured(
            stem=f"{PLACE}/{name}", noun="unit", mark=mark, called=str, share=share
        )
        for name, mark in (("neurons", theme.NEURONS), ("<b>x", theme.DICTIONARIES[0]))
    }
    rows = [bases["neurons"].row(0), bases["<b>x"].row(1)]
    data = rulers.data(["<img src=x onerror=alert(1)>", " king", " of"], rows, bases, dark=False)
    page = visit.page
    page.goto(f"{visit.base}/_stcore/health")
    page.set_content('<div class="rulers"></div><p>after</p>')
    page.add_style_tag(content=(rulers.HERE / "rulers.css").read_text())
    page.evaluate(
        """async ([script, data]) => {
            const url = URL.createObjectURL(new Blob([script], {type: "text/javascript"}));
            (await import(url)).default({data, parentElement: document});
        }""",
        [(rulers.HERE / "rulers.js").read_text(), data],
    )
    strips = page.locator(".strip")
    assert strips.count() == 2
    assert page.locator("img, b:not(.top b)").count() == 0
    assert strips.first.inner_text().startswith("<img src=x")
    strips.nth(1).locator("span").nth(1).hover()
    assert page.locator(".on").all_inner_texts() == [" king", " king"]
    assert "token 2: king" in page.locator(".top").inner_text()
    assert "unit 1 50 %" in page.locator(".top").inner_text()
    strips.first.locator("span").first.focus()
    assert "unit 0 90 %" in page.locator(".top").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert "token 3" in page.locator(".top").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.at") == "1"
    assert page.locator(".strip span[tabindex='0']").count() == 1
    link = page.locator(".row a").last.get_attribute("href")
    assert link == "unit?unit=" + quote(f"{PLACE}/<b>x/1", safe="")


def test_blind_rating_goes_by_key_and_ends_with_a_summary(visit, site_root):
    visit.open(f"/rate?site={PLACE}&each=1&round=5", ".ctx-list")
    assert LATENTS not in visit.page.locator(".ctx-list, .stratum").first.inner_text()
    for number in range(2):
        visit.wait_for_text(f"{number} of 2 rated")
        visit.press("45"[number])
    visit.wait_for_text("What they were")
    path = blind.path_of(site_root.units(MODEL, SITE, "x").parent)
    assert sorted(each.rating for each in blind.latest(path)) == [4, 5]
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("address,kind,basis,unit,time,rating")


def test_a_rectangle_of_the_map_lists_its_units(visit):
    visit.open(f"/units?site={PLACE}", ".st-key-map canvas")
    visit.page.wait_for_timeout(1500)
    box = visit.page.locator(".st-key-map canvas").first.bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] - 62, box["y"] + 23)  # the tool's rectangle
    visit.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.3 * box["height"])
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    visit.page.mouse.up()
    visit.page.wait_for_url(re.compile("area="))
    visit.page.get_by_text("units of the rectangle").wait_for()
    (area,) = parse_qs(urlsplit(visit.page.url).query)["area"]
    x0, x1, y0, y1 = map(float, area.split(","))
    assert 0 < x0 < x1 < 1
    assert -1 < y0 < y1 < 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_new_pages_are_readable_in_both_schemes(browser, site, scheme):
    ink = {"light": "rgb(29, 32, 36)", "dark": "rgb(227, 229, 233)"}[scheme]
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    for path, place in ((f"/rate?site={PLACE}", ".ctx-list .val"), ("/compare", ".rows td b")):
        page.goto(site + path)
        page.wait_for_selector(place)
        assert page.evaluate("s => getComputedStyle(document.querySelector(s)).color", place) == ink
    context.close()
