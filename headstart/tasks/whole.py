"""What tasks of whole images have in common: pixels whose labels do not move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import Chances, augmented_pixels, read_pixels


def example(sample: Sample, preprocess: Preprocess, chances: Chances | None) -> NDArray[np.uint8]:
    """The contract's pixels, or randomly changed ones."""
    if chances is None:
        return read_pixels(sample.source, preprocess)
    return augmented_pixels(
        open_rgb(sample.source), preprocess, augment=chances.augment, flip=chances.flip, rng=chances.rng
    )


def together(truth: Sequence[Any]) -> torch.Tensor:
    """Class indices (N,) or labels (N, classes) of a batch."""
    return torch.from_numpy(np.stack([np.asarray(each, np.int64) for each in truth]))
