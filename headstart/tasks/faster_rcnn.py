"""Faster R-CNN on a pyramid: anchors propose where something is, a second look at each proposal says what.

Source: Ren et al. 2015, Faster R-CNN; on a pyramid: Lin et al. 2017. The two heads are torchvision's. Of proposals that
overlap those are kept that are peaks of their map (Cai et al. 2019, MaxpoolNMS), so that every image has the same number
of them, in training as in an exported file.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.data.preprocess import Preprocess
from headstart.tasks.anchors import LEVELS, Anchors, Truth, assign, dense_loss, each_place, fit, laid, moved
from headstart.tasks.boxes import IGNORE, NOTHING
from headstart.tasks.heads import Head
from headstart.tasks.pyramid import MapNetwork, Pyramid, spread
from headstart.weights import Backbone

STRIDES = (8, 16, 32)

WIDTH, HIDDEN = 64, 256
"""Of the pyramid, and of the second look; 256 and 1024, as published, are made for backbones ten times as large."""

PROPOSALS = 128
"""Of an image; where a letterbox has fewer anchors, all of them."""

_CELLS = 7  # of a proposal's side, in the second look
_FINE = (
    14  # cells of its map that a proposal should at most have on its side: else the next coarser map shows it
)
_PRIOR = 0.01  # that an anchor is an object, before training (Lin et al. 2017, focal loss)
_HIDDEN = 20.0  # taken from the logit of what is no peak: behind all peaks, yet in order
_SAME = 0.5  # overlap from which a proposal is an object
_CALM = (
    10.0,
    10.0,
    5.0,
    5.0,
)  # what the second look says of a box is divided by: small steps for small corrections
_BOX = 4  # columns of a box, or of a change


class Detector(MapNetwork):
    """A body, a pyramid, proposals and the second look; maps normalised images (N, 3, H, W) to (N, A + R, classes + 9).

    The first A rows are the anchors', as `laid` has them: the logit that there is an object, how the anchor changes, and
    zeros. The last R rows are the proposals': logits of the classes, of nothing, how the proposal changes, and the
    proposal itself in pixels of the letterbox.
    """

    def __init__(self, backbone: Backbone, classes: int, anchors: Anchors) -> None:
        super().__init__(backbone, STRIDES)
        # Imported here: the other tasks need none of torchvision's detection.
        from torchvision.models.detection.faster_rcnn import TwoMLPHead
        from torchvision.models.detection.rpn import RPNHead

        self.anchors, self.classes = anchors, classes
        extra = len(LEVELS) - len(STRIDES)
        self.pyramid = Pyramid(tuple(row.channels for row in self.taps), WIDTH, extra=extra)
        spread(self.pyramid)
        self.first = RPNHead(WIDTH, each_place(anchors))
        spread(self.first.conv)  # torchvision's begins so small that it learns nothing for long
        nn.init.constant_(self.first.cls_logits.bias, -math.log((1 - _PRIOR) / _PRIOR))
        self.second = TwoMLPHead(WIDTH * _CELLS**2, HIDDEN)
        self.head = nn.Linear(HIDDEN, classes + 1 + _BOX)
        nn.init.zeros_(self.head.weight[-_BOX:])  # a proposal is right until something else is learnt
        nn.init.zeros_(self.head.bias[-_BOX:])

    def forward(self, images: Tensor) -> Tensor:
        """Answers (N, A + R, classes + 9) for normalised images (N, 3, H, W)."""
        levels = self.pyramid(self.maps(images))
        logits, changes = self.first(levels)
        objects, ways = _flat(logits, 1), _flat(changes, _BOX)
        # What has places in pixels needs all its digits, also where the network computes in fewer.
        height, width = (STRIDES[0] * side for side in levels[0].shape[-2:])
        anchors = torch.as_tensor(laid(height, width, self.anchors), device=images.device)
        boxes = moved(anchors, ways.detach().float())
        chosen = self._peaks([level.detach().float() for level in logits])
        own = boxes.gather(1, chosen[..., None].expand(-1, -1, _BOX))
        most = torch.tensor([width, height, width, height], dtype=own.dtype, device=own.device)
        proposals = own.clamp_min(0).minimum(most)
        seen = _looked_at([level.float() for level in levels], proposals)
        said = self.head(self.second(seen)).reshape(*proposals.shape[:2], -1)
        first = F.pad(torch.cat([objects, ways], 2), (0, self.classes + _BOX))
        calm = torch.tensor(_CALM, dtype=said.dtype, device=said.device)
        second = torch.cat([said[..., :-_BOX], said[..., -_BOX:] / calm, proposals], 2)
        return torch.cat([first.float(), second.float()], 1)

    def _peaks(self, logits: list[Tensor]) -> Tensor:
        """(N, R) anchors that are the likeliest around them, of all ratios of their size; the likeliest first."""
        kept = []
        ratios = len(self.anchors.ratios)
        for level in logits:
            split = level.view(level.shape[0], ratios, -1, *level.shape[2:])
            around = F.max_pool2d(split.amax(1), 3, stride=1, padding=1)
            kept.append((split - _HIDDEN * (split < around[:, None])).flatten(1, 2))
        ranks = _flat(kept, 1)[..., 0]
        return ranks.topk(min(PROPOSALS, ranks.shape[1])).indices


def _flat(levels: list[Tensor], columns: int) -> Tensor:
    """(N, A, columns) of maps (N, kinds x columns, h, w), in the order of `laid`."""
    parts = [level.reshape(level.shape[0], -1, columns, *level.shape[2:]) for level in levels]
    return torch.cat([part.permute(0, 3, 4, 1, 2).flatten(1, 3) for part in parts], 1)


def _looked_at(levels: list[Tensor], proposals: Tensor) -> Tensor:
    """(N x R, channels, cells, cells) of proposals (N, R, 4), each from the finest map on which it is not too large."""
    from torchvision.ops import roi_align

    count, each = proposals.shape[:2]
    image = torch.arange(count, device=proposals.device, dtype=proposals.dtype)[:, None].expand(-1, each)
    rows = torch.cat([image[..., None], proposals], 2).flatten(0, 1)
    side = (rows[:, 3:] - rows[:, 1:3]).clamp_min(0).prod(1).sqrt()[:, None, None, None]
    # All proposals on each map, of which one counts: picking them out would make the shapes depend on the image.
    each_map = [
        roi_align(level, rows, _CELLS, 1 / stride, sampling_ratio=2, aligned=True)
        for level, stride in zip(levels, STRIDES, strict=False)  # the added map is too coarse for any
    ]
    seen: Tensor = each_map[0]
    for own, finer in zip(each_map[1:], STRIDES, strict=False):
        seen = torch.where(side > _FINE * finer, own, seen)
    return seen


def loss(outputs: Tensor, truth: Truth, settings: Anchors) -> Tensor:
    """The loss of both looks: where something is, and of each proposal what it is and where exactly.

    All proposals count, none is drawn and no true box is put among them.

    Args:
        outputs: (N, A + R, classes + 9).
        truth: of the images.
        settings: the anchors.
    """
    from torchvision.ops import generalized_box_iou_loss

    first, said, changes, proposals = _parts(outputs, truth[0][1], settings)
    somewhere = [(_as_one(boxes), frame) for boxes, frame in truth]
    total = dense_loss(first[..., :1], first[..., 1 : 1 + _BOX], somewhere, settings)
    assigned = [
        assign(torch.as_tensor(boxes, device=outputs.device), own, above=_SAME, below=_SAME, rescue=False)
        for (boxes, _), own in zip(truth, proposals, strict=True)
    ]
    label = torch.stack([each[0] for each in assigned])
    true = torch.stack([each[1] for each in assigned])
    wanted = torch.where(label == NOTHING, said.shape[2] - 1, label)
    what = F.cross_entropy(said.flatten(0, 1), wanted.flatten(), ignore_index=IGNORE, reduction="sum")
    positive = label >= 0
    boxes = moved(proposals[positive], changes[positive])
    place: Tensor = generalized_box_iou_loss(boxes, true[positive], reduction="sum")
    return total + what / (label > IGNORE).sum().clamp_min(1) + place / positive.sum().clamp_min(1)


def _as_one(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes (M, 6) of one class."""
    out = boxes.copy()
    out[:, 4] = 0
    return out


def _parts(
    outputs: Tensor, frame: tuple[int, int], settings: Anchors
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The anchors' rows; of the proposals logits (N, R, classes + 1), changes (N, R, 4) and themselves (N, R, 4)."""
    count = len(laid(*frame, settings))
    first, second = outputs[:, :count], outputs[:, count:]
    return first, second[..., : -2 * _BOX], second[..., -2 * _BOX : -_BOX], second[..., -_BOX:]


def decoded(outputs: Tensor, preprocess: Preprocess, settings: Anchors) -> tuple[Tensor, Tensor]:
    """Scores (N, R, classes) in [0, 1] and boxes (N, R, 4) in pixels of the letterbox."""
    _, said, changes, proposals = _parts(outputs, (preprocess.height, preprocess.width), settings)
    return said.softmax(2)[..., :-1], moved(proposals, changes)


HEAD = Head(
    name="faster-rcnn",
    tasks=("detect",),
    summary="anchors of the data's own sizes propose where something is, a second look says what",
    source="Ren et al. 2015, Faster R-CNN",
    licence="BSD-3-Clause (torchvision)",
    build=Detector,
    settings=Anchors,
    fit=fit,
    loss=loss,
    decoded=decoded,
)
