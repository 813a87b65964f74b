"""Masks: from files, colours and outlines to a class index for each pixel."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.records import Mask, Outline

IGNORED = -1
"""The index of a pixel that counts neither way."""

Labels = NDArray[np.int16]

_TABLE = 2**16  # stored values below it are looked up in a table: many times faster than to sort the pixels


class BadMask(BadInput):
    """A mask that cannot be used; `reason` says why without the image's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, hint="Mend or remove this mask.")
        self.reason = reason


@record
class ReadMask:
    """A mask's class indices with what was odd about them.

    Attributes:
        labels: (H, W), -1 where a pixel counts neither way.
        unknown: how many pixels have a value that means nothing; they count neither way.
        values: some of those values.
    """

    labels: Labels
    unknown: int
    values: tuple[int, ...]


def read_mask(mask: Mask, size: tuple[int, int]) -> ReadMask:
    """The class of each pixel of an image of that (width, height).

    Raises:
        BadMask: when it cannot be read or has another size than the image.
    """
    if isinstance(mask.source, tuple):
        background = mask.meaning[0][1] if mask.meaning else 0
        return ReadMask(labels=draw(mask.source, size, background=background), unknown=0, values=())
    stored = stored_values(mask.source, colour=mask.colour)
    if stored.shape != (size[1], size[0]):
        shape = f"{stored.shape[1]}x{stored.shape[0]}"
        raise BadMask(f"its mask is {shape} pixels, the image {size[0]}x{size[1]}")
    meaning = dict(mask.meaning)
    if stored.min(initial=0) >= 0 and stored.max(initial=0) < _TABLE:
        return _looked_up(stored, meaning)
    values, places = np.unique(stored, return_inverse=True)
    known = np.array([meaning.get(int(value), IGNORED) for value in values], np.int16)
    labels = known[places].reshape(stored.shape)
    strange = [position for position, value in enumerate(values) if int(value) not in meaning]
    unknown = int(np.isin(places, strange).sum())
    return ReadMask(labels=labels, unknown=unknown, values=tuple(int(values[p]) for p in strange[:5]))


def _looked_up(stored: NDArray[np.int64], meaning: dict[int, int]) -> ReadMask:
    """What stored values mean, by a table of all of them."""
    counts = np.bincount(stored.ravel())
    values = np.flatnonzero(counts)
    table = np.full(max(1, len(counts)), IGNORED, np.int16)
    table[values] = [meaning.get(int(value), IGNORED) for value in values]
    strange = [int(value) for value in values if int(value) not in meaning]
    return ReadMask(labels=table[stored], unknown=int(counts[strange].sum()), values=tuple(strange[:5]))


def stored_values(source: Path | NDArray[np.uint8], *, colour: bool) -> NDArray[np.int64]:
    """What a mask file holds (H, W): indices of a gray or palette image, or colours packed into one number.

    Raises:
        BadMask: when it cannot be read, or is a colour image where indices were expected.
    """
    if isinstance(source, np.ndarray):
        pixels: NDArray[Any] = source
    else:
        try:
            with Image.open(source) as image:
                image.load()
                pixels = np.asarray(image.convert("RGB") if colour else _plain(image))
        except (OSError, SyntaxError, ValueError) as error:
            raise BadMask(f"its mask {source} cannot be read: {error}") from error
    if not colour:
        if pixels.ndim != 2:
            raise BadMask(f"its mask {source} is a colour image; colours need a class file with name,r,g,b")
        return pixels.astype(np.int64)
    wide = pixels.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _plain(image: Image.Image) -> Image.Image:
    """Palette images stay indices; transparency beside gray is dropped; one bit becomes 0 and 1."""
    if image.mode == "LA":
        return image.getchannel(0)
    return image.convert("L").point(lambda value: value // 255) if image.mode == "1" else image


def draw(outlines: tuple[Outline, ...], size: tuple[int, int], *, background: int = 0) -> Labels:
    """(H, W) class indices of outlines drawn in their order over the background.

    Raises:
        BadMask: for outlines that cannot be drawn, and run lengths of another size.
    """
    from pycocotools import mask as coco  # drawing as COCO does it, which only such data needs

    width, height = size
    out = np.full((height, width), background, np.int16)
    for outline in outlines:
        given = _run_lengths(outline, size)
        try:
            if isinstance(given, list):
                runs: Any = coco.frPyObjects({"size": [height, width], "counts": given}, height, width)
            elif given:
                runs = {"size": [height, width], "counts": given}
            else:
                runs = coco.merge(coco.frPyObjects([list(p) for p in outline.polygons], height, width))
            covered = coco.decode(runs)
        except (ValueError, TypeError, IndexError) as error:
            raise BadMask(f"an outline cannot be drawn: {error}") from error
        out[covered > 0] = outline.label
    return out


def _run_lengths(outline: Outline, size: tuple[int, int]) -> list[int] | bytes:
    """The run lengths, plain or compressed; empty for polygons. Pycocotools makes nonsense of those of other images."""
    if outline.size not in ((0, 0), size):
        other, own = ("x".join(map(str, each)) for each in (outline.size, size))
        raise BadMask(f"its run lengths belong to an image of {other} pixels, it has {own}")
    if not (outline.counts[:1].isdigit() and " " in outline.counts):
        return outline.counts.encode()
    try:
        plain = [int(n) for n in outline.counts.split()]
    except ValueError as error:
        raise BadMask(f"an outline cannot be drawn: {error}") from error
    if sum(plain) != size[0] * size[1]:
        raise BadMask(f"its run lengths cover {sum(plain)} pixels, the image has {size[0] * size[1]}")
    return plain


def mask_digest(mask: Mask) -> str:
    """SHA-256 of what the mask is made of."""
    if isinstance(mask.source, Path):
        try:
            return hashlib.sha256(mask.source.read_bytes()).hexdigest()
        except OSError as error:
            raise BadMask(f"its mask {mask.source} cannot be read: {error.strerror}") from error
    if isinstance(mask.source, np.ndarray):
        digest = hashlib.sha256(repr(mask.source.shape).encode())
        digest.update(np.ascontiguousarray(mask.source).data)
        return digest.hexdigest()
    return hashlib.sha256(repr(mask.source).encode()).hexdigest()
