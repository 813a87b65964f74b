"""What is measured before a plan is made; `evidence.json` holds it."""

from __future__ import annotations

import math

from headstart._core.records import record
from headstart.similarity import Distance


@record
class Recall:
    """The mean over classes of the share of a class's places that are named rightly: rare classes count alike.

    Attributes:
        value: cross-validated, in [0, 1].
        error: its standard error over images (delete-one-image jackknife).
        gain: value less that of the randomly initialised twin at the same places; None where not measured.
        gain_error: standard error of the gain, over images.
    """

    value: float
    error: float
    gain: float | None = None
    gain_error: float | None = None


@record
class DepthProbe:
    """A linear head on features from one depth, or from several, cross-validated inside the training split.

    For boxes and masks it answers for places of the images, not for images as a whole; the places of an image are held out
    together, and every standard error is over images.

    Attributes:
        name: `stem`, `stage3`, `output` (the pooled features that the network's own classifier saw), or several joined
            by `+`.
        outputs: the modules that are read (`Stage.output` of the backbone), `output` for the pooled features.
        width: features a head reads.
        accuracy: cross-validated, in [0, 1] (multi-label: F1 of each image; masks: share of the pixels, estimated from the
            places; boxes: share of the places).
        error: its standard error.
        random: the same on a randomly initialised network of the same shape; None where it was not measured. Where the
            twin saw fewer images, it is `accuracy` less `gain`.
        pooling: for each of `outputs`, what is read of its channels: `output`, `mean` or `mean+deviation` over all places.
        gain: accuracy less the twin's, image by image on the same images: the transfer gain; None where not measured.
        gain_error: standard error of the gain.
        recall: the same for classes that count alike; None for tasks of whole images.
        stride: pixels of the input that one place of the map stands for; 0 for whole images, and for several maps.
    """

    name: str
    outputs: tuple[str, ...]
    width: int
    accuracy: float
    error: float
    random: float | None = None
    pooling: tuple[str, ...] = ()
    gain: float | None = None
    gain_error: float | None = None
    recall: Recall | None = None
    stride: int = 0


@record
class SizeProbe:
    """The probe on the depth that knows most at the network's own size, at an input size, and what a pass costs there.

    Attributes:
        size: of the network's input, pixels, square.
        accuracy: cross-validated, in [0, 1].
        error: its standard error.
        seconds_per_image: of reading, preparing and a frozen pass.
        loss: accuracy at the weights' own size less that at this one, on the same images; below 0: this one is better.
        loss_error: standard error of the loss, smaller than those of two accuracies that share no images.
        images: how many the probe used.
        reusable: whether a fit at this size finds the features that the probe computed: it does not where so few images
            were computed by torch and all of them will be by a compiled network.
    """

    size: int
    accuracy: float
    error: float
    seconds_per_image: float
    loss: float = 0.0
    loss_error: float = 0.0
    images: int = 0
    reusable: bool = True


@record
class CurvePoint:
    """Cross-validated accuracy of the probe, with its standard error, on `n` training images."""

    n: int
    accuracy: float
    error: float


@record
class Forecast:
    """Accuracy that the learning curve foretells for `n` training images, with a 95 % interval."""

    n: int
    value: float
    low: float
    high: float


@record
class Labels:
    """How many training images an accuracy takes.

    Attributes:
        target: the accuracy.
        n: the most likely number; None: more than the forecast reaches.
        low: at least so many; None: more than the forecast reaches, surely.
        high: at most so many; None: nobody can say.
    """

    target: float
    n: int | None
    low: int | None
    high: int | None


@record
class Curve:
    """The learning curve of the probe and what it says of more labels.

    Attributes:
        points: measured.
        limit: accuracy that the fitted power law `limit - scale * n ** -rate` tends to.
        scale: of the power law.
        rate: of the power law, > 0.
        forecast: from the images there are up to sixteen times as many, rising in n.
        twice: (value, low, high) of the accuracy with twice as many labels.
        fourfold: the same with four times as many.
    """

    points: tuple[CurvePoint, ...]
    limit: float
    scale: float
    rate: float
    twice: tuple[float, float, float]
    fourfold: tuple[float, float, float]
    forecast: tuple[Forecast, ...] = ()

    def labels_for(self, target: float) -> Labels:
        """How many training images the probe needs for that accuracy, with a 95 % interval.

        >>> steps = tuple(Forecast(n=n, value=v, low=v - 0.1, high=v + 0.1) for n, v in ((100, 0.7), (200, 0.8)))
        >>> none = (0.0, 0.0, 0.0)
        >>> curve = Curve(points=(), limit=1, scale=1, rate=1, twice=none, fourfold=none, forecast=steps)
        >>> curve.labels_for(0.75)
        Labels(target=0.75, n=142, low=100, high=None)
        """
        counts = [step.n for step in self.forecast]
        return Labels(
            target=target,
            n=_crossing(counts, [step.value for step in self.forecast], target),
            low=_crossing(counts, [step.high for step in self.forecast], target),
            high=_crossing(counts, [step.low for step in self.forecast], target),
        )


def _crossing(counts: list[int], values: list[float], target: float) -> int | None:
    """The number at which rising values reach the target, between two steps by their logarithms; None: they never do."""
    for place, value in enumerate(values):
        if value >= target:
            if place == 0:
                return counts[0]
            share = (target - values[place - 1]) / (value - values[place - 1])
            step = math.log(counts[place] / counts[place - 1])
            return math.ceil(counts[place - 1] * math.exp(share * step))
    return None


@record
class Cost:
    """Seconds an image, measured on this machine in a moment of warm-up.

    Attributes:
        forward: of reading, preparing and a frozen pass.
        step: of one training step of the whole network, without reading.
        partial_step: of one training step of the last two stages on a frozen prefix that has run already.
        read: of reading and preparing alone, by all processors together.
        stages: a training step's share of each stage, in forward order; what lies behind them belongs to the last. A
            step that tunes the last k stages on a stored prefix costs the sum of the last k.
        head: for boxes and masks, of a training step of what is put on the network, loss included; it is part of `step` and
            of `partial_step`, and not of `stages`. 0 for linear heads, which cost nothing to speak of.
        prepare: of preparing a decoded image with its truth once more: training keeps images with boxes or masks decoded.
        answer: of turning the outputs for a validation image into what is judged (boxes without overlaps, counted pixels).
    """

    forward: float
    step: float
    partial_step: float
    read: float = 0.0
    stages: tuple[float, ...] = ()
    head: float = 0.0
    answer: float = 0.0
    prepare: float = 0.0


@record
class Flips:
    """What a mirror does to the answers of a probe that learnt from images as they are.

    Attributes:
        images: how many it was asked about, each held out.
        accuracy: on the images as they are, in [0, 1] (multi-label: F1 of each image).
        loss: accuracy less that on the same images mirrored, left and right exchanged.
        error: standard error of the loss, image by image.
        keeps: whether the loss is within its error, so that images may be mirrored in training.
        told: the finding in a clause.
    """

    images: int
    accuracy: float
    loss: float
    error: float
    keeps: bool
    told: str


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
        skipped: what was not measured and why, in sentences.
        twin_images: how many images the randomly initialised twin saw.
        flips: whether a mirror keeps the meaning; None where it was not measured.
        places: how many places of these images the probes were asked about; 0: they were asked about whole images.
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
    skipped: tuple[str, ...] = ()
    twin_images: int = 0
    flips: Flips | None = None
    places: int = 0

    @property
    def transfers(self) -> bool | None:
        """Whether maps know more of places by their pretraining, at any depth by two errors; None: not measured."""
        gains = [
            (each.recall.gain, each.recall.gain_error) for each in self.depths if each.recall is not None
        ]
        known = [(gain, error) for gain, error in gains if gain is not None and error is not None]
        return any(gain > 2 * error for gain, error in known) if known else None
