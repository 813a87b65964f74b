"""Labels that somebody has reviewed take the place of those the data came with."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from headstart._core.check import existing, suggestion
from headstart._core.errors import BadInput
from headstart.data.readers import Listing
from headstart.data.readers.labels import clean, shown
from headstart.data.records import Sample

PATH, LABEL = "path", "label"


def relabelled(listing: Listing, file: str) -> Listing:
    """The listing with the labels of a reviewed CSV file; images whose label is empty there are left out.

    The file is what `headstart audit --export-labels` wrote: the columns `path` and `label` are read, the others are for
    the eye. Images that it does not name stay as they are.

    Raises:
        BadInput: for a file that cannot be read, lacks a column, names an image that is not there, an image twice with
            different labels, or an unknown class; and for multi-label data.
    """
    if listing.task != "classify":
        raise BadInput(
            f"--labels {file}: the data has several labels an image.",
            hint="Correct such labels in the table itself.",
        )
    told = _rows(existing(file, what="The file of labels"))
    index = {name: number for number, name in enumerate(listing.classes)}
    unknown = sorted({label for label in told.values() if label and label not in index})
    if unknown:
        raise BadInput(
            f"{file} has the label {unknown[0]!r}, which is no class of the data.",
            hint=f"{suggestion(unknown[0], index)} Its classes: {', '.join(listing.classes[:20])}.".strip(),
        )
    names = {sample.name for sample in listing.samples}
    strange = sorted(set(told) - names)
    if strange:
        raise BadInput(
            f"{file} names {strange[0]!r}, which is not among the images"
            + (f" (nor are {len(strange) - 1} more)." if strange[1:] else "."),
            hint="Give the data by the same path as when the file was written.",
        )
    samples = tuple(
        _with(sample, told.get(sample.name), index)
        for sample in listing.samples
        if told.get(sample.name) != ""
    )
    changed = sum(new.labels != old.labels for new, old in zip(samples, _kept(listing, told), strict=True))
    out = len(listing.samples) - len(samples)
    note = f"{file} changes the labels of {changed} images and leaves out {out}."
    return replace(listing, samples=samples, notes=(*listing.notes, note))


def _kept(listing: Listing, told: dict[str, str]) -> tuple[Sample, ...]:
    return tuple(sample for sample in listing.samples if told.get(sample.name) != "")


def _with(sample: Sample, label: str | None, index: dict[str, int]) -> Sample:
    return sample if label is None else replace(sample, labels=(index[label],))


def _rows(path: Path) -> dict[str, str]:
    """Path of an image -> its label; empty where it is to be left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            missing = {PATH, LABEL} - set(table.fieldnames or ())
            if missing:
                raise BadInput(
                    f"{shown(path)} has no column {sorted(missing)[0]!r}.",
                    hint=f"Its first line must name the columns {PATH} and {LABEL}.",
                )
            rows = [(row[PATH] or "", clean(row[LABEL] or "")) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{shown(path)} cannot be read: {error}.", hint="Save it as CSV in UTF-8.") from error
    out: dict[str, str] = {}
    for name, label in rows:
        if out.setdefault(name, label) != label:
            raise BadInput(
                f"{shown(path)} gives {name!r} two labels: {out[name]!r} and {label!r}.",
                hint="Keep one of the lines.",
            )
    return out
