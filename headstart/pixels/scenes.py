"""Images with boxes and masks: pixels and truth go through the same resize and the same chances."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from headstart.data.images import open_rgb
from headstart.data.masks import IGNORED, read_mask
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels.augment import Chances, colour_changes
from headstart.pixels.contract import KERNELS
from headstart.pixels.decode import read_pixels
from headstart.pixels.vision import F, tv_tensors

Boxes = NDArray[np.float32]
Labels = NDArray[np.int16]

_LEAST_SEEN = 0.35
"""Share of an object that must be in view to be asked for; below it the object counts neither way."""

_NO_CLASS = 255  # of 8 bits, for pixels that count neither way


@dataclass(frozen=True)
class Scene:
    """What a network sees and what is true of it.

    Attributes:
        pixels: (height, width, 3), 8-bit, of a letterbox.
        boxes: (M, 6): left, top, right, bottom in pixels of the letterbox, class, and 1 for what counts neither way.
        labels: (height, width) class indices, -1 for what counts neither way; None without a mask.
    """

    pixels: NDArray[np.uint8]
    boxes: Boxes
    labels: Labels | None


@dataclass(frozen=True)
class _View:
    """Where the resized image lies in the letterbox: its upper left corner and its size in whole pixels."""

    left: int
    top: int
    width: int
    height: int


def truth_boxes(sample: Sample) -> NDArray[np.float64]:
    """(M, 6) of a sample's boxes: left, top, right, bottom in its own pixels, class, and 1 for a crowd."""
    rows = [(b.left, b.top, b.right, b.bottom, b.label, b.crowd) for b in sample.boxes]
    return np.array(rows, np.float64).reshape(-1, 6)


def read_scene(sample: Sample, preprocess: Preprocess) -> Scene:
    """The scene by the contract, nothing random.

    Raises:
        BadInput: for an image or a mask that cannot be read.
    """
    columns, rows = preprocess.resized(sample.width, sample.height)
    view = _View(left=0, top=0, width=columns, height=rows)
    pixels = read_pixels(sample.source, preprocess)
    boxes, labels = _moved(sample, view, preprocess)
    return Scene(pixels=pixels, boxes=boxes, labels=labels)


def decoded_scene(sample: Sample) -> Sample:
    """The sample with its pixels, and its mask's classes, as arrays instead of files: the same scenes come of it, sooner.

    Raises:
        BadInput: for an image or a mask that cannot be read.
    """
    mask = sample.mask
    if mask is not None:
        labels = read_mask(mask, (sample.width, sample.height)).labels
        highest = int(labels.max(initial=0))
        if highest < _NO_CLASS:
            stored = np.where(labels == IGNORED, _NO_CLASS, labels).astype(np.uint8)
            same = tuple((label, label) for label in range(highest + 1))
            mask = replace(mask, source=stored, meaning=same, colour=False)
    return replace(sample, source=np.asarray(open_rgb(sample.source)), mask=mask)


def varied_scene(sample: Sample, preprocess: Preprocess, chances: Chances) -> Scene:
    """A randomly changed scene: nearer or farther, elsewhere in the frame, mirrored, in other colours.

    The image is zoomed by up to the factor that a preset's smallest crop would have, in both directions. It is not turned,
    which would loosen boxes, and nothing is erased, which would hide objects that are still asked for.

    Args:
        sample: with boxes or a mask, scanned.
        preprocess: a letterbox.
        chances: what may change.
    """
    augment, rng = chances.augment, chances.rng
    image = open_rgb(sample.source)
    view = _random_view(image.size, preprocess, augment.area, rng)
    pixels = torch.from_numpy(_shown(image, view, preprocess)).permute(2, 0, 1)
    boxes, labels = _moved(sample, view, preprocess)
    if chances.flip and rng.random() < 0.5:
        pixels = F.horizontal_flip(pixels)
        size = (preprocess.height, preprocess.width)
        framed = tv_tensors.BoundingBoxes(torch.from_numpy(boxes[:, :4]), format="XYXY", canvas_size=size)
        boxes = np.concatenate([F.horizontal_flip(framed).numpy(), boxes[:, 4:]], 1)
        if labels is not None:
            labels = F.horizontal_flip(tv_tensors.Mask(torch.from_numpy(labels))).numpy()
    for operation in colour_changes(augment):
        pixels = operation(pixels, rng)
    return Scene(
        pixels=pixels.permute(1, 2, 0).contiguous().numpy(),
        boxes=boxes.astype(np.float32),
        labels=None if labels is None else np.ascontiguousarray(labels),
    )


def _random_view(
    size: tuple[int, int], preprocess: Preprocess, area: float, rng: np.random.Generator
) -> _View:
    columns, rows = preprocess.resized(*size)
    if area < 1:
        most = math.log(area) / -2  # of the side: an area of a quarter is a zoom by two
        zoom = math.exp(rng.uniform(-most, most))
        columns, rows = max(1, round(columns * zoom)), max(1, round(rows * zoom))
    spare = (preprocess.width - columns, preprocess.height - rows)
    left, top = (int(rng.integers(min(0, room), max(0, room) + 1)) if area < 1 else 0 for room in spare)
    return _View(left=left, top=top, width=columns, height=rows)


def _shown(image: Image.Image, view: _View, preprocess: Preprocess) -> NDArray[np.uint8]:
    """The letterbox's pixels with the part of the image that is in view."""
    out = np.empty((preprocess.height, preprocess.width, 3), np.uint8)
    out[:] = preprocess.fill
    left, top = max(0, view.left), max(0, view.top)
    right = min(preprocess.width, view.left + view.width)
    bottom = min(preprocess.height, view.top + view.height)
    across, down = image.width / view.width, image.height / view.height
    part = (
        (left - view.left) * across,
        (top - view.top) * down,
        min((right - view.left) * across, image.width),
        min((bottom - view.top) * down, image.height),
    )
    resized = image.resize((right - left, bottom - top), KERNELS[preprocess.interpolation], box=part)
    out[top:bottom, left:right] = np.asarray(resized)
    return out


def _moved(sample: Sample, view: _View, preprocess: Preprocess) -> tuple[Boxes, Labels | None]:
    """Boxes and class indices of a sample in the letterbox."""
    boxes = truth_boxes(sample)
    scale = np.array([view.width / sample.width, view.height / sample.height] * 2)
    boxes[:, :4] = boxes[:, :4] * scale + np.array([view.left, view.top] * 2)
    whole = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    limits = np.array([preprocess.width, preprocess.height] * 2)
    boxes[:, :4] = np.clip(boxes[:, :4], 0, limits)
    sides = boxes[:, 2:4] - boxes[:, :2]
    seen = sides.prod(1) / np.maximum(whole, 1e-9)
    boxes[seen < _LEAST_SEEN, 5] = 1
    boxes = boxes[(sides >= 1).all(1)]
    labels = None
    if sample.mask is not None:
        stored = read_mask(sample.mask, (sample.width, sample.height)).labels
        labels = _nearest(stored, view, preprocess)
    return boxes.astype(np.float32), labels


def _nearest(stored: Labels, view: _View, preprocess: Preprocess) -> Labels:
    """The class of the pixel that each pixel of the letterbox comes from."""
    out = np.full((preprocess.height, preprocess.width), IGNORED, np.int16)
    places = []
    for start, size, length, frame in (
        (view.top, view.height, stored.shape[0], preprocess.height),
        (view.left, view.width, stored.shape[1], preprocess.width),
    ):
        into = np.arange(max(0, start), min(frame, start + size))
        places.append((into, np.minimum(((into - start + 0.5) * length / size).astype(np.int64), length - 1)))
    (rows, from_rows), (columns, from_columns) = places
    if len(rows) and len(columns):
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = stored[np.ix_(from_rows, from_columns)]
    return out


def original_boxes(
    boxes: NDArray[np.float64], size: tuple[int, int], preprocess: Preprocess
) -> NDArray[np.float64]:
    """Boxes (K, 4) of a letterbox in pixels of the image of that (width, height), inside it."""
    columns, rows = preprocess.resized(*size)
    scale = np.array([size[0] / columns, size[1] / rows] * 2)
    return np.asarray(np.clip(boxes * scale, 0, np.array([*size, *size])))
