"""What the cache holds, and how it is emptied."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from headstart._core import segments
from headstart._core.errors import BadInput
from headstart._core.places import cache_folder
from headstart._core.records import record


@record
class Usage:
    """What lies in one of the cache's subfolders.

    Attributes:
        path: of the subfolder.
        bytes: on disk, temporary files included.
        entries: rows of features (an image has one for each network); files elsewhere.
    """

    path: str
    bytes: int
    entries: int


def usage(kind: str) -> Usage:
    """What is in the cache of that kind (see `places.KINDS`)."""
    found = [(size, _entries(kind, path)) for path, size in _files(cache_folder(kind))]
    return Usage(
        path=str(cache_folder(kind)),
        bytes=sum(size for size, _ in found),
        entries=sum(entries for _, entries in found),
    )


def clear(kind: str) -> Usage:
    """What was deleted: everything in the cache of that kind. Processes at work go on, and fill it again.

    Raises:
        BadInput: when something may not be deleted; the rest is.
    """
    folder = cache_folder(kind)
    freed = entries = 0
    failed: list[OSError] = []
    for path, size in _files(folder):
        count = _entries(kind, path)
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            failed.append(error)
            continue
        freed, entries = freed + size, entries + count
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(
            OSError
        ):  # not empty: a process has put something there again, or it may not go
            Path(place).rmdir()
    if failed:
        raise BadInput(
            f"{len(failed)} files in {folder} could not be deleted, first: {failed[0]}.",
            hint=f"Delete them yourself, as their owner: rm -r {folder}",
        )
    return Usage(path=str(folder), bytes=freed, entries=entries)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """(path, bytes) of all files under a folder; links are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            with contextlib.suppress(FileNotFoundError):  # merged or evicted meanwhile
                yield path, path.lstat().st_size


def _entries(kind: str, path: Path) -> int:
    if kind != "features":
        return int(not path.name.startswith("."))
    return segments.count(path) if path.suffix == segments.SUFFIX else 0
