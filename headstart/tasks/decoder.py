"""What the decoders of segmentation-models-pytorch have in common here: our maps, group norm, one layer of logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from headstart.tasks.pyramid import MapNetwork, spread
from headstart.weights import Backbone

PACKAGE = "segmentation_models_pytorch"
"""Imported when a network is built: its import reads all of its encoders."""

LICENCE = "MIT (segmentation-models-pytorch)"

STRIDES = (4, 8, 16, 32)
_GROUPS = 8


class Decoded(MapNetwork):
    """A body and a decoder of its maps; maps normalised images (N, 3, H, W) to logits (N, classes, h, w).

    Args:
        backbone: whose module becomes the body.
        classes: how many there are.
        make: (channels of the image, of the image at half its size, and of the maps, the finest first) -> the decoder.
        width: of what the decoder gives.
    """

    def __init__(
        self, backbone: Backbone, classes: int, *, make: Callable[[list[int]], nn.Module], width: int
    ) -> None:
        super().__init__(backbone, STRIDES)
        self.decoder = grouped(make([3, 3, *(row.channels for row in self.taps)]))
        self.head = nn.Conv2d(width, classes, 1)
        for part in (self.decoder, self.head):
            spread(part)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, h, w) of normalised images (N, 3, H, W)."""
        # These decoders count from the image itself. Few networks have a map at half its size, so the pixels stand there.
        logits: Tensor = self.head(self.decoder([images, F.avg_pool2d(images, 2), *self.maps(images)]))
        return logits


def grouped(module: nn.Module) -> nn.Module:
    """The module with group norm wherever it had BatchNorm, whose statistics small batches do not have."""
    for name, part in list(module.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            module.set_submodule(name, nn.GroupNorm(_GROUPS, part.num_features))
    return module
