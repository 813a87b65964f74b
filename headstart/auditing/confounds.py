"""Can the label be told without looking at the subject? A probe on each trait of the files alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart.auditing.looks import FORMATS, Looks
from headstart.metrics import wilson
from headstart.scores import fold_numbers

_BINS = 12  # of a trait that is a number
_VALUES = 12  # of a trait whose values repeat, the most frequent ones; the rest share a bin
_FOLDS = 5
_LEAST = 20  # images
_MARGIN = 0.05  # accuracy above the majority below which a trait is of no practical interest
_SIDES = 1e6  # width * this + height is one number for both
_TECHNICAL = ("format", "resolution", "JPEG quality", "EXIF data")  # size is also that of what is to be seen

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trait:
    """One thing that the files give away.

    Attributes:
        name: in words.
        values: (N, columns) numbers.
        listed: whether values are names rather than quantities.
    """

    name: str
    values: Floats
    listed: bool = False


@record
class Confound:
    """A trait of the files that tells the label better than the majority does.

    Attributes:
        trait: in words.
        accuracy: cross-fitted, of a table from the trait to the most frequent class.
        low: lower end of the interval, 95 % for all traits together.
        high: upper end.
        majority: accuracy of always saying the largest class.
        technical: whether it belongs to how the files were made and not to what they show.
        told: the class that it tells best, and what is different there, in words.
    """

    trait: str
    accuracy: float
    low: float
    high: float
    majority: float
    technical: bool
    told: str


def traits(looks: Looks, width: Sequence[int], height: Sequence[int]) -> tuple[Trait, ...]:
    """What the files give away: size, format, resolution, compression, EXIF data, brightness, border."""
    sides = np.array([width, height], np.float64).T
    return (
        Trait("file size", looks.bytes[:, None]),
        Trait("format", looks.format[:, None], listed=True),
        Trait("resolution", (sides[:, 0] * _SIDES + sides[:, 1])[:, None], listed=True),
        Trait("JPEG quality", looks.quality[:, None]),
        Trait("EXIF data", looks.exif[:, None], listed=True),
        Trait("mean brightness", looks.brightness[:, None]),
        Trait("border colour", looks.border),
    )


def confounds(found: Sequence[Trait], labels: Labels, classes: Sequence[str]) -> tuple[Confound, ...]:
    """The traits that tell the label, the surest first; those of which that is not shown are left out.

    Args:
        found: of the same N images.
        labels: (N,) class indices.
        classes: their names.
    """
    if len(labels) < _LEAST:
        return ()
    folds = fold_numbers(labels, count=_FOLDS)
    majority = float(np.bincount(labels).max() / len(labels))
    z = NormalDist().inv_cdf(1 - 0.025 / len(found))  # Bonferroni: several traits were looked at
    out = []
    for trait in found:
        cells = binned(trait)
        if cells.max() == 0:
            continue
        answers = table_answers(cells, labels, folds, classes=len(classes))
        right = int((answers == labels).sum())
        low, high = wilson(right, len(labels), z=z)
        if low > majority + _MARGIN:
            told = _told(trait, labels, answers, classes)
            accuracy = right / len(labels)
            out.append(
                Confound(
                    trait=trait.name,
                    accuracy=accuracy,
                    low=low,
                    high=high,
                    majority=majority,
                    technical=trait.name in _TECHNICAL,
                    told=told,
                )
            )
    return tuple(sorted(out, key=lambda each: (not each.technical, -each.accuracy)))


def binned(trait: Trait) -> Labels:
    """The cell (N,) of each image in a table of the trait's values: frequent values, or equally filled bins."""
    if trait.listed:
        names, place, counts = np.unique(trait.values[:, 0], return_inverse=True, return_counts=True)
        rank = np.empty(len(names), np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(names))
        return np.minimum(rank[place], _VALUES)
    columns = trait.values.shape[1]
    bins = _BINS if columns == 1 else 4
    cells = np.zeros(len(trait.values), np.int64)
    for column in trait.values.T:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))
        # values that many images share, such as one JPEG quality, get a bin of their own
        cells = cells * 2 * bins + 2 * np.searchsorted(edges, column, side="left") + np.isin(column, edges)
    return np.unique(cells, return_inverse=True)[1].astype(np.int64)


def table_answers(cells: Labels, labels: Labels, folds: Labels, *, classes: int) -> Labels:
    """For each image (N,) the class most frequent, in the other folds, in its cell; empty cells give the majority."""
    out = np.empty(len(labels), np.int64)
    for fold in np.unique(folds):
        kept = folds != fold
        counts = np.zeros((int(cells.max()) + 1, classes))
        np.add.at(counts, (cells[kept], labels[kept]), 1)
        counts += 1e-3 * np.bincount(labels[kept], minlength=classes) / kept.sum()
        out[~kept] = counts.argmax(1)[cells[~kept]]
    return out


def _told(trait: Trait, labels: Labels, answers: Labels, classes: Sequence[str]) -> str:
    """The class with the highest F1 of these answers, with its typical value against that of the others."""
    scores = []
    for label in range(len(classes)):
        hit = ((answers == label) & (labels == label)).sum()
        scores.append(2 * hit / max(1, (answers == label).sum() + (labels == label).sum()))
    best = int(np.argmax(scores))
    inside, outside = (trait.values[rows] for rows in (labels == best, labels != best))
    return f"{classes[best]}: {_typical(trait, inside)}; the others: {_typical(trait, outside)}"


def _typical(trait: Trait, values: Floats) -> str:
    return _WORDS[trait.name](values)


def _most(values: Floats) -> tuple[float, str]:
    """The most frequent value, and its share in words."""
    names, counts = np.unique(values[:, 0], return_counts=True)
    return float(names[counts.argmax()]), f" ({counts.max() / len(values):.0%})"


def _format_words(values: Floats) -> str:
    most, share = _most(values)
    return (FORMATS[int(most)] if most < len(FORMATS) else "another") + share


def _resolution_words(values: Floats) -> str:
    most, share = _most(values)
    return f"{most // _SIDES:.0f} x {most % _SIDES:.0f}" + share


def _colour_words(values: Floats) -> str:
    red, green, blue = np.median(values, axis=0)
    return f"red {red:.0f}, green {green:.0f}, blue {blue:.0f}"


_WORDS: dict[str, Callable[[Floats], str]] = {
    "file size": lambda values: f"{np.median(values) / 1000:.1f} kB",
    "format": _format_words,
    "resolution": _resolution_words,
    "JPEG quality": lambda values: f"about {np.median(values):.0f}",
    "EXIF data": lambda values: f"{values.mean():.0%} have it",
    "mean brightness": lambda values: f"{np.median(values) / 255:.0%}",
    "border colour": _colour_words,
}
