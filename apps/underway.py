"""What has not ended: a bar each, looked at again by themselves while any is running."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import streamlit as st

from apps import jobs, parts
from apps.runs import Run
from interp.errors import InterpError

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
        waited = max(int((datetime.now(UTC) - one.asked).total_seconds()), 0)
        words = f"{one.verb} {one.state} for {waited:,} s: libraries and models are loaded first"
        st.progress(0.0, words)
        return
    note = f" · {parts.literal(found.note)}" if found.note else ""
    words = f"{parts.literal(found.label)}: {found.share:.0%}, {found.left:,} s left{note}"
    st.progress(found.share, words)


def stop(one: jobs.Job) -> None:
    """The button that ends a live job; asked again, at once."""
    label = "Stop at once" if one.cancelling else "Cancel"
    if st.button(label, key=f"cancel-{one.name}", icon=":material/stop:"):
        attempt(lambda: jobs.cancel(one))


def attempt(act: Callable[[], object]) -> None:
    """Do something to a job and draw the page again, or say why it cannot be done."""
    try:
        act()
    except InterpError as error:
        st.error(str(error))
        return
    st.rerun()
