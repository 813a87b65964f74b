"""Where it fails: parts of the test images on which the model errs more often than on the rest, allowing for all looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.evaluation.records import Answers, Aside, Floats, Labels, Slice, Slices
from headstart.evaluation.scoring import proportion
from headstart.metrics.intervals import fisher_more, holm

_LEAST = 8  # images of a part: fewer show nothing after the correction
_LEVEL = 0.05
_EXAMPLES = 6
_GROUPS = 50  # the largest groups that are looked at: each look makes the others less sure
_PER_CLUSTER, _CLUSTERS, _ROUNDS = 40, 8, 12
_WORDS = {
    "short side": ("smallest quarter", "largest quarter"),
    "width / height": ("most upright quarter", "widest quarter"),
    "brightness": ("darkest quarter", "brightest quarter"),
    "contrast": ("flattest quarter", "most contrasty quarter"),
    "sharpness": ("most blurred quarter", "sharpest quarter"),
}


def find_slices(answers: Answers, right: Floats, aside: Aside, *, seed: int) -> Slices:
    """The parts that fail more often than the rest, out of quarters by looks, groups, and clusters of features.

    Args:
        answers: names and groups of the images.
        right: (N,) 1 where the answer is right, else 0.
        aside: looks and features.
        seed: of the clusters.
    """
    parts = [
        (name, inside)
        for name, inside in _parts(answers, aside, seed)
        if _LEAST <= inside.sum() <= len(right) - _LEAST
    ]
    if not parts:
        return Slices(looked=0, lowest_p=1.0, found=())
    wrong = 1 - right
    p = holm(
        np.array(
            [
                fisher_more(int(wrong[inside].sum()), int(inside.sum()), int(wrong.sum()), len(right))
                for _, inside in parts
            ]
        )
    )
    found = []
    for place in np.argsort(p, kind="stable"):
        if p[place] >= _LEVEL:
            break
        name, inside = parts[place]
        failed = np.flatnonzero(inside & (wrong > 0))[:_EXAMPLES]
        found.append(
            Slice(
                name=name,
                accuracy=proportion(right[inside], None),
                rest=proportion(right[~inside], None),
                p=float(p[place]),
                examples=tuple(answers.names[row] for row in failed),
            )
        )
    return Slices(looked=len(parts), lowest_p=float(p.min()), found=tuple(found))


def with_thumbnails(slices: Slices, pictures: dict[str, str]) -> Slices:
    """The slices with the pictures (image name -> path) of their examples."""
    found = tuple(
        replace(each, thumbnails=tuple(pictures.get(name, "") for name in each.examples))
        for each in slices.found
    )
    return replace(slices, found=found)


def _parts(answers: Answers, aside: Aside, seed: int) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for name, values in aside.looks.items():
        known = np.isfinite(values)
        if known.sum() < 4 * _LEAST:
            continue
        low, high = np.quantile(values[known], [0.25, 0.75])
        if low == high:
            continue
        first, last = _WORDS[name]
        yield f"{name}: {first} ({name} up to {low:.3g})", known & (values <= low)
        yield f"{name}: {last} ({name} from {high:.3g})", known & (values >= high)
    if answers.groups is not None:
        names, place, size = np.unique(answers.groups, return_inverse=True, return_counts=True)
        for number in np.argsort(-size, kind="stable")[:_GROUPS]:
            if names[number]:
                yield f"group {names[number]}", place == number
    if aside.features is not None:
        count = min(_CLUSTERS, len(aside.features) // _PER_CLUSTER)
        if count >= 2:
            place = clusters(aside.features, count, seed=seed)
            for number in range(count):
                yield f"images that look alike, cluster {number + 1}", place == number


def clusters(features: Floats, count: int, *, seed: int) -> Labels:
    """The cluster (N,) of each row of features (N, width), by k-means on rows of length one.

    Source: Lloyd 1982; starting points of Arthur & Vassilvitskii 2007 (k-means++).
    """
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    rng = generator(seed, "clusters", count)
    centres = rows[[int(rng.integers(len(rows)))]]
    for _ in range(count - 1):
        away = np.maximum(1 - (rows @ centres.T).max(1), 0).astype(np.float64) + 1e-12
        centres = np.concatenate([centres, rows[[int(rng.choice(len(rows), p=away / away.sum()))]]])
    place = np.zeros(len(rows), np.int64)
    for _ in range(_ROUNDS):
        place = (rows @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
        for number in range(count):
            if (place == number).any():
                centres[number] = rows[place == number].mean(0)
    return place
