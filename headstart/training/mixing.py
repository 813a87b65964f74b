"""Images blended in pairs, and their labels with them: a network that is asked in between classes learns them less by heart.

Source: Zhang et al. 2018, mixup: beyond empirical risk minimization; Yun et al. 2019, CutMix: regularization strategy to
train strong classifiers with localizable features; for taking turns by chance Wightman et al. 2021, ResNet strikes back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart._core.errors import BadPlan
from headstart._core.seed import generator

_TURN = 0.5  # chance that a step cuts, where both ways are asked for


@dataclass(frozen=True)
class Box:
    """A window of rows `top` to `bottom` and columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Mix:
    """How a batch is blended: each image keeps `share` of itself and takes the rest from its partner.

    Attributes:
        share: of mixup in [0.5, 1]: an image stays more itself than its partner; of CutMix the exact share of its places
            that an image keeps, in [0, 1].
        partners: (N,) positions in the batch.
        box: the places that come from the partner; None: every place is a blend.
    """

    share: float
    partners: Tensor
    box: Box | None = None

    @classmethod
    def draw(cls, count: int, alpha: float, *, seed: int, step: int) -> Mix:
        """A blend of all places (mixup), the same one for the same seed and step, so that a resumed run blends as before."""
        rng = generator(seed, "mixup", step)
        share = float(rng.beta(alpha, alpha))
        return cls(max(share, 1 - share), torch.from_numpy(rng.permutation(count)))

    @classmethod
    def cut(cls, shape: Sequence[int], alpha: float, *, seed: int, step: int) -> Mix:
        """A window from each partner (CutMix), the same one for the same seed and step.

        The window's centre may lie anywhere, so it is often cut off at the border; `share` is what is really kept.

        Args:
            shape: of the batch, (N, channels, height, width).
            alpha: the share is drawn from Beta(alpha, alpha) before the border cuts the window.
            seed: of the run.
            step: number of the step.
        """
        rng = generator(seed, "cutmix", step)
        count, _, height, width = shape
        side = math.sqrt(1 - float(rng.beta(alpha, alpha)))
        box = window(height, width, side, centre=(int(rng.integers(height)), int(rng.integers(width))))
        area = (box.bottom - box.top) * (box.right - box.left)
        return cls(1 - area / (height * width), torch.from_numpy(rng.permutation(count)), box)

    def inputs(self, own: Tensor, other: Tensor) -> Tensor:
        """The images with what they take from their partners."""
        if self.box is None:
            return torch.lerp(other, own, self.share)
        box, out = self.box, own.clone()
        out[..., box.top : box.bottom, box.left : box.right] = other[
            ..., box.top : box.bottom, box.left : box.right
        ]
        return out

    def targets(self, truth: Tensor, classes: int) -> Tensor:
        """Shares of the classes (N, classes), from class indices (N,) or labels (N, classes) of 0 and 1."""
        hot = (F.one_hot(truth, classes) if truth.ndim == 1 else truth).float()
        return torch.lerp(hot[self.partners.to(hot.device)], hot, self.share)


def window(height: int, width: int, side: float, *, centre: tuple[int, int]) -> Box:
    """A window with `side` times the height and width around a centre (row, column), less what lies outside.

    >>> window(8, 10, 0.5, centre=(4, 5)), window(8, 10, 0.5, centre=(0, 9))
    (Box(top=2, bottom=6, left=3, right=8), Box(top=0, bottom=2, left=7, right=10))
    """
    tall, wide = round(height * side), round(width * side)
    top, left = centre[0] - tall // 2, centre[1] - wide // 2
    rows, columns = np.clip([top, top + tall], 0, height), np.clip([left, left + wide], 0, width)
    return Box(int(rows[0]), int(rows[1]), int(columns[0]), int(columns[1]))


def mix_of(shape: Sequence[int], *, mixup: float, cutmix: float, seed: int, step: int) -> Mix | None:
    """How the batch of that shape is blended at that step; None where neither way is asked for.

    Where both are, a coin that depends on seed and step decides.

    Raises:
        BadPlan: for CutMix on activations that have no rows and columns.
    """
    if cutmix and (not mixup or generator(seed, "cut or blend", step).random() < _TURN):
        if len(shape) != 4:
            raise BadPlan(
                f"--cutmix needs maps with rows and columns; what is stored here has the shape {tuple(shape[1:])}.",
                hint="Leave --cutmix away for this method, or use --mixup.",
            )
        return Mix.cut(shape, cutmix, seed=seed, step=step)
    return Mix.draw(shape[0], mixup, seed=seed, step=step) if mixup else None
