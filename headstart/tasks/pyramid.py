"""Feature maps out of a body, and the pyramid that lets coarse maps inform fine ones.

Source: Lin et al. 2017, Feature pyramid networks for object detection; group norm: Wu & He 2018, which small batches want.
"""

from __future__ import annotations

import threading
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from headstart.tasks.model import Network
from headstart.weights import Backbone, FeatureMap, cut_behind, feature_maps

GROUPS = 8
"""Into which group norm divides channels: on a CPU the gradient of 32 groups of 96 channels costs fifteen times as much."""


class _Keeper:
    """A hook that keeps a module's output for the thread that computes it; copied together with its network."""

    def __init__(self, seen: dict[tuple[int, str], Tensor], name: str) -> None:
        self.seen, self.name = seen, name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.seen[threading.get_ident(), self.name] = output


class MapNetwork(Network):
    """A network whose heads read feature maps of the body; what runs behind the last of them is taken away.

    Args:
        backbone: whose `module` becomes the body; it is changed: it gets hooks and loses its end.
        strides: scales of the maps, the finest first.
    """

    def __init__(self, backbone: Backbone, strides: tuple[int, ...]) -> None:
        super().__init__(backbone.module)
        self.taps: tuple[FeatureMap, ...] = feature_maps(backbone, strides=strides)
        cut_behind(self.body, self.taps[-1].module)
        self._seen: dict[tuple[int, str], Tensor] = {}
        for row in self.taps:
            self.body.get_submodule(row.module).register_forward_hook(_Keeper(self._seen, row.module))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps (N, channels, H / stride, W / stride) of normalised images (N, 3, H, W), the finest first."""
        self.body(images)
        found = self.taken()
        return [found[row.module] for row in self.taps]

    def taken(self) -> dict[str, Tensor]:
        """Module -> map, of what a pass of this thread has made so far; it is handed out once."""
        me = threading.get_ident()
        names = [row.module for row in self.taps if (me, row.module) in self._seen]
        return {name: self._seen.pop((me, name)) for name in names}

    def give(self, module: str, output: Tensor) -> None:
        """Have that map of an earlier pass be the module's in this thread's next one."""
        self._seen[threading.get_ident(), module] = output


def conv_norm(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, group norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(GROUPS, outputs),
        nn.ReLU(inplace=True),
    )


class Pyramid(nn.Module):
    """From maps to as many maps of one width, each told by the coarser ones what is around it.

    Args:
        channels: of the maps, the finest first.
        width: of the result.
        extra: how many coarser levels are added behind the last.
    """

    def __init__(self, channels: tuple[int, ...], width: int, *, extra: int = 0) -> None:
        super().__init__()
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Conv2d(own, width, 1, bias=False), nn.GroupNorm(GROUPS, width))
            for own in channels
        )
        self.outer = nn.ModuleList(conv_norm(width, width) for _ in channels)
        self.coarser = nn.ModuleList(conv_norm(width, width, stride=2) for _ in range(extra))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (N, width, h, w), the finest first, the added ones last."""
        levels = [layer(own) for layer, own in zip(self.inner, maps, strict=True)]
        for place in range(len(levels) - 1, 0, -1):
            larger = levels[place - 1]
            levels[place - 1] = larger + F.interpolate(levels[place], size=larger.shape[-2:], mode="nearest")
        out = [layer(own) for layer, own in zip(self.outer, levels, strict=True)]
        for layer in self.coarser:
            out.append(layer(out[-1]))
        return out


def spread(module: nn.Module) -> None:
    """Give new convolutions weights that keep the size of what passes through them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.GroupNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def fitting(aspects: tuple[float, ...], *, long_side: int) -> tuple[int, int]:
    """(width, height) of the letterbox: of the images' common shape, or square where they have none.

    Both are multiples of the coarsest stride, so that maps of neighbouring scales lie exactly over each other.

    >>> fitting((1.33, 1.33, 1.33, 1.33, 1.33), long_side=416), fitting((0.5, 1, 1, 1, 2), long_side=416)
    ((416, 320), (416, 416))
    """
    alike = aspects and max(aspects) / max(min(aspects), 1e-6) < 1.25
    aspect = aspects[len(aspects) // 2] if alike else 1.0
    width, height = (long_side, long_side / aspect) if aspect >= 1 else (long_side * aspect, long_side)
    return _whole(width), _whole(height)


def _whole(pixels: float) -> int:
    return max(32, -(-round(pixels) // 32) * 32)
