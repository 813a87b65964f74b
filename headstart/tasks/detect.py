"""A box around each object, with its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts, Sample
from headstart.metrics import Metric, draw
from headstart.metrics import detection as boxes
from headstart.metrics.assessment import Assessment, Curve
from headstart.metrics.detection import Matches
from headstart.pixels import Chances, Example, read_scene, truth_boxes, varied_scene
from headstart.tasks.boxes import MOST, answers
from headstart.tasks.heads import Head
from headstart.tasks.pyramid import fitting
from headstart.tasks.records import Floats, Glance, Places, Rows, Task

REPEATS, GLANCES = 300, 200
"""Resamples of the images for an interval, at the end and on the way."""

_SMALL = 60.0  # pixels that a small object (of the lower quarter) should have on its side
_LONG_SIDE = (256, 640)
_DRAWN = 100  # points of a curve


def targets(samples: Sequence[Sample], classes: int) -> list[NDArray[np.float64]]:
    """Boxes (M, 6) of each image in its own pixels."""
    del classes  # a box says its class itself
    return [truth_boxes(sample) for sample in samples]


def example(sample: Sample, preprocess: Preprocess, chances: Chances | None) -> Example:
    """Pixels, and the boxes in them with the size of the frame."""
    scene = read_scene(sample, preprocess) if chances is None else varied_scene(sample, preprocess, chances)
    return Example(pixels=scene.pixels, truth=(scene.boxes, (preprocess.height, preprocess.width)))


def tally(answers: Sequence[NDArray[Any]], samples: Sequence[Sample], classes: int) -> Rows:
    """(N, 100, 6) found boxes, padded with -1."""
    del samples, classes
    out = np.full((len(answers), MOST, 6), -1.0)
    for row, found in zip(out, answers, strict=True):
        row[: len(found)] = found[:MOST]
    return out


def _matched(found: Rows, truth: Sequence[NDArray[np.float64]]) -> Matches:
    classes = 1 + int(max((t[:, 4].max() for t in truth if len(t)), default=0))
    classes = max(classes, 1 + int(found[..., 5].max(initial=0)))
    return boxes.match(list(found), truth, classes=classes, by_size=False)


def correctness(found: Rows, truth: Sequence[NDArray[np.float64]]) -> Floats:
    """Average precision of each image alone."""
    return boxes.image_scores(_matched(found, truth))


def judge(found: Rows, truth: Sequence[NDArray[np.float64]]) -> float:
    """1 - mAP over the overlaps of 0.5 to 0.95; 1 where no image has an object."""
    value = boxes.mean_precision(boxes.class_precisions(_matched(found, truth)))
    return 1.0 if np.isnan(value) else 1.0 - value


def glance(found: Rows, truth: Sequence[NDArray[np.float64]], seed: int) -> Glance:
    """Average precision of each image, and 1 - mAP with its interval over images, of one matching."""
    matches = _matched(found, truth)
    value = boxes.mean_precision(boxes.class_precisions(matches))
    draws = draw(len(truth), seed=seed, repeats=GLANCES).images
    resampled = boxes.mean_precisions(boxes.resampled_precisions(matches, draws))
    return Glance.of(boxes.image_scores(matches), 1.0 if np.isnan(value) else 1.0 - value, 1.0 - resampled)


def assess(
    found: Rows, truth: Sequence[NDArray[np.float64]], classes: Sequence[str], least: float, seed: int
) -> Assessment:
    """COCO's metrics with intervals over images, per class, curves, kinds of errors and confusion with the background."""
    matches = boxes.match(list(found), truth, classes=len(classes))
    draws = draw(len(truth), seed=seed, repeats=REPEATS).images.astype(np.float64)
    each = {size: boxes.class_precisions(matches, size=size) for size in boxes.SIZES}
    resampled = {size: boxes.resampled_precisions(matches, draws, size=size) for size in boxes.SIZES}
    pick: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
        "map50_95": ("all", lambda precision: precision),
        "map50": ("all", lambda precision: precision[..., :1]),
        "map75": ("all", lambda precision: precision[..., 5:6]),
    }
    pick |= {f"map_{size}": (size, lambda precision: precision) for size in boxes.SIZES[1:]}
    metrics = {
        name: _metric(part(each[size]), part(resampled[size]), len(truth))
        for name, (size, part) in pick.items()
        if np.isfinite(part(each[size])).any()
    }
    per_class = {}
    for index, name in enumerate(classes):
        if np.isfinite(each["all"][index]).any():
            own, drawn, n = each["all"][index], resampled["all"][:, index], _images(matches, index)
            per_class[name] = {
                "ap": _metric(own, drawn, n),
                "ap50": _metric(own[:1], drawn[:, :1], n),
            }
    errors, table = boxes.error_kinds(list(found), truth, classes=len(classes), threshold=least)
    return Assessment(
        metrics=metrics,
        per_class=per_class,
        curves=tuple(_curve(matches, index, name) for index, name in enumerate(classes) if name in per_class),
        errors=errors,
        confusion=tuple(tuple(int(n) for n in row) for row in table),
        scores=tuple(float(score) for score in boxes.image_scores(matches)),
        threshold=least,
    )


def _metric(value: Floats, resampled: Floats, n: int) -> Metric:
    """The mean of some average precisions with the interval of the same mean over resamples."""
    mean = boxes.mean_precision(value)
    means = boxes.mean_precisions(resampled)
    low, high = np.nanquantile(means, [0.025, 0.975]) if np.isfinite(means).any() else (0.0, 1.0)
    return Metric(
        value=mean, low=min(float(low), mean), high=max(float(high), mean), interval="bootstrap", n=n
    )


def _images(matches: Matches, label: int) -> int:
    return int((matches.parts[0][label].objects > 0).sum())


def _curve(matches: Matches, label: int, name: str) -> Curve:
    _, recall, precision = boxes.curve(matches.parts[0][label])
    step = max(1, len(recall) // _DRAWN)
    return Curve(
        name=name, recall=tuple(recall[::step].tolist()), precision=tuple(precision[::step].tolist())
    )


def frame(facts: DatasetFacts) -> tuple[tuple[int, int], str]:
    """A size at which the smaller quarter of the objects is still some sixty pixels wide, no larger than the images."""
    quarter = facts.box_quantiles[1] if facts.box_quantiles else 0.15
    wanted = min(max(_SMALL / max(quarter, 1e-6), _LONG_SIDE[0]), _LONG_SIDE[1], max(facts.long_side, 64))
    size = fitting(facts.aspect_quantiles, long_side=round(wanted))
    why = f"a quarter of the objects is smaller than {quarter:.0%} of the long side"
    return size, f"{why}; they shall have about {_SMALL:.0f} pixels, in images of {facts.long_side:.0f}"


def made(head: Head, settings: Any) -> Task:
    """The task with that head, whose loss knows neither class weights nor smoothing: its methods therefore refuse them."""

    def loss(outputs: Tensor, truth: Any, weights: Tensor | None, smoothing: float) -> Tensor:
        del weights, smoothing
        return head.loss(outputs, truth, settings)

    def decode(outputs: Tensor, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
        return head.decoded(outputs, preprocess, settings)

    places = Places(
        frame=frame,
        answers=partial(answers, decode),
        tally=tally,
        assess=assess,
        glance=glance,
        decode=decode,
    )
    return Task(
        name="detect",
        head=head.spec(settings),
        build=head.on(settings),
        targets=targets,
        example=example,
        loss=loss,
        rows=places.rows,
        primary="image_ap",
        correctness=correctness,
        judged_by="1 - mAP",
        judge=judge,
        temperature=lambda *_: 1.0,
        places=places,
    )
