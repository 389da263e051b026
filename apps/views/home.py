"""Home: what the workspace holds, in which state, and what to look at first."""

from pathlib import Path
from urllib.parse import quote

import streamlit as st

from apps import _cache, inventory, jobs, parts, underway
from apps.inventory import Item
from apps.navigation import link
from apps.theme import marks, unit_noun
from interp.workspace import Workspace

UNDER_WAY = ("running", "stopped")


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    tables = _cache.tables(workspace)
    st.html('<div class="unit-title"><h1>Workbench</h1></div>')
    st.html(f'<p class="addr">workspace <b>{parts.text(_short(workspace.root))}</b></p>')
    shelves = {
        "Unit tables": (tables, lambda items: _units(items, inventory.stale(items, workspace))),
        "Dictionaries": (_cache.dictionaries(workspace), _dictionaries),
        "Activation stores": (inventory.stores(workspace), _stores),
        "Models": (inventory.models(workspace), _models),
        "Lab": (_cache.lab(workspace), _lab),
    }
    if not any(items for items, _ in shelves.values()):
        _empty()
        _jobs(workspace)
        return
    _sites(tables)
    _jobs(workspace)
    _running(workspace)
    for title, (items, draw) in shelves.items():
        st.subheader(f"{title} · {len(items)}", anchor=False)
        if items:
            st.html(draw(items))
        else:
            st.html(f'<p class="lede">none yet: {_COMMANDS[title]}</p>')


def _short(root: Path) -> str:
    """A folder as a shell's prompt has it: the reader's own home is ~."""
    try:
        return str(Path("~") / root.relative_to(Path.home()))
    except ValueError:
        return str(root)


_COMMANDS = {
    "Unit tables": "<code>interp extract STORE SITE</code> measures units",
    "Dictionaries": "<code>interp train STORE SITE</code> trains one",
    "Activation stores": "<code>interp capture MODEL SITE</code> writes one",
    "Models": "<code>interp models get smollm2-135m</code> fetches one",
    "Lab": "<code>interp lab run pentagon</code> reproduces a published result",
}


def _empty() -> None:
    st.info("This workspace is empty. One command fills it with a toy and a real model:")
    st.code("make demo        # or, where interp is installed:  interp demo", language="bash")
    st.html(
        '<p class="lede">It fetches the models and the corpus, captures activations, trains sparse '
        "autoencoders and measures their units; the first ones can be browsed here after a few "
        "minutes. To look at another workspace, start <code>interp app --workspace FOLDER</code>."
        "</p>"
    )


def _sites(tables: list[Item]) -> None:
    """One card a site: the way in."""
    dark = st.context.theme.type == "dark"
    places = [(m, s) for m, found in inventory.sites(tables).items() for s in found]
    if not places:
        return
    st.html(
        '<p class="lede">A <b>site</b> is a place in a model where activations were read. Its '
        "<b>neurons</b> are often polysemantic: they fire on unlike things. The <b>latents</b> of "
        "a dictionary are meant to fire on one kind of thing each. Open a neuron with several "
        "senses; <i>Disentangle</i> then shows which latents carry each sense, and whether that "
        "holds up.</p>"
    )
    for start in range(0, len(places), 3):
        for column, (model, site) in zip(st.columns(3), places[start : start + 3], strict=False):
            mine = [item for item in tables if item.name.startswith(f"{model}/{site}/")]
            counts = {
                item.name.split("/")[2]: item.facts["units"]
                for item in mine
                if item.state == "ready"
            }
            look = marks(list(counts))
            lines = "".join(
                f"<div>{parts.swatch(look[basis], dark)}{parts.text(basis)} "
                f'<span class="why">{count:,} {unit_noun(basis)}s</span></div>'
                for basis, count in counts.items()
            )
            with column, st.container(border=True):
                st.html(
                    f"<b>{parts.text(model)}</b> <span class='addr'>{parts.text(site)}</span>"
                    f'<div class="rows">{lines}</div>'
                )
                place = f"{model}/{site}"
                link("units", "Browse its units", ":material/scatter_plot:", site=place)
                if "neurons" in counts:
                    link(
                        "units", "Neurons with most senses", ":material/account_tree:",
                        site=place, basis="neurons", sort="senses_effective",
                    )  # fmt: skip


def _jobs(workspace: Workspace) -> None:
    """Jobs of the app that have not ended."""
    if not _live(workspace):
        return
    st.subheader("Jobs under way", anchor=False)

    def draw() -> None:
        found = _live(workspace)
        for job in found:
            underway.job(job)
        if not found:
            st.rerun()  # what they made is below

    st.fragment(draw, run_every=underway.EVERY)()
    link("jobs", "All jobs", ":material/play_circle:")


def _live(workspace: Workspace) -> list[jobs.Job]:
    return [job for job in jobs.listed(workspace) if job.live]


def _running(workspace: Workspace) -> None:
    """Trainings that have not ended, with the way to their curves."""
    found = [run for run in _cache.runs(workspace) if run.state() in UNDER_WAY]
    if not found:
        return
    st.subheader("Trainings under way", anchor=False)

    def draw() -> None:
        underway.bars([run for run in _cache.runs(workspace) if run.state() in UNDER_WAY])

    st.fragment(draw, run_every=underway.every(found))()
    for site in sorted({run.site for run in found}):
        link("training", f"Curves of {parts.literal(site)}", ":material/show_chart:", site=site)


def _units(items: list[Item], stale: dict[str, str]) -> str:
    return parts.rows(
        ["table", "units", "tokens", "store", "state"],
        (
            [
                parts.text(item.name),
                parts.number(item.facts.get("units")),
                parts.number(item.facts.get("rows")),
                parts.text(item.facts.get("store", "")),
                parts.state("stale", stale[item.name])
                if item.name in stale
                else parts.state(item.state, item.note),
            ]
            for item in items
        ),
        numeric=(1, 2),
    )


def _dictionaries(items: list[Item]) -> str:
    return parts.rows(
        ["dictionary", "held-out FVE", "L0", "dead", "loss recovered", "seed", "state"],
        (
            [
                parts.text(item.name),
                parts.number(item.facts.get("fve")),
                parts.number(item.facts.get("l0")),
                parts.percent(item.facts.get("dead_fraction")),
                parts.percent(item.facts.get("loss_recovered")),
                parts.text(_made(item, "seed")),
                parts.state(item.state, item.note),
            ]
            for item in items
        ),
        numeric=(1, 2, 3, 4),
    )


def _stores(items: list[Item]) -> str:
    return parts.rows(
        ["store", "model", "corpus", "tokens", "sites", "state"],
        (
            [
                parts.text(item.name),
                parts.text(item.facts.get("model", "")),
                parts.text(item.facts.get("corpus", "")),
                parts.number(item.facts.get("rows")),
                parts.text(", ".join(item.facts.get("sites", []))),
                parts.state(item.state, item.note),
            ]
            for item in items
        ),
        numeric=(3,),
    )


def _models(items: list[Item]) -> str:
    return parts.rows(
        ["model", "commit", "state"],
        (
            [
                parts.text(item.name),
                parts.text(_made(item, "commit")[:12]),
                parts.state(item.state, item.note),
            ]
            for item in items
        ),
    )


def _lab(items: list[Item]) -> str:
    return parts.rows(
        ["result", "claim", "checks passed", "effort", "state"],
        (
            [
                _result(item.name) if item.state == "ready" else parts.text(item.name),
                parts.text(item.facts.get("claim", "")),
                _passed(item),
                parts.text(item.facts.get("effort", "")),
                parts.state(item.state, item.note),
            ]
            for item in items
        ),
    )


def _result(name: str) -> str:
    return f'<a href="lab?result={quote(name)}" target="_self">{parts.text(name)}</a>'


def _passed(item: Item) -> str:
    if item.state != "ready":
        return ""
    checks = item.facts["checks"]
    passed = sum(check["passed"] for check in checks)
    kind = "good" if passed == len(checks) else "bad"
    return parts.tag(f"{passed} of {len(checks)}", kind)


def _made(item: Item, key: str) -> str:
    value = item.facts.get("provenance", {}).get(key)
    return "–" if value in (None, "") else str(value)
