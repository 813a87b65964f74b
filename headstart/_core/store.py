"""Rows of numbers kept on disk by content, shared by all processes of a user."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from headstart._core import segments
from headstart._core.errors import BadInput
from headstart._core.log import warn
from headstart._core.places import cache_folder, feature_limit, told_size
from headstart._core.segments import SUFFIX, Damaged, Keys, Kind, Positions, Rows, Segment

_FORMAT = 1  # raised when rows of the same name would be computed differently than before

_HEX = 64  # digits of a SHA-256
_LARGE = 64 << 20  # bytes at which a segment is no longer merged: small enough to evict or drop alone
_MANY = 16  # small segments at which they are merged
_STALE = 3600  # seconds after which a temporary file must be that of a killed process
_TOUCH = 60  # seconds between two marks "this segment was used"
_LOOK = 20  # the limit is checked whenever a twentieth of it was written, or 64 MB
_TRIES = 5

_OPEN: weakref.WeakSet[RowStore] = (
    weakref.WeakSet()
)  # the stores of this process: what one of them uses, another must not evict


def namespace(**parts: object) -> str:
    """A name for one kind of row: the same only if all parts are equal (anything that JSON can hold)."""
    text = json.dumps({"format": _FORMAT} | parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def row_keys(digests: Iterable[str], *, view: int = 0) -> Keys:
    """Keys (N,) of images given by the SHA-256 of their bytes; each augmented view (1, 2 …) has keys of its own.

    Raises:
        BadInput: for a digest that is none; images must have been scanned.
    """
    told = list(digests)
    if not all(len(digest) == _HEX for digest in told):
        raise BadInput("An image has no digest.", hint="Scan the images first: headstart.data.load.")
    try:
        keys = np.frombuffer(bytes.fromhex("".join(told)), "S32")
    except ValueError as error:
        raise BadInput(f"An image has a malformed digest: {error}.", hint="Scan the images again.") from error
    if view:
        number = view.to_bytes(4, "little")
        raw = keys.tobytes()
        hashes = (hashlib.sha256(raw[at : at + 32] + number).digest() for at in range(0, len(raw), 32))
        keys = np.frombuffer(b"".join(hashes), "S32")
    return keys


class RowStore:
    """Rows of one shape and dtype, found by key.

    Rows are written once, in immutable files that appear whole or not at all, so reading needs no lock and a killed
    process loses only what it had not yet added. Where files cannot be written (a read-only folder, a full disk, the
    size limit) rows stay in memory, after one warning.

    Args:
        name: of the rows, from `namespace`.
        shape: of a row, at most four axes.
        dtype: of a row.
    """

    def __init__(self, name: str, *, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.kind = Kind(shape, np.dtype(dtype))
        told = "x".join(map(str, shape))
        self._folder = cache_folder("features") / f"{name}-{self.kind.dtype.name}-{told}"
        self._limit = feature_limit()
        self._segments: list[Segment] = []
        self._refused: set[Path] = set()
        self._touched: dict[Path, float] = {}
        self._seen: set[Path] = set()
        self._unread = 0  # files of other processes that were found since the last read
        self._on_disk, self._merges = self._limit > 0, True
        self._unlooked: float = np.inf  # bytes written since the limit was last looked at
        _OPEN.add(self)

    @property
    def used(self) -> set[Path]:
        """The files that this store has read from or written, and still knows."""
        return {s.path for s in self._segments if s.path is not None and s.path in self._touched}

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys (N,) have a row; nothing is read but the index."""
        self._refresh()
        out = np.zeros(len(keys), bool)
        for _, positions, _ in _hits(self._segments, keys):
            out[positions] = True
        return out

    def news(self) -> bool:
        """Whether other processes have added rows since the last `read`; much cheaper than reading."""
        self._refresh()
        return self._unread > 0

    def read(self, keys: Keys, out: Rows, *, at: Positions | None = None) -> NDArray[np.bool_]:
        """Which of the keys (N,) have a row; `out[at[i]]` (by default `out[i]`) becomes the row of key i where it is.

        Rows go from the memory map straight to their place; a row that fails its checksum counts as absent, and its file
        is dropped.
        """
        at = np.arange(len(keys)) if at is None else at
        done = np.zeros(len(keys), bool)
        self._refresh()
        self._unread = 0
        bad: list[Segment] = []
        for segment, positions, numbers in _hits(self._segments, keys):
            sound = segment.copy(numbers, out, at[positions])
            done[positions] = sound
            self._touch(segment)
            if not sound.all():
                bad.append(segment)
        if bad:
            for segment in bad:
                self._refuse(segment.path, "a row does not match its checksum")
            again = np.flatnonzero(~done)
            done[again] = self.read(keys[again], out, at=at[again])
        return done

    def add(self, keys: Keys, rows: Rows) -> None:
        """Keep rows (N, *shape) under their keys (N,); on disk when this returns, unless the disk was given up.

        Raises:
            ValueError: when the rows are not of this store's kind.
        """
        if rows.shape != (len(keys), *self.kind.shape) or rows.dtype != self.kind.dtype:
            raise ValueError(f"rows {rows.shape} {rows.dtype} for {len(keys)} keys do not fit {self.kind}")
        keys, first = np.unique(keys, return_index=True)
        if not len(keys):
            return
        rows = rows[first]
        if self._on_disk and self._write(keys, rows):
            self._merge()
        else:
            self._segments.append(segments.in_memory(keys, rows))

    def _write(self, keys: Keys, rows: Rows) -> bool:
        """Whether the rows are on disk; when not, the disk is given up with a warning."""
        try:
            if not self._room(rows.nbytes):
                self._give_up(
                    f"its limit of {told_size(self._limit)} is reached. "
                    "Raise HEADSTART_CACHE_LIMIT (500MB, 5GB), or run: headstart cache clear"
                )
                return False
            path = self._new_path()
            for turn in range(_TRIES):
                try:
                    segments.write(path, self.kind, keys, segments.checksums(rows), (rows,))
                    break
                except (
                    BadInput
                ) as error:  # `headstart cache clear` has just removed the folder: make it again
                    if turn == _TRIES - 1 or not isinstance(error.__cause__, FileNotFoundError):
                        raise
            segment = segments.opened(path, self.kind)
        except (BadInput, OSError, Damaged) as error:
            self._give_up(error.message if isinstance(error, BadInput) else f"{self._folder}: {error}")
            return False
        self._segments.append(segment)
        self._touched[path] = time.monotonic()
        return True

    def _give_up(self, why: str) -> None:
        self._on_disk = False
        warn(f"Features of this run are kept in memory only: {why}")

    def _new_path(self) -> Path:
        return self._folder / f"{uuid.uuid4().hex}{SUFFIX}"

    def _refresh(self) -> None:
        """Take notice of files that other processes have added, merged or evicted."""
        for _ in range(_TRIES):
            names = self._listed()
            known = {segment.path for segment in self._segments}
            gone = [self._take(path) for path in sorted(names - known - self._refused)].count(False)
            if not gone:  # else files were merged between listing and opening: look again
                break
        if names != self._seen:
            self._seen = names
            self._forget_merged(names)

    def _forget_merged(self, names: set[Path]) -> None:
        """Let go of files that are no longer listed and whose rows others hold; what was evicted stays mapped."""
        gone = [s for s in self._segments if s.path is not None and s.path not in names]
        there = [segment for segment in self._segments if segment not in gone]
        for segment in gone:
            if sum(len(found) for _, found, _ in _hits(there, segment.keys)) == len(segment.keys):
                self._segments.remove(segment)

    def _listed(self) -> set[Path]:
        try:
            with os.scandir(self._folder) as entries:
                return {self._folder / entry.name for entry in entries if entry.name.endswith(SUFFIX)}
        except OSError:  # not there yet, or not for us to read: no rows
            return set()

    def _take(self, path: Path) -> bool:
        """Whether the file was still there; it is opened if it is sound, else dropped."""
        try:
            self._segments.append(segments.opened(path, self.kind))
            self._unread += 1
        except FileNotFoundError:
            return False
        except Damaged as error:
            self._refuse(path, str(error))
        except OSError as error:
            self._refused.add(path)
            warn(f"{path} cannot be read ({error}); what is in it is computed again.")
        return True

    def _refuse(self, path: Path | None, why: str) -> None:
        """Drop a file that cannot be trusted."""
        if path is None:
            return
        self._refused.add(path)
        self._segments = [segment for segment in self._segments if segment.path != path]
        segments.remove(path)
        warn(f"{path} is damaged ({why}); what was in it is computed again.")

    def _touch(self, segment: Segment) -> None:
        """Mark a file as used now; files that nobody used for long are evicted first."""
        now = time.monotonic()
        if segment.path is None or now - self._touched.get(segment.path, -np.inf) < _TOUCH:
            return
        self._touched[segment.path] = now
        with contextlib.suppress(OSError):  # a read-only cache, or a file merged by another process
            os.utime(segment.path)

    def _room(self, incoming: int) -> bool:
        """Whether so many bytes more fit the limit, after the least recently used files have left."""
        step = min(_LARGE, self._limit // _LOOK)
        self._unlooked += incoming
        if self._unlooked < step:
            return True
        self._unlooked = 0
        spared = {path for store in _OPEN for path in store.used}
        return evict(self._folder.parent, self._limit - max(step, incoming), spared=spared)

    def _merge(self) -> None:
        """Put small files together, unless another process is at it."""
        if not self._merges or len(self._small()) < _MANY:
            return
        from filelock import FileLock, Timeout  # 0.1 s that only a process with many rows need pay

        try:
            with FileLock(self._folder / ".lock", blocking=False):
                self._refresh()
                self._merge_alone()
        except Timeout:
            return
        except Damaged as error:
            self._refuse(error.path, str(error))
        except (
            BadInput,
            OSError,
            NotImplementedError,
        ):  # no room or no locks here: many small files do as well
            self._merges = False

    def _merge_alone(self) -> None:
        """The small files become one; whoever maps the old ones keeps them, others find the new one first."""
        parts: list[Segment] = []
        for segment in self._small():
            if sum(part.nbytes for part in parts) + segment.nbytes <= _LARGE:
                parts.append(segment)
        if len(parts) < 2:
            return
        used = max(part.path.stat().st_mtime for part in parts if part.path)
        path = self._new_path()
        segments.merged(path, self.kind, parts)
        os.utime(path, (used, used))  # merging is no use
        self._segments.append(segments.opened(path, self.kind))
        if any(part.path in self._touched for part in parts):
            self._touched[path] = -np.inf
        for part in parts:  # unmapped when their absence is noticed
            if part.path:
                self._touched.pop(part.path, None)
                segments.remove(part.path)

    def _small(self) -> list[Segment]:
        """Segments in files that are worth merging, smallest first."""
        small = [s for s in self._segments if s.path and s.nbytes < _LARGE // 2 and s.path.exists()]
        return sorted(small, key=lambda segment: segment.nbytes)


def _hits(parts: list[Segment], keys: Keys) -> Iterator[tuple[Segment, Positions, Positions]]:
    """(segment, positions in keys, row numbers in the segment), each position once; row numbers ascend."""
    left = np.argsort(keys, kind="stable")
    for segment in sorted(parts, key=lambda part: -len(part.keys)):
        if not len(left):
            return
        found, numbers = segment.find(keys[left])
        if len(numbers):
            yield segment, left[found], numbers
            left = left[~found]


def evict(folder: Path, allowed: int, *, spared: set[Path]) -> bool:
    """Whether the files of all stores in a folder now fit into that many bytes; the least recently used leave first.

    Nothing leaves where that would not be enough, because the spared files alone are too many. Temporary files of killed
    processes are removed on the way.
    """
    files: list[tuple[float, int, Path]] = []
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):  # gone since it was listed
            seen = path.stat()
            if path.name.endswith(".tmp") and time.time() - seen.st_mtime > _STALE:
                segments.remove(path)
            elif path.suffix == SUFFIX:
                files.append((seen.st_mtime, seen.st_size, path))
    total = sum(size for _, size, _ in files)
    if sum(size for _, size, path in files if path in spared) > allowed:
        return False
    for _, size, path in sorted(files):
        if total <= allowed:
            break
        if path not in spared:
            segments.remove(path)
            total -= size
    return total <= allowed
