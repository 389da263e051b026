"""Ctrl-C between imports, never inside one."""

import signal
import threading
from types import FrameType

_AGAIN_S = 0.05
_IMPORTING = "<frozen importlib._bootstrap>"


def wait_for_imports() -> None:
    """Let Ctrl-C interrupt this process as soon as nothing is being imported.

    Compiled modules (of torch and pandas among others) lose an exception that reaches them while
    they import others, and the process would go on as if nobody had asked it to stop. Where
    Ctrl-C is ignored or served by somebody else, and outside the main thread, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _is_importing(frame):
        raise KeyboardInterrupt
    again = threading.Timer(_AGAIN_S, signal.raise_signal, [number])
    again.daemon = True
    again.start()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
