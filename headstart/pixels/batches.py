"""Batches of 8-bit pixels, decoded by threads while the network works on the batch before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.records import Sample

Loader = Callable[[int, Sample], NDArray[np.uint8]]
"""Makes (H, W, 3) pixels of a sample; the number is the sample's position, from which augmentation draws its seed."""

_AHEAD = 3  # batches decoded in advance: enough to hide decoding, few enough for constant memory


@dataclass(frozen=True)
class Batch:
    """Pixels (N, 3, H, W), 8-bit, channels-last in memory, and the positions of the samples they come from."""

    pixels: Tensor
    positions: tuple[int, ...]


def batches(samples: Sequence[Sample], loader: Loader, *, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """The batches that `groups` asks for, in that order; decoding runs ahead in threads (Pillow releases the lock).

    Args:
        samples: where positions point into.
        loader: makes the pixels of one sample; all of one group must come out in one size.
        groups: the positions of each batch.
    """
    workers = max(1, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="headstart-decode") as pool:
        waiting: deque[tuple[Sequence[int], list[Future[NDArray[np.uint8]]]]] = deque()
        pending = iter(groups)
        try:
            while True:
                while len(waiting) < _AHEAD and (group := next(pending, None)) is not None:
                    waiting.append(
                        (group, [pool.submit(loader, position, samples[position]) for position in group])
                    )
                if not waiting:
                    return
                group, futures = waiting.popleft()
                stacked = torch.from_numpy(np.stack([future.result() for future in futures]))
                yield Batch(pixels=stacked.permute(0, 3, 1, 2), positions=tuple(group))
        finally:  # the consumer may stop early (budget, Ctrl-C): nothing is left running
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def in_order(count: int, batch_size: int) -> list[range]:
    """Groups for `batches`: every position once, in order."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
