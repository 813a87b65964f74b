"""Batches of pixels for the training loop, each image's chances from seed, view and position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart import compute
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.pixels import (
    PRESETS,
    Batch,
    Chances,
    Example,
    batches,
    decoded_scene,
    in_order,
    normalise,
    read_pixels,
)
from headstart.training.records import TrainingData

_KEPT = 2**30
"""Bytes of decoded training images with boxes or masks that stay in memory: they come by dozens of times."""


class Feed(Protocol):
    """Where the loop's batches come from: files, or what a frozen prefix has made of them."""

    def epoch(self, epoch: int, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The training batches that `groups` asks for, as augmented in that epoch."""

    def validation(self) -> Iterator[Batch]:
        """The validation images in order, not augmented."""

    def inputs(self, values: Tensor) -> Tensor:
        """Network input, on its device, of a part of a batch."""


@dataclass(frozen=True)
class Pixels:
    """A feed that reads images.

    Attributes:
        augment: name of a preset.
        views: augmented views of each image, None for a new one in every epoch.
        device: where batches go.
        decoded: training images that have been decoded, by position, where they have places and there is room.
    """

    data: TrainingData
    augment: str
    flip: bool
    views: int | None
    device: torch.device
    decoded: dict[int, Sample] = field(default_factory=dict)

    def epoch(self, epoch: int, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The augmented batches that `groups` asks for."""
        preset, data = PRESETS[self.augment], self.data
        view = epoch if self.views is None else epoch % self.views
        kept = kept_of(data)

        def load(position: int, sample: Sample) -> NDArray[np.uint8] | Example:
            if position < kept:
                if position not in self.decoded:
                    self.decoded[position] = decoded_scene(sample)
                sample = self.decoded[position]
            rng = generator(data.seed, "augment", view, position)
            chances = Chances(augment=preset, flip=self.flip, rng=rng)
            return data.task.example(sample, data.preprocess, chances)

        return batches(data.train, load, groups=groups)

    def validation(self) -> Iterator[Batch]:
        """The validation images by the contract."""
        data = self.data
        return batches(
            data.val,
            lambda _, sample: read_pixels(sample.source, data.preprocess),
            groups=in_order(len(data.val), compute.BATCH),
        )

    def inputs(self, values: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), channels-last."""
        images = normalise(values.to(self.device), self.data.preprocess)
        return images.contiguous(memory_format=torch.channels_last)


def kept_of(data: TrainingData, *, room: int = _KEPT) -> int:
    """How many of the first training images stay decoded in memory: those with places, as far as the room goes."""
    if data.task.places is None:
        return 0
    ends = np.cumsum([3 * sample.width * sample.height for sample in data.train])
    known = np.cumprod([sample.width * sample.height > 0 for sample in data.train])
    return int(((ends <= room) & (known > 0)).sum())
