"""What CSV and Parquet files have in common: named columns of paths, labels, splits and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart._core.check import suggestion
from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.readers.labels import clean, shown, spaces_note
from headstart.data.readers.records import SPLIT_NAMES, Listing
from headstart.data.readers.walk import is_kind
from headstart.data.records import LoadOptions, Sample, Unreadable

Cell = str | tuple[str, ...]
Columns = Mapping[str, Sequence[Cell]]

OPTIONS = ("path_column", "label_column", "split_column", "group_column", "separator")
_DEFAULTS = LoadOptions()

_SEPARATORS, _OF_NAMES = "|;,/", ",/"
"""What people write between labels, and which of these names have too."""


@record
class _Labels:
    """The labels of every row, by name, in the order of the classes; None for a row without a label."""

    task: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, ...] | None, ...]
    notes: tuple[str, ...]


def listing(file: Path, columns: Columns, options: LoadOptions) -> Listing:
    """The rows of a table as samples. Paths are relative to the table's folder.

    Raises:
        BadInput: for a missing column, an unknown split, or rows without a label.
    """
    paths = _text(_column(file, columns, options.path_column, option="path_column"))
    splits = _splits(file, columns, options)
    groups = _optional(file, columns, options.group_column, option="group_column") or [""] * len(paths)
    labels = _labels(file, columns, options)
    index = {name: number for number, name in enumerate(labels.classes)}
    samples: list[Sample] = []
    unreadable: list[Unreadable] = []
    for number, (path, row) in enumerate(zip(paths, labels.rows, strict=True)):
        if not path.strip():
            unreadable.append(Unreadable(name=f"{shown(file)} row {number + 1}", reason="the path is empty"))
            continue
        found = _locate(file.parent, path)
        name = shown(found)
        if not is_kind(found.is_file):
            reason = "it is a folder, not a file" if is_kind(found.is_dir) else "file does not exist"
            unreadable.append(Unreadable(name=name, reason=reason))
        elif row is not None:
            sample = Sample(
                name=name,
                source=found,
                labels=tuple(sorted(index[label] for label in row)),
                split=splits[number],
                group=groups[number].strip(),
            )
            samples.append(sample)
    _check_labelled(file, paths, labels, options)
    return Listing(
        samples=tuple(samples),
        task=labels.task,
        classes=labels.classes,
        notes=labels.notes,
        unreadable=tuple(unreadable),
    )


def _check_labelled(file: Path, paths: Sequence[str], labels: _Labels, options: LoadOptions) -> None:
    if not labels.rows:
        raise BadInput(f"{shown(file)} has no rows.", hint="Give one row per image below the column names.")
    bare = [path for path, row in zip(paths, labels.rows, strict=True) if row is None]
    if bare:
        rows = f"{len(bare)} row{'s' if bare[1:] else ''}"
        raise BadInput(
            f"{shown(file)} has {rows} without a label in {options.label_column!r}, such as {bare[0]!r}.",
            hint="Fill in the labels or remove the rows.",
        )


def _locate(folder: Path, text: str) -> Path:
    """The first that exists of: the path as written, without surrounding spaces, with Windows' separators turned."""
    plain = folder / text.strip()
    tries = [plain, folder / text, folder / text.strip().replace("\\", "/")]
    return next((path for path in tries if is_kind(path.exists)), plain)


def _text(cells: Sequence[Cell]) -> list[str]:
    return [cell if isinstance(cell, str) else ", ".join(cell) for cell in cells]


def _column(file: Path, columns: Columns, name: str, *, option: str) -> Sequence[Cell]:
    if name in columns:
        return columns[name]
    raise BadInput(
        f"{shown(file)} has no column {name!r}.",
        hint=f"{suggestion(name, columns)} Its columns: {', '.join(map(repr, columns))}. "
        f"Name the right one with --{option.replace('_', '-')}.".strip(),
    )


def _optional(file: Path, columns: Columns, name: str, *, option: str) -> list[str] | None:
    """The column, or None where only its default name is missing: a column that was asked for must be there."""
    if name not in columns and (not name or name == getattr(_DEFAULTS, option)):
        return None
    return _text(_column(file, columns, name, option=option))


def _splits(file: Path, columns: Columns, options: LoadOptions) -> list[str]:
    cells = _optional(file, columns, options.split_column, option="split_column")
    if cells is None:
        return [""] * len(next(iter(columns.values()), ()))
    out = []
    for number, cell in enumerate(cells):
        text = cell.strip().lower()
        if text and text not in SPLIT_NAMES:
            raise BadInput(
                f"{shown(file)} row {number + 1}: the split is {cell!r}.",
                hint=f"{suggestion(text, SPLIT_NAMES)} Allowed: train, val (valid, validation), test, "
                "or empty where the split is to be made.".strip(),
            )
        out.append(SPLIT_NAMES[text] if text else "")
    return out


def _labels(file: Path, columns: Columns, options: LoadOptions) -> _Labels:
    name = options.label_column
    if name in columns:
        return _of_cells(columns[name], options.separator)
    taken = (options.path_column, options.split_column, options.group_column)
    others = {key: _text(cells) for key, cells in columns.items() if key not in taken}
    flags = {key: cells for key, cells in others.items() if _is_flags(cells)}
    if not name and not flags:
        raise BadInput(
            f"{shown(file)} has no column of 0 and 1 alone, so there are no multi-label columns.",
            hint=f"Its columns: {', '.join(map(repr, columns))}. Name the label column with --label-column.",
        )
    if name and (name != _DEFAULTS.label_column or len(flags) < 2 or len(flags) < len(others)):
        _column(file, columns, name, option="label_column")  # raises, with the columns there are
    if options.separator:
        raise BadInput(
            f"--separator {options.separator!r} has no effect: {shown(file)} has one column per label.",
            hint="Leave it out, or name the column with several labels in a cell with --label-column.",
        )
    classes = tuple(clean(key) for key in flags)
    rows = tuple(
        tuple(label for label, cell in zip(classes, row, strict=True) if cell.strip() in ("1", "1.0"))
        for row in zip(*flags.values(), strict=True)
    )
    notes: tuple[str, ...] = (f"Multi-label: one column for each of {len(classes)} labels.",)
    unused = [key for key in others if key not in flags]
    if unused:
        notes += (f"Columns that are not 0/1 are not used: {', '.join(map(repr, unused))}.",)
    return _Labels(task="multilabel", classes=classes, rows=rows, notes=notes + spaces_note(flags))


def _is_flags(cells: Sequence[str]) -> bool:
    return bool(cells) and {cell.strip() for cell in cells} <= {"0", "1", "0.0", "1.0"}


def _of_cells(cells: Sequence[Cell], separator: str) -> _Labels:
    """Labels out of one column: one a cell, or several where a separator is given or the cells are lists."""
    many = bool(separator) or any(isinstance(cell, tuple) for cell in cells)
    parts: list[tuple[str, ...]] = []
    for cell in cells:
        if isinstance(cell, tuple):
            parts.append(cell)
        else:
            parts.append(tuple(cell.split(separator)) if separator else (cell,))
    cleaned = [tuple(dict.fromkeys(clean(part) for part in row if part.strip())) for row in parts]
    classes = tuple(sorted({label for row in cleaned for label in row}))
    # "cat; dog" is how people write lists: spaces count as a matter of note only where a cell is one label.
    notes = () if many else spaces_note(part for row in parts for part in row) + _several_note(classes)
    rows = tuple(row if row or many else None for row in cleaned)
    return _Labels(task="multilabel" if many else "classify", classes=classes, rows=rows, notes=notes)


def _several_note(classes: Sequence[str]) -> tuple[str, ...]:
    """A note that names cells which look like several labels, though no separator was given; else nothing.

    A bar or a semicolon is hardly ever part of a name. Commas and slashes are (`Smith, Ann`): they are told only where all
    that they part is a label by itself in another cell.
    """
    known = set(classes)
    for separator in _SEPARATORS:
        held = [name for name in classes if sum(bool(part.strip()) for part in name.split(separator)) > 1]
        if separator in _OF_NAMES:
            held = [name for name in held if {clean(part) for part in name.split(separator)} <= known]
        if held:
            count = f"{len(held)} labels hold" if held[1:] else "One label holds"
            told = f"{count} {separator!r}, such as {held[0]!r}, and each is a class of its own."
            move = f"If they are several labels of one image, read them with --separator '{separator}'."
            return (f"{told} {move}",)
    return ()
