"""What is measured of answers that have places: boxes and masks."""

from __future__ import annotations

from dataclasses import field

from headstart._core.records import record
from headstart.metrics.records import Metric


@record
class Curve:
    """Precision against recall of one class at an overlap of 0.5, as the least score falls; thinned to what can be drawn."""

    name: str
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@record
class Trust:
    """What scores of boxes mean, and what is shown from the threshold on, at an overlap of 0.5.

    Attributes:
        slope: of the calibration, above zero: a score s is made sigmoid(slope * logit(s) + offset).
        offset: of it; slope 1 and offset 0 change nothing.
        asked: the precision on validation images that the threshold was chosen for; 0: the best F1 there.
        before: how far the network's own scores are from the share of right answers, on average; chance taken off.
        after: the same of the calibrated scores.
        precision: share of the shown boxes that are right; None where none is shown.
        recall: share of the objects that a shown box is right about; None where there are no objects.
    """

    slope: float
    offset: float
    asked: float
    before: Metric
    after: Metric
    precision: Metric | None = None
    recall: Metric | None = None


@record
class Assessment:
    """How good answers are.

    Attributes:
        metrics: name -> value and interval.
        per_class: class -> metric -> value and interval; classes without an object are left out.
        curves: of boxes.
        errors: kind -> how often, of boxes.
        confusion: counts, rows truth, columns answers: of boxes with the background last, of masks in pixels.
        scores: of each image, in [0, 1], in their order.
        threshold: least score of the boxes that errors and confusion count; 0 for masks.
        trust: of boxes.
    """

    metrics: dict[str, Metric]
    per_class: dict[str, dict[str, Metric]]
    curves: tuple[Curve, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()
    scores: tuple[float, ...] = ()
    threshold: float = 0.0
    trust: Trust | None = None
