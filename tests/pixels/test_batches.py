"""Batches come in order, in bounded memory, and stop when their reader does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart.data.records import Sample
from headstart.pixels import ahead, batches, cpus, in_order


def made(count: int) -> list[Sample]:
    return [Sample(name=str(n), source=np.full((4, 6, 3), n % 256, np.uint8)) for n in range(count)]


def load(_position: int, sample: Sample) -> NDArray[np.uint8]:
    assert isinstance(sample.source, np.ndarray)
    return sample.source


def test_groups_in_order_and_without_a_copy() -> None:
    groups = [[3, 1], [0], [2, 4, 4]]
    found = list(batches(made(5), load, groups=groups))
    assert [batch.positions for batch in found] == [(3, 1), (0,), (2, 4, 4)]
    assert found[2].rows[:, 0, 0, 0].tolist() == [2, 4, 4]
    assert found[0].pixels.shape == (2, 3, 4, 6)
    assert np.shares_memory(found[0].rows, found[0].pixels.numpy())
    assert list(batches([], load, groups=[])) == []
    assert in_order(5, 2) == [range(0, 2), range(2, 4), range(4, 5)]


def test_never_more_than_the_bound_at_once() -> None:
    """However slow the reader: 10,000 items would otherwise all be decoded while it sleeps."""
    begun, taken, most = 0, 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun - taken)
        return number

    out = []
    for number in ahead(work, range(10_000), workers=3, waiting=8):
        with lock:
            taken += 1
        if number < 5:
            time.sleep(0.02)
        out.append(number)
    assert out == list(range(10_000))
    assert most <= 9  # eight, and the one that is being handed over


def test_items_are_read_lazily() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        while True:  # endless
            read += 1
            yield read

    stream = ahead(lambda n: n, items(), workers=2, waiting=5)
    assert [next(stream) for _ in range(3)] == [1, 2, 3]
    assert read <= 8
    stream.close()


def test_an_error_comes_at_its_place_and_ends_the_threads() -> None:
    def fails(position: int, sample: Sample) -> NDArray[np.uint8]:
        if position == 9:
            raise BadInput("broken")
        return load(position, sample)

    stream = batches(made(200), fails, groups=in_order(200, 4))
    assert [next(stream).positions for _ in range(2)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    with pytest.raises(BadInput, match="broken"):
        next(stream)
    assert not [each for each in threading.enumerate() if each.name.startswith("headstart-ahead")]


def test_closing_cancels_what_waits() -> None:
    begun: list[int] = []

    def slow(position: int, sample: Sample) -> NDArray[np.uint8]:
        begun.append(position)
        time.sleep(0.01)
        return load(position, sample)

    stream = batches(made(1000), slow, groups=in_order(1000, 10))
    next(stream)
    stream.close()
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count < 1000


def test_processors() -> None:
    assert cpus() >= 1
