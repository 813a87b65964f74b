"""Images that belong together: which rule of names, or of the time they were taken, says so, and whether that is true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart._core.seed import generator
from headstart.auditing.shift import roc_area
from headstart.data.groups import GROUP_RULES, group_of
from headstart.data.records import Sample

TIME = "time"
"""The rule that no name tells: pictures of one folder taken within `_BURST` seconds of each other."""

_BURST = 10.0
_SHARE = 0.3  # of the images must lie in a group of two or more
_LARGEST = 0.5  # of the images may lie in one group
_ALIKE = 0.65  # chance that a pair of one group is closer than a pair of two, from which a rule is believed
_ERRORS = (
    4.0  # standard errors that it must lie above one half; pairs share images, so more than the usual two
)
_PAIRS, _LEAST_PAIRS = 2000, 20

Labels = NDArray[np.int64]


@record
class GroupProposal:
    """Groups that the file names (or times) suggest and the pictures confirm.

    Attributes:
        rule: `prefix`, `word` or `folder`, as `--group` takes it; `time` for pictures taken at about the same time.
        groups: how many have two images or more.
        images: how many images lie in such a group.
        largest: images in the largest.
        example: a group's name and two of its images.
        alike: chance that two images of one group are closer than two of the same class from different groups.
        torn: how many of the groups have images in more than one split.
    """

    rule: str
    groups: int
    images: int
    largest: int
    example: tuple[str, ...]
    alike: float
    torn: int


def propose(
    samples: Sequence[Sample], rows: NDArray[np.float32], labels: Labels, times: NDArray[np.float64]
) -> tuple[GroupProposal | None, Labels]:
    """The rule whose groups the pictures confirm best, None where there is none; and the group (N,) of every image.

    Args:
        samples: N images.
        rows: (N, d) of length 1: features, or hashes where there are none.
        labels: (N,) class indices, or all the same where an image has several.
        times: (N,) seconds, NaN where unknown.
    """
    best: GroupProposal | None = None
    chosen = np.arange(len(samples))
    for rule in (*GROUP_RULES, TIME):
        groups = time_groups(samples, times) if rule == TIME else name_groups(samples, rule)
        found = _judged(rule, groups, samples, rows, labels)
        if found is not None and (best is None or found.alike > best.alike):
            best, chosen = found, groups
    return best, chosen


def name_groups(samples: Sequence[Sample], rule: str) -> Labels:
    """The group (N,) of each image by its name; images for which the rule says nothing are alone."""
    numbers: dict[str, int] = {}
    told = [group_of(sample.name, rule) or f"\0{place}" for place, sample in enumerate(samples)]
    return np.array([numbers.setdefault(name, len(numbers)) for name in told], np.int64)


def time_groups(samples: Sequence[Sample], times: NDArray[np.float64]) -> Labels:
    """The group (N,) of each image: taken in one folder, each within a few seconds of the one before."""
    folders = np.unique([group_of(sample.name, "folder") for sample in samples], return_inverse=True)[1]
    order = np.lexsort((times, folders))
    gap = np.diff(times[order], prepend=np.nan)
    same = (np.diff(folders[order], prepend=-1) == 0) & (gap <= _BURST)
    out = np.empty(len(samples), np.int64)
    out[order] = np.cumsum(~same)
    return out


def _judged(
    rule: str, groups: Labels, samples: Sequence[Sample], rows: NDArray[np.float32], labels: Labels
) -> GroupProposal | None:
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sizes = counts[place]
    inside = int((sizes > 1).sum())
    if not len(groups) or inside < max(4, _SHARE * len(groups)) or counts.max() > _LARGEST * len(groups):
        return None
    same, other = _pairs(groups, labels)
    if min(len(same), len(other)) < _LEAST_PAIRS:
        return None
    closeness = [np.einsum("ij,ij->i", rows[pairs[:, 0]], rows[pairs[:, 1]]) for pairs in (same, other)]
    truth = np.repeat([1, 0], [len(same), len(other)]).astype(np.int64)
    alike, error = roc_area(np.concatenate(closeness).astype(np.float64), truth)
    if alike < _ALIKE or alike - _ERRORS * error < 0.5:
        return None
    splits = np.unique([sample.split for sample in samples], return_inverse=True)[1]
    largest = int(counts.argmax())
    members = np.flatnonzero(place == largest)
    torn = sum(len(np.unique(splits[place == name])) > 1 for name in np.flatnonzero(counts > 1))
    label = samples[members[0]].name if rule == TIME else group_of(samples[members[0]].name, rule)
    return GroupProposal(
        rule=rule,
        groups=int((counts > 1).sum()),
        images=inside,
        largest=int(counts.max()),
        example=(label, samples[members[0]].name, samples[members[1]].name),
        alike=alike,
        torn=int(torn),
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
