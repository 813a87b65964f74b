"""Anchors: boxes at every place that a head moves and stretches; their sizes follow from the boxes of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.tasks.boxes import IGNORE, NOTHING

Truth = Sequence[tuple[NDArray[np.float32], tuple[int, int]]]
"""For each image boxes (M, 6), as in `Scene`, and (height, width) of the letterbox."""

LEVELS = (8, 16, 32, 64)
"""Pixels of the input that one place stands for, of each map with anchors."""

_EACH = 2  # sizes a level
_STEPS = (2 ** (1 / 3), 2 ** (2 / 3))  # least and largest ratio of one size to the next
_COARSE = 2.0  # strides: an anchor that is smaller may lie between two places and reach neither
_ABOVE, _BELOW = 0.5, 0.4  # overlaps from which an anchor is a box, and under which it is none (RetinaNet's)
_FAR = math.log(1000 / 16)  # largest stretch, as a logarithm: a wild output must not become infinite


@record
class Anchors:
    """The anchors of every place.

    Attributes:
        sizes: for each level the square roots of their areas in pixels of the letterbox.
        ratios: their heights divided by their widths; each size has all of them.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)


def fit(facts: DatasetFacts, frame: tuple[int, int]) -> tuple[Anchors, str]:
    """Anchors in steps of one ratio from the small boxes of the training images to the large ones, two sizes a level.

    The ends are halfway (as logarithms) between the outer quartiles and the extremes, of which one odd box is enough.
    """
    shares = facts.box_quantiles or (0.05, 0.1, 0.2, 0.4, 0.8)
    small, lower, _, upper, large = (max(share * max(frame), 4.0) for share in shares)
    low, high = math.sqrt(small * lower), math.sqrt(upper * large)
    count = _EACH * len(LEVELS)
    step = min(max((high / low) ** (1 / (count - 1)), _STEPS[0]), _STEPS[1])
    first = math.sqrt(low * high) / step ** ((count - 1) / 2)
    sizes = []
    for number, stride in enumerate(LEVELS):
        least = max(first * step ** (_EACH * number), _COARSE * stride)
        sizes.append(tuple(round(least * step**place, 1) for place in range(_EACH)))
    why = f"boxes of the training images are mostly {low:.0f} to {high:.0f} pixels wide in the letterbox"
    return Anchors(sizes=tuple(sizes)), why


def each_place(anchors: Anchors) -> int:
    """How many anchors a place has."""
    return len(anchors.sizes[0]) * len(anchors.ratios)


@cache
def laid(height: int, width: int, anchors: Anchors) -> NDArray[np.float32]:
    """(A, 4) anchors of a letterbox of that size in its pixels, by level, row, column, ratio and size.

    As torchvision's, but around the middles of the places, not their corners, and not rounded.
    """
    levels = []
    for stride, sizes in zip(LEVELS, anchors.sizes, strict=True):
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1) * stride + stride / 2
        root = np.sqrt(np.asarray(anchors.ratios))[:, None]
        half_width, half_height = ((size / 2).ravel() for size in (sizes / root, sizes * root))
        half = np.stack([half_width, half_height], 1)
        middle = np.stack([x, y], 1)[:, None]
        levels.append(np.concatenate([middle - half, middle + half], 2).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def assign(
    boxes: Tensor, anchors: Tensor, *, above: float, below: float, rescue: bool = True
) -> tuple[Tensor, Tensor]:
    """The class (A,) that each anchor should say, `NOTHING` or `IGNORE`, and the box (A, 4) that it stands for.

    Args:
        boxes: (M, 6), as in `Scene`.
        anchors: (A, 4).
        above: overlap from which an anchor stands for a box.
        below: overlap under which it stands for nothing; between the two it counts neither way.
        rescue: whether a box that no anchor overlaps so much gets those that overlap it most.
    """
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    crowd = boxes[:, 5] > 0
    own, aside = boxes[~crowd], boxes[crowd, :4]
    label = torch.full((len(anchors),), NOTHING, device=anchors.device)
    stands_for = torch.zeros_like(anchors)
    if len(own):
        overlap = box_iou(own[:, :4], anchors)
        which = Matcher(above, below, allow_low_quality_matches=rescue)(overlap)
        label = torch.where(which >= 0, own[which.clamp_min(0), 4].long(), which)
        stands_for = own[which.clamp_min(0), :4]
    if len(aside):
        label[(label == NOTHING) & (_covered(anchors, aside) >= above)] = IGNORE
    return label, stands_for


def _covered(anchors: Tensor, boxes: Tensor) -> Tensor:
    """The largest share (A,) of each anchor that lies in one of these boxes."""
    least = torch.maximum(anchors[:, None, :2], boxes[None, :, :2])
    most = torch.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    area = (anchors[:, 2:] - anchors[:, :2]).prod(1)
    return ((most - least).clamp_min(0).prod(2) / area[:, None].clamp_min(1e-6)).amax(1)


def moved(anchors: Tensor, changes: Tensor) -> Tensor:
    """Boxes (…, A, 4) that come of moving anchors (…, A, 4) by shares of their sides and stretching them by exponents.

    Source: Girshick et al. 2014, Rich feature hierarchies, appendix C.
    """
    sides = anchors[..., 2:] - anchors[..., :2]
    middle = anchors[..., :2] + sides / 2 + changes[..., :2] * sides
    half = sides * changes[..., 2:].clamp(max=_FAR).exp() / 2
    return torch.cat([middle - half, middle + half], -1)


def dense_loss(logits: Tensor, changes: Tensor, truth: Truth, settings: Anchors) -> Tensor:
    """Focal loss of the classes and 1 - GIoU of the boxes, both by anchors that stand for a box.

    GIoU takes the place of the published smooth L1: it measures what the answers are judged by.

    Args:
        logits: (N, A, classes).
        changes: (N, A, 4), of the anchors.
        truth: of the images.
        settings: the anchors.

    Source: Lin et al. 2017, Focal loss for dense object detection; Rezatofighi et al. 2019, Generalized IoU.
    """
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

    anchors = torch.as_tensor(laid(*truth[0][1], settings), device=logits.device)
    assigned = [
        assign(torch.as_tensor(boxes, device=logits.device), anchors, above=_ABOVE, below=_BELOW)
        for boxes, _ in truth
    ]
    label = torch.stack([each[0] for each in assigned])
    true = torch.stack([each[1] for each in assigned])
    positive = label >= 0
    count = positive.sum().clamp_min(1)
    wanted = F.one_hot(label.clamp_min(0), logits.shape[2]).float() * positive[..., None]
    counted = (label > IGNORE).float()[..., None]
    focal = (sigmoid_focal_loss(logits, wanted, reduction="none") * counted).sum() / count
    said = moved(anchors.expand(len(logits), -1, -1)[positive], changes[positive])
    total: Tensor = focal + generalized_box_iou_loss(said, true[positive], reduction="sum") / count
    return total
