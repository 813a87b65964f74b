"""Small networks and pictures for the tests of `evidence`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from headstart import weights
from headstart.data import from_arrays
from headstart.data.describe import describe
from headstart.data.records import Dataset, DatasetFacts
from headstart.weights import Backbone

SIZE = 64


def stripes(count: int, *, size: int = SIZE, seed: int = 0) -> Dataset:
    """Pictures of stripes across or upright under noise: the first layers see it all, and chance later ones less."""
    draw = np.random.default_rng(seed)
    bars = np.tile(np.repeat(np.arange(size // 4) % 2 * 80, 4), (size, 1))
    images = [
        ((bars if number % 2 else bars.T)[..., None] + draw.integers(0, 170, (size, size, 3))).astype(
            np.uint8
        )
        for number in range(count)
    ]
    return from_arrays(images, np.arange(count) % 2, classes=("across", "upright"))


def facts_of(dataset: Dataset) -> DatasetFacts:
    return describe(dataset, "memory")


def tiny(arch: str = "test_resnet") -> Backbone:
    """A network of a few thousand weights whose BatchNorm looks trained."""
    found = weights.blank(arch)
    draw = torch.Generator().manual_seed(1)
    for name in found.norms:
        norm: Any = found.module.get_submodule(name)
        norm.running_var.mul_(0.5 + torch.rand(norm.running_var.shape, generator=draw))
    contract = replace(found.info.preprocess, height=SIZE, width=SIZE, resize=SIZE)
    return replace(found, info=replace(found.info, preprocess=contract, objective="supervised"))
