"""Weights, key mapping, preprocessing and decoding at once: top-1 of the pretraining classifier on ImageNet photos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.runs.check import check_weights

EXPECTED = {"efficientnet_lite0": 0.871, "efficientnet_lite1": 0.891, "efficientnet_lite2": 0.886}
"""Share of these 1000 photos, one a class, as measured without any of headstart's code: timm's network, the package's
tensors in order, torchvision's `Resize` (256, 272, 292; bicubic) and `CenterCrop`, pixels / 127.5 - 1, eager float32."""

TOLERANCE = 0.003  # three photos: as many as rounding in another decoder or runtime may turn

LARGER = "HEADSTART_TEST_ALL_WEIGHTS"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXPECTED))
def test_top1_on_imagenet_photos(name: str, test_data: Path) -> None:
    """Lite0 always; its wrong mean and std alone would cost ten points. The larger two on request: a minute of CPU."""
    if name != "efficientnet_lite0" and not os.environ.get(LARGER):
        pytest.skip(f"set {LARGER}=1 to check the larger networks too")
    found = check_weights(f"bundled:{name}", test_data / "imagenet-sample")
    assert found.n == 1000
    assert abs(found.value - EXPECTED[name]) <= TOLERANCE + 1e-9
    assert found.low < found.value < found.high
