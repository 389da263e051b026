"""Ctrl-C between steps, never inside one."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Pending:
    """Whether an interrupt waits to be served."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self.asked = False


@contextmanager
def interrupts_held() -> Generator[Pending, None, None]:
    """Turn a first Ctrl-C into a note that the loop reads at a point where its state is whole.

    A second Ctrl-C interrupts at once. Outside the main thread, where Python delivers no signals,
    nothing changes.
    """
    pending = Pending()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if pending.asked:
            raise KeyboardInterrupt
        pending.asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield pending
    finally:
        signal.signal(signal.SIGINT, before)
