"""The semantic branch of a feature pyramid, with convolutions between one size and the next."""

from __future__ import annotations

from torch import nn

from headstart.tasks.decoder import LICENCE, PACKAGE, Decoded
from headstart.tasks.heads import Head, Plain
from headstart.weights import Backbone

PYRAMID, BRANCH = 96, 64
"""Widths; 256 and 128, as the package has them, would cost more than a small backbone itself."""

_DROPOUT = 0.2  # of whole maps before the logits; the package's own


def build(backbone: Backbone, classes: int, settings: Plain) -> Decoded:
    """The network; its logits have a quarter of the size of the images."""
    del settings

    def make(channels: list[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        decoder: nn.Module = FPNDecoder(
            channels, pyramid_channels=PYRAMID, segmentation_channels=BRANCH, dropout=_DROPOUT
        )
        return decoder

    return Decoded(backbone, classes, make=make, width=BRANCH)


HEAD = Head(
    name="fpn",
    tasks=("segment",),
    summary="a pyramid whose levels are convolved up to a quarter of the size and summed",
    source="Kirillov et al. 2019, Panoptic feature pyramid networks",
    licence=LICENCE,
    build=build,
    package=PACKAGE,
)
