"""What a measured number looks like: never without its interval and its count."""

from __future__ import annotations

from headstart._core.records import record


@record
class Metric:
    """A value with its 95 % interval.

    Attributes:
        value: the point estimate.
        low: lower end of the interval, <= value.
        high: upper end, >= value.
        interval: how it was made: `wilson` (also for sums of several proportions), `bootstrap`, or `influence` (of each
            image on the number).
        n: how many images (for per-class numbers: how many of that class) it rests on.
    """

    value: float
    low: float
    high: float
    interval: str
    n: int


@record
class Comparison:
    """A paired comparison of two methods on the same images.

    Attributes:
        a: name of the first.
        b: name of the second.
        metric: what is compared.
        difference: a minus b.
        low: lower end of the paired 95 % interval of the difference.
        high: upper end.
        p: exact McNemar p-value for accuracies, else None.
        n: how many images both answered.
        verdict: of `metrics.claims`: `better` or `worse` only if the interval excludes zero, and the exact test agrees.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p: float | None
    n: int
    verdict: str


@record
class RiskPoint:
    """Answering only the surest images.

    Attributes:
        coverage: share of the images that are answered.
        confidence: probability of the least sure answer among them.
        risk: share of wrong answers among them.
    """

    coverage: float
    confidence: float
    risk: Metric


@record
class ReliabilityBin:
    """Images whose top probability fell between `low` and `high`.

    Attributes:
        confidence: their mean probability.
        accuracy: the share that was right, with its Wilson interval.
        n: how many there were.
    """

    low: float
    high: float
    confidence: float
    accuracy: Metric
    n: int


@record
class ClassScores:
    """Precision, recall and F1 of one class.

    Attributes:
        f1_low: lower end of the 95 % interval of `f1`.
        f1_high: upper end.
        support: images that have the class.
    """

    name: str
    precision: Metric
    recall: Metric
    f1: float
    support: int
    f1_low: float = 0.0
    f1_high: float = 1.0
