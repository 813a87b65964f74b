"""From the scores and boxes of all places to answers: the surest ones, inside the image, none twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.preprocess import Preprocess
from headstart.pixels import original_boxes
from headstart.tasks.heads import Decode

MOST = 100
"""Boxes of an image, as COCO counts them."""

LEAST_SCORE, NMS = 0.05, 0.6
"""Of a box that is an answer at all, and the overlap from which the less sure of two boxes of a class goes."""

IGNORE, NOTHING = -2, -1
"""What stands for a place that counts neither way, and for one without an object."""

_TOP = 1000  # boxes of an image that may be answers before the overlapping ones go


def answers(
    decode: Decode, outputs: Tensor, sizes: Sequence[tuple[int, int]], preprocess: Preprocess
) -> list[NDArray[np.float64]]:
    """Boxes (K, 6) of each image in its own pixels: left, top, right, bottom, score, class; the surest first."""
    from torchvision.ops import batched_nms

    scores, boxes = decode(outputs.float(), preprocess)
    out = []
    for image, size in enumerate(sizes):
        columns, rows = preprocess.resized(*size)
        flat = scores[image].flatten()
        top = flat.topk(min(_TOP, len(flat))).indices
        top = top[flat[top] > LEAST_SCORE]
        place, label = top // scores.shape[2], top % scores.shape[2]
        limits = torch.tensor([columns, rows, columns, rows], device=outputs.device)
        own = boxes[image, place].clamp_min(0).minimum(limits)
        solid = ((own[:, 2:] - own[:, :2]) > 0).all(1)
        own, label, sure = own[solid], label[solid], flat[top][solid]
        kept = batched_nms(own, sure, label, NMS)[:MOST]
        found = torch.cat([own[kept], sure[kept, None], label[kept, None].float()], 1).double().cpu().numpy()
        found[:, :4] = original_boxes(found[:, :4], size, preprocess)
        out.append(found)
    return out
