"""Many regularised logistic regressions on the same rows, solved together: folds, repeats and the final fit in one go."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]

_ROWS = 8192  # rows at a time: bounds the memory of the logits, not the result
_LEAST_VARIANCE = 1e-6  # of the largest: directions below carry nothing but rounding
_LEAST_SHARE = 1e-4  # of a class in a part: one without images starts, and stays, as good as impossible
_CURVATURE = {"single": 0.5, "multi": 0.25}  # upper bounds of the log-loss's second derivative (Böhning 1992)
_ITERATIONS, _MEMORY, _HALVINGS = 200, 10, 12
# The loss is then known to 0.0005, a fiftieth of its standard error on 1000 images.
_SLOPE, _GAIN = 5e-5, 3e-5
_ENOUGH, _NOISE, _TINY = (
    1e-4,
    1e-7,
    1e-20,
)  # Armijo's share; what single precision adds; products that are only rounding


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


class Solver:
    """Solves the blocks for one strength after the other, each from the solution before.

    In coordinates scaled by the inverse root of (curvature bound x variance + pull) all directions are alike and a step of
    length one never overshoots, so few steps suffice, and one factorisation serves every strength and block.

    Source: Böhning 1992, multinomial logistic regression algorithm, for the bound.
    """

    def __init__(self, rows: Rows, problem: Blocks) -> None:
        self.rows, self.problem = rows, problem
        self.shape = (problem.share.shape[1], len(rows.variance), problem.classes)
        self.coordinates = torch.zeros(self.shape)
        self.bias = self._prior()

    def _prior(self) -> Tensor:
        """Biases (blocks, classes) that answer with each class's share."""
        truth = self.problem.truth
        hot = F.one_hot(truth, self.problem.classes) if self.problem.single else truth
        rate = (self.problem.share.T @ hot.float()).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
        return rate.log() if self.problem.single else torch.logit(rate)

    def solve(self, strength: float) -> list[LinearHead]:
        """The head of each block for that strength (scikit-learn's C)."""
        curvature = _CURVATURE["single" if self.problem.single else "multi"]
        pull = 1 / (strength * self.problem.counts)
        scale = (curvature * self.rows.variance + pull.mean()).rsqrt()
        scale = torch.cat([scale, torch.full((1,), curvature**-0.5)])[:, None]  # the bias comes last

        def objective(point: Tensor) -> tuple[Tensor, Tensor]:
            scaled = point * scale
            weight = scaled[:, :-1]
            loss, slope, bias_slope = self._loss(weight, scaled[:, -1])
            loss = loss + 0.5 * pull.double() * weight.square().sum((1, 2)).double()
            slope = torch.cat([slope + pull[:, None, None] * weight, bias_slope[:, None]], 1)
            return loss, slope * scale

        start = torch.cat([self.coordinates, self.bias[:, None]], 1) / scale
        found = minimise(objective, start) * scale
        self.coordinates, self.bias = found[:, :-1], found[:, -1]
        return self._heads()

    def _loss(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss of each block, and its slopes by coordinates (blocks, r, classes) and biases (blocks, classes)."""
        count, _, classes = self.shape
        matrix = self._to_columns(weight)
        shift = (bias.flatten() - self.rows.centre @ matrix)[None]
        loss, slope = torch.zeros(count, dtype=torch.float64), torch.zeros_like(matrix)
        bias_slope = torch.zeros(matrix.shape[1])
        for start in range(0, len(self.rows.matrix), _ROWS):
            part = self.rows.matrix[start : start + _ROWS]
            logits = torch.addmm(shift, part, matrix).view(len(part), count, classes)
            share = self.problem.share[start : start + _ROWS]
            losses, slopes = self._pointwise(logits, self.problem.truth[start : start + _ROWS], share)
            loss += (losses * share).sum(0, dtype=torch.float64)
            weighted = slopes.view(len(part), -1)
            slope.addmm_(part.T, weighted)
            bias_slope += weighted.sum(0)
        slope -= torch.outer(self.rows.centre, bias_slope)
        if self.rows.basis is not None:
            slope = self.rows.basis.T @ slope
        return loss, slope.view(-1, count, classes).transpose(0, 1), bias_slope.view(count, classes)

    def _pointwise(self, logits: Tensor, truth: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (n, blocks), and its slope by the logits (n, blocks, classes) times the share; the logits are used up."""
        if self.problem.single:
            place = truth[:, None, None].expand(-1, logits.shape[1], 1)
            rates = logits.sub_(logits.amax(2, keepdim=True))
            own = rates.gather(2, place)[:, :, 0]
            total = rates.exp_().sum(
                2
            )  # the one exponential: it takes as long as the products with few columns
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
        matrix = weight.transpose(0, 1).reshape(weight.shape[1], self.shape[0] * self.shape[2])
        return matrix if self.rows.basis is None else self.rows.basis @ matrix

    def _heads(self) -> list[LinearHead]:
        count, _, classes = self.shape
        weights = self._to_columns(self.coordinates).view(-1, count, classes).permute(1, 2, 0).double()
        if self.rows.outer is not None:
            weights = weights @ self.rows.outer.T
        heads = []
        for weight, bias in zip(weights.numpy(), self.bias.double().numpy(), strict=True):
            heads.append(LinearHead(weight=weight, bias=bias - weight @ self.rows.origin))
        return heads


Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points (blocks, …) -> losses (blocks,) in double precision, and slopes of the points' shape."""


def minimise(objective: Objective, start: Tensor) -> Tensor:
    """The lowest point of each block's loss, by L-BFGS in which every block has its own memory and step length.

    Own code because SciPy's works on one problem at a time, in double precision, and took most of the time.

    Args:
        objective: convex, scaled so that a unit step along the negative slope does not overshoot.
        start: (blocks, rows, columns).

    Source: Nocedal & Wright 2006, algorithms 7.4 and 3.1.
    """
    point = start
    loss, slope = objective(point)
    memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_MEMORY)
    running = torch.ones(len(start), dtype=torch.bool)
    for _ in range(_ITERATIONS):
        running &= slope.abs().amax((1, 2)) > _SLOPE
        if not running.any():
            break
        direction = -_newton_like(slope, memory)
        fall = _dot(direction, slope).double()
        step = running.float()
        for _ in range(_HALVINGS):
            trial = point + step[:, None, None] * direction
            trial_loss, trial_slope = objective(trial)
            high = trial_loss > loss + _ENOUGH * step * fall + _NOISE * loss.abs()
            if not high.any():
                break
            step = torch.where(high, step / 2, step)
        gain = loss - trial_loss
        step_taken, change = trial - point, trial_slope - slope
        memory.append((step_taken, change, _dot(step_taken, change)))
        running &= gain > _GAIN * loss.abs()
        point, loss, slope = trial, trial_loss, trial_slope
    return point


def _newton_like(slope: Tensor, memory: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The slope times an estimate of the inverse curvature, block by block (the two-loop recursion)."""
    out, shares = slope, []
    for step, change, product in reversed(memory):
        usable = product > _TINY
        share = torch.where(usable, _dot(step, out) / product.clamp_min(_TINY), 0.0)
        out = out - share[:, None, None] * change
        shares.append((share, usable))
    if memory:
        _, change, product = memory[-1]
        size = _dot(change, change)
        usable = (product > _TINY) & (size > _TINY)
        out = out * torch.where(usable, product / size.clamp_min(_TINY), 1.0)[:, None, None]
    for (step, change, product), (share, usable) in zip(memory, reversed(shares), strict=True):
        back = torch.where(usable, _dot(change, out) / product.clamp_min(_TINY), 0.0)
        out = out + (share - back)[:, None, None] * step
    return out


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2))
