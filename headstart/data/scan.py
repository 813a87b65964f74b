"""One pass over the files: which can be read, how large they are, and which are the same."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from headstart._core.progress import track
from headstart._core.records import record
from headstart.data.images import Probe, Undecodable, open_rgb, probe, read_bytes
from headstart.data.records import Flaw, Sample, Unreadable

A = TypeVar("A")
B = TypeVar("B")


@record
class Scanned:
    """What the pass found.

    Attributes:
        samples: the readable ones in their order, with digest, width and height (upright) filled in.
        unreadable: the others, with reasons.
        formats: Pillow's name of the file format, or `array` -> how many readable samples have it.
        modes: Pillow's name of the stored pixel mode -> how many readable samples have it.
        flaws: what is wrong with annotations; empty until they are checked.
    """

    samples: tuple[Sample, ...]
    unreadable: tuple[Unreadable, ...]
    formats: dict[str, int]
    modes: dict[str, int]
    flaws: tuple[Flaw, ...] = ()


def scan(samples: Sequence[Sample]) -> Scanned:
    """Every sample with its digest and size, and what cannot be read set aside.

    Each file is read once and decoded to its end, on as many threads as there are cores; about two files
    a core are in memory at any time.
    """
    kept: list[Sample] = []
    unreadable: list[Unreadable] = []
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    looks = _ordered(_look, samples, threads=os.cpu_count() or 1)
    for result in track(looks, label="reading images", total=len(samples)):
        if isinstance(result, Unreadable):
            unreadable.append(result)
            continue
        sample, seen = result
        kept.append(sample)
        formats[seen.format] += 1
        modes[seen.mode] += 1
    return Scanned(
        samples=tuple(kept),
        unreadable=tuple(unreadable),
        formats=dict(sorted(formats.items())),
        modes=dict(sorted(modes.items())),
    )


def _look(sample: Sample) -> tuple[Sample, Probe] | Unreadable:
    try:
        if isinstance(sample.source, np.ndarray):
            image = open_rgb(sample.source)
            mode = "L" if sample.source.ndim == 2 or sample.source.shape[2] == 1 else "RGB"
            mode = "RGBA" if sample.source.ndim == 3 and sample.source.shape[2] == 4 else mode
            seen = Probe(width=image.width, height=image.height, format="array", mode=mode)
            digest = hashlib.sha256(repr(sample.source.shape).encode())
            digest.update(np.ascontiguousarray(sample.source).data)
        else:
            data = read_bytes(sample.source)
            seen = probe(data, sample.name)
            digest = hashlib.sha256(data)
    except Undecodable as error:
        return Unreadable(name=sample.name, reason=error.reason)
    return replace(sample, digest=digest.hexdigest(), width=seen.width, height=seen.height), seen


def _ordered(function: Callable[[A], B], items: Iterable[A], *, threads: int) -> Iterator[B]:
    """The results in the order of the items, with at most two items a thread begun and not yet taken."""
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # after an interrupt the rest is not read
                future.cancel()
