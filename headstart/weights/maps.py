"""The feature maps of a network: which module gives one at which scale, and what only runs behind the last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from headstart._core.errors import BadWeights
from headstart._core.records import record
from headstart.weights.records import Backbone

STRIDES = (4, 8, 16, 32)
"""Pixels of the input that one place of a map stands for, of the maps that heads with places read."""

_PROBE = 64  # pixels of the trial image, a multiple of the largest stride


@record
class FeatureMap:
    """A module whose output is a map (N, channels, H / stride, W / stride)."""

    module: str
    channels: int
    stride: int


def feature_maps(backbone: Backbone, *, strides: tuple[int, ...] = STRIDES) -> tuple[FeatureMap, ...]:
    """The last map of each of these scales, as a trial pass shows them; where the network names its maps, of those alone.

    Raises:
        BadWeights: for a network that has no map of one of these scales.
    """
    named = [stage for stage in backbone.stages if stage.channels] or list(backbone.stages)
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

        return hook

    handles = [
        backbone.module.get_submodule(stage.output).register_forward_hook(keep(stage.output))
        for stage in named
    ]
    try:
        with torch.no_grad():
            backbone.module(
                torch.zeros(1, 3, _PROBE, _PROBE, device=next(backbone.module.parameters()).device)
            )
    except (RuntimeError, ValueError, AssertionError):  # a network of one input size alone
        shapes.clear()
    finally:
        for handle in handles:
            handle.remove()
    found: dict[int, FeatureMap] = {}
    for name, shape in shapes.items():
        if len(shape) == 4 and shape[2] == shape[3] and shape[2] and _PROBE % shape[2] == 0:
            stride = _PROBE // shape[2]
            found[stride] = FeatureMap(module=name, channels=shape[1], stride=stride)
    if missing := [stride for stride in strides if stride not in found]:
        raise BadWeights(
            f"{backbone.info.arch} has no feature maps at 1/{missing[0]} of the input's size.",
            hint="Boxes and masks need a convolutional network, such as bundled:efficientnet_lite0 or a ResNet.",
        )
    return tuple(found[stride] for stride in strides)


def cut_behind(body: nn.Module, last: str) -> None:
    """Take away, in place, what only runs after the module of that name has returned; nothing where the rest needs it."""
    began: list[str] = []
    end: list[int] = []
    handles = [
        module.register_forward_pre_hook(lambda _m, _i, name=name: began.append(name))
        for name, module in body.named_modules()
        if name
    ]
    handles.append(body.get_submodule(last).register_forward_hook(lambda _m, _i, _o: end.append(len(began))))
    images = torch.zeros(1, 3, _PROBE, _PROBE, device=next(body.parameters()).device)
    try:
        with torch.no_grad():
            body(images)
    finally:
        for handle in handles:
            handle.remove()
    late = set(began[end[-1] :]) - set(began[: end[-1]])
    inside = {name for name in late if any(name.startswith(f"{other}.") for other in late)}
    kept = {name: body.get_submodule(name) for name in dict.fromkeys(began) if name in late - inside}
    for name in kept:
        body.set_submodule(name, nn.Identity())
    try:
        with torch.no_grad():
            body(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        for name, module in kept.items():
            body.set_submodule(name, module)
