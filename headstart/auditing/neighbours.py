"""Which rows lie close together, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator

Rows = NDArray[np.float32]
Pairs = NDArray[np.int64]
Places = NDArray[np.int64]

SMALL = 2048
"""Rows in a cell up to which all of them are compared."""

_HOMES, _DOORS = 2, 3  # cells that a row lies in, and cells that are searched for its neighbours
_FAN = 16  # cells that a crowded one is cut into
_CHUNK = 1024  # rows of a similarity matrix at a time


def unit(rows: NDArray[np.floating]) -> Rows:
    """The rows (N, d), their mean taken away, at length 1; a row at the mean becomes zeros."""
    centred = rows - rows.mean(0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-12), np.float32)


def projected(rows: NDArray[np.floating], width: int = 256) -> Rows:
    """Unit rows (N, at most width): random directions keep cosines to within about 1 / sqrt(width) of what is left to 1.

    Source: Johnson & Lindenstrauss 1984.
    """
    if rows.shape[1] <= width:
        return unit(rows)
    directions = generator(0, "directions", rows.shape[1]).standard_normal((rows.shape[1], width))
    flat = directions.astype(np.float32) / np.float32(np.sqrt(width))
    mean = rows.mean(0)
    out = np.empty((len(rows), width), np.float32)
    for start in range(0, len(rows), 8 * _CHUNK):  # no centred copy of all features
        out[start : start + 8 * _CHUNK] = (rows[start : start + 8 * _CHUNK] - mean) @ flat
    return unit(out)


def close_pairs(rows: Rows, askers: Rows | None = None, *, most: int = 6, floor: float = 0.5) -> Pairs:
    """Pairs (M, 2), lower place first, of rows whose cosine is at least `floor`: for each row its `most` nearest.

    The rows are cut into cells around randomly chosen ones, crowded cells again, until a cell holds at most `SMALL`. A
    row lies in the two nearest cells of every cut and its neighbours are searched in the three nearest: N log N work for
    rows that spread, and a recall near 1 for cosines of 0.8 and more, which is what copies have. Of all cells that a row
    is searched in, the nearest count once: else its pairs would triple with every cut.

    Args:
        rows: (N, d) of length 1.
        askers: (N, d) of length 1, whose neighbours among `rows` are searched, such as mirrored ones; None: the rows.
        most: neighbours of each row.
        floor: cosine below which two rows are no pair.
    """
    asking = rows if askers is None else askers
    everyone = np.arange(len(rows))
    best = _Best(len(rows), most)
    for members, visitors in _cells(rows, asking, everyone, everyone, depth=0):
        for start in range(0, len(visitors), _CHUNK):
            part = visitors[start : start + _CHUNK]
            best.offer(part, members, asking[part] @ rows[members].T)
    who, which = np.nonzero(best.cosine >= floor)
    pairs = np.sort(np.stack([who, best.place[who, which]], 1), axis=1)
    return np.unique(pairs, axis=0)


class _Best:
    """The nearest rows seen so far of each of N askers, none twice.

    Attributes:
        cosine: (N, most), -2 where there is none yet.
        place: (N, most).
    """

    def __init__(self, count: int, most: int) -> None:
        self.most = most
        self.cosine = np.full((count, most), -2.0, np.float32)
        self.place = np.full((count, most), -1, np.int64)

    def offer(self, askers: Places, members: Places, cosine: Rows) -> None:
        """Take what is nearer than what is known.

        Args:
            askers: (n,) places, none twice.
            members: (m,) places, none twice, in rising order.
            cosine: (n, m); it is written to.
        """
        own = np.minimum(np.searchsorted(members, askers), len(members) - 1)
        there = np.flatnonzero(members[own] == askers)
        cosine[there, own[there]] = -2  # nobody is its own neighbour
        if len(members) > 2 * self.most:  # some of the nearest may be known from another cell
            near = np.argpartition(cosine, -2 * self.most, axis=1)[:, -2 * self.most :]
        else:
            near = np.broadcast_to(np.arange(len(members)), cosine.shape)
        place, value = members[near], np.take_along_axis(cosine, near, axis=1)
        known = (place[:, :, None] == self.place[askers][:, None, :]).any(2)
        place = np.concatenate([self.place[askers], place], 1)
        value = np.concatenate([self.cosine[askers], np.where(known, np.float32(-2), value)], 1)
        order = np.argsort(-value, axis=1, kind="stable")[:, : self.most]
        self.place[askers] = np.take_along_axis(place, order, axis=1)
        self.cosine[askers] = np.take_along_axis(value, order, axis=1)


def _cells(
    rows: Rows, asking: Rows, members: Places, visitors: Places, *, depth: int
) -> Iterator[tuple[Places, Places]]:
    """(places of rows, places of askers) to be compared with one another."""
    if not len(visitors) or len(members) <= SMALL:
        yield members, visitors
        return
    rng = generator(depth, "pivots", len(members), int(members[0]))
    pivots = rows[rng.choice(members, min(_FAN, len(members)), replace=False)]
    homes, doors = _nearest(rows, members, pivots, _HOMES), _nearest(asking, visitors, pivots, _DOORS)
    for cell in range(len(pivots)):
        inside, outside = members[(homes == cell).any(1)], visitors[(doors == cell).any(1)]
        if len(inside) > 0.9 * len(
            members
        ):  # rows that are all alike cannot be cut: in order, piece by piece
            yield from _sliced(inside, outside)
        elif len(inside):
            yield from _cells(rows, asking, inside, outside, depth=depth + 1)


def _nearest(rows: Rows, places: Places, pivots: Rows, count: int) -> Places:
    out = np.empty((len(places), count), np.int64)
    for start in range(0, len(places), 8 * _CHUNK):
        cosine = rows[places[start : start + 8 * _CHUNK]] @ pivots.T
        out[start : start + 8 * _CHUNK] = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
    return out


def _sliced(members: Places, visitors: Places) -> Iterator[tuple[Places, Places]]:
    edges = members[::SMALL]
    where = np.searchsorted(edges, visitors, side="right") - 1
    for number in range(len(edges)):
        yield members[number * SMALL : (number + 1) * SMALL], visitors[np.maximum(where, 0) == number]
