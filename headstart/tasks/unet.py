"""U-Net: from the coarsest map back up, joined at each size by the backbone's own map."""

from __future__ import annotations

from torch import nn

from headstart.tasks.decoder import LICENCE, PACKAGE, Decoded
from headstart.tasks.heads import Head, Plain
from headstart.weights import Backbone

WIDTHS = (128, 64, 48)
"""Of the maps at 1/16, 1/8 and 1/4: half of the package's own, which are made for larger backbones. It ends at a quarter of
the size: a network's finest map shows nothing finer."""


def build(backbone: Backbone, classes: int, settings: Plain) -> Decoded:
    """The network; its logits have a quarter of the size of the images."""
    del settings

    def make(channels: list[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        decoder: nn.Module = UnetDecoder(channels, WIDTHS, n_blocks=len(WIDTHS))
        return decoder

    return Decoded(backbone, classes, make=make, width=WIDTHS[-1])


HEAD = Head(
    name="unet",
    tasks=("segment",),
    summary="from the coarsest map back up to a quarter of the size, joined at each size by the backbone's own map",
    source="Ronneberger et al. 2015, U-Net",
    licence=LICENCE,
    build=build,
    package=PACKAGE,
)
