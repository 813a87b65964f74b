"""Where headstart keeps what it can fetch or make again, and how much of it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from headstart._core.check import one_of
from headstart._core.errors import BadInput, BadOption

KINDS = {
    "features": "features of images, computed once",
    "compute": "networks compiled for this machine",
    "weights": "downloaded checkpoints",
    "datasets": "downloaded datasets",
    "reference": "statistics of networks on their pretraining domain",
}
"""Subfolders of the cache, and what is in each; the first two are made again without a network."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LIMIT = 5 * 10**9  # bytes: a million images' features of 1280 numbers
_SHARE = (
    0.5  # of the free disk: a cache that grows lowers this bound too, and ends at a third of what was free
)


def cache_root() -> Path:
    """The cache folder: `$HEADSTART_CACHE`, by default `~/.cache/headstart`; it need not exist.

    Raises:
        BadInput: when there is neither that variable nor a home folder.
    """
    try:
        return Path(os.environ.get("HEADSTART_CACHE") or "~/.cache/headstart").expanduser()
    except RuntimeError as error:
        raise BadInput(
            "There is no home folder to keep a cache in.", hint="Name one: HEADSTART_CACHE=/some/folder"
        ) from error


def cache_folder(kind: str) -> Path:
    """The cache's subfolder for a kind of `KINDS`; it need not exist."""
    return cache_root() / one_of("The cache", kind, KINDS)


def feature_limit() -> int:
    """How many bytes of features may be kept: `$HEADSTART_CACHE_LIMIT`, by default 5 GB or half of the free disk.

    Raises:
        BadOption: when the variable is not a size.
    """
    told = os.environ.get("HEADSTART_CACHE_LIMIT")
    if told:
        return parse_size(told)
    there = cache_root().absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return min(_LIMIT, int(shutil.disk_usage(there).free * _SHARE))


def parse_size(text: str) -> int:
    """Bytes of `5GB`, `200 MB`, `0`; a thousand bytes are a kilobyte.

    >>> parse_size("5GB"), parse_size("1.5 k"), parse_size("0")
    (5000000000, 1500, 0)

    Raises:
        BadOption: for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise BadOption(
            f"HEADSTART_CACHE_LIMIT does not understand {text!r}.",
            hint="Write 500MB, 5GB, or 0 for no cache.",
        )
    return int(float(found[1]) * _UNITS[found[2]])


def told_size(count: int) -> str:
    """A number of bytes in words.

    >>> told_size(0), told_size(1500), told_size(5_000_000_000)
    ('0 B', '1.5 kB', '5.0 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
