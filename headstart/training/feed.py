"""Batches of pixels for the training loop, each image's chances from seed, view and position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart import compute
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.pixels import PRESETS, Batch, Chances, Example, batches, in_order, normalise, read_pixels
from headstart.training.records import TrainingData


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
    """

    data: TrainingData
    augment: str
    flip: bool
    views: int | None
    device: torch.device

    def epoch(self, epoch: int, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The augmented batches that `groups` asks for."""
        preset, data = PRESETS[self.augment], self.data
        view = epoch if self.views is None else epoch % self.views

        def load(position: int, sample: Sample) -> NDArray[np.uint8] | Example:
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
