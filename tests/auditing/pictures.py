"""Pictures for the tests of `auditing`: smooth random scenes, and copies of them as people make them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from headstart.data.records import Sample
from headstart.data.scan import scan


def scene(seed: int, *, size: int = 120) -> Image.Image:
    """A picture of blobs of many sizes, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    out = np.zeros((size, size, 3))
    for cells, weight in ((4, 60), (9, 45), (20, 30), (40, 15)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        out += weight * (np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC)) / 128 - 1)
    return Image.fromarray(np.clip(out + 120, 0, 255).astype(np.uint8))


def cropped(image: Image.Image, share: float) -> Image.Image:
    edge = round(image.width * share / 2)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda image: image,
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "crop": lambda image: cropped(image, 0.05),
    "mirror": ImageOps.mirror,
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
}


def jpeg(image: Image.Image, *, quality: int = 90) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def saved(folder: Path, pictures: dict[str, bytes], **known: dict[str, str]) -> tuple[Sample, ...]:
    """Scanned samples of files with that content; `known` gives other fields by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for name, content in pictures.items():
        (folder / name).write_bytes(content)
        more = {field: values[name] for field, values in known.items() if name in values}
        samples.append(Sample(name=name, source=folder / name, **more))  # type: ignore[arg-type]
    return scan(samples).samples


def thumbs(pictures: list[Image.Image]) -> NDArray[np.uint8]:
    small = [image.convert("L").resize((32, 32), Image.Resampling.BILINEAR) for image in pictures]
    return np.stack([np.asarray(image) for image in small])
