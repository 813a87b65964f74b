"""The preprocessing contract as data: what a network's weights expect of an image."""

from __future__ import annotations

import math
from dataclasses import replace

from headstart._core.errors import BadWeights
from headstart._core.records import record

INTERPOLATIONS = ("bicubic", "bilinear")


@record
class Preprocess:
    """How pixels become network input. `pixels.contract` applies it; the exported graph carries it.

    The image, upright RGB, is resized with an anti-aliased kernel so that its short side is `resize` pixels (the long
    side is `int(resize * long / short)`), the centre `height` x `width` window is cut out with its top left corner at
    `round((size - window) / 2)`, values are divided by 255, then `mean` is subtracted and the result divided by `std`.
    Where `fit` is `squash`, the whole image is resized to `height` x `width` instead, whatever its shape. Where it is
    `letterbox`, the whole image keeps its shape: it is resized to the largest size that fits, lies in the upper left corner,
    and what is left over has the mean colour. That is undone exactly by `resized` alone, which answers with a place need.

    Attributes:
        height: pixels of the network input.
        width: pixels of the network input.
        resize: short side in pixels before the centre crop; >= max(height, width). Without effect on the other fits.
        interpolation: `bicubic` (a = -0.5, Pillow's) or `bilinear`, always anti-aliased.
        mean: per channel R, G, B, in [0, 1].
        std: per channel R, G, B, > 0.
        fit: `crop`, `squash` or `letterbox`.
    """

    height: int
    width: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = "crop"

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of an image after the resize and before the crop.

        >>> half = (0.5, 0.5, 0.5)
        >>> contract = Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=half, std=half)
        >>> contract.resized(500, 375)
        (341, 256)
        """
        if self.fit == "squash":
            return self.width, self.height
        if self.fit == "letterbox":
            if width * self.height >= height * self.width:
                return self.width, max(1, height * self.width // width)
            return max(1, width * self.height // height), self.height
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def boxed(self, width: int, height: int) -> Preprocess:
        """The contract of the same weights for whole images in a frame of that size."""
        return replace(self, width=width, height=height, resize=min(width, height), fit="letterbox")

    def inside(self, width: int, height: int) -> Preprocess:
        """Of a letterbox, the contract of the image's own part, for an image of that size."""
        columns, rows = self.resized(width, height)
        return replace(self, width=columns, height=rows, fit="squash")

    @property
    def fill(self) -> tuple[int, int, int]:
        """The 8-bit colour of what is left over in a letterbox."""
        red, green, blue = (round(value * 255) for value in self.mean)
        return red, green, blue

    def at(self, size: int) -> Preprocess:
        """The same contract for another square input size, with the same share of the image in view."""
        return replace(
            self,
            height=size,
            width=size,
            resize=math.floor(size * self.resize / min(self.height, self.width)),
        )


def from_timm(config: dict[str, object]) -> Preprocess:
    """The contract that a timm pretrained configuration describes.

    Raises:
        BadWeights: for a crop mode or kernel that this contract cannot express exactly.
    """
    size, crop = config["input_size"], float(config.get("crop_pct") or 0.875)  # type: ignore[arg-type]
    assert isinstance(size, tuple | list)
    kernel, mode = str(config.get("interpolation") or "bicubic"), str(config.get("crop_mode") or "center")
    if kernel not in INTERPOLATIONS or mode not in ("center", "squash") or (mode == "squash" and crop != 1):
        raise BadWeights(
            f"These weights were trained with {kernel!r} resizing and crop mode {mode!r}, which headstart does not "
            "reproduce exactly.",
            hint="Choose other weights: headstart weights list",
        )
    height, width = int(size[1]), int(size[2])
    return Preprocess(
        height=height,
        width=width,
        resize=math.floor(min(height, width) / crop),
        interpolation=kernel,
        mean=tuple(config["mean"]),  # type: ignore[arg-type]
        std=tuple(config["std"]),  # type: ignore[arg-type]
        fit="squash" if mode == "squash" else "crop",
    )
