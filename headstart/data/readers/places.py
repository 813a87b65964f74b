"""What readers of boxes and masks share: split folders, images by name, lists of classes."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.readers.labels import clean, shown
from headstart.data.readers.records import EXTENSIONS, SPLIT_NAMES
from headstart.data.readers.walk import Found, children, is_kind, walk
from headstart.data.records import Unreadable

CLASS_FILES = ("classes.txt", "labels.txt", "class_dict.csv", "classes.csv", "label_colors.txt")
IGNORED_NAMES = ("unlabelled", "unlabeled", "void", "ignore", "ignored", "don't care")
"""Names (in lower case) of a value that counts neither way."""


@record
class ClassList:
    """Names in the order of their indices, with their colours (red, green, blue) where the file has them."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()


def as_number(text: str) -> float:
    """The number in a text; NaN where it is none, which is told as a flaw of the box."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def folder_splits(root: Path) -> list[tuple[Path, str]]:
    """The folders in it that are called like a split, with that split."""
    return [
        (folder, SPLIT_NAMES[folder.name.lower()])
        for folder in children(root)[0]
        if folder.name.lower() in SPLIT_NAMES
    ]


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it; none where there is no such folder."""
    return walk(folder, Found()).images if is_kind(folder.is_dir) else []


def by_stem(images: Sequence[Path]) -> dict[str, Path]:
    """Name without ending -> image.

    Raises:
        BadInput: when two images differ in their endings alone, so that an annotation could belong to either.
    """
    out: dict[str, Path] = {}
    for image in images:
        if image.stem in out:
            raise BadInput(
                f"{shown(out[image.stem])} and {shown(image)} have the same name but for their ending.",
                hint="Rename one: annotations are found by name.",
            )
        out[image.stem] = image
    return out


def image_in(folder: Path, stem: str) -> Path | None:
    """The image of that name, whatever its ending."""
    for suffix in EXTENSIONS:
        for ending in (suffix, suffix.upper()):
            if (folder / f"{stem}{ending}").is_file():
                return folder / f"{stem}{ending}"
    return None


def class_list(root: Path) -> ClassList | None:
    """The list of classes in a folder, or None where it has none.

    `classes.txt` has a name a line, or a name and three numbers; `class_dict.csv` has the columns name,r,g,b.

    Raises:
        BadInput: for a file in another form, or a name or colour that comes twice.
    """
    file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if file is None:
        return None
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    rows = _csv_rows(text) if file.suffix == ".csv" else [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    coloured = bool(rows) and all(_numbers(row) is not None for row in rows)
    names, colours = [], []
    for row in rows:
        numbers = _numbers(row) if coloured else None
        if numbers is None:
            names.append(clean(" ".join(row)))
            continue
        name, colour = numbers
        names.append(clean(name))
        colours.append(colour)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or len(set(colours)) < len(colours) or not names:
        raise BadInput(
            f"{shown(file)} " + (f"has {twice!r} twice." if twice else "has no names, or a colour twice."),
            hint="One class a line: its name, and for coloured masks its red, green and blue from 0 to 255.",
        )
    return ClassList(names=tuple(names), colours=tuple(colours))


def _csv_rows(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    return rows[1:] if rows and rows[0] and rows[0][0].lower() in ("name", "class") else rows


def _numbers(row: Sequence[str]) -> tuple[str, tuple[int, int, int]] | None:
    """The name and colour of a line that has both, in either order."""
    for numbers, words in ((row[-3:], row[:-3]), (row[:3], row[3:])):
        if words and len(numbers) == 3 and all(n.isdigit() and int(n) < 256 for n in numbers):
            red, green, blue = (int(n) for n in numbers)
            return " ".join(words), (red, green, blue)
    return None


def first_of(missing: Sequence[Unreadable]) -> str:
    """A hint that names the first of what is missing."""
    return f"The first: {missing[0].name}: {missing[0].reason}." if missing else ""
