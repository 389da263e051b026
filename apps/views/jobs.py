"""Jobs: started here from a form, watched, stopped and gone on with."""

from collections.abc import Sequence

import streamlit as st

from apps import _cache, forms, inventory, jobs, parts, underway
from apps.fields import VERBS
from apps.inventory import Item
from apps.navigation import link
from interp.errors import ConfigError, InterpError
from interp.workspace import Workspace

SHOWN = 20
"""Jobs listed; the latest first."""
WHAT = {
    "capture": "run a model over text and store its activations",
    "train": "train a dictionary on stored activations",
    "extract": "measure the units of neurons, dictionaries and controls",
    "disentangle": "find the latents that carry each sense of a neuron",
}


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Jobs", anchor=False)
    asked = st.query_params.get("job")
    if asked is not None:
        try:
            jobs.find(workspace, asked)
        except InterpError as error:
            st.warning(str(error))
    _start(workspace)
    _jobs(workspace, asked)


def _start(workspace: Workspace) -> None:
    with st.expander(
        "Start a job", icon=":material/play_arrow:", expanded="verb" in st.query_params
    ):
        verb = st.segmented_control(
            "Job", VERBS, key="verb", bind="query-params", label_visibility="collapsed"
        )
        if verb is None:
            st.caption("Choose one: " + "; ".join(f"{name}: {what}" for name, what in WHAT.items()))
            return
        try:
            known = forms.known()[verb]
        except InterpError as error:
            st.error(str(error))
            return
        st.caption(f"{WHAT[verb].capitalize()}, as a process of its own that outlives this page.")
        forms_of = {
            "capture": _capture, "train": _train, "extract": _extract, "disentangle": _disentangle,
        }  # fmt: skip
        forms_of[verb](workspace, known)


def _capture(workspace: Workspace, known: dict[str, list[forms.Field]]) -> None:
    models = [item.name for item in inventory.models(workspace)]
    with st.form("capture", border=False):
        left, middle, right, last = st.columns(4)
        model = left.selectbox(
            "Model", models, key="capture-model", accept_new_options=True, index=None,
            help="one of this workspace, a folder, a GGUF file or a Hugging Face owner/name",
        )  # fmt: skip
        sites = middle.text_input(
            "Sites", key="capture-sites", placeholder="resid_post.9 mlp_post.9",
            help="`interp models sites MODEL` lists them; several with spaces between",
        )  # fmt: skip
        corpus = right.text_input(
            "Corpus", "library", key="capture-corpus",
            help="packaged corpus, file, folder or hf:DATASET",
        )  # fmt: skip
        out = last.text_input(
            "Name of the store", key="capture-out", placeholder="the model's name"
        )
        precision = st.selectbox(
            "Precision the model computes in",
            ["float32", "bfloat16", "float16"],
            key="capture-precision",
            width=260,
        )
        flags = forms.settings(known[""], "capture")
        if st.form_submit_button("Start capture", icon=":material/play_arrow:", key="go-capture"):
            named = [f"--corpus={corpus.strip()}", f"--model-dtype={precision}", *_out(out)]
            _submit(workspace, "capture", [*named, *flags], [model or "", *sites.split()], 2)


def _train(workspace: Workspace, known: dict[str, list[forms.Field]]) -> None:
    chosen = _store_and_site(workspace, "train")
    if chosen is None:
        return
    store, site, item = chosen
    kinds = sorted(name for name in known if name)
    with st.container(horizontal=True):
        kind = st.selectbox(
            "Architecture", kinds, kinds.index("batchtopk"), key="train-kind", width=220
        )
        target = st.selectbox(
            "Target", [each for each in item.facts["sites"] if each != site], index=None,
            key="train-target", width=220, placeholder="no transcoder",
            help="train a transcoder: latents of the site predict this one",
        )  # fmt: skip
    with st.form("train", border=False):
        st.markdown(f"**{kind}**")
        flags = forms.settings(known[kind], f"train-{kind}")
        st.markdown("**Training**")
        flags += forms.settings(known[""], "train")
        out = st.text_input(
            "Name of the dictionary", key="train-out", placeholder="told from its settings"
        )
        if st.form_submit_button("Start training", icon=":material/play_arrow:", key="go-train"):
            named = [f"--architecture={kind}", *_out(out)]
            named += [f"--target={target}"] if target else []
            _submit(workspace, "train", [*named, *flags], [store, site], 2)


def _extract(workspace: Workspace, known: dict[str, list[forms.Field]]) -> None:
    chosen = _store_and_site(workspace, "extract")
    if chosen is None:
        return
    store, site, item = chosen
    prefix = f"{item.facts['model'].replace('/', '+')}/{site}/"
    learned = [
        each.name.removeprefix(prefix)
        for each in _cache.dictionaries(workspace)
        if each.state == "ready" and each.name.startswith(prefix)
    ]
    with st.form("extract", border=False):
        bases = st.multiselect(
            "Bases", ["neurons", "random", *learned], key="extract-bases",
            placeholder="all that the site has", accept_new_options=False,
        )  # fmt: skip
        lens = st.toggle(
            "Logit lens", True, key="extract-lens",
            help="promoted and suppressed tokens, which need the model",
        )  # fmt: skip
        flags = forms.settings(known[""], "extract")
        if st.form_submit_button(
            "Start extraction", icon=":material/play_arrow:", key="go-extract"
        ):
            flags += [] if lens else ["--no-model"]
            flags += ["--bases", *bases] if bases else []
            _submit(workspace, "extract", flags, [store, site], 2)


def _disentangle(workspace: Workspace, known: dict[str, list[forms.Field]]) -> None:
    with st.form("disentangle", border=False):
        unit = st.text_input(
            "Neuron", st.query_params.get("unit", ""), key="disentangle-unit", width=480,
            placeholder="model/site/neurons/index",
        )  # fmt: skip
        dictionary = st.text_input(
            "Dictionary", st.query_params.get("dictionary", ""), key="disentangle-dictionary",
            width=480, placeholder="the first of its site",
        )  # fmt: skip
        effect = st.toggle(
            "Effect on the next token", True, key="disentangle-effect",
            help="what the carriers do to the model's predictions, which needs the model",
        )  # fmt: skip
        flags = forms.settings(known[""], "disentangle")
        if st.form_submit_button("Start", icon=":material/play_arrow:", key="go-disentangle"):
            flags += [] if effect else ["--no-model"]
            flags += [f"--dictionary={dictionary.strip()}"] if dictionary.strip() else []
            _submit(workspace, "disentangle", flags, [unit.strip()], 1)


def _store_and_site(workspace: Workspace, verb: str) -> tuple[str, str, Item] | None:
    found = {item.name: item for item in inventory.stores(workspace) if item.state == "ready"}
    if not found:
        st.info("No sealed store here yet; capture one first.")
        return None
    with st.container(horizontal=True):
        store = st.selectbox("Store", list(found), key=f"{verb}-store", width=260)
        site = st.selectbox("Site", found[store].facts["sites"], key=f"{verb}-site", width=260)
    return store, site, found[store]


def _out(name: str) -> list[str]:
    return [f"--out={name.strip()}"] if name.strip() else []


def _submit(
    workspace: Workspace, verb: str, flags: Sequence[str], places: Sequence[str], least: int
) -> None:
    """Start it if its settings can work; their own words if not."""
    # After -- nothing is a flag, whatever it begins with.
    arguments = [*flags, "--", *places]
    try:
        if len(places) < least or not all(places):
            raise ConfigError(
                "name a neuron" if verb == "disentangle" else "name a model and at least one site"
            )
        with st.spinner("Checking the settings …"):
            forms.check(verb, arguments)
        job = jobs.start(workspace, verb, arguments)
    except InterpError as error:
        st.error(str(error))
        return
    st.query_params.from_dict({"job": job.name})
    st.rerun()


def _jobs(workspace: Workspace, asked: str | None) -> None:
    found = jobs.listed(workspace)
    if not found:
        st.info("No job yet. What is started here runs on when this page or the app is closed.")
        link("home", "What the workspace holds", ":material/home:")
        return
    live = any(job.live for job in found)

    def draw() -> None:
        fresh = jobs.listed(workspace)
        if live and not any(job.live for job in fresh):
            st.rerun()  # the page stops looking once nothing moves
        for job in fresh[:SHOWN]:
            _one(workspace, job, expanded=job.live or job.name == asked)
        if len(fresh) > SHOWN:
            st.caption(f"The latest {SHOWN} of {len(fresh):,} jobs.")

    st.fragment(draw, run_every=underway.EVERY if live else None)()


def _one(workspace: Workspace, job: jobs.Job, *, expanded: bool) -> None:
    with st.container(border=True):
        kind = {"finished": "good", "failed": "bad", "broken off": "bad"}.get(job.state, "warn")
        words = "cancelling" if job.cancelling else job.state
        code = f" · exit code {job.code}" if job.code else ""
        when = f"{job.asked:%Y-%m-%d %H:%M:%S} UTC{code}"
        st.html(
            f'<div class="job">{parts.tag(words, kind)} <code>{parts.text(job.command)}</code> '
            f'<span class="why">{when}</span></div>'
        )
        if job.live:
            underway.job(job)
        with st.container(horizontal=True, vertical_alignment="center"):
            _buttons(workspace, job)
        with st.expander("Last lines", expanded=expanded or job.state != "finished"):
            lines = jobs.tail(job)
            st.code("\n".join(lines) or "nothing printed yet", language=None, wrap_lines=True)


def _buttons(workspace: Workspace, job: jobs.Job) -> None:
    if job.live:
        underway.stop(job)
        st.caption("What is finished is kept, and the job can be resumed.")
        return
    label = "Run again" if job.state == "finished" else "Resume"
    if st.button(label, key=f"resume-{job.name}", icon=":material/play_arrow:"):
        underway.attempt(lambda: jobs.resume(workspace, job))
    if st.button("Forget", key=f"forget-{job.name}", type="tertiary"):
        underway.attempt(lambda: jobs.forget(job))
    if job.state == "finished" and job.verb == "disentangle":
        link("disentangle", "What it found", ":material/account_tree:", unit=job.arguments[-1])
    elif job.state == "finished":
        link("home", "What it made", ":material/home:")
