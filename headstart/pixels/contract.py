"""The one implementation of the preprocessing contract: training, evaluation, caching and serving come through here."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headstart.data.preprocess import Preprocess

KERNELS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_REACH = 2  # source pixels (times the shrinking factor) that the widest kernel sees on each side


def contract_pixels(image: Image.Image, preprocess: Preprocess) -> NDArray[np.uint8]:
    """The (height, width, 3) 8-bit pixels that the network sees of an upright RGB image, before scaling.

    The crop is resampled straight out of the source image: Pillow's `box` is the window's place before the resize, and
    its kernel still sees the pixels around it, so the result is that of resizing everything and cropping, at a third
    of the work, and a 20000 x 1 image cannot blow up to gigabytes on the way.
    """
    if preprocess.fit == "letterbox":
        return letterboxed(contract_pixels(image, preprocess.inside(*image.size)), preprocess)
    return resample(image, window(image.size, preprocess), preprocess)


def letterboxed(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """The (height, width, 3) pixels of a letterbox, with the resized image in its upper left corner."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (preprocess.height, preprocess.width):
        return pixels
    out = np.empty((preprocess.height, preprocess.width, 3), np.uint8)
    out[:] = preprocess.fill
    out[:rows, :columns] = pixels
    return out


def resample(
    image: Image.Image, box: tuple[float, float, float, float], preprocess: Preprocess
) -> NDArray[np.uint8]:
    """The (height, width, 3) 8-bit pixels of a window (left, top, right, bottom) of an RGB image.

    Columns first, then rows, in two calls: Pillow rounds to 8 bits between the two, and since version 13 it chooses
    their order by the image's shape, which would make the pixels depend on its version.
    """
    left, top, right, bottom = box
    kernel = KERNELS[preprocess.interpolation]
    reach = _REACH * max((bottom - top) / preprocess.height, 1) + 1
    first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
    lines = image.crop((0, first, image.width, last))
    columns = lines.resize((preprocess.width, last - first), kernel, box=(left, 0, right, last - first))
    rows = (0, top - first, preprocess.width, bottom - first)
    return np.asarray(columns.resize((preprocess.width, preprocess.height), kernel, box=rows))


def window(size: tuple[int, int], preprocess: Preprocess) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the crop in the source image's own pixels, of an image of that (width, height)."""
    width, height = size
    resized_width, resized_height = preprocess.resized(width, height)
    left = round((resized_width - preprocess.width) / 2)
    top = round((resized_height - preprocess.height) / 2)
    scale_x, scale_y = width / resized_width, height / resized_height
    return (
        left * scale_x,
        top * scale_y,
        min((left + preprocess.width) * scale_x, width),
        min((top + preprocess.height) * scale_y, height),
    )


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Network input, float (N, 3, H, W), of 8-bit pixels (N, 3, H, W) in [0, 255], on the same device."""
    mean = torch.tensor(preprocess.mean, device=pixels.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(preprocess.std, device=pixels.device).view(1, 3, 1, 1) * 255
    return (pixels.float() - mean) / std
