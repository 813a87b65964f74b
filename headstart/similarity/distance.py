"""The distance of images from a network's pretraining domain, with an interval, at three depths and at every layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart._core.clock import Clock
from headstart._core.records import record
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.similarity.moments import Moments, image_moments
from headstart.similarity.reference import Reference, reference_of
from headstart.weights import Backbone

LIMIT = 128
"""Images that are looked at: beyond 64 the number hardly moves, and a pass costs time."""

_DRAWS = 100
_Z95 = 1.959963984540054

Floats = NDArray[np.float64]


@record
class Distance:
    """How far images lie from the pretraining domain; all numbers >= 0, 0: no difference.

    Attributes:
        overall: median over all layers of the layer's distance; None where it could not be measured, see `reason`.
        low: lower end of its 95 % interval over images.
        high: upper end.
        early: mean over the first third of the layers; None where a network has fewer than three.
        middle: mean over the second third.
        late: mean over the last third.
        per_layer: each layer's distance, in forward order.
        layers: their names.
        n: images measured.
        reference: what the images were compared with.
        reason: why there is no distance, else empty.
    """

    overall: float | None
    low: float | None = None
    high: float | None = None
    early: float | None = None
    middle: float | None = None
    late: float | None = None
    per_layer: tuple[float, ...] = ()
    layers: tuple[str, ...] = ()
    n: int = 0
    reference: str = ""
    reason: str = ""


def domain_distance(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    reference: Reference | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    clock: Clock | None = None,
) -> Distance:
    """The distance between images and what the network was pretrained on, from one forward pass over at most `limit` images.

    At each BatchNorm layer (or stage, see `reference_statistics`) a channel's mean and variance over the images are
    compared with the reference by the symmetric Gaussian divergence; a layer's distance is the median over its channels.
    Finitely many images lie off any reference by chance; a bootstrap over images measures by how much, and that is
    taken off, so that 64 images and 1000 of one domain get the same number. Where images have one label each, classes
    count alike, however many images each has.

    Args:
        backbone: the network with its pretrained weights.
        samples: images, of which an even choice over the classes is measured.
        reference: what to compare with; None: `reference_of(backbone)`.
        limit: images to measure at most.
        seed: of the choice of images and of the bootstrap.
        clock: says when to end.

    Raises:
        Stopped: when somebody asked for an end.

    Source: a domain read off BatchNorm statistics: Li et al. 2017, Revisiting batch normalization for practical domain
    adaptation. Bias and interval: Efron & Tibshirani 1993, An introduction to the bootstrap, chapters 10 and 13.
    """
    if reference is None:
        reference, reason = reference_of(backbone)
        if reference is None:
            return Distance(overall=None, n=0, reason=reason)
    if len(samples) < 2:
        return Distance(
            overall=None, n=len(samples), reason=f"{len(samples)} image(s): a distance needs two or more"
        )
    chosen = even_choice(samples, limit=limit, seed=seed)
    moments = image_moments(backbone, chosen, places=reference.places, clock=clock)
    return distance_of(moments, reference, weights=class_weights(chosen), seed=seed)


def distance_of(moments: Moments, reference: Reference, *, weights: Floats, seed: int = 0) -> Distance:
    """The distance that per-image moments show, images weighing as in `weights` (N,)."""
    n = len(weights)
    counts = generator(seed, "distance", n).multinomial(n, np.full(n, 1 / n), size=_DRAWS) * weights
    counts = counts[counts.sum(1) > 0]
    rows = np.concatenate([weights[None], counts])
    layers = _per_layer(moments, reference, rows / rows.sum(1, keepdims=True))
    thirds = np.array_split(layers, 3, axis=1)
    summary = np.stack([np.median(layers, axis=1), *(_mean(part) for part in thirds)], axis=1)
    overall, early, middle, late = _without_bias(summary)
    spread = _Z95 * float(summary[1:, 0].std(ddof=1))
    return Distance(
        overall=float(overall),
        low=max(0.0, float(overall) - spread),
        high=float(overall) + spread,
        early=_known(early),
        middle=_known(middle),
        late=_known(late),
        per_layer=tuple(_without_bias(layers).tolist()),
        layers=tuple(place.module for place in moments.places),
        n=n,
        reference=reference.made,
    )


def symmetric_kl(mean: Floats, variance: Floats, other_mean: Floats, other_variance: Floats) -> Floats:
    """KL(a || b) + KL(b || a) of normal distributions, elementwise, in nats, >= 0; variances must be > 0.

    >>> float(symmetric_kl(np.array(1.0), np.array(1.0), np.array(0.0), np.array(1.0)))
    1.0
    """
    gap = (mean - other_mean) ** 2
    out: Floats = 0.5 * ((variance + gap) / other_variance + (other_variance + gap) / variance) - 1
    return out


def even_choice(samples: Sequence[Sample], *, limit: int, seed: int) -> list[Sample]:
    """At most `limit` samples, the classes taken in turn while they last, at random inside each."""
    order = generator(seed, "choice", len(samples)).permutation(len(samples))
    turns: dict[tuple[int, ...], int] = {}
    ranked = []
    for place in order:
        key = samples[place].labels if len(samples[place].labels) == 1 else ()
        turns[key] = turns.get(key, -1) + 1
        ranked.append((turns[key], int(place)))
    return [samples[place] for _, place in sorted(ranked, key=lambda pair: pair[0])[:limit]]


def class_weights(samples: Sequence[Sample]) -> Floats:
    """Weights (N,) that add up to 1: every class the same share where each image has one label, else every image."""
    labels = [sample.labels for sample in samples]
    if any(len(each) != 1 for each in labels):
        return np.full(len(samples), 1 / len(samples))
    _, place, counts = np.unique([each[0] for each in labels], return_inverse=True, return_counts=True)
    out: Floats = 1 / (counts[place] * len(counts))
    return out


def _per_layer(moments: Moments, reference: Reference, weights: Floats) -> Floats:
    """(draws, layers): the median over channels, for each row of weights (draws, N) that add up to 1."""
    known = dict(
        zip(
            reference.places,
            zip(reference.means, reference.variances, reference.floors, strict=True),
            strict=True,
        )
    )
    out = []
    for place, means, within in zip(moments.places, moments.means, moments.variances, strict=True):
        there, variance, floor = known[place]
        moved = means - there
        gap = weights @ moved
        here = weights @ (within + moved**2) - gap**2
        each = symmetric_kl(gap, np.maximum(here, floor), np.zeros_like(gap), np.maximum(variance, floor))
        out.append(np.median(each, axis=1))
    return np.stack(out, axis=1)


def _mean(part: Floats) -> Floats:
    """The mean over layers; NaN for a third without layers (a network with one or two places)."""
    return part.mean(1) if part.shape[1] else np.full(len(part), np.nan)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _without_bias(values: Floats) -> Floats:
    """The first row less what the other rows, drawn from it, exceed it by on average; never below 0."""
    out: Floats = np.maximum(2 * values[0] - values[1:].mean(0), 0.0)
    return out
