"""Augmentation in presets. Every random choice has a seed of its own: threads and resumed runs cannot change it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from headstart._core.table import Table
from headstart.data.preprocess import Preprocess
from headstart.pixels.contract import KERNELS, contract_pixels
from headstart.pixels.vision import F

Pixels = torch.Tensor  # (3, H, W), 8-bit
Operation = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Augment:
    """A preset.

    Attributes:
        name: what the user types after `--augment`.
        area: smallest share of the image's area that a random crop keeps; 1: the contract's own crop.
        jitter: brightness, contrast and saturation change by a factor within 1 +- this.
        turn: largest rotation in degrees.
        erase: probability of blanking a random rectangle (Random Erasing, Zhong et al. 2020).
        summary: one line for the report.
    """

    name: str
    area: float
    jitter: float
    turn: float
    erase: float
    summary: str


PRESETS: Table[Augment] = Table(
    "--augment",
    {
        "none": Augment(
            "none",
            area=1.0,
            jitter=0.0,
            turn=0.0,
            erase=0.0,
            summary="the contract's own crop, nothing random",
        ),
        "light": Augment(
            "light",
            area=0.6,
            jitter=0.1,
            turn=0.0,
            erase=0.0,
            summary="crops of 60-100 % of the area, slight colour changes",
        ),
        "medium": Augment(
            "medium",
            area=0.35,
            jitter=0.25,
            turn=10.0,
            erase=0.1,
            summary="crops of 35-100 %, colour changes, small turns, some erasing",
        ),
        "strong": Augment(
            "strong",
            area=0.15,
            jitter=0.4,
            turn=20.0,
            erase=0.25,
            summary="crops of 15-100 %, strong colour changes, turns, erasing",
        ),
    },
)


@dataclass(frozen=True)
class Chances:
    """What may change at random: how much, whether left and right, and where all chances come from."""

    augment: Augment
    flip: bool
    rng: np.random.Generator


_ASPECT = (3 / 4, 4 / 3)  # of a random crop, as in Inception training (Szegedy 2015)


def augmented_pixels(
    image: Image.Image, preprocess: Preprocess, *, augment: Augment, flip: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(height, width, 3) 8-bit pixels of a randomly changed image.

    Args:
        image: upright RGB.
        preprocess: whose size and kernel are used.
        augment: how much may change.
        flip: whether left and right may be exchanged; wrong where direction carries meaning (text, spectrograms).
        rng: where all chances come from.
    """
    if augment.area < 1:
        box = _random_box(image.size, augment.area, rng)
        window = np.asarray(
            image.resize((preprocess.width, preprocess.height), KERNELS[preprocess.interpolation], box=box)
        )
    else:
        window = contract_pixels(image, preprocess)
    pixels = torch.from_numpy(window.copy()).permute(2, 0, 1)
    if flip and rng.random() < 0.5:
        pixels = F.horizontal_flip(pixels)
    for operation in _operations(augment):
        pixels = operation(pixels, rng)
    out: NDArray[np.uint8] = pixels.permute(1, 2, 0).contiguous().numpy()
    return out


def _random_box(
    size: tuple[int, int], area: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A window (left, top, right, bottom) of random place, area and shape inside an image of that (width, height)."""
    width, height = size
    share = rng.uniform(area, 1.0)
    aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    short = min(width, height)  # measured on the central square, which is what the contract shows the network
    crop_width = min(width, short * math.sqrt(share * aspect))
    crop_height = min(height, short * math.sqrt(share / aspect))
    left, top = rng.uniform(0, width - crop_width), rng.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height


def _operations(augment: Augment) -> list[Operation]:
    chosen: list[Operation] = []
    if augment.turn:
        chosen.append(partial(_turn, augment.turn))
    chosen.extend(colour_changes(augment))
    if augment.erase:
        chosen.append(partial(_erase, augment.erase))
    return chosen


def colour_changes(augment: Augment) -> list[Operation]:
    """Those of brightness, contrast and saturation, which leave everything in its place."""
    changes = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    return [partial(_change, change, augment.jitter) for change in changes] if augment.jitter else []


def _turn(most: float, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    turned: Pixels = F.rotate(pixels, rng.uniform(-most, most), F.InterpolationMode.BILINEAR)
    return turned


def _change(change: Callable[..., Pixels], most: float, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return change(pixels, rng.uniform(1 - most, 1 + most))


def _erase(chance: float, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The image, by that chance with a rectangle of 2-20 % of its area set to its own mean colour."""
    if rng.random() >= chance:
        return pixels
    _, height, width = pixels.shape
    share, aspect = rng.uniform(0.02, 0.2), math.exp(rng.uniform(math.log(0.3), math.log(3.3)))
    box_height = min(height, round(math.sqrt(share * aspect) * height))
    box_width = min(width, round(math.sqrt(share / aspect) * width))
    top, left = int(rng.integers(0, height - box_height + 1)), int(rng.integers(0, width - box_width + 1))
    out = pixels.clone()
    out[:, top : top + box_height, left : left + box_width] = (
        pixels.float().mean((1, 2), keepdim=True).round().to(torch.uint8)
    )
    return out
