"""RetinaNet on a pyramid: each anchor of each place says its class and how it has to be moved and stretched.

Source: Lin et al. 2017, Focal loss for dense object detection; the heads and the anchors are torchvision's.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from headstart.data.preprocess import Preprocess
from headstart.tasks.anchors import LEVELS, Anchors, Truth, dense_loss, each_place, fit, laid, moved
from headstart.tasks.heads import Head
from headstart.tasks.pyramid import GROUPS, MapNetwork, Pyramid, spread
from headstart.weights import Backbone

STRIDES = (8, 16, 32)

WIDTH = 64
"""Of the pyramid and the heads, which have four convolutions each: as costly as FCOS's here."""


class Detector(MapNetwork):
    """A body, a pyramid and RetinaNet's heads; maps normalised images (N, 3, H, W) to (N, anchors, classes + 4).

    The columns are logits of the classes, and how far the anchor is moved and stretched; the anchors go as `laid` has them.
    """

    def __init__(self, backbone: Backbone, classes: int, anchors: Anchors) -> None:
        super().__init__(backbone, STRIDES)
        # Imported here: the other tasks need none of torchvision's detection.
        from torchvision.models.detection.retinanet import RetinaNetHead

        extra = len(LEVELS) - len(STRIDES)
        self.pyramid = Pyramid(tuple(row.channels for row in self.taps), WIDTH, extra=extra)
        spread(self.pyramid)
        norm = partial(nn.GroupNorm, GROUPS)
        self.head = RetinaNetHead(WIDTH, each_place(anchors), classes, norm_layer=norm)

    def forward(self, images: Tensor) -> Tensor:
        """Answers (N, anchors, classes + 4) for normalised images (N, 3, H, W)."""
        said = self.head(self.pyramid(self.maps(images)))
        return torch.cat([said["cls_logits"], said["bbox_regression"]], 2)


def loss(outputs: Tensor, truth: Truth, settings: Anchors) -> Tensor:
    """Focal loss of the classes and 1 - GIoU of the boxes, of outputs (N, anchors, classes + 4)."""
    return dense_loss(outputs[..., :-4], outputs[..., -4:], truth, settings)


def decoded(outputs: Tensor, preprocess: Preprocess, settings: Anchors) -> tuple[Tensor, Tensor]:
    """Scores (N, anchors, classes) in [0, 1] and boxes (N, anchors, 4) in pixels of the letterbox."""
    classes = outputs.shape[2] - 4
    anchors = torch.as_tensor(laid(preprocess.height, preprocess.width, settings), device=outputs.device)
    return outputs[..., :classes].sigmoid(), moved(anchors, outputs[..., classes:])


HEAD = Head(
    name="retinanet",
    tasks=("detect",),
    summary="anchors of the data's own sizes at each place, moved and stretched, with focal loss",
    source="Lin et al. 2017, Focal loss for dense object detection",
    licence="BSD-3-Clause (torchvision)",
    build=Detector,
    settings=Anchors,
    fit=fit,
    loss=loss,
    decoded=decoded,
)
