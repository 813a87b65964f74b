"""CSV files: `path,label[,split][,group]`."""

from __future__ import annotations

import csv
from pathlib import Path

from headstart._core.errors import BadInput
from headstart.data.readers import columns
from headstart.data.readers.labels import shown
from headstart.data.readers.records import Listing, Reader
from headstart.data.records import LoadOptions

_DELIMITERS = ",;\t"  # spreadsheets of many countries write semicolons


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a file that ends in .csv or .tsv."""
    path = Path(source).expanduser()
    return path.suffix.lower() in (".csv", ".tsv") and path.is_file()


def read(source: str, options: LoadOptions) -> Listing:
    """The rows of a CSV file with a header. Comma, semicolon or tab, whichever the header has most of.

    Raises:
        BadInput: for a file that is no CSV, is empty, or lacks a column.
    """
    file = Path(source).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{shown(file)} is not UTF-8 text: {error.reason} at byte {error.start}.",
            hint="Save it as CSV in UTF-8.",
        ) from error
    except OSError as error:
        raise BadInput(
            f"{shown(file)} cannot be read: {error.strerror or error}.", hint="Check its permissions."
        ) from error
    header, _, _ = text.partition("\n")
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(keepends=True), delimiter=delimiter) if row]
    except csv.Error as error:
        raise BadInput(
            f"{shown(file)} is not a CSV file: {error}.", hint="Save it as CSV in UTF-8."
        ) from error
    if not rows:
        raise BadInput(f"{shown(file)} is empty.", hint="Its first line must name the columns: path,label")
    names, body = [name.strip() for name in rows[0]], rows[1:]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{shown(file)} has several columns named {twice[0]!r}.", hint="Rename or remove one.")
    uneven = next((number for number, row in enumerate(body) if len(row) != len(names)), None)
    if uneven is not None:
        raise BadInput(
            f"{shown(file)} row {uneven + 1} has {len(body[uneven])} cells, the header has {len(names)}.",
            hint="Put a cell that holds the delimiter into double quotes.",
        )
    return columns.listing(file, {name: [row[i] for row in body] for i, name in enumerate(names)}, options)


READER = Reader(
    name="csv",
    looks_like="a CSV file with the columns path,label and, if wanted, split and group",
    matches=matches,
    read=read,
    options=columns.OPTIONS,
)
