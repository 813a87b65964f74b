"""The whole audit of some images, from what was already computed for them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.auditing.confounds import Confound, confounds, traits
from headstart.auditing.duplicates import Near, clusters, hashes, near_duplicates
from headstart.auditing.groups import propose
from headstart.auditing.labels import doubts, set_doubts
from headstart.auditing.looks import Looks, look_at
from headstart.auditing.records import Audit, LabelShift, Leak, NearPair, Series, Suspect
from headstart.auditing.shift import MOST, Shift, shift
from headstart.data.records import Duplicate, Sample
from headstart.data.relabel import JOINED, NONE

_RANK = {"train": 0, "val": 1, "test": 2}
_SURE = 0.001  # chance of a difference in shares by luck, below which it is told
_STRICT = 0.95  # correlation above which it is told that only such pairs count
_MOST_COPIES = 20  # identical files of one picture whose pairs with another picture's are listed

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """What is audited, all of N images.

    Attributes:
        samples: scanned, each in its split, test included.
        classes: names in output order.
        task: `classify` or `multilabel`.
        duplicates: what loading found of identical files.
        features: (N, width) of a frozen network; None where none were computed.
        probability: (N, classes) by probes fitted without the image, NaN where there is none; None: nothing was fitted. Of
            several labels an image each has a probability of its own.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    task: str
    duplicates: tuple[Duplicate, ...] = ()
    features: NDArray[np.float32] | None = None
    probability: Floats | None = None


def audit(material: Material, *, seed: int = 0) -> Audit:
    """What is wrong, or may be, with the data: leaks, contradictions, groups, confounds, shift, labels.

    Pictures are looked at once and their small copies kept in the cache; everything else is arithmetic on the features.

    Args:
        material: the images and what is known of them.
        seed: of folds and of the choice of images where there are many.
    """
    started = time.perf_counter()
    looks = look_at(material.samples)
    skipped: list[str] = []
    firsts, members = _distinct(material.samples)
    features = material.features
    every = len(firsts) == len(looks.thumbs)  # then no copy of all features is made
    near = near_duplicates(looks.thumbs[firsts], features if features is None or every else features[firsts])
    if near.same > _STRICT:
        skipped.append(
            f"The pictures are alike all over: only pairs that agree to {near.same:.2%} count as near duplicates."
        )
    joined = list(_expanded(near, members))
    pairs = tuple(_pair(material, *each) for each in sorted(joined, key=lambda each: -each[2]))
    same = np.array([each[:2] for each in joined] + list(_copies(members)), np.int64).reshape(-1, 2)
    cluster = clusters(same, len(material.samples))
    suspects, checked = _suspects(material, skipped)
    return Audit(
        images=dict(Counter(sample.split for sample in material.samples)),
        pairs=pairs,
        leaks=_leaks(pairs),
        removed=sum(each.action.count("removed ") for each in material.duplicates),
        conflicts=(*_contradicting(material), *(pair for pair in pairs if pair.labels[0] != pair.labels[1])),
        series=_series(material, cluster),
        groups=propose(
            material.samples,
            hashes(looks.thumbs)[0] if features is None else features,
            _single(material),
            looks,
        ),
        confounds=_confounds(material, looks, skipped),
        shift=_shift(material, cluster, skipped, seed=seed),
        label_shift=_label_shift(material),
        suspects=suspects,
        checked=checked,
        skipped=tuple(skipped),
        seconds=time.perf_counter() - started,
    )


def _distinct(samples: Sequence[Sample]) -> tuple[Labels, list[list[int]]]:
    """The first place of every content, and all places that have it."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        places[sample.digest].append(place)
    members = list(places.values())
    return np.array([each[0] for each in members], np.int64), members


def _expanded(near: Near, members: list[list[int]]) -> Iterator[tuple[int, int, float, bool]]:
    """(place, place, score, mirrored) of the pairs, identical files of either side included."""
    for (one, other), score, mirrored in zip(near.pairs, near.score, near.mirrored, strict=True):
        for first in members[one][:_MOST_COPIES]:
            for second in members[other][:_MOST_COPIES]:
                yield first, second, float(score), bool(mirrored)


def _copies(members: list[list[int]]) -> Iterator[tuple[int, int]]:
    for same in members:
        yield from ((same[0], other) for other in same[1:])


def _labels_of(material: Material, place: int) -> str:
    return JOINED.join(material.classes[label] for label in material.samples[place].labels) or NONE


def _pair(material: Material, one: int, other: int, score: float, mirrored: bool) -> NearPair:
    first, second = material.samples[one], material.samples[other]
    return NearPair(
        names=(first.name, second.name),
        splits=(first.split, second.split),
        labels=(_labels_of(material, one), _labels_of(material, other)),
        score=score,
        mirrored=mirrored,
    )


def _leaks(pairs: Sequence[NearPair]) -> tuple[Leak, ...]:
    """For each held-out image with a near duplicate in an earlier split, the one most like it."""
    out: dict[str, Leak] = {}
    for pair in pairs:  # the most alike first
        later = int(_RANK.get(pair.splits[1], 0) > _RANK.get(pair.splits[0], 0))
        earlier = 1 - later
        if _RANK.get(pair.splits[later], 0) == _RANK.get(pair.splits[earlier], 0):
            continue
        leak = Leak(
            name=pair.names[later],
            split=pair.splits[later],
            label=pair.labels[later],
            twin=pair.names[earlier],
            twin_split=pair.splits[earlier],
            twin_label=pair.labels[earlier],
            score=pair.score,
        )
        out.setdefault(leak.name, leak)
    return tuple(sorted(out.values(), key=lambda leak: (-_RANK[leak.split], -leak.score)))


def _contradicting(material: Material) -> Iterator[NearPair]:
    """Identical files with different labels, also where one of them was taken out of training."""
    for same in material.duplicates:
        for place in range(1, len(same.names)):
            if same.labels[place] != same.labels[0]:
                yield NearPair(
                    names=(same.names[0], same.names[place]),
                    splits=(same.splits[0], same.splits[place]),
                    labels=("|".join(same.labels[0]), "|".join(same.labels[place])),
                    score=1.0,
                    mirrored=False,
                )


def _series(material: Material, cluster: Labels) -> tuple[Series, ...]:
    """Clusters of three or more different pictures, the largest first."""
    inside: defaultdict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(cluster):
        inside[int(number)].append(place)
    large = [
        places for places in inside.values() if len({material.samples[place].digest for place in places}) > 2
    ]
    return tuple(
        Series(
            names=tuple(material.samples[place].name for place in places),
            splits=tuple(material.samples[place].split for place in places),
            labels=tuple(_labels_of(material, place) for place in places),
        )
        for places in sorted(large, key=lambda places: (-len(places), places[0]))
    )


def _single(material: Material) -> Labels:
    """The class (N,) of each image; zeros for multi-label data."""
    if material.task != "classify":
        return np.zeros(len(material.samples), np.int64)
    return np.array([sample.labels[0] for sample in material.samples], np.int64)


def _confounds(material: Material, looks: Looks, skipped: list[str]) -> tuple[Confound, ...]:
    if material.task != "classify":
        skipped.append("Confounds were not looked for: images have several labels.")
        return ()
    width, height = ([getattr(sample, side) for sample in material.samples] for side in ("width", "height"))
    return confounds(traits(looks, width, height), _single(material), material.classes)


def _shift(material: Material, cluster: Labels, skipped: list[str], *, seed: int) -> Shift | None:
    if material.features is None:
        skipped.append("Shift between training and test was not measured: no frozen features here.")
        return None
    splits = np.array([sample.split for sample in material.samples])
    train, test = (_some(np.flatnonzero(splits == name), seed) for name in ("train", "test"))
    found = shift(
        material.features[train],
        material.features[test],
        groups=cluster[np.concatenate([train, test])],
        seed=seed,
    )
    if found is None:
        skipped.append("Shift between training and test was not measured: too few images.")
    return found


def _some(places: Labels, seed: int) -> Labels:
    """As many of the places as the probe uses, so that features of the others are not copied."""
    return np.sort(generator(seed, "shift", len(places)).permutation(places)[:MOST])


def _label_shift(material: Material) -> LabelShift | None:
    """The difference of the classes' shares between training and test, where chance does not explain it."""
    from scipy.special import chdtrc  # only where it is needed: a tenth of a second

    counts = np.zeros((2, len(material.classes)))
    for sample in material.samples:
        if sample.split in ("train", "test"):
            counts[int(sample.split == "test"), list(sample.labels)] += 1
    counts = counts[:, counts.sum(0) > 0]
    if material.task != "classify" or counts.sum(1).min() == 0 or counts.shape[1] < 2:
        return None
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    p = float(chdtrc(counts.shape[1] - 1, ((counts - expected) ** 2 / expected).sum()))
    shares = counts / counts.sum(1, keepdims=True)
    apart = np.abs(shares[0] - shares[1])
    if p >= _SURE:
        return None
    names = [name for index, name in enumerate(material.classes) if _used(material, index)]
    worst = int(apart.argmax())
    return LabelShift(
        distance=float(apart.sum() / 2),
        p=p,
        label=names[worst],
        train=float(shares[0, worst]),
        test=float(shares[1, worst]),
    )


def _used(material: Material, label: int) -> bool:
    return any(label in sample.labels for sample in material.samples if sample.split in ("train", "test"))


def _suspects(material: Material, skipped: list[str]) -> tuple[tuple[Suspect, ...], int]:
    """Labels that are likely wrong, the least believable first, and how many images were checked."""
    if material.probability is None:
        skipped.append("Labels were not checked: no cross-fitted probe here.")
        return (), 0
    known = np.flatnonzero(np.isfinite(material.probability).all(1))
    if not len(known):
        return (), 0
    one = material.task == "classify"
    found = _of_one(material, known) if one else _of_several(material, known)
    return tuple(found), len(known)


def _of_one(material: Material, known: Labels) -> Iterator[Suspect]:
    probability, given = material.probability[known], _single(material)[known]  # type: ignore[index]
    found = doubts(probability, given)
    for row in found.order:
        if found.confident[row] and found.suggested[row] != given[row]:
            yield Suspect(
                name=material.samples[known[row]].name,
                split=material.samples[known[row]].split,
                given=material.classes[given[row]],
                suggested=material.classes[found.suggested[row]],
                confidence=float(found.confidence[row]),
                against=float(probability[row].max()),
            )


def _of_several(material: Material, known: Labels) -> Iterator[Suspect]:
    given = np.zeros((len(known), len(material.classes)), np.int64)
    for row, place in enumerate(known):
        given[row, list(material.samples[place].labels)] = 1
    found = set_doubts(material.probability[known], given)  # type: ignore[index]
    for row in found.order:
        if found.doubtful[row].any():
            better = np.flatnonzero(np.where(found.doubtful[row], 1 - given[row], given[row]))
            yield Suspect(
                name=material.samples[known[row]].name,
                split=material.samples[known[row]].split,
                given=_labels_of(material, int(known[row])),
                suggested=JOINED.join(material.classes[label] for label in better) or NONE,
                confidence=float(found.confidence[row]),
                against=1 - float(found.confidence[row]),
            )
