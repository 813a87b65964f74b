"""The file format of cached rows: immutable, checked row by row, read through a memory map.

A segment is a header of 64 bytes, the keys in ascending order (32 bytes each), a CRC-32 for each row, and the rows. A
file that is torn, foreign or damaged is recognised: by its length and the checksum of header, keys and checksums when it
is opened, by a row's own checksum when that row is read.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart._core import files

SUFFIX = ".rows"
_MAGIC = b"HSROWS01"
_HEADER = struct.Struct(
    "<8sQ8s4QII"
)  # magic, rows, dtype, shape of a row, CRC of the index, CRC of the header so far
_CHECKED = _HEADER.size - 4  # the header's own checksum covers what stands before it
_INDEX = 32 + 4  # bytes of a key and of a row's checksum
_BLOCK = 1 << 20  # bytes copied at once
_RELEASE = 1 << 20  # bytes read after which the pages of a map are given back

Keys = NDArray[np.bytes_]
"""(N,) of `S32`: SHA-256 digests."""

Rows = NDArray[Any]
"""(N, *shape) in the dtype of the store."""

Positions = NDArray[np.intp]
"""(N,) indices into another array."""


class Damaged(ValueError):
    """A file, at `path`, that is not a whole segment of the kind that was asked for."""

    def __init__(self, why: str, path: Path | None) -> None:
        super().__init__(why)
        self.path = path


@dataclass(frozen=True)
class Kind:
    """What every row of a store looks like: shape (at most four axes) and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def header(self, count: int, index: bytes) -> bytes:
        """The 64 bytes before the keys."""
        shape = (*self.shape, *(0,) * (4 - len(self.shape)))
        head = _HEADER.pack(_MAGIC, count, self.dtype.str.encode(), *shape, zlib.crc32(index), 0)[:_CHECKED]
        return head + struct.pack("<I", zlib.crc32(head))


class Segment:
    """Rows of one file (or of memory, where there is no disk to keep them on), found by key."""

    def __init__(
        self,
        keys: Keys,
        checks: NDArray[np.uint32],
        rows: Rows,
        *,
        path: Path | None,
        mapped: mmap.mmap | None,
    ) -> None:
        self.keys, self.checks, self.rows = keys, checks, rows
        self.path = path
        self._mapped = mapped
        self._unreleased = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return _HEADER.size + len(self.keys) * _INDEX + self.rows.nbytes

    def find(self, keys: Keys) -> tuple[NDArray[np.bool_], Positions]:
        """(mask, rows): which of the keys (N,) are here, and the row number of each of those."""
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        found = self.keys[places] == keys
        return found, places[found]

    def copy(self, numbers: Positions, out: Rows, at: Positions) -> NDArray[np.bool_]:
        """Which rows are sound; `out[at[i]]` becomes row `numbers[i]` where it is."""
        sound = np.zeros(len(numbers), bool)
        if not self._whole():
            return sound
        step = max(1, _BLOCK // max(1, self.rows[:1].nbytes))
        for start in range(0, len(numbers), step):
            part = slice(start, start + step)
            rows = self.rows[numbers[part]]
            sound[part] = good = checksums(rows) == self.checks[numbers[part]]
            if good.all():
                out[at[part]] = rows
            else:
                out[at[part][good]] = rows[good]
            self._release(rows.nbytes)
        return sound

    def _whole(self) -> bool:
        """Whether the file still has its length: to read a map past the end of its file would kill the process."""
        if self.path is None:
            return True
        try:
            return self.path.stat().st_size == self.nbytes
        except OSError:  # merged into another or evicted; the map keeps what was there
            return True

    def _release(self, count: int) -> None:
        """Give the map's pages back to the system now and then: they would count as this process's memory."""
        self._unreleased += count
        if self._mapped is not None and self._unreleased > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._unreleased = 0


def checksums(rows: Rows) -> NDArray[np.uint32]:
    """CRC-32 of each row's bytes (N,)."""
    flat = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    return np.fromiter((zlib.crc32(row.data) for row in flat), np.uint32, len(rows))


def in_memory(keys: Keys, rows: Rows) -> Segment:
    """A segment without a file; keys in ascending order."""
    return Segment(keys, checksums(rows), rows, path=None, mapped=None)


def write(path: Path, kind: Kind, keys: Keys, checks: NDArray[np.uint32], blocks: Iterable[Rows]) -> None:
    """Write a segment: whole and synced to disk, or not at all.

    Args:
        path: where it appears.
        kind: of its rows.
        keys: in ascending order.
        checks: the rows' checksums.
        blocks: the rows in the order of the keys, in any number of parts.

    Raises:
        BadInput: when the folder cannot be written to or the disk is full.
    """
    index = keys.tobytes() + checks.astype("<u4").tobytes()
    with files.atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(kind.header(len(keys), index) + index)
        for block in blocks:
            stream.write(np.ascontiguousarray(block).data)


def opened(path: Path, kind: Kind) -> Segment:
    """The segment in a file.

    Raises:
        Damaged: when the file is not a whole segment of that kind.
        OSError: when it cannot be read, or is no longer there.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise Damaged("it is not a file of cached rows", path)
        count = int(_HEADER.unpack(head)[1])
        start = _HEADER.size + count * _INDEX
        size = stream.seek(0, 2)
        if size != start + count * kind.row_bytes or not count:
            raise Damaged(f"it has {size} bytes instead of {start + count * kind.row_bytes}", path)
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    # The index is copied out, so that nothing but rows is read through the map later.
    index = mapped[_HEADER.size : start]
    if head != kind.header(count, index):
        raise Damaged("its index does not match its checksum, or its rows are of another kind", path)
    keys = np.frombuffer(index, "S32", count)
    checks = np.frombuffer(index, "<u4", count, offset=count * 32)
    rows = np.frombuffer(mapped, kind.dtype, count * math.prod(kind.shape), offset=start)
    return Segment(keys, checks.astype(np.uint32), rows.reshape(count, *kind.shape), path=path, mapped=mapped)


def merged(path: Path, kind: Kind, parts: list[Segment]) -> None:
    """Write one segment with the rows of several, each key once.

    Raises:
        Damaged: when a row of the parts is not sound; nothing is written.
        BadInput: when the folder cannot be written to or the disk is full.
    """
    owners = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
    numbers = np.concatenate([np.arange(len(part.keys)) for part in parts])
    keys, first = np.unique(np.concatenate([part.keys for part in parts]), return_index=True)
    checks = np.concatenate([part.checks for part in parts])[first]
    write(path, kind, keys, checks, _gathered(kind, parts, owners[first], numbers[first]))


def _gathered(kind: Kind, parts: list[Segment], owners: Positions, numbers: Positions) -> Iterator[Rows]:
    """Rows `numbers` of the parts `owners`, a block at a time, each row checked on its way."""
    step = max(1, _BLOCK // kind.row_bytes)
    for start in range(0, len(owners), step):
        owner, number = owners[start : start + step], numbers[start : start + step]
        block = np.empty((len(owner), *kind.shape), kind.dtype)
        for index in np.unique(owner):
            mine = np.flatnonzero(owner == index)
            if not parts[index].copy(number[mine], block, mine).all():
                raise Damaged("a row does not match its checksum", parts[index].path)
        yield block


def remove(path: Path) -> int:
    """Bytes freed by deleting a file: 0 where it is gone already or may not be deleted."""
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0


def count(path: Path) -> int:
    """How many rows the file says it has; 0 where it is no segment."""
    with contextlib.suppress(OSError, struct.error), path.open("rb") as stream:
        magic, rows, *_ = _HEADER.unpack(stream.read(_HEADER.size))
        return int(rows) if magic == _MAGIC else 0
    return 0
