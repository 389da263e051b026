"""The app as a person meets it: the real server, a real browser, links, keys and hostile tokens."""

import csv
import re
import sys
import urllib.parse
from pathlib import Path

import pytest

from tests.apps.workspace import CARRIED, LATENTS, MODEL, SITE

pytestmark = pytest.mark.browser
UNIT = f"{MODEL}/{SITE}/neurons"


def test_server_listens_on_this_machine_only(site):
    port = int(site.rpartition(":")[2])
    hexed = f"{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines() if sys.platform == "linux" else []
    listening = [line.split()[1] for line in lines if f":{hexed} " in line and " 0A " in line]
    assert listening in ([], [f"0100007F:{hexed}"])


def test_home_leads_to_units(visit):
    visit.open("/", ".rows")
    visit.page.get_by_role("link", name="Browse its units").last.click()
    visit.page.wait_for_url(re.compile(r"/units\?site="))
    visit.page.wait_for_selector("[data-testid=stDataFrame]")


def test_deep_link_opens_as_it_was(visit):
    visit.open(f"/units?site={MODEL}/{SITE}&basis=random&sort=density&ascending=true", "canvas")
    visit.page.get_by_text("23 of 168 units").wait_for()
    assert "basis=random" in visit.page.url
    assert "sort=density" in visit.page.url


def test_table_row_opens_the_unit_and_keys_walk_the_list(visit):
    visit.page.set_viewport_size({"width": 1360, "height": 2800})  # the whole table in view
    visit.open(f"/units?site={MODEL}/{SITE}", "[data-testid=stDataFrame] canvas")
    table = visit.page.locator("[data-testid=stDataFrame] canvas").first
    visit.page.wait_for_timeout(1500)  # until nothing above the table moves it any more
    box = table.bounding_box()
    visit.page.mouse.click(box["x"] + 17, box["y"] + 55)  # the first row's own selection cell
    visit.page.wait_for_selector(".ctx-list")
    first = visit.page.url
    assert LATENTS in first
    visit.wait_for_text("1 of 165 by monosemanticity")
    visit.press("j")
    visit.wait_for_text("2 of 165 by monosemanticity")
    assert visit.page.url != first
    visit.press("k")
    visit.wait_for_text("1 of 165 by monosemanticity")
    assert visit.page.url == first
    visit.press("g")
    visit.page.wait_for_function("url => location.href != url", arg=first)
    visit.press("/")
    visit.page.wait_for_url(re.compile(r"/units\?site="))
    visit.page.wait_for_selector(".st-key-words input")
    visit.press("/")
    visit.page.wait_for_function("document.activeElement.closest('.st-key-words') !== null")


def test_point_of_the_map_opens_its_unit(visit):
    visit.open(f"/units?site={MODEL}/{SITE}&least=0.85", ".st-key-map canvas")
    visit.page.wait_for_timeout(1000)
    chart = visit.page.locator(".st-key-map canvas").first
    box = chart.bounding_box()
    pixels = visit.page.evaluate(
        """() => { const c = document.querySelector('.st-key-map canvas');
            const d = c.getContext('2d').getImageData(0, 60, c.width, c.height - 120).data;
            for (let i = 0; i < d.length; i += 4) {
              if (d[i + 3] > 100 && d[i + 2] > d[i] + 60)
                return [(i / 4) % c.width / c.width, (60 + Math.floor(i / 4 / c.width)) / c.height];
            } return null; }"""
    )
    assert pixels, "no blue point was drawn"
    x, y = box["x"] + pixels[0] * box["width"] + 2, box["y"] + pixels[1] * box["height"] + 2
    visit.page.mouse.click(x, y)
    visit.page.wait_for_url(re.compile(r"/unit\?unit="), timeout=10_000)
    visit.page.wait_for_selector(".ctx-list")


def test_hostile_tokens_stay_text(visit):
    visit.page.add_init_script("window.alert = () => { document.title = 'pwned' }")
    for unit in range(4):
        visit.open(f"/unit?unit={UNIT}/{unit}", ".ctx-list")
        assert visit.page.title() == "interp"
        inside = visit.page.locator(".ctx-list, .pair")
        assert inside.locator("script, img, style, b:not(.src b)").count() == 0
        assert visit.page.locator("[onerror], [onmouseover]").count() == 0
    assert "<script>" in visit.page.locator(".stMainBlockContainer").inner_text()


def test_training_and_lab_draw_their_figures(visit):
    visit.open(f"/training?site={MODEL}/{SITE}&dictionary={LATENTS}", ".st-key-pareto canvas")
    assert visit.page.locator("canvas").count() >= 5
    visit.open("/lab?result=pentagon", ".st-key-figure-pentagon-0 canvas")
    visit.page.wait_for_selector("[class*=st-key-figure-pentagon-2] canvas")


def test_a_note_survives_its_page(visit):
    visit.open(f"/unit?unit={UNIT}/5", ".ctx-list")
    visit.rest()
    visit.page.get_by_text("Your note").click()
    visit.page.get_by_label("Label").fill("<img src=x onerror=\"document.title='pwned'\">")
    visit.page.get_by_role("button", name="Save").click()
    visit.wait_for(".note")
    visit.open(f"/unit?unit={UNIT}/5", ".note")
    assert "<img src=x" in visit.page.locator(".note").inner_text()
    assert visit.page.locator(".note img").count() == 0
    with visit.page.expect_download() as download:
        visit.open(
            f"/units?site={MODEL}/{SITE}&basis=neurons&sort=index", "[data-testid=stDataFrame]"
        )
        visit.page.get_by_role("button", name="CSV of").click()
    with Path(download.value.path()).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 47
    labels = {line["address"]: line["label"] for line in lines}
    assert labels.pop(f"{UNIT}/5").startswith("<img src=x")
    assert set(labels.values()) == {""}


def test_from_home_to_the_latents_of_a_neuron_and_an_intervention(visit):
    visit.open("/", ".rows")
    visit.page.get_by_role("link", name="Browse its units").last.click()
    visit.page.wait_for_url(re.compile(r"/units\?site="))
    visit.open(f"/unit?unit={UNIT}/{CARRIED}", ".ctx-list")
    main = visit.page.locator(".stMainBlockContainer")
    main.get_by_role("link", name="Disentangle", exact=False).click()
    visit.page.wait_for_selector(".heat")
    assert f"unit={UNIT}/{CARRIED}" in urllib.parse.unquote(visit.page.url)
    assert "sense 1 is carried by latents that hold up under ablation" in main.inner_text()
    assert "+1.500" in visit.page.locator(".heat").first.inner_text()
    main.get_by_role("link", name="Ablate the neuron here").first.click()
    visit.page.wait_for_url(re.compile("/intervene"))
    text = visit.page.get_by_label("Text")
    text.wait_for()
    assert text.input_value()
    assert visit.page.get_by_label("Unit", exact=True).input_value() == f"{UNIT}/{CARRIED}"


def test_out_of_range_unit_is_answered(visit):
    visit.open(f"/unit?unit={UNIT}/99999", "[data-testid=stAlert]")
    assert "units 0 to 47" in visit.page.locator("[data-testid=stAlert]").inner_text()


def test_dark_mode_follows_the_system_and_stays_readable(browser, site):
    found = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(f"{site}/unit?unit={UNIT}/3")
        page.wait_for_selector("mark.tk")
        found[scheme] = page.evaluate(
            """() => [getComputedStyle(document.querySelector('.stApp')).backgroundColor,
                      getComputedStyle(document.querySelector('mark.tk')).color]"""
        )
        context.close()
    assert found["light"] == ["rgb(253, 253, 252)", "rgb(29, 32, 36)"]
    assert found["dark"] == ["rgb(19, 21, 25)", "rgb(227, 229, 233)"]


def test_a_hundred_thousand_units_fit_the_budget(visit):
    visit.open(f"/units?site=big/{SITE}", ".st-key-map canvas")  # reads the columns once
    visit.received = 0
    seconds = visit.open(f"/units?site=big/{SITE}", ".st-key-map canvas")
    visit.page.wait_for_selector("[data-testid=stDataFrame]")
    visit.page.get_by_text("100,000 of 100,000 units").wait_for()
    assert visit.received < 1_000_000
    assert seconds < 10  # a guard against blow-ups, not a benchmark: CI machines vary


def test_unit_page_is_small(visit):
    visit.open(f"/unit?unit={UNIT}/3", ".ctx-list")
    visit.page.wait_for_timeout(500)
    assert 0 < visit.received < 400_000
