"""torchvision's networks taken apart: each family names its own stem, stages and head."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from torch import nn

from headstart._core.check import suggestion
from headstart._core.errors import BadWeights


@dataclass(frozen=True)
class Family:
    """A row of `FAMILIES`.

    Attributes:
        pattern: of the architecture names.
        stages: dotted module names in forward order, the first of each group being the stem; a group's last is its output.
        head: dotted name of the last linear layer.
    """

    pattern: str
    stages: tuple[tuple[str, ...], ...]
    head: str


def _features(count: int) -> tuple[tuple[str, ...], ...]:
    return tuple((f"features.{number}",) for number in range(count))


_RESNET = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_VIT_STEM = ("conv_proj", "encoder.pos_embedding", "class_token")

FAMILIES = (
    Family(r"(wide_)?resne(x)?t\d+.*", _RESNET, "fc"),
    Family(r"regnet_.*", (("stem",), *((f"trunk_output.block{n}",) for n in range(1, 5))), "fc"),
    Family(r"efficientnet_b\d|efficientnet_v2_\w", _features(9), "classifier.1"),
    Family(r"mobilenet_v2", _features(19), "classifier.1"),
    Family(r"mobilenet_v3_large", _features(17), "classifier.3"),
    Family(r"mobilenet_v3_small", _features(13), "classifier.3"),
    Family(
        r"convnext_\w+",
        (
            ("features.0",),
            *((f"features.{n}", f"features.{n + 1}") for n in (1, 3, 5)),
            ("features.7", "classifier.0"),
        ),
        "classifier.2",
    ),
    Family(
        r"densenet\d+",
        (
            ("features.conv0", "features.norm0"),
            *((f"features.denseblock{n}", f"features.transition{n}") for n in (1, 2, 3)),
            ("features.denseblock4", "features.norm5"),
        ),
        "classifier",
    ),
    Family(
        r"swin_(v2_)?\w",
        (
            ("features.0",),
            ("features.1",),
            ("features.2", "features.3"),
            ("features.4", "features.5"),
            ("features.6", "features.7", "norm"),
        ),
        "head",
    ),
    Family(
        r"vit_[bl]_\d+",
        (_VIT_STEM, *((f"encoder.layers.encoder_layer_{n}",) for n in range(24)), ("encoder.ln",)),
        "heads.head",
    ),
)


def family(arch: str) -> Family:
    """The family of a torchvision architecture.

    Raises:
        BadWeights: for a family whose parts are not named here.
    """
    for row in FAMILIES:
        if re.fullmatch(row.pattern, arch):
            return row
    raise BadWeights(
        f"headstart does not know the parts of torchvision's {arch!r}.",
        hint=f"Most have a twin in timm: try --weights timm:{arch}",
    )


def blank_name(arch: str) -> str:
    """The name itself, if torchvision has such a classification network and its parts are known.

    Raises:
        BadWeights: otherwise, with the closest name.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if arch not in names:
        hint = suggestion(arch, names) or "Names: torchvision.models.list_models()"
        raise BadWeights(f"torchvision has no classification network {arch!r}.", hint=hint)
    family(arch)
    return arch


@cache
def parameters(arch: str) -> int:
    """Parameters of the network without its last linear layer, counted without keeping any of them in memory."""
    from accelerate import init_empty_weights  # a second that other weights need not pay

    with init_empty_weights():  # not torch.device("meta"): RegNet computes its widths with tensors
        network = blank(arch)
    network.set_submodule(family(arch).head, nn.Identity())
    return sum(parameter.numel() for parameter in network.parameters())


def blank(arch: str) -> nn.Module:
    """A torchvision network with random weights and its classifier."""
    from torchvision import models

    network: nn.Module = models.get_model(blank_name(arch), weights=None)
    return network
