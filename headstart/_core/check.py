"""Argument checks that write all their errors alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from headstart._core.errors import BadInput, BadOption


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the closest allowed name, or an empty string.

    >>> suggestion("linaer-probe", ["linear-probe", "full"])
    "Did you mean 'linear-probe'?"
    """
    lowered = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(value.lower(), list(lowered), n=1, cutoff=0.6)
    return f"Did you mean {lowered[close[0]]!r}?" if close else ""


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """The value itself if it is allowed.

    Raises:
        BadOption: naming the closest allowed value and listing all of them.
    """
    names = list(allowed)
    if value in names:
        return value
    hint = f"{suggestion(value, names)} Allowed: {', '.join(names)}.".strip()
    raise BadOption(f"{name} does not know {value!r}.", hint=hint)


def in_range(name: str, value: float, *, low: float, high: float) -> float:
    """The value itself if `low <= value <= high`.

    Raises:
        BadOption: naming the range.
    """
    if low <= value <= high:
        return value
    raise BadOption(f"{name} is {value:g}.", hint=f"It must lie between {low:g} and {high:g}.")


def existing(path: str | Path, *, what: str) -> Path:
    """The path, expanded, if something is there.

    Raises:
        BadInput: naming the nearest existing folder and a similar name in it, if there is one.
    """
    found = Path(path).expanduser()
    if found.exists():
        return found
    parent = next(folder for folder in [*found.absolute().parents, Path.cwd()] if folder.is_dir())
    near = (
        suggestion(found.name, (child.name for child in parent.iterdir()))
        if parent == found.absolute().parent
        else ""
    )
    hint = near or f"The nearest folder that exists is {parent}."
    raise BadInput(f"{what} {str(path)!r} does not exist.", hint=hint)
