"""Batches of 8-bit pixels, decoded by threads while the network works on the batch before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.records import Sample


@dataclass(frozen=True)
class Example:
    """Pixels (H, W, 3), 8-bit, of one image, with what is true of them as they are now."""

    pixels: NDArray[np.uint8]
    truth: Any


Loader = Callable[[int, Sample], "NDArray[np.uint8] | Example"]
"""Makes (H, W, 3) pixels of a sample; the number is the sample's position, from which augmentation draws its seed."""

_READERS = 2  # one reads files while the other waits for the device
_AHEAD = 3  # batches decoded in advance: enough to hide decoding, few enough for constant memory

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    """Pixels (N, 3, H, W), 8-bit, channels-last in memory, and the positions of the samples they come from.

    Attributes:
        truth: what is true of each image as it is now, where it moves with the pixels; empty otherwise.
    """

    pixels: Tensor
    positions: tuple[int, ...]
    truth: tuple[Any, ...] = ()

    @property
    def rows(self) -> NDArray[np.uint8]:
        """The same pixels (N, H, W, 3), contiguous, without a copy."""
        out: NDArray[np.uint8] = self.pixels.permute(0, 2, 3, 1).numpy()
        return out


def cpus() -> int:
    """Processors that this process may use (a container or `taskset` may leave fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, waiting: int
) -> Generator[Result]:
    """`function(item)` for each item, in order, worked out by threads while the caller uses the results before.

    Never more than `waiting` results exist or are being made, whatever the length of `items`: memory is constant.
    An exception comes out at its item's place. Threads, not processes: the decoders and networks release the
    interpreter's lock, and nothing has to be copied between processes.

    Args:
        function: called in threads.
        items: read only as far ahead as `waiting` allows, in the caller's thread.
        workers: threads.
        waiting: the bound.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="headstart-ahead") as pool:
        queue: deque[Future[Result]] = deque()
        try:
            for item in items:
                queue.append(pool.submit(function, item))
                if len(queue) >= waiting:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:  # the consumer may stop early (budget, Ctrl-C): nothing is left running
            for future in queue:
                future.cancel()


def batches(
    samples: Sequence[Sample], loader: Loader, *, groups: Sequence[Sequence[int]]
) -> Generator[Batch]:
    """The batches that `groups` asks for, in that order; decoding runs ahead in threads.

    Args:
        samples: where positions point into.
        loader: makes the pixels of one sample; all of one group must come out in one size.
        groups: the positions of each batch.
    """
    if not groups:
        return
    windows = ahead(
        lambda position: loader(position, samples[position]),
        (position for group in groups for position in group),
        workers=cpus(),
        waiting=_AHEAD * max(len(group) for group in groups),
    )
    with closing(windows):
        for group in groups:
            items = [next(windows) for _ in group]
            pixels = [item.pixels if isinstance(item, Example) else item for item in items]
            truth = tuple(item.truth for item in items if isinstance(item, Example))
            stacked = torch.from_numpy(np.stack(pixels))
            yield Batch(pixels=stacked.permute(0, 3, 1, 2), positions=tuple(group), truth=truth)


def together(
    samples: Sequence[Sample],
    reader: Callable[[Sequence[Sample]], Sequence[NDArray[np.uint8]]],
    *,
    groups: Sequence[Sequence[int]],
) -> Generator[Batch]:
    """The batches that `groups` asks for, in that order, each read by one call that runs ahead.

    Args:
        samples: where positions point into.
        reader: makes the pixels of a whole group, all in one size.
        groups: the positions of each batch.
    """

    def read(group: Sequence[int]) -> Batch:
        stacked = torch.from_numpy(np.stack(reader([samples[position] for position in group])))
        return Batch(pixels=stacked.permute(0, 3, 1, 2), positions=tuple(group))

    yield from ahead(read, groups, workers=_READERS, waiting=_AHEAD)


def in_order(count: int, batch_size: int) -> list[range]:
    """Groups for `batches`: every position once, in order."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
