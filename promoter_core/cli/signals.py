"""Signals that end `promoter run`: at once before anything is held, and after the lock is released later."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the handlers are installed before anything else is imported
    import asyncio
    from types import FrameType

STOPS = [s for s in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)) if s is not None]
LAST_RESORT_S = 15.0  # after a signal: longer than any orderly shutdown takes


def end_at_once_on_signals() -> None:
    """While `promoter run` is imported and set up, end silently with exit code 0: nothing is held yet."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if command == "run" and sys.platform != "win32":
        for sign in _heeded():
            signal.signal(sign, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)  # an exception would be raised inside an import


def stop_on_signals(stop: asyncio.Event) -> None:
    """Have a signal set `stop` from now on. A second Ctrl-C ends the process at once."""
    import asyncio
    import logging

    log, loop = logging.getLogger("promoter"), asyncio.get_running_loop()

    def heard(sign: signal.Signals) -> None:
        again = " (Ctrl-C again ends it at once)" if sign is signal.SIGINT else ""
        log.info("%s: stopping%s", sign.name, again)
        if not stop.is_set():
            stop.set()
            leave_what_hangs(LAST_RESORT_S, 1)
        if sign is signal.SIGINT:
            loop.remove_signal_handler(sign)
            signal.signal(sign, signal.SIG_DFL)

    for sign in _heeded():
        try:
            loop.add_signal_handler(sign, heard, sign)
        except NotImplementedError:  # on Windows, Ctrl-C cancels the task
            return


def _heeded() -> list[signal.Signals]:
    """Return the signals, without SIGHUP if it is ignored, as under nohup."""
    return [s for s in STOPS if s is signal.SIGINT or signal.getsignal(s) is not signal.SIG_IGN]


def leave_what_hangs(seconds: float, code: int) -> None:
    """End the process in `seconds` if it has not ended by then: a thread, such as a name look-up, can hang."""
    import logging
    import threading

    def overdue() -> None:
        logging.getLogger("promoter").warning("something does not end; the process exits without it")
        os._exit(code)

    watch = threading.Timer(seconds, overdue)
    watch.daemon = True
    watch.start()
