"""Ctrl-C and SIGTERM as requests for a clean end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from headstart._core import log
from headstart._core.clock import Clock


class Stopper:
    """Hands a request to stop to the clock of a run, also one that came before there was a clock."""

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._reason = ""

    def watch(self, clock: Clock) -> None:
        """Tell this clock of every request from now on, and of the one that has been made."""
        self._clock = clock
        if self._reason:
            clock.stop(self._reason)

    def ask(self, reason: str) -> None:
        """Ask for a clean end."""
        self._reason = reason
        if self._clock is not None:
            self._clock.stop(reason)


@contextmanager
def stopping(keeping: str = "the best model so far") -> Iterator[Stopper]:
    """A stopper that Ctrl-C and SIGTERM reach; the second of them ends the process at once, as it would without this.

    Only the main thread may listen to signals; in another, nobody asks.

    Args:
        keeping: what is there after a clean end, as the user is told.
    """
    stopper = Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        log.warn(f"{name}: ending cleanly with {keeping} (again to stop at once)")
        stopper.ask(name)
        for each, handler in before.items():
            signal.signal(each, handler)

    # None: a handler that was not set from Python, which only the default can stand for.
    before = {
        number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number in before:
        signal.signal(number, ask)
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
