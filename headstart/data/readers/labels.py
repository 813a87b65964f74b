"""Class names as people write them, made comparable."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from headstart._core.errors import BadInput


def shown(path: Path | str) -> str:
    """A path as text that can be written anywhere: bytes that are no UTF-8 are marked as such."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def clean(name: str) -> str:
    r"""A class name without surrounding spaces and in Unicode's composed form (macOS stores the other one).

    >>> clean(" caf" + "e\u0301 ") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", shown(name)).strip()


def spaces_note(names: Iterable[str]) -> tuple[str, ...]:
    """A note that names the labels with surrounding spaces, or nothing."""
    spaced = sorted({name for name in map(shown, names) if name != name.strip()})
    if not spaced:
        return ()
    listed = ", ".join(map(repr, spaced[:10])) + (" and more" if len(spaced) > 10 else "")
    return (f"Spaces around labels were removed: {listed}.",)


def check_case(classes: Iterable[str]) -> None:
    """Nothing, if no two class names differ in upper and lower case alone.

    Raises:
        BadInput: naming those that do.
    """
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        spellings[name.casefold()].append(name)
    clashes = [" / ".join(map(repr, sorted(names))) for names in spellings.values() if len(names) > 1]
    if clashes:
        raise BadInput(
            f"Labels differ only in upper and lower case: {', '.join(clashes[:10])}.",
            hint="If they mean the same class, give them one spelling (rename the folders or the cells); "
            "if not, give them names that differ in more than case.",
        )
