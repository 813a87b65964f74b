"""Images that a program hands over, instead of files that a reader finds: paths, PIL images, 8-bit arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart._core.errors import BadInput
from headstart.data.images import open_rgb
from headstart.data.records import ImageSource

Images = Sequence[str | Path | Image.Image | NDArray[np.uint8]] | NDArray[Any]
"""One item an image; an array is (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4), or holds paths."""


def as_sources(images: Images) -> list[ImageSource]:
    """Each image as a path or an 8-bit array (H, W), (H, W, 3) or (H, W, 4), in order.

    Raises:
        BadInput: for a single image instead of several, arrays that are not 8-bit, and other types.
    """
    if hasattr(images, "columns"):  # going through a table gives the names of its columns
        raise BadInput("X is a table.", hint="Give the column with the paths: table['path'].")
    single = isinstance(images, str | Path | Image.Image)
    flat = isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim < 3
    colour = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] in (3, 4)
    if single or flat or colour:
        shape = f" of shape {images.shape}" if isinstance(images, np.ndarray) else ""
        raise BadInput(
            f"X is one {type(images).__name__}{shape}, not a sequence of images.",
            hint="Put the image into a list: [image].",
        )
    return [_source(item, position) for position, item in enumerate(images)]


def _source(item: Any, position: int) -> ImageSource:
    if isinstance(item, str | Path):
        return Path(item)
    if isinstance(item, Image.Image):
        return np.asarray(open_rgb(item))
    array = np.asarray(item)
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    raise BadInput(
        f"X[{position}] is {type(item).__name__} of shape {array.shape} and type {array.dtype}.",
        hint="Give paths, PIL images, or uint8 arrays (H, W), (H, W, 3) or (H, W, 4) with values 0 to 255.",
    )
