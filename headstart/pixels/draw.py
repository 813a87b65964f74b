"""Boxes and masks drawn on their image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_VEIL = 0.55  # share of a class's colour over a pixel of it


def colour(index: int) -> tuple[int, int, int]:
    """The colour of a class: neighbours far apart on the wheel, by steps of the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + index * 0.618034) % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def with_boxes(image: Image.Image, boxes: NDArray[Any], names: Sequence[str], *, scores: bool) -> Image.Image:
    """The image with frames and names.

    Args:
        image: RGB.
        boxes: (K, 6) found ones (left, top, right, bottom, score, class), or true ones (…, class, crowd).
        names: of the classes.
        scores: whether the fifth column is a score, which is then written; else it is the class.
    """
    out = image.copy()
    pen = ImageDraw.Draw(out)
    wide = max(1, round(max(image.size) / 300))
    for row in boxes:
        label = int(row[5] if scores else row[4])
        words = f"{names[label]} {row[4]:.2f}" if scores else names[label]
        left, top, right, bottom = (float(value) for value in row[:4])
        pen.rectangle(
            (left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour(label), width=wide
        )
        place = pen.textbbox((left + wide, top + wide), words)
        pen.rectangle(place, fill=colour(label))
        pen.text((left + wide, top + wide), words, fill=(0, 0, 0))
    return out


def with_mask(image: Image.Image, labels: NDArray[Any]) -> Image.Image:
    """The image under a veil of its pixels' classes; what counts neither way (-1) stays as it is."""
    palette = np.array([colour(index) for index in range(max(1, int(labels.max()) + 1))], np.float32)
    pixels = np.asarray(image, np.float32)
    veil = palette[np.maximum(labels, 0)]
    mixed = np.where(labels[..., None] >= 0, pixels * (1 - _VEIL) + veil * _VEIL, pixels)
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def index_png(labels: NDArray[Any]) -> Image.Image:
    """A palette image whose values are the class indices, in the colours of `with_mask`."""
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([value for index in range(256) for value in colour(index)])
    return image


def beside(pictures: Sequence[Image.Image], *, gap: int = 6) -> Image.Image:
    """Pictures of one size in a row."""
    width, height = pictures[0].size
    out = Image.new("RGB", (len(pictures) * width + (len(pictures) - 1) * gap, height), (255, 255, 255))
    for number, picture in enumerate(pictures):
        out.paste(picture, (number * (width + gap), 0))
    return out
