"""Maps of a frozen beginning, and what is true of the images, as rows of 16 bits that a network can train on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from headstart.data.masks import IGNORED
from headstart.pixels import Example
from headstart.tasks.pyramid import MapNetwork
from headstart.training.records import TrainingData

_NONE = 255  # in 8 bits, for pixels that count neither way


class Truth(Protocol):
    """How what is true of an image becomes part of its row."""

    @property
    def width(self) -> int:
        """Values of 16 bits that it takes."""

    def pack(self, truth: Any) -> Tensor:
        """(width,) 16-bit integers."""

    def unpack(self, row: Tensor) -> Any:
        """What was packed."""


@dataclass(frozen=True)
class Boxes:
    """Boxes (M, 6) with the letterbox's (height, width); rows are filled up with boxes that are no numbers.

    Attributes:
        most: boxes of an image at most.
        size: of the letterbox.
    """

    most: int
    size: tuple[int, int]

    @property
    def width(self) -> int:
        """Six numbers of 32 bits a box."""
        return 12 * self.most

    def pack(self, truth: Any) -> Tensor:
        """(width,) 16-bit integers."""
        out = np.full((self.most, 6), np.nan, np.float32)
        out[: len(truth[0])] = truth[0]
        return torch.from_numpy(out.view(np.int16).ravel())

    def unpack(self, row: Tensor) -> Any:
        """The boxes and the letterbox's size."""
        boxes = row.numpy().view(np.float32).reshape(self.most, 6)
        return np.ascontiguousarray(boxes[~np.isnan(boxes[:, 0])]), self.size


@dataclass(frozen=True)
class ClassMap:
    """A class for each pixel (height, width), in 8 bits where the classes fit.

    Attributes:
        size: of the letterbox, its height and width.
        classes: how many there are.
    """

    size: tuple[int, int]
    classes: int

    @property
    def width(self) -> int:
        """Two pixels to a value, or one."""
        pixels = math.prod(self.size)
        return -(-pixels // 2) if self._small else pixels

    @property
    def _small(self) -> bool:
        return self.classes < _NONE

    def pack(self, truth: Any) -> Tensor:
        """(width,) 16-bit integers."""
        flat = truth.reshape(-1)
        if not self._small:
            return torch.as_tensor(flat, dtype=torch.int16)
        out = torch.full((2 * self.width,), _NONE, dtype=torch.uint8)
        out[: len(flat)] = torch.where(flat == IGNORED, _NONE, flat).to(torch.uint8)
        return out.view(torch.int16)

    def unpack(self, row: Tensor) -> Any:
        """The class map, of 16-bit integers."""
        count = math.prod(self.size)
        if not self._small:
            return row.view(self.size)
        flat = row.view(torch.uint8)[:count].to(torch.int16)
        return torch.where(flat == _NONE, torch.tensor(IGNORED, dtype=torch.int16), flat).view(self.size)


def truth_of(data: TrainingData) -> tuple[Truth | None, bool]:
    """How the truth of these images is packed, None for truth that does not move with the pixels; and whether it can be."""
    example = data.task.example(data.train[0], data.preprocess, None)
    if not isinstance(example, Example):
        return None, True
    size = (data.preprocess.height, data.preprocess.width)
    if isinstance(example.truth, Tensor) and tuple(example.truth.shape) == size:
        return ClassMap(size, len(data.classes)), True
    if isinstance(example.truth, tuple) and example.truth[1:] == (size,):
        return Boxes(max([1, *(len(sample.boxes) for sample in data.train)]), size), True
    return None, False


@dataclass(frozen=True)
class _Part:
    """A map (channels, height, width) in a row, from `start` to `end`.

    Attributes:
        module: of the body whose output it is.
    """

    module: str
    shape: tuple[int, int, int]
    start: int
    end: int

    def of(self, rows: Tensor) -> Tensor:
        """(n, channels, height, width) of rows (n, …), channels-last in memory."""
        channels, height, width = self.shape
        flat = rows[:, self.start : self.end].reshape(-1, height, width, channels)
        return flat.permute(0, 3, 1, 2)


def maps_up_to(network: MapNetwork, boundary: str, last: Tensor) -> dict[str, Tensor]:
    """Module -> map, in forward order, of all that heads read up to the boundary, and of the boundary itself.

    Args:
        network: of which a pass has just run to the boundary, and no farther.
        boundary: dotted name of the module where the frozen beginning ends.
        last: its output.
    """
    maps = network.taken()
    maps[boundary.removeprefix("body.")] = last
    return maps


def packed(maps: dict[str, Tensor]) -> Tensor:
    """(n, values) of maps (n, channels, height, width), each laid out channels-last."""
    return torch.cat([each.permute(0, 2, 3, 1).flatten(1) for each in maps.values()], 1)


def unpacking(suffix: MapNetwork, maps: dict[str, Tensor]) -> None:
    """Have a network without its beginning take rows as `packed` makes them of such maps, in the place of images."""
    parts, start = [], 0
    for module, each in maps.items():
        channels, height, width = each.shape[1:]
        end = start + channels * height * width
        parts.append(_Part(module=module, shape=(channels, height, width), start=start, end=end))
        start = end
    suffix.body.register_forward_pre_hook(_Unpacked(suffix, tuple(parts)))


class _Unpacked:
    """A hook before a body without its beginning: gives earlier maps to the heads, and the last one to what is left."""

    def __init__(self, network: MapNetwork, parts: tuple[_Part, ...]) -> None:
        self.network, self.parts = network, parts

    def __call__(self, _module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        taps = {row.module for row in self.network.taps}
        for part in self.parts:
            values = part.of(given[0])
            if part.module in taps:
                self.network.give(part.module, values)
        return (values,)
