"""All twelve of COCO's numbers, of boxes that went to pycocotools through its own annotation and result files."""

from __future__ import annotations

import numpy as np
import pytest

from bench.places import TWELVE, apart, coco_numbers, coco_truth, recalls
from headstart.data.records import Box, Sample
from headstart.metrics import detection
from tests.metrics.test_dense import scene


@pytest.mark.parametrize("seed", range(3))
def test_headstarts_matching_gives_pycocotools_numbers(seed: int) -> None:
    found, truth = scene(seed, images=30)
    samples = [
        Sample(
            name=f"{number}.png",
            source=np.zeros((1, 1, 3), np.uint8),
            width=500,
            height=500,
            boxes=tuple(
                Box(left=l_, top=t, right=r, bottom=b, label=int(k), crowd=bool(c))
                for l_, t, r, b, k, c in rows.tolist()
            ),
        )
        for number, rows in enumerate(truth)
    ]
    lines = [
        [number + 1, left, top, right - left, bottom - top, score, label + 1]
        for number, boxes in enumerate(found)
        for left, top, right, bottom, score, label in boxes.tolist()
    ]
    theirs = coco_numbers(coco_truth(samples, ("a", "b", "c")), np.array(lines))
    matches = detection.match(found, truth, classes=3)
    each = detection.class_precisions(matches)
    ours = [detection.mean_precision(part) for part in (each, each[:, 0], each[:, 5])]
    ours += [
        detection.mean_precision(detection.class_precisions(matches, size=size))
        for size in detection.SIZES[1:]
    ]
    ours += recalls(matches)
    assert len(theirs) == len(TWELVE)
    assert np.isfinite(theirs).all()
    assert apart(ours, theirs) < 1e-12


def test_a_number_on_one_side_alone_is_a_difference() -> None:
    assert apart([0.5, float("nan")], [0.25, float("nan")]) == 0.25
    assert apart([0.5, float("nan")], [0.5, 0.0]) == float("inf")
