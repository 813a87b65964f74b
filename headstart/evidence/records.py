"""What is measured before a plan is made; `evidence.json` holds it."""

from __future__ import annotations

from headstart._core.records import record
from headstart.similarity import Distance


@record
class DepthProbe:
    """A linear head on features from one depth, or from several, cross-validated inside the training split.

    Attributes:
        name: `stem`, `stage3`, `output` (the pooled features that the network's own classifier saw), or several joined
            by `+`.
        outputs: the modules that are read (`Stage.output` of the backbone), `output` for the pooled features.
        width: features a head reads.
        accuracy: cross-validated, in [0, 1] (multi-label: F1 of each image).
        error: its standard error.
        random: the same on a randomly initialised network of the same shape; None where it was not measured. The
            difference is the transfer gain at that depth.
    """

    name: str
    outputs: tuple[str, ...]
    width: int
    accuracy: float
    error: float
    random: float | None = None


@record
class SizeProbe:
    """The probe on the network's own output at an input size (pixels, square) and what a pass costs there."""

    size: int
    accuracy: float
    error: float
    seconds_per_image: float


@record
class CurvePoint:
    """Cross-validated accuracy of the probe, with its standard error, on `n` training images."""

    n: int
    accuracy: float
    error: float


@record
class Curve:
    """The learning curve of the probe and what it says of more labels.

    Attributes:
        points: measured.
        limit: accuracy that the fitted power law `limit - scale * n ** -rate` tends to.
        scale: of the power law.
        rate: of the power law, > 0.
        twice: (value, low, high) of the accuracy with twice as many labels.
        fourfold: the same with four times as many.
    """

    points: tuple[CurvePoint, ...]
    limit: float
    scale: float
    rate: float
    twice: tuple[float, float, float]
    fourfold: tuple[float, float, float]


@record
class Cost:
    """Seconds an image, measured on this machine in a moment of warm-up.

    Attributes:
        forward: of decoding and a frozen pass.
        step: of one training step of the whole network.
        partial_step: of one training step of the last stages on a frozen prefix that has run already.
    """

    forward: float
    step: float
    partial_step: float


@record
class Evidence:
    """Everything measured on the training images with these weights.

    Attributes:
        weights: `source:id` of the network.
        images: how many training images the probes used (large sets are sampled).
        distance: to the pretraining domain.
        standing: the distance in words, with known neighbours.
        depths: a probe for each stage, for the output, and for chosen sets; in forward order.
        sizes: a probe for each input size tried, smallest first.
        curve: the learning curve; None where there are too few images.
        cost: None where it was not measured.
        findings: where the images and the contract do not fit, in sentences.
        seconds: what the measuring took.
    """

    weights: str
    images: int
    distance: Distance
    standing: str
    depths: tuple[DepthProbe, ...]
    sizes: tuple[SizeProbe, ...]
    curve: Curve | None
    cost: Cost | None
    findings: tuple[str, ...]
    seconds: float
