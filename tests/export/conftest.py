"""Small fitted models with random weights, and the bundles that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.export import Manifest, save_bundle
from headstart.tasks import Classifier
from headstart.weights import blank
from headstart.weights.records import WeightsInfo

CLASSES = ("ants", "bees", 'größe, "x"')
SIZES = ((500, 375), (375, 500), (333, 217), (32, 32), (224, 224), (1, 300), (20000, 1), (17, 23))
"""(width, height): landscape, portrait, odd, smaller than the window, and as odd as images get."""

MakeBundle = Callable[..., Path]


def preprocess(size: int = 224, **changes: object) -> Preprocess:
    values: dict[str, object] = {
        "height": size,
        "width": size,
        "resize": size * 8 // 7,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    return Preprocess(**(values | changes))  # type: ignore[arg-type]


def fitted(arch: str, classes: int = len(CLASSES), seed: int = 0) -> tuple[Classifier, int]:
    """A network whose head is scaled so that its random answers differ from image to image."""
    torch.manual_seed(seed)
    body = blank(arch)
    model = Classifier(body.module, body.width, classes).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    with torch.no_grad():
        model.head.weight.normal_(0, 3 / body.width**0.5)
    return model, body.width


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coarse noise with hard edges: the worst case for a resize that overshoots."""
    return np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A colour fading into black with some noise: pictures that a network tells apart."""
    rng = np.random.default_rng([seed, width, height])
    fade = np.linspace(0.2, 1, width)[None, :, None] * np.linspace(1, rng.uniform(), height)[:, None, None]
    colours = rng.uniform(0, 255, 3) * fade + rng.normal(0, 20, (height, width, 3))
    return np.clip(colours, 0, 255).astype(np.uint8)


@pytest.fixture
def samples() -> tuple[Sample, ...]:
    return tuple(Sample(name=f"memory:{i}", source=picture(*size, seed=i)) for i, size in enumerate(SIZES))


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Makes a run folder with a bundle in it."""

    def make(arch: str = "resnet10t", *, task: str = "classify", contract: Preprocess | None = None) -> Path:
        model, width = fitted(arch)
        chosen = contract or preprocess()
        manifest = Manifest(
            task=task,
            classes=CLASSES,
            arch=arch,
            width=width,
            preprocess=chosen,
            weights=WeightsInfo(
                name=f"timm:{arch}", arch=arch, licence="Apache-2.0", source="made here", preprocess=chosen
            ),
            method="linear-probe",
            temperature=1.7,
        )
        save_bundle(tmp_path / "run" / "bundle", model, manifest)
        return tmp_path / "run"

    return make
