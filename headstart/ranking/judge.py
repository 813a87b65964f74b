"""What is known of weights and what was measured of them, brought together as draws of their accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart import scores
from headstart._core.seed import generator
from headstart.weights import WeightsInfo

Floats = NDArray[np.float64]

# How far accuracy on other images strays from what ImageNet says, in log-odds: half a unit is 83 to 89 % where 86.5 %
# was expected. Kornblith et al. 2019 find correlations of 0.96 to 0.99 over twelve sets on this scale; single sets stray
# more, so this is wide on purpose: from about 300 images on, the measurement has the say.
_STRAYS = 0.5
_ZERO_SHOT_STRAYS = 1.0  # without a trained head, ImageNet accuracy says less
_MASKED_GAP = (
    0.89  # log-odds from the linear probe (67.8 %) to fine-tuning (83.7 %) of MAE ViT-B: facebookresearch/mae
)
_LEVEL = 0.9  # of the intervals
_TIE = 0.95  # of the paired interval that must exclude zero


@dataclass(frozen=True)
class Verdict:
    """Each array (K,), in the candidates' order.

    Attributes:
        expected: mean of the draws of the accuracy.
        low: their 5 % quantile.
        high: their 95 % quantile.
        best: the share of draws in which the candidate is the best.
        tied: whether the paired interval of the difference to the first reaches zero.
        trust: the measurement's share in the answer, the rest being the prior's.
    """

    expected: Floats
    low: Floats
    high: Floats
    best: Floats
    tied: NDArray[np.bool_]
    trust: Floats


def judge(correct: Floats, rows: Sequence[WeightsInfo], *, seed: int = 0) -> Verdict:
    """What to expect of each candidate, from its probe on the images and from what was known before.

    On the scale of log-odds, the measured accuracies are resampled over the images, the same for all candidates; each is
    drawn towards what its ImageNet accuracy says, by as much as the measurement is uncertain (normal prior, normal
    likelihood of the differences between candidates). Their common level is not assumed but measured. Weights without a
    published accuracy are judged by the measurement alone. Of masked-image weights the probe is a lower bound: what
    fine-tuning adds lies anywhere between nothing and what it added on ImageNet.

    Args:
        correct: (N, K) correctness in [0, 1] of each candidate's probe on the same N images, held out.
        rows: the K candidates.
        seed: of the draws.

    Source: Kornblith et al. 2019, Do better ImageNet models transfer better? (accuracies compared in log-odds).
    """
    means = scores.resampled_means(correct, seed=seed)
    n, rng = len(correct), generator(seed, "judge", len(correct))
    measured = _log_odds((means * n + 0.5) / (n + 1))
    doubt = (measured - measured.mean(1, keepdims=True)).var(0)
    known = np.array([row.top1 is not None for row in rows])
    prior = np.array([_log_odds(np.float64(row.top1)) if row.top1 is not None else 0.0 for row in rows])
    strays = np.array([_ZERO_SHOT_STRAYS if row.top1_by == "zero-shot" else _STRAYS for row in rows]) ** 2
    trust = np.where(known, strays / (strays + doubt), 1.0)
    draws = measured * trust
    if known.any():
        level = (measured - prior)[:, known].mean(1, keepdims=True)
        draws += (1 - trust) * (level + prior)
    # Resampling alone would be too sure of an average: this much of the posterior's variance it does not show.
    draws += rng.standard_normal(draws.shape) * np.sqrt(trust * (1 - trust) * doubt)
    draws += rng.random(draws.shape) * np.array([masked_gap(row) for row in rows])
    accuracy = 1 / (1 + np.exp(-draws))
    expected = accuracy.mean(0)
    first = int(expected.argmax())
    winners = accuracy >= accuracy.max(1, keepdims=True) - 1e-12
    return Verdict(
        expected=expected,
        low=np.quantile(accuracy, (1 - _LEVEL) / 2, axis=0),
        high=np.quantile(accuracy, (1 + _LEVEL) / 2, axis=0),
        best=(winners / winners.sum(1, keepdims=True)).mean(0),
        tied=np.quantile(accuracy[:, [first]] - accuracy, (1 - _TIE) / 2, axis=0) <= 1e-12,
        trust=trust,
    )


def masked_gap(row: WeightsInfo) -> float:
    """Log-odds that fine-tuning added to the linear probe on ImageNet; 0 for all but masked-image weights."""
    if row.objective != "masked image":
        return 0.0
    if row.tuned is None or row.top1 is None:
        return _MASKED_GAP
    return float(_log_odds(np.float64(row.tuned)) - _log_odds(np.float64(row.top1)))


def _log_odds(accuracy: Floats | np.float64) -> Floats:
    out: Floats = np.log(accuracy / (1 - accuracy))
    return out
