"""Many regularised logistic regressions on the same rows, solved together: folds, repeats and the final fit in one go."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headstart.heads.descent import MEMORY, Pair, minimise

Floats = NDArray[np.float64]

_ROWS = 2048  # rows at a time: their logits stay in the processor's caches
_LEAST_VARIANCE = 1e-6  # of the largest: directions below carry nothing but rounding
_LEAST_SHARE = 1e-4  # of a class in a part: one without images starts, and stays, as good as impossible
_LEAST_CURVATURE = 1e-5  # of a class: where every answer is sure, the pull alone makes the step


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weight.T + bias, with weight (classes, width) and bias (classes,)."""

    weight: Floats
    bias: Floats

    def __call__(self, features: NDArray[np.float32]) -> Floats:
        """Logits (N, classes)."""
        out: Floats = features @ self.weight.T.astype(np.float32) + self.bias
        return out


@dataclass(frozen=True)
class Rows:
    """Features in the coordinates in which all problems on them are well conditioned.

    With fewer rows than columns the rows are rotated into the space that they span, which loses nothing (the solution of
    an L2-regularised problem lies in it) and makes them short. Otherwise they stay as they are, and the weights are
    rotated instead, so that no second copy of many rows is made.

    Attributes:
        matrix: (N, columns) float32.
        centre: (columns,) mean of the matrix; zero where it was rotated.
        basis: (columns, r): from the coordinates of the solver to those of the matrix; None where they are the same.
        variance: (r,) of the scaled, centred features along each coordinate.
        outer: (width, columns): from the matrix's columns to the features', or None where they are the same.
        origin: (width,) what is subtracted from features before the weights apply.
    """

    matrix: Tensor
    centre: Tensor
    basis: Tensor | None
    variance: Tensor
    outer: Tensor | None
    origin: Floats


def prepare(features: NDArray[np.float32]) -> Rows:
    """The rows, centred and divided by one number, their root mean variance: a strength means the same for every network."""
    x = torch.from_numpy(np.require(features, np.float32, ["C", "W"]))
    count, width = x.shape
    centre = x.mean(0, dtype=torch.float64)
    scale = float(np.sqrt(max(float(x.var(0, correction=0).double().mean()), 0.0))) or 1.0
    if count < width:
        centred = (x.double() - centre) / scale
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        kept = values > _LEAST_VARIANCE * values.max()
        kept[-1] = True  # features without any variation still need a coordinate
        values, vectors = values[kept].clamp_min(_LEAST_VARIANCE), vectors[:, kept]
        spread = values.sqrt()
        outer = (centred.T @ (vectors / spread)) / scale
        rotated = (vectors * spread).float()
        rank = rotated.shape[1]
        return Rows(
            matrix=rotated,
            centre=torch.zeros(rank),
            basis=None,
            variance=(values / count).float(),
            outer=outer,
            origin=centre.numpy(),
        )
    scatter = (x.T @ x).double() / count - torch.outer(centre, centre)
    values, vectors = torch.linalg.eigh(scatter / scale**2)
    return Rows(
        matrix=x,
        centre=centre.float(),
        basis=(vectors / scale).float(),
        variance=values.clamp_min(0).float(),
        outer=None,
        origin=centre.numpy(),
    )


@dataclass(frozen=True)
class Blocks:
    """Several problems on the same rows that differ in the rows they may see.

    Attributes:
        truth: (N,) class indices, or (N, classes) of 0 and 1.
        share: (N, blocks): weight of a row in a block; each column sums to one.
        counts: (blocks,) how many rows each sees; the pull of a strength falls with it, as in scikit-learn's C.
        positive: (classes,) weight of positives, or None; for multi-label only.
    """

    truth: Tensor
    share: Tensor
    counts: Tensor
    classes: int
    positive: Tensor | None

    @property
    def single(self) -> bool:
        """Whether each row has exactly one class."""
        return self.truth.ndim == 1


def blocks(
    truth: NDArray[np.int64],
    seen: NDArray[np.bool_],
    classes: int,
    *,
    weights: Floats | None,
    copies: int = 1,
) -> Blocks:
    """The problems for some rows of the same features.

    Args:
        truth: (N,) or (N, classes).
        seen: (N, blocks): which rows each problem sees.
        classes: how many there are.
        weights: (classes,) or None.
        copies: how many rows stand for one image; a strength pulls as if each image had one.
    """
    share = seen.astype(np.float64)
    if weights is not None and truth.ndim == 1:
        share = share * weights[truth][:, None]
    positive = None if weights is None or truth.ndim == 1 else torch.from_numpy(weights).float()
    return Blocks(
        truth=torch.from_numpy(truth),
        share=torch.from_numpy(share / seen.sum(0)).float(),
        counts=torch.from_numpy((seen.sum(0) / copies).astype(np.float32)),
        classes=classes,
        positive=positive,
    )


@dataclass(frozen=True)
class _Found:
    """What a pass over the rows tells of some blocks' points.

    Attributes:
        loss: (blocks,) mean loss, in double precision.
        slope: (blocks, r + 1, classes) by the coordinates and, last, the biases.
        curvature: (blocks, 1, classes) mean second derivative of the loss by the class's logit; ones unless asked for.
    """

    loss: Tensor
    slope: Tensor
    curvature: Tensor


class Solver:
    """Solves the blocks for one strength after the other, each from where the solutions before point to.

    In coordinates scaled by the inverse root of (curvature x variance + pull) all directions are nearly alike, so few steps
    suffice, and one factorisation serves every strength and block. The curvature is that of each class in each block where
    the descent begins: with a hundred classes a fiftieth of the most that it can be (Böhning's bound, which made a hundred
    classes stop far from the solution). What was learnt of it on the way serves the next strength too.
    """

    def __init__(self, rows: Rows, problem: Blocks) -> None:
        self.rows, self.problem = rows, problem
        self.shape = (problem.share.shape[1], len(rows.variance), problem.classes)
        weights = torch.zeros(self.shape)
        self.point = torch.cat([weights, self._prior()[:, None]], 1)  # the bias comes last
        self._walked: list[tuple[float, Tensor]] = []  # the last two strengths and their solutions
        self._memory: deque[Pair] = deque(maxlen=MEMORY)  # in plain coordinates, without the pull

    def _prior(self) -> Tensor:
        """Biases (blocks, classes) that answer with each class's share."""
        truth = self.problem.truth
        hot = F.one_hot(truth, self.problem.classes) if self.problem.single else truth
        rate = (self.problem.share.T @ hot.float()).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
        return rate.log() if self.problem.single else torch.logit(rate)

    def solve(self, strength: float) -> list[LinearHead]:
        """The head of each block for that strength (scikit-learn's C), its loss next to the lowest (`descent.GAP`)."""
        every = torch.arange(self.shape[0])
        start, pull = self._ahead(strength), 1 / (strength * self.problem.counts)
        pulls = pull[:, None, None] * torch.ones(self.shape[1] + 1, 1)
        pulls[:, -1] = 0  # the biases are free
        first = self._loss(start, every, curved=True)
        bias_like = torch.cat([self.rows.variance, torch.ones(1)])[:, None]
        scale = (first.curvature * bias_like + pulls).rsqrt()

        def pulled(found: _Found, point: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
            own = pulls[live]
            added = 0.5 * (own * point.square()).sum((1, 2)).double()
            return found.loss + added, (found.slope + own * point) * scale[live]

        def objective(point: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
            plain = point * scale[live]
            return pulled(self._loss(plain, live), plain, live)

        known = [(step / scale, (change + pulls * step) * scale) for step, change in self._memory]
        point, learnt = minimise(objective, start / scale, pulled(first, start, every), known)
        for step, change in learnt:
            plain = step * scale
            self._memory.append((plain, change / scale - pulls * plain))
        self.point = point * scale
        self._walked = [*self._walked[-1:], (strength, self.point)]
        return self._heads()

    def _ahead(self, strength: float) -> Tensor:
        """Where the last two solutions point to: solutions move evenly with the strength's logarithm."""
        if len(self._walked) < 2:
            return self.point
        (first, before), (second, last) = self._walked
        if first == second:
            return last
        return last + (last - before) * (math.log(strength / second) / math.log(second / first))

    def _loss(self, point: Tensor, live: Tensor, *, curved: bool = False) -> _Found:
        """What the rows say of points (blocks, r + 1, classes) of the blocks `live`."""
        count, _, classes = point.shape
        matrix, share = self._to_columns(point[:, :-1]), self.problem.share[:, live]
        shift = (point[:, -1].flatten() - self.rows.centre @ matrix)[None]
        loss, slope = torch.zeros(count, dtype=torch.float64), torch.zeros_like(matrix)
        bias_slope, curvature = torch.zeros(matrix.shape[1]), torch.zeros(count, classes)
        for start in range(0, len(self.rows.matrix), _ROWS):
            rows = slice(start, start + _ROWS)
            part = self.rows.matrix[rows]
            logits = torch.addmm(shift, part, matrix).view(len(part), count, classes)
            if curved:
                curvature += self._curvature(logits, self.problem.truth[rows], share[rows])
            losses, slopes = self._pointwise(logits, self.problem.truth[rows], share[rows])
            loss += (losses * share[rows]).sum(0, dtype=torch.float64)
            weighted = slopes.view(len(part), -1)
            slope.addmm_(part.T, weighted)
            bias_slope += weighted.sum(0)
        slope -= torch.outer(self.rows.centre, bias_slope)
        if self.rows.basis is not None:
            slope = self.rows.basis.T @ slope
        whole = torch.cat([slope, bias_slope[None]]).view(-1, count, classes).transpose(0, 1)
        return _Found(loss, whole, curvature.clamp_min(_LEAST_CURVATURE)[:, None])

    def _curvature(self, logits: Tensor, truth: Tensor, share: Tensor) -> Tensor:
        """Sum (blocks, classes) over rows of share x second derivative of the loss by the logit."""
        if self.problem.single:
            rates = torch.softmax(logits, 2)
            bent = (rates - rates.square()).mul_(share[:, :, None]).sum(0)
            # rates that add up to one make the classes move against each other
            return bent * (self.problem.classes / max(1, self.problem.classes - 1))
        rates = torch.sigmoid(logits)
        weight = torch.ones(self.problem.classes)
        if self.problem.positive is not None:
            weight = torch.where(truth > 0, self.problem.positive, weight)[:, None]
        return (weight * (rates - rates.square()) * share[:, :, None]).sum(0)

    def _pointwise(self, logits: Tensor, truth: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (n, blocks), and its slope by the logits (n, blocks, classes) times the share; the logits are used up."""
        if self.problem.single:
            place = truth[:, None, None].expand(-1, logits.shape[1], 1)
            rates = logits.sub_(logits.amax(2, keepdim=True))
            own = rates.gather(2, place)[:, :, 0]
            total = rates.exp_().sum(2)  # the one exponential: as long as the products with few columns
            slopes = rates.mul_((share / total)[:, :, None])
            slopes.scatter_add_(2, place, -share[:, :, None])
            return total.log() - own, slopes
        wanted = truth.float()[:, None, :].expand_as(logits)
        losses = F.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.problem.positive, reduction="none"
        )
        rate = torch.sigmoid(logits)
        up = wanted if self.problem.positive is None else wanted * self.problem.positive
        return losses.sum(2), (rate * (1 - wanted) - up * (1 - rate)) * share[:, :, None]

    def _to_columns(self, weight: Tensor) -> Tensor:
        """(columns, blocks x classes) of weights (blocks, r, classes) in the solver's coordinates."""
        matrix = weight.transpose(0, 1).flatten(1)
        return matrix if self.rows.basis is None else self.rows.basis @ matrix

    def _heads(self) -> list[LinearHead]:
        count, _, classes = self.shape
        weights = self._to_columns(self.point[:, :-1]).view(-1, count, classes).permute(1, 2, 0).double()
        if self.rows.outer is not None:
            weights = weights @ self.rows.outer.T
        heads = []
        for weight, bias in zip(weights.numpy(), self.point[:, -1].double().numpy(), strict=True):
            heads.append(LinearHead(weight=weight, bias=bias - weight @ self.rows.origin))
        return heads
