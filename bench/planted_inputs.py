"""What `planted.py` works with: pictures as they are copied, their features, and shares with their intervals."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from headstart import weights
from headstart.data.records import Sample
from headstart.features import FeatureStore
from headstart.metrics import wilson

Answer = dict[str, Any]

WEIGHTS = "bundled:efficientnet_lite0"
SAVED = 92  # JPEG quality of copies but for the re-compressed ones


def saved(image: Image.Image, quality: int = SAVED) -> bytes:
    """The bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def half(image: Image.Image) -> bytes:
    """At half its width and height."""
    return saved(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def crop(image: Image.Image, share: float, across: float = 0.5, down: float = 0.5) -> bytes:
    """Without that share of its width and height, taken off around the place (0 to 1) that stays."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    return saved(image.crop((left, top, left + width, top + height)))


Way = Callable[[Path], bytes]
COPIES: dict[str, Way] = {
    "exact": lambda path: path.read_bytes(),
    "JPEG quality 50": lambda path: saved(opened(path), 50),
    "half size": lambda path: half(opened(path)),
    "5 % crop": lambda path: crop(opened(path), 0.05),
    "mirrored": lambda path: saved(ImageOps.mirror(opened(path))),
    "+20 % brightness": lambda path: saved(ImageEnhance.Brightness(opened(path)).enhance(1.2)),
}
HARDER: dict[str, Way] = {
    "10 % crop": lambda path: crop(opened(path), 0.1),
    "10 % crop from a corner": lambda path: crop(opened(path), 0.1, 0, 0),
    "20 % crop": lambda path: crop(opened(path), 0.2),
    "5 % crop, mirrored, quality 50, +20 %": lambda path: saved(
        ImageEnhance.Brightness(ImageOps.mirror(Image.open(io.BytesIO(crop(opened(path), 0.05))))).enhance(
            1.2
        ),
        50,
    ),
}


def opened(path: Path) -> Image.Image:
    """The picture of a file in RGB."""
    return Image.open(path).convert("RGB")


def share(found: float, n: int) -> Answer:
    """A proportion with its Wilson interval."""
    low, high = wilson(found, n)
    return {"value": found / n if n else None, "low": low, "high": high, "n": n}


def features_of(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Frozen features (N, 1280) of the bundled network, kept on disk."""
    return FeatureStore(weights.load(WEIGHTS), among=samples).get(samples)
