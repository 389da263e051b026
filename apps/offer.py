"""A job in place of what it makes: a button begins it, the page watches it and shows the result."""

from collections.abc import Sequence

import streamlit as st

from apps import jobs, underway
from apps.navigation import link
from interp.workspace import Workspace


def latest(workspace: Workspace, verb: str, named: Sequence[str]) -> jobs.Job | None:
    """The job last started of a verb that has all of these among its arguments."""
    for job in jobs.listed(workspace):
        if job.verb == verb and set(named) <= set(job.arguments):
            return job
    return None


def watch(workspace: Workspace, job: jobs.Job) -> None:
    """How far a live job is, until it ends; then the page is drawn again."""

    def draw() -> None:
        fresh = latest(workspace, job.verb, job.arguments)
        if fresh is None or not fresh.live:
            st.rerun()
        underway.job(fresh)
        with st.container(horizontal=True, vertical_alignment="center"):
            underway.stop(fresh)
            link("jobs", "What it prints", ":material/play_circle:", job=job.name)
        st.caption("It runs on when this page is closed. The result appears here by itself.")

    st.fragment(draw, run_every=underway.EVERY)()


def begin(
    workspace: Workspace, verb: str, label: str, arguments: Sequence[str], last: jobs.Job | None
) -> None:
    """The button that begins a job, under why the last one made nothing, if there was one."""
    if last is not None and last.state != "finished":
        st.warning(f"The last attempt: **{last.state}**.", icon=":material/warning:")
        said = "\n".join(jobs.tail(last, 2)) or "it printed nothing"
        st.code(said, language=None, wrap_lines=True)
        link("jobs", "All it printed", ":material/play_circle:", job=last.name)
    if st.button(label, type="primary", key="compute", icon=":material/play_arrow:"):
        underway.attempt(lambda: jobs.start(workspace, verb, arguments))
