"""Small networks and pictures for the tests of `compute`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from headstart import weights
from headstart.data.records import Sample
from headstart.weights import Backbone


def picture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colours with some noise: structure at several scales, as in a photo."""
    rng = np.random.default_rng(seed)
    out = np.full((height, width, 3), 127.5)
    for cells in (2, 6, 20):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        out += (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) - 127.5) / cells**0.5
    out += rng.normal(0, 3, out.shape)
    pixels: NDArray[np.uint8] = np.clip(out, 0, 255).astype(np.uint8)
    return pixels


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """A network of two convolutions with a classifier: compiled in a moment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {
            "layer1": nn.Conv2d(3, 16, 5, stride=4),
            "act1": nn.ReLU(),
            "layer2": nn.Conv2d(16, 24, 3, stride=2),
            "act2": nn.ReLU(),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
        }
        module = nn.Sequential(OrderedDict(layers)).eval()
        classifier = nn.Linear(24, 10)
    info = weights.info("random:test_resnet")
    info = replace(info, preprocess=info.preprocess.at(64))
    return Backbone(info=info, module=module, stages=(), norms=(), width=24, classifier=classifier)


@pytest.fixture
def samples(tmp_path: Path) -> Callable[[int], list[Sample]]:
    """Makes that many JPEG files of different shapes."""

    def make(count: int) -> list[Sample]:
        out = []
        for number in range(count):
            path = tmp_path / f"{number}.jpg"
            Image.fromarray(picture(number, 170 + number % 7, 200 - number % 5)).save(path, quality=92)
            out.append(Sample(name=path.name, source=path))
        return out

    return make
