"""Whether a costlier rung is worth its climb: against what validation images can show, and against the time it takes."""

from __future__ import annotations

import math
from statistics import NormalDist

from headstart.metrics import told_points

CONFIDENCE = 0.9
"""How sure a costlier rung must be of its gain on the validation images to replace a cheaper one (paired bootstrap)."""

LEAST_CHANCE = 0.25
"""A gain that is confirmed less often than one time in four is not waited for."""

PRICES = {"accuracy": 0.0005, "speed": 0.01, "size": 0.0005}
"""Preference -> accuracy that a minute of waiting must bring: a twentieth of a point, or one point for the impatient."""

CHEAP = 20.0
"""Seconds that are not asked about: to try what takes so long is surer than to foretell what it would bring."""

_NORMAL = NormalDist()


def confidence(candidates: int) -> float:
    """The chance of a true gain to ask for where that many costlier rungs have a try on the same validation images.

    Whoever tries often is lucky once: with k candidates each must be surer, so that all together err as rarely as one.

    Source: Šidák 1967, Rectangular confidence regions for the means of multivariate normal distributions.

    >>> round(confidence(1), 3), round(confidence(3), 3)
    (0.9, 0.965)
    """
    return float(CONFIDENCE ** (1 / max(1, candidates)))


def chance_of_confirming(gain: float, *, accuracy: float, images: int, candidates: int) -> float:
    """How likely `images` validation images confirm a true gain over a model of that accuracy.

    The normal approximation of a paired comparison in which the images that the better model gains are among those that
    the other gets wrong, and about as many change sides as are wrong.

    >>> round(chance_of_confirming(0.05, accuracy=0.8, images=1000, candidates=1), 2)
    0.99
    """
    spread = _spread(accuracy, images)
    needed = _NORMAL.inv_cdf(confidence(candidates)) * spread
    return _NORMAL.cdf((gain - needed) / spread)


def _spread(accuracy: float, images: int) -> float:
    """Standard error of a gain over a model of that accuracy on so many images."""
    return math.sqrt(max(1 - accuracy, 1 / (images + 1)) / images)


def not_worth(
    gain: float, *, accuracy: float, images: int, candidates: int, seconds: float | None, prefer: str
) -> str:
    """Why a rung is not worth climbing, in a clause, or an empty string where it is.

    Args:
        gain: expected over the model at hand, in [0, 1].
        accuracy: of the model at hand.
        images: to judge by.
        candidates: costlier rungs that have a try on these images.
        seconds: that the rung is expected to take; None where nothing was timed.
        prefer: of `PREFERENCES`.
    """
    if seconds is not None and seconds <= CHEAP and gain >= 0 and prefer != "speed":
        return ""
    if gain <= 0:
        return "no gain is expected"
    shown = told_points(gain, _spread(accuracy, images))
    points = f"the expected gain of {shown} on {images} validation images"
    chance = chance_of_confirming(gain, accuracy=accuracy, images=images, candidates=candidates)
    if chance < LEAST_CHANCE:
        return f"{points} would be confirmed with a chance of only {chance:.0%}"
    if seconds is not None and gain < PRICES[prefer] * seconds / 60:
        return f"{points} is not worth the {told_seconds(seconds)} it would take"
    return ""


def told_seconds(seconds: float) -> str:
    """A duration in words.

    >>> told_seconds(3.2), told_seconds(300), told_seconds(9000)
    ('3 s', '5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
