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
    """

    metrics: dict[str, Metric]
    per_class: dict[str, dict[str, Metric]]
    curves: tuple[Curve, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()
    scores: tuple[float, ...] = ()
    threshold: float = 0.0
