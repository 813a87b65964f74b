"""Progress bars with rate and time left: on a terminal only, and only for work of more than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 1.0  # seconds of silence: a bar that flashes by tells nothing


def track(items: Iterable[T], *, label: str, total: int | None = None, weight: int = 1) -> Iterator[T]:
    """The items, one by one, with a bar on standard error once they have taken more than a second.

    Args:
        items: what to go through.
        label: a few words in the present participle: "reading images".
        total: how many steps there are in all, where `items` has no length.
        weight: how many steps one item stands for (a batch of 32 images is 32).
    """
    if not sys.stderr.isatty():
        yield from items
        return
    size = len(items) * weight if total is None and isinstance(items, Sized) else total
    started, bar, done = time.monotonic(), None, 0
    try:
        for item in items:
            yield item
            done += weight
            if bar is None and time.monotonic() - started > _PATIENCE:
                bar = _Bar(label, size)
            if bar is not None:
                bar.update(done)
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A Rich bar on standard error; Rich is imported only when a bar is really drawn."""

    def __init__(self, label: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(label, total=total, rate="")
        self._progress.start()

    def update(self, done: int) -> None:
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, completed=done, rate=f"{speed:.1f}/s" if speed else "")

    def close(self) -> None:
        self._progress.stop()
