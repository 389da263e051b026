"""What has not ended: a bar each, looked at again by themselves while any is running."""

from collections.abc import Sequence

import streamlit as st

from apps import jobs, parts
from apps.runs import Run

EVERY = 2.0
"""Seconds between looks at a running training."""


def every(runs: Sequence[Run]) -> float | None:
    """Seconds until the next look; None where nothing moves."""
    return EVERY if any(run.state() == "running" for run in runs) else None


def bars(runs: Sequence[Run]) -> None:
    """Progress and last figures of each training that has not ended."""
    for run in runs:
        state = run.state()
        if state == "unreadable":
            st.warning(
                f"{parts.literal(run.name)}: {parts.literal(run.note)}", icon=":material/warning:"
            )
        elif state != "finished":
            last = " · ".join(
                f"{name} {parts.number(float(curve.values[-1]))}"
                for name, curve in run.train.items()
            )
            again = "" if state == "running" else "; the same `interp train` command continues it"
            words = f"{parts.literal(run.name)} **{state}**: {run.words()}{again}"
            st.progress(run.progress or 0.0, f"{words} · {last}" if last else words)


def job(one: jobs.Job) -> None:
    """How far a job says it is."""
    found = jobs.reach(one)
    if found is None:
        st.progress(0.0, f"{one.verb} {one.state}: nothing measured yet, models are loaded first")
        return
    note = f" · {parts.literal(found.note)}" if found.note else ""
    words = f"{parts.literal(found.label)}: {found.share:.0%}, {found.left:,} s left{note}"
    st.progress(found.share, words)
