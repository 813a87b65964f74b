"""What the decoders of segmentation-models-pytorch have in common here: our maps, group norm, one layer of logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from headstart.tasks.pyramid import GROUPS, MapNetwork, spread
from headstart.weights import Backbone

PACKAGE = "segmentation_models_pytorch"
"""Imported when a network is built: its import reads all of its encoders."""

LICENCE = "MIT (segmentation-models-pytorch)"

Item = TypeVar("Item")

STRIDES = (4, 8, 16, 32)


class Decoded(MapNetwork):
    """A body and a decoder of its maps; maps normalised images (N, 3, H, W) to logits (N, classes, H / 4, W / 4).

    Args:
        backbone: whose module becomes the body.
        classes: how many there are.
        make: channels of what the decoder is given -> the decoder.
        width: of what it gives.
    """

    def __init__(
        self, backbone: Backbone, classes: int, *, make: Callable[[list[int]], nn.Module], width: int
    ) -> None:
        super().__init__(backbone, STRIDES)
        self.decoder = grouped(make(_counted([row.channels for row in self.taps])))
        self.head = nn.Conv2d(width, classes, 1)
        for part in (self.decoder, self.head):
            spread(part)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H / 4, W / 4) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.head(self.decoder(_counted(self.maps(images))))
        return logits


def _counted(maps: list[Item]) -> list[Item]:
    """The maps with two more before the finest: these decoders count from the image and its half, and look at neither."""
    return [maps[0], maps[0], *maps]


def grouped(module: nn.Module) -> nn.Module:
    """The module with group norm wherever it had BatchNorm, whose statistics small batches do not have."""
    for name, part in list(module.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            module.set_submodule(name, nn.GroupNorm(GROUPS, part.num_features))
    return module
