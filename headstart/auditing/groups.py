"""Images that belong together: which rule of names, times or places says so, on what evidence, and whether that is true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart._core.seed import generator
from headstart.auditing.duplicates import clusters
from headstart.auditing.looks import Looks
from headstart.auditing.shift import roc_area
from headstart.data.groups import GROUP_RULES, group_of
from headstart.data.records import Sample
from headstart.metrics.intervals import Z95

BURST, PLACE = "burst", "place"
"""The rules that no name tells: pictures of one camera taken one right after the other, and pictures taken at one place."""

_BURST = 10.0  # seconds
_CELL = 25.0  # metres: pictures in one cell or in cells that touch were taken at one place; GPS is off by about ten
_EARTH = 6_371_009.0  # metres, mean radius
_SPAN = 1 << 20  # cells along an axis through the earth, more than there are
_SHARE, _TOLD_SHARE = (
    0.3,
    0.05,
)  # of the images must lie in a group of two or more, by names; by what cameras wrote
_LARGEST = 0.5  # of the images may lie in one group
_ALIKE = 0.65  # chance that a pair of one group is closer than a pair of two, from which a rule is believed
_ERRORS = (
    4.0  # standard errors that it must lie above one half; pairs share images, so more than the usual two
)
_PAIRS, _LEAST_PAIRS = 2000, 20

Labels = NDArray[np.int64]


@record
class GroupProposal:
    """Groups that names, times or places suggest and the pictures confirm.

    Attributes:
        rule: `prefix`, `word` or `folder`, as `--group` takes it; `burst` or `place` by what cameras wrote into the files.
        evidence: what it rests on, in a sentence.
        groups: how many have two images or more.
        images: how many images lie in such a group.
        largest: images in the largest.
        example: a group's name and two of its images.
        alike: chance that two images of one group are closer than two of the same class from different groups.
        low: lower end of its 95 % interval.
        high: upper end.
        torn: how many of the groups have images in more than one split.
        members: the names of each group's images, for rules that `--group` does not know.
    """

    rule: str
    evidence: str
    groups: int
    images: int
    largest: int
    example: tuple[str, ...]
    alike: float
    low: float
    high: float
    torn: int
    members: tuple[tuple[str, ...], ...] = ()


class _Rule(NamedTuple):
    """The group (N,) of each image by a rule, what that rests on, and the share of images that must be in groups."""

    name: str
    groups: Labels
    evidence: str
    least: float


def propose(
    samples: Sequence[Sample], rows: NDArray[np.float32], labels: Labels, looks: Looks
) -> tuple[GroupProposal, ...]:
    """The rules whose groups the pictures confirm, the one they confirm best first.

    Args:
        samples: N images.
        rows: (N, d): features, or hashes where there are none.
        labels: (N,) class indices, or all the same where an image has several.
        looks: what the files tell of camera, time and place.
    """
    found = [_judged(rule, samples, rows, labels) for rule in _rules(samples, looks)]
    return tuple(sorted((each for each in found if each is not None), key=lambda each: -each.alike))


def _rules(samples: Sequence[Sample], looks: Looks) -> Iterator[_Rule]:
    for rule in GROUP_RULES:
        yield _Rule(rule, name_groups(samples, rule), _NAMES[rule], _SHARE)
    timed, known = np.isfinite(looks.time), looks.camera > 0
    if timed.any():
        evidence = (
            f"EXIF: DateTimeOriginal within {_BURST:g} seconds of the picture before; {int((timed & known).sum())} of "
            f"{int(timed.sum())} pictures with a time name their camera (make, model, serial number), which must be the "
            "same, the others must lie in one folder"
        )
        yield _Rule(BURST, burst_groups(samples, looks.time, looks.camera), evidence, _TOLD_SHARE)
    placed = np.isfinite(looks.place).all(1)
    if placed.any():
        evidence = (
            f"EXIF: GPS position within some {2 * _CELL:.0f} metres, which {int(placed.sum())} pictures have"
        )
        yield _Rule(PLACE, place_groups(looks.place), evidence, _TOLD_SHARE)


_NAMES = {
    "prefix": "file names: the same but for the number at their end",
    "word": "file names: the same first word",
    "folder": "folders: in the same one",
}


def name_groups(samples: Sequence[Sample], rule: str) -> Labels:
    """The group (N,) of each image by its name; images for which the rule says nothing are alone."""
    numbers: dict[str, int] = {}
    told = [group_of(sample.name, rule) or f"\0{place}" for place, sample in enumerate(samples)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in told], np.int64)


def burst_groups(
    samples: Sequence[Sample], times: NDArray[np.float64], cameras: NDArray[np.float64]
) -> Labels:
    """The group (N,) of each image: taken by one camera, each within a few seconds of the one before, in whatever folder.

    Where the camera is not told, only images of one folder can be of one burst.

    Args:
        samples: N images.
        times: (N,) seconds, NaN where unknown: such an image is alone.
        cameras: (N,) a number for each camera, 0 where unknown.
    """
    folders = np.unique([group_of(sample.name, "folder") for sample in samples], return_inverse=True)[1]
    source = np.where(cameras > 0, cameras, -1.0 - folders)
    order = np.lexsort((times, source))
    gap = np.diff(times[order], prepend=np.nan)
    same = (np.diff(source[order], prepend=np.nan) == 0) & (gap <= _BURST)
    out = np.empty(len(samples), np.int64)
    out[order] = np.cumsum(~same)
    return out


def place_groups(places: NDArray[np.float64]) -> Labels:
    """The group (N,) of each image: taken in cells of 25 metres that touch one another.

    Args:
        places: (N, 2) degrees north and east, NaN where unknown: such an image is alone.
    """
    known = np.flatnonzero(np.isfinite(places).all(1))
    north, east = np.radians(places[known]).T
    point = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], 1)
    cells = np.floor(point * (_EARTH / _CELL)).astype(np.int64) + _SPAN // 2
    number = (cells[:, 0] * _SPAN + cells[:, 1]) * _SPAN + cells[:, 2]
    there, inside = np.unique(number, return_inverse=True)
    pairs = []
    # of the 26 neighbours of a cell, one of each opposite two
    for x, y, z in (away for away in product((-1, 0, 1), repeat=3) if away > (0, 0, 0)):
        step = (x * _SPAN + y) * _SPAN + z
        at = np.minimum(np.searchsorted(there, there + step), len(there) - 1)
        hit = np.flatnonzero(there[at] == there + step)
        pairs.append(np.stack([hit, at[hit]], 1))
    joined = clusters(np.concatenate(pairs), len(there)) if len(there) else there
    out = np.arange(len(places)) + len(there)  # alone
    out[known] = joined[inside]
    return out


def _judged(
    rule: _Rule, samples: Sequence[Sample], rows: NDArray[np.float32], labels: Labels
) -> GroupProposal | None:
    groups = rule.groups
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    inside = int((counts[place] > 1).sum())
    if not len(groups) or inside < max(4, rule.least * len(groups)) or counts.max() > _LARGEST * len(groups):
        return None
    same, other = _pairs(groups, labels)
    if min(len(same), len(other)) < _LEAST_PAIRS:
        return None
    mean = rows.mean(0)
    closeness = [_cosines(rows[pairs[:, 0]] - mean, rows[pairs[:, 1]] - mean) for pairs in (same, other)]
    truth = np.repeat([1, 0], [len(same), len(other)]).astype(np.int64)
    alike, error = roc_area(np.concatenate(closeness).astype(np.float64), truth)
    if alike < _ALIKE or alike - _ERRORS * error < 0.5:
        return None
    splits = np.unique([sample.split for sample in samples], return_inverse=True)[1]
    members = np.flatnonzero(place == counts.argmax())
    seen = np.unique(np.stack([place, splits], 1), axis=0)[
        :, 0
    ]  # each group once for every split that it is in
    label = samples[members[0]].name
    return GroupProposal(
        rule=rule.name,
        evidence=rule.evidence,
        groups=int((counts > 1).sum()),
        images=inside,
        largest=int(counts.max()),
        example=(
            group_of(label, rule.name) if rule.name in GROUP_RULES else label,
            *(samples[member].name for member in members[:2]),
        ),
        alike=alike,
        low=max(0.0, alike - Z95 * error),
        high=min(1.0, alike + Z95 * error),
        torn=int((np.bincount(seen) > 1).sum()),
        members=() if rule.name in GROUP_RULES else _members(samples, place, counts),
    )


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each pair of rows (M, d)."""
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    out: NDArray[np.float32] = np.einsum("ij,ij->i", one, other) / np.maximum(sizes, 1e-12)
    return out


def _members(samples: Sequence[Sample], place: Labels, counts: Labels) -> tuple[tuple[str, ...], ...]:
    """The names of the images of each group of two or more."""
    order, ends = np.argsort(place, kind="stable"), np.cumsum(counts)
    return tuple(
        tuple(samples[member].name for member in order[end - count : end])
        for end, count in zip(ends, counts, strict=True)
        if count > 1
    )


def _pairs(groups: Labels, labels: Labels) -> tuple[Labels, Labels]:
    """Pairs (up to `_PAIRS`, 2) of one class: of one group, and of different groups that hold two images or more.

    A rule that only repeats the class finds no pair of the second kind.
    """
    rng = generator(0, "group pairs", len(groups))
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    many = np.flatnonzero(counts[place] > 1)

    by_key = many[np.lexsort((rng.random(len(many)), groups[many], labels[many]))]
    joined = (groups[by_key][1:] == groups[by_key][:-1]) & (labels[by_key][1:] == labels[by_key][:-1])
    same = np.stack([by_key[:-1][joined], by_key[1:][joined]], 1)
    by_class = many[np.lexsort((rng.random(len(many)), labels[many]))]
    apart = (groups[by_class][1:] != groups[by_class][:-1]) & (labels[by_class][1:] == labels[by_class][:-1])
    other = np.stack([by_class[:-1][apart], by_class[1:][apart]], 1)
    return rng.permutation(same)[:_PAIRS], rng.permutation(other)[:_PAIRS]
