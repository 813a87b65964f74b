"""One of many processes that share a store; run as a script, imports no torch.

Adds and reads random groups of keys, each row being a function of its key, and reports every group that is finished.
"""

from __future__ import annotations

import hashlib
import logging
import sys

import numpy as np
from numpy.typing import NDArray

from headstart._core.segments import Keys
from headstart._core.store import RowStore, namespace, row_keys

KEYS, GROUP, GROUPS = 1500, 20, 45
SHAPE, DTYPE = (3, 4, 8), np.float16


def some_keys(numbers: NDArray[np.int64] | range) -> Keys:
    return row_keys(hashlib.sha256(b"image %d" % number).hexdigest() for number in numbers)


def true_rows(keys: Keys) -> NDArray[np.float16]:
    """What the row of each key must be: its own bytes and their sums."""
    values = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 1, 4, 8).astype(np.float16)
    return np.concatenate([values, values * 2, values + 0.5], axis=1)


def the_store() -> RowStore:
    return RowStore(namespace(test="shared"), shape=SHAPE, dtype=DTYPE)


def work(seed: int) -> None:
    store, rng = the_store(), np.random.default_rng(seed)
    for _ in range(GROUPS):
        numbers = rng.choice(KEYS, GROUP, replace=False)
        keys, out = some_keys(numbers), np.empty((GROUP, *SHAPE), DTYPE)
        there = store.read(keys, out)
        assert (out[there] == true_rows(keys[there])).all(), "a row that was never written"
        store.add(keys[~there], true_rows(keys[~there]))
        sys.stdout.write(" ".join(map(str, numbers)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.WARNING
    )  # a damaged file or a disk given up would be told on standard error
    work(int(sys.argv[1]))
    assert "torch" not in sys.modules
