"""DeepLabV3+: the coarsest map seen at several distances at once, refined by the finest."""

from __future__ import annotations

from torch import nn

from headstart.tasks.decoder import LICENCE, PACKAGE, Decoded
from headstart.tasks.heads import Head, Plain
from headstart.weights import Backbone

WIDTH = 128

_RATES = (3, 6, 9)
"""Steps of the three dilated convolutions: the published 6, 12 and 18 are for maps at 1/16; ours has 1/32, because the
strides of a pretrained network are left as they are."""

_UP = 8  # from 1/32 to 1/4
_DROPOUT = 0.1


def build(backbone: Backbone, classes: int, settings: Plain) -> Decoded:
    """The network; its logits have a quarter of the size of the images."""
    del settings

    def make(channels: list[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        decoder: nn.Module = DeepLabV3PlusDecoder(
            channels,
            encoder_depth=5,
            out_channels=WIDTH,
            atrous_rates=_RATES,
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=_DROPOUT,
        )
        decoder.up = nn.Upsample(scale_factor=_UP, mode="bilinear", align_corners=False)
        return decoder

    return Decoded(backbone, classes, make=make, width=WIDTH)


HEAD = Head(
    name="deeplabv3plus",
    tasks=("segment",),
    summary="the coarsest map seen at several distances at once, refined by the finest",
    source="Chen et al. 2018, Encoder-decoder with atrous separable convolution (DeepLabV3+)",
    licence=LICENCE,
    build=build,
    package=PACKAGE,
)
