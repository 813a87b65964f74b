"""What can be seen of an image without a network: size, shape, brightness, contrast, sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart._core.errors import BadInput
from headstart.data.images import open_rgb
from headstart.data.records import ImageSource, Sample
from headstart.pixels import ahead, cpus

_SIDE = 160  # pixels at which brightness and sharpness are measured; a JPEG is decoded no larger than needed for it
_MOST = 2000  # images that are opened for it, evenly spread: a millisecond each


def look_at(samples: Sequence[Sample]) -> dict[str, NDArray[np.float64]]:
    """Name -> what was measured (N,) of each sample, NaN where it is unknown.

    `short side` in pixels and `width / height` of scanned samples; of up to 2,000 images also `brightness` and `contrast`
    in [0, 1] (mean and standard deviation of the grey values), and `sharpness`: the standard deviation of the Laplacian as
    a share of that of the grey values, at about 160 pixels.
    """
    sides = np.array([(sample.width, sample.height) for sample in samples], np.float64).reshape(-1, 2)
    sides[sides == 0] = np.nan
    seen = np.full((len(samples), 3), np.nan)
    places = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), _MOST)).astype(np.int64))
    chosen = [samples[place].source for place in places] if len(samples) else []
    for place, found in zip(places, ahead(_look, chosen, workers=cpus(), waiting=64), strict=False):
        seen[place] = found
    return {
        "short side": sides.min(1),
        "width / height": sides[:, 0] / sides[:, 1],
        "brightness": seen[:, 0],
        "contrast": seen[:, 1],
        "sharpness": seen[:, 2],
    }


def _look(source: ImageSource) -> tuple[float, float, float]:
    try:
        grey = _grey(source)
    except (OSError, BadInput, ValueError):  # gone or damaged since it was tested
        return (float("nan"),) * 3
    spread = float(grey.std())
    if min(grey.shape) < 3:
        return float(grey.mean()), spread, float("nan")
    middle = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    sharp = float(edges.std()) / spread if spread > 1e-6 else float("nan")
    return float(grey.mean()), spread, sharp


def _grey(source: ImageSource) -> NDArray[np.float32]:
    """Grey values (H, W) in [0, 1], the short side about `_SIDE` pixels where the image has as many."""
    if isinstance(source, Path):
        with Image.open(source) as file:
            file.draft("L", (_SIDE, _SIDE))  # of a JPEG only what is needed is decoded
            image = file.convert("L") if file.mode in ("L", "RGB") else open_rgb(source).convert("L")
    else:
        image = open_rgb(source).convert("L")
    step = max(1, min(image.size) // _SIDE)
    return np.asarray(image.reduce(step) if step > 1 else image, np.float32) / np.float32(255)
