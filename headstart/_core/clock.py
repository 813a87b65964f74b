"""How much time is left, and whether somebody asked to stop."""

from __future__ import annotations

import re
import time

from headstart._core.errors import BadOption

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str, *, flag: str = "--budget") -> float | None:
    """Seconds of `30s`, `10m`, `1h`, `1h30m`, or None for `none`.

    >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("none")
    (5400.0, 90.0, None)

    Raises:
        BadOption: for anything else.
    """
    if text.strip().lower() == "none":
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise BadOption(f"{flag} does not understand {text!r}.", hint="Write 30s, 10m, 1h, 1h30m or none.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise BadOption(
            f"{flag} is {text!r}.", hint="Give it more than nothing: 30s, 10m, 1h, or none for no limit."
        )
    return seconds


class Clock:
    """A budget that runs from the moment the clock is made, and a flag that a signal handler may set.

    Args:
        seconds: the budget; None for no limit.
        spent: seconds that an interrupted earlier part has used up already.
    """

    def __init__(self, seconds: float | None = None, *, spent: float = 0.0) -> None:
        self._started = time.monotonic() - spent
        self._seconds = seconds
        self._reasons: list[str] = []

    def without_budget(self) -> Clock:
        """A clock that ends for the same signals but never for lack of time."""
        out = Clock()
        out._reasons = self._reasons
        return out

    @property
    def elapsed(self) -> float:
        """Seconds since the start, those of an interrupted earlier part included."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds left; infinite without a budget."""
        return float("inf") if self._seconds is None else self._seconds - self.elapsed

    def stop(self, reason: str) -> None:
        """Ask for a clean end at the next step."""
        self._reasons.append(reason)

    @property
    def stop_reason(self) -> str:
        """Why somebody asked to stop (`Ctrl-C`, `SIGTERM`), or an empty string."""
        return self._reasons[0] if self._reasons else ""

    @property
    def over(self) -> str:
        """Why the climb must end now, or an empty string."""
        return self.stop_reason or ("the time budget is used up" if self.left <= 0 else "")
