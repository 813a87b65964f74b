"""Boxes in a CSV file: one line a box."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from headstart._core.errors import BadInput
from headstart.data.readers.labels import clean, shown
from headstart.data.readers.places import as_number
from headstart.data.readers.records import SPLIT_NAMES, Listing, Reader
from headstart.data.records import Box, LoadOptions, Sample, Unreadable

_SIDES = (("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_USUAL = {"path": ("filename", "image", "file"), "label": ("class", "name", "category")}


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a CSV file whose header names four sides."""
    path = Path(source).expanduser()
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        header = stream.readline()
    return _sides([name.strip() for name in header.split(_delimiter(header))]) is not None


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _sides(names: list[str]) -> tuple[str, str, str, str] | None:
    return next((sides for sides in _SIDES if set(sides) <= set(names)), None)


def read(source: str, options: LoadOptions) -> Listing:
    """The images that the lines name, each with its boxes in pixels; a line with empty sides is an image without objects.

    Raises:
        BadInput: when a column is missing, a line has other cells than the header, or no image exists.
    """
    file = Path(source).expanduser()
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        text = stream.read()
    header, _, _ = text.partition("\n")
    rows = list(csv.DictReader(text.splitlines(), delimiter=_delimiter(header), skipinitialspace=True))
    names = [name.strip() for name in header.strip().split(_delimiter(header))]
    path, label = (_column(file, names, key, options) for key in ("path", "label"))
    sides = _sides(names)
    assert sides is not None
    classes = tuple(sorted({clean(row[label] or "") for row in rows if (row[label] or "").strip()}))
    index = {name: number for number, name in enumerate(classes)}
    boxes: defaultdict[str, list[Box]] = defaultdict(list)
    split: dict[str, str] = {}
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise BadInput(
                f"{shown(file)} row {number + 1} has other cells than the header.",
                hint="Quote cells with commas.",
            )
        key = row[path].strip()
        given = row.get(options.split_column, "").strip().lower()
        split[key] = SPLIT_NAMES.get(given, given)
        if any(row[side].strip() for side in sides):
            left, top, right, bottom = (as_number(row[side]) for side in sides)
            place = index[clean(row[label])] if row[label].strip() else 0
            boxes[key].append(Box(left=left, top=top, right=right, bottom=bottom, label=place))
    samples, missing = [], []
    for key in split:
        image = file.parent / key
        if not key or not image.is_file():
            missing.append(Unreadable(name=shown(image), reason="file does not exist"))
            continue
        own = tuple(boxes[key])
        labels = tuple(sorted({box.label for box in own}))
        samples.append(Sample(name=shown(image), source=image, split=split[key], boxes=own, labels=labels))
    if not samples or not classes:
        raise BadInput(
            f"{shown(file)} names no image that exists, or no class.",
            hint="Paths are relative to the file's folder.",
        )
    return Listing(samples=tuple(samples), task="detect", classes=classes, unreadable=tuple(missing))


def _column(file: Path, names: list[str], key: str, options: LoadOptions) -> str:
    """The column with the paths or the labels."""
    wanted = options.path_column if key == "path" else options.label_column
    choices: list[str] = [wanted, *(_USUAL[key] if wanted == key else ())]
    for name in choices:
        if name in names:
            return name
    raise BadInput(
        f"{shown(file)} has no column {wanted!r}.",
        hint=f"Its columns: {', '.join(names)}. Name it with --{key}-column.",
    )


READER = Reader(
    name="boxes",
    looks_like="a CSV file with the columns path,label,left,top,right,bottom",
    matches=matches,
    read=read,
    options=("path_column", "label_column", "split_column"),
)
