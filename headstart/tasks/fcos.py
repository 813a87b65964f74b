"""FCOS on a pyramid: for each place of each map the class, the distances to the four sides, and how central it is.

Source: Tian et al. 2019, FCOS: Fully convolutional one-stage object detection; the heads are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.preprocess import Preprocess
from headstart.tasks.boxes import IGNORE, NOTHING
from headstart.tasks.heads import Head, Plain
from headstart.tasks.pyramid import GROUPS, MapNetwork, Pyramid, spread
from headstart.weights import Backbone

STRIDES = (8, 16, 32)
LEVELS = (8, 16, 32, 64)
"""Pixels of the input that one place stands for, of the maps that are read and of the one that is added."""

WIDTH, CONVOLUTIONS = 96, 2
"""Of the pyramid and the heads: 256 and 4, as published, would cost ten times as much as a small backbone itself."""

_FIRST = (
    3.0  # strides to each side before training: behind a ReLU, from 0 half of the places would learn nothing
)
_RADIUS = 1.5  # strides around an object's centre in which places answer for it (FCOS's centre sampling)
_FAR = 8.0  # a level answers for objects whose farthest side is 4 to 8 strides away, as published


class Detector(MapNetwork):
    """A body, a pyramid and FCOS's heads; maps normalised images (N, 3, H, W) to (N, places, classes + 5).

    The columns are logits of the classes, the distances to left, top, right and bottom in strides, and the logit of the
    centredness; the places go by level, row and column.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(backbone, STRIDES)
        # Imported here: the other tasks need none of torchvision's detection.
        from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

        extra = len(LEVELS) - len(STRIDES)
        self.pyramid = Pyramid(tuple(row.channels for row in self.taps), WIDTH, extra=extra)
        spread(self.pyramid)
        norm = partial(nn.GroupNorm, GROUPS)
        self.head = FCOSHead(WIDTH, num_anchors=1, num_classes=classes, num_convs=CONVOLUTIONS)
        self.head.classification_head = FCOSClassificationHead(
            WIDTH, 1, classes, num_convs=CONVOLUTIONS, norm_layer=norm
        )
        self.head.regression_head = FCOSRegressionHead(WIDTH, 1, num_convs=CONVOLUTIONS, norm_layer=norm)
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, _FIRST)

    def forward(self, images: Tensor) -> Tensor:
        """Answers (N, places, classes + 5) for normalised images (N, 3, H, W)."""
        said = self.head(self.pyramid(self.maps(images)))
        return torch.cat([said["cls_logits"], said["bbox_regression"], said["bbox_ctrness"]], 2)


@cache
def places(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (places, 2), x and y in pixels, and strides (places,) of a letterbox of that size."""
    centres, strides = [], []
    for stride in LEVELS:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        centres.append((np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride)
        strides.append(np.full(rows * columns, stride, np.float32))
    return np.concatenate(centres), np.concatenate(strides)


def loss(outputs: Tensor, truth: Sequence[tuple[NDArray[np.float32], tuple[int, int]]]) -> Tensor:
    """Focal loss of the classes, 1 - GIoU of the sides and cross-entropy of the centredness, each by positive places.

    Args:
        outputs: (N, places, classes + 5).
        truth: for each image boxes (M, 6), and (height, width) of the letterbox.
    """
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

    classes = outputs.shape[2] - 5
    centres, strides = (torch.as_tensor(part, device=outputs.device) for part in places(*truth[0][1]))
    assigned = [assign(torch.as_tensor(boxes, device=outputs.device), centres, strides) for boxes, _ in truth]
    label = torch.stack([each[0] for each in assigned])
    sides = torch.stack([each[1] for each in assigned])
    positive = label >= 0
    count = positive.sum().clamp_min(1)
    wanted = F.one_hot(label.clamp_min(0), classes).float() * positive[..., None]
    counted = (label > IGNORE).float()[..., None]
    focal = (sigmoid_focal_loss(outputs[..., :classes], wanted, reduction="none") * counted).sum() / count
    said, true = outputs[..., classes : classes + 4][positive], sides[positive]
    zero = torch.zeros_like(said[:, :2])
    boxes = [torch.cat([zero - each[:, :2], zero + each[:, 2:]], 1) for each in (said, true)]
    place = generalized_box_iou_loss(*boxes, reduction="sum") / count
    central = F.binary_cross_entropy_with_logits(
        outputs[..., classes + 4][positive], centredness(true), reduction="sum"
    )
    total: Tensor = focal + place + central / count
    return total


def assign(boxes: Tensor, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """The class (places,) that each place should say, `NOTHING` or `IGNORE`, and the distances (places, 4) in strides.

    A place answers for the smallest object near whose centre it lies and whose farthest side its level is made for.
    """
    crowd = boxes[:, 5] > 0
    x, y = centres[:, 0:1], centres[:, 1:2]
    sides = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y], 2)
    inside = sides.amin(2) > 0
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    near = (centres[:, None] - middle[None]).abs().amax(2) < _RADIUS * strides[:, None]
    farthest = sides.amax(2)
    least = torch.where(strides == LEVELS[0], 0.0, strides * (_FAR / 2))
    most = torch.where(strides == LEVELS[-1], math.inf, strides * _FAR)
    level = (farthest > least[:, None]) & (farthest <= most[:, None])
    answers = inside & near & level & ~crowd
    area = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    if not len(boxes):
        return torch.full((len(centres),), NOTHING, device=centres.device), torch.zeros_like(
            sides.new_zeros(len(centres), 4)
        )
    size, which = torch.where(answers, area[None], math.inf).min(1)
    found = torch.isfinite(size)
    label = torch.where(found, boxes[which, 4].long(), NOTHING)
    label[~found & (inside & crowd).any(1)] = IGNORE
    own = sides[torch.arange(len(centres), device=centres.device), which]
    return label, own / strides[:, None]


def centredness(sides: Tensor) -> Tensor:
    """How central places (P,) are in boxes with these distances (P, 4): 1 in the middle, 0 at a side."""
    across, down = sides[:, [0, 2]], sides[:, [1, 3]]
    ratio = (across.amin(1) / across.amax(1)) * (down.amin(1) / down.amax(1))
    return ratio.clamp_min(0).sqrt()


def decoded(outputs: Tensor, preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Scores (N, places, classes) in [0, 1] and boxes (N, places, 4) in pixels of the letterbox."""
    classes = outputs.shape[2] - 5
    centres, strides = places(preprocess.height, preprocess.width)
    x, y = (torch.as_tensor(centres[:, k], device=outputs.device) for k in (0, 1))
    step = torch.as_tensor(strides, device=outputs.device)
    scores = (outputs[..., :classes].sigmoid() * outputs[..., classes + 4 :].sigmoid()).sqrt()
    left, top, right, bottom = (outputs[..., classes + k] * step for k in range(4))
    return scores, torch.stack([x - left, y - top, x + right, y + bottom], 2)


def build(backbone: Backbone, classes: int, settings: Plain) -> Detector:
    """The network; nothing of it is fitted to the data."""
    del settings
    return Detector(backbone, classes)


HEAD = Head(
    name="fcos",
    tasks=("detect",),
    summary="no anchors: each place says its class, the way to the four sides and how central it is",
    source="Tian et al. 2019, FCOS: Fully convolutional one-stage object detection",
    licence="BSD-3-Clause (torchvision)",
    build=build,
    loss=lambda outputs, truth, _: loss(outputs, truth),
    decoded=lambda outputs, preprocess, _: decoded(outputs, preprocess),
)
