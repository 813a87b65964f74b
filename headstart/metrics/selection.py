"""What the figure of the best of several is worth: it was chosen because it looked good on these very images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headstart.metrics.intervals import Draws, percentile
from headstart.metrics.records import Metric


def without_luck(scores: NDArray[np.floating], draws: Draws) -> Metric:
    """The mean score of the best of k candidates, corrected for having been chosen on the same images.

    In each resample the best candidate is chosen on the images drawn and judged on those that were not.

    Args:
        scores: (k, N) how right each candidate's answer to each image is, in [0, 1].
        draws: resamples of the N images.

    Source: Tsamardinos, Greasidou & Borboudakis 2018, bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation (BBC-CV).
    """
    drawn = draws.images
    inside = drawn @ scores.T.astype(np.float32)
    outside = (drawn == 0).astype(np.float32)
    left = outside.sum(1)
    judged = (outside @ scores.T.astype(np.float32)) / np.maximum(left, 1)[:, None]
    # Of equals the first is chosen, as the ladder keeps the cheaper one.
    found = judged[np.arange(len(drawn)), inside.argmax(1)].astype(np.float64)
    found = found[left > 0]
    plain = scores.mean(1)
    if not len(found):  # every image was drawn each time: there is only one
        value = float(plain.max())
        return Metric(value=value, low=0.0, high=1.0, interval="bootstrap", n=scores.shape[1])
    value = min(float(found.mean()), float(plain.max()))
    low, high = percentile(found)
    return Metric(
        value=value, low=min(low, value), high=max(high, value), interval="bootstrap", n=scores.shape[1]
    )
