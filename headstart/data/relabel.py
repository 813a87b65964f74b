"""Labels and groups that somebody has reviewed take the place of those the data came with."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from headstart._core.check import existing, suggestion
from headstart._core.errors import BadInput
from headstart.data.readers import Listing
from headstart.data.readers.labels import clean, shown
from headstart.data.records import Sample

PATH, LABEL, GROUP = "path", "label", "group"
JOINED, NONE = "|", "(none)"
"""What stands between the labels of an image that has several, and in their place where it has none."""


class _Told(NamedTuple):
    """What a line says of an image; None: nothing. An empty label leaves the image out."""

    label: str | None
    group: str | None


def relabelled(listing: Listing, file: str) -> Listing:
    """The listing with the labels and groups of a reviewed CSV file; images whose label is empty there are left out.

    The file is what `headstart audit --export-labels` or `--export-groups` wrote: the columns `path`, `label` and `group`
    are read, the others are for the eye. Images that it does not name stay as they are. Several labels of an image are
    joined by `|`; `(none)` stands for an image without any.

    Raises:
        BadInput: for a file that cannot be read, lacks a column, names an image that is not there, an image twice with
            different labels, or an unknown class; and for data with boxes or masks.
    """
    if listing.task not in ("classify", "multilabel"):
        raise BadInput(
            f"--labels {file}: the data has boxes or masks.", hint="Correct them where they come from."
        )
    told = _rows(existing(file, what="The file of labels"))
    index = {name: number for number, name in enumerate(listing.classes)}
    several = listing.task == "multilabel"
    for name in sorted({part for each in told.values() for part in _parts(each.label, several=several)}):
        if name not in index:
            raise BadInput(
                f"{file} has the label {name!r}, which is no class of the data.",
                hint=f"{suggestion(name, index)} Its classes: {', '.join(listing.classes[:20])}.".strip(),
            )
    names = {sample.name for sample in listing.samples}
    strange = sorted(set(told) - names)
    if strange:
        raise BadInput(
            f"{file} names {strange[0]!r}, which is not among the images"
            + (f" (nor are {len(strange) - 1} more)." if strange[1:] else "."),
            hint="Give the data by the same path as when the file was written.",
        )
    silent = _Told(None, None)
    kept = [sample for sample in listing.samples if told.get(sample.name, silent).label != ""]
    samples = tuple(_with(sample, told.get(sample.name, silent), index, several=several) for sample in kept)
    changed = sum(new.labels != old.labels for new, old in zip(samples, kept, strict=True))
    grouped = sum(new.group != old.group for new, old in zip(samples, kept, strict=True))
    note = (
        f"{file} changes the labels of {changed} images and leaves out {len(listing.samples) - len(samples)}"
    )
    note += f"; it puts {grouped} into a group." if grouped else "."
    return replace(listing, samples=samples, notes=(*listing.notes, note))


def _parts(label: str | None, *, several: bool) -> Iterator[str]:
    """The classes that a cell names."""
    if label is None or (several and label == NONE):
        return
    yield from (part for part in (map(str.strip, label.split(JOINED)) if several else (label,)) if part)


def _with(sample: Sample, told: _Told, index: dict[str, int], *, several: bool) -> Sample:
    if told.label is not None:
        labels = sorted(index[name] for name in set(_parts(told.label, several=several)))
        sample = replace(sample, labels=tuple(labels))
    return replace(sample, group=told.group) if told.group else sample


def _rows(path: Path) -> dict[str, _Told]:
    """Path of an image -> what its line says."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            columns = set(table.fieldnames or ())
            if PATH not in columns or not columns & {LABEL, GROUP}:
                missing = LABEL if PATH in columns else PATH
                raise BadInput(
                    f"{shown(path)} has no column {missing!r}.",
                    hint=f"Its first line must name the columns {PATH} and {LABEL}, or {PATH} and {GROUP}.",
                )
            rows = [(row[PATH] or "", _told(row)) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{shown(path)} cannot be read: {error}.", hint="Save it as CSV in UTF-8.") from error
    out: dict[str, _Told] = {}
    for name, told in rows:
        known = out.setdefault(name, told)
        if known != told:
            what, one, other = (
                ("labels", known.label, told.label)
                if known.label != told.label
                else ("groups", known.group, told.group)
            )
            raise BadInput(
                f"{shown(path)} gives {name!r} two {what}: {one!r} and {other!r}.",
                hint="Keep one of the lines.",
            )
    return out


def _told(row: dict[str, str]) -> _Told:
    label = clean(row[LABEL] or "") if LABEL in row else None
    return _Told(label, (row.get(GROUP) or "").strip() or None)
