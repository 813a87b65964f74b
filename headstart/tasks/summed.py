"""The levels of a pyramid, summed at a quarter of the input's size: the usual head for masks.

Source: Kirillov et al. 2019, Panoptic feature pyramid networks (its semantic branch).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from headstart.tasks.heads import Head, Plain
from headstart.tasks.pyramid import MapNetwork, Pyramid, conv_norm, spread
from headstart.weights import Backbone

STRIDES = (4, 8, 16, 32)
WIDTH = 64


class Segmenter(MapNetwork):
    """A body, a pyramid, and the sum of its levels; maps normalised images (N, 3, H, W) to logits (N, classes, H/4, W/4)."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(backbone, STRIDES)
        self.pyramid = Pyramid(tuple(row.channels for row in self.taps), WIDTH)
        self.join = conv_norm(WIDTH, WIDTH)
        self.head = nn.Conv2d(WIDTH, classes, 1)
        for part in (self.pyramid, self.join, self.head):
            spread(part)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H / 4, W / 4) of normalised images (N, 3, H, W)."""
        levels = self.pyramid(self.maps(images))
        size = levels[0].shape[-2:]
        total = levels[0]
        for level in levels[1:]:
            total = total + F.interpolate(level, size=size, mode="bilinear", align_corners=False)
        logits: Tensor = self.head(self.join(total))
        return logits


def build(backbone: Backbone, classes: int, settings: Plain) -> Segmenter:
    """The network; nothing of it is fitted to the data."""
    del settings
    return Segmenter(backbone, classes)


HEAD = Head(
    name="pyramid",
    tasks=("segment",),
    summary="the levels of a feature pyramid, summed at a quarter of the size",
    source="Kirillov et al. 2019, Panoptic feature pyramid networks",
    licence="Apache-2.0 (headstart)",
    build=build,
)
