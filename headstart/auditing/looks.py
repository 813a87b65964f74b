"""A first look at every file: a small gray picture to compare, and what the file gives away without its subject."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from headstart._core.progress import track
from headstart._core.store import RowStore, namespace, row_keys
from headstart.data.images import Undecodable, open_rgb, read_bytes
from headstart.data.records import Sample

SIDE = 32
"""Pixels of the small picture: enough to tell two photos of a scene apart, little enough to keep 60,000 in 60 MB."""

FORMATS = ("array", "JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "MPO")
_NUMBERS = (
    *("bytes", "format", "quality", "exif", "day", "second", "camera", "north", "east"),
    *("red", "green", "blue"),
)
_PIXELS = SIDE * SIDE
_DRAFT = 2 * SIDE  # a JPEG is decoded at the smallest scale that keeps this many pixels a side
_PIECE = 2048  # images between two visits to the store
# EXIF 2.3: blocks of the camera's settings and of its place; DateTimeOriginal, its fraction, the camera's serial number
_EXIF_BLOCK, _GPS_BLOCK = 0x8769, 0x8825
_TAKEN, _FRACTION, _SERIAL = 0x9003, 0x9291, 0xA431
_MAKE, _MODEL = 0x010F, 0x0110
_LATITUDE, _LONGITUDE = (1, 2, "S"), (3, 4, "W")  # tags of the reference and of the degrees; what is negative
_CAMERAS = 1 << 24  # numbers of cameras: what single precision holds exactly
_LUMINANCE_SUM = 3688  # of the luminance table in ITU-T T.81, annex K.1: what libjpeg writes at quality 50

Thumbs = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Looks:
    """What was seen of N files.

    Attributes:
        thumbs: (N, SIDE, SIDE) gray, the whole picture squeezed into a square.
        bytes: (N,) size of the file; 0 in memory.
        format: (N,) place in `FORMATS`; the number of formats for any other.
        quality: (N,) of a JPEG, as libjpeg counts (1 to 100), estimated from its quantisation table; 0 for others.
        exif: (N,) 1 where the file has EXIF data.
        time: (N,) seconds since the year 1 at which the picture was taken, by its EXIF data; NaN where that is not told.
        camera: (N,) a number for its make, model and serial number, by its EXIF data; 0 where none of them is told.
        place: (N, 2) degrees north and east where it was taken, by its EXIF data; NaN where that is not told.
        border: (N, 3) mean colour of the outermost thirtieth, in [0, 255].
    """

    thumbs: Thumbs
    bytes: Floats
    format: Floats
    quality: Floats
    exif: Floats
    time: Floats
    camera: Floats
    place: Floats
    border: Floats

    @property
    def brightness(self) -> Floats:
        """(N,) mean of the gray picture, in [0, 255]."""
        return np.asarray(self.thumbs.mean((1, 2)), np.float64)


def look_at(samples: Sequence[Sample]) -> Looks:
    """The looks of scanned images; kept by content in the cache, so that a file is decoded for this once.

    A file that is gone since it was scanned looks black, and so like no other: a run of hours does not end because of it.

    Raises:
        BadInput: for a sample without a digest.
    """
    width = _PIXELS + 4 * len(_NUMBERS)
    rows = np.empty((len(samples), width), np.uint8)
    store = RowStore(namespace(kind="look", side=SIDE, version=2), shape=(width,), dtype=np.uint8)
    keys = row_keys(sample.digest for sample in samples)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    missing = first[~store.read(keys[first], rows, at=first)] if len(samples) else first
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="look") as pool:
        for piece in track(
            [missing[at : at + _PIECE] for at in range(0, len(missing), _PIECE)], label="looking"
        ):
            looks = list(zip(piece, pool.map(_look, [samples[place] for place in piece]), strict=True))
            seen = [place for place, row in looks if row is not None]
            for place, row in looks:
                rows[place] = 0 if row is None else row
            store.add(keys[seen], rows[seen])
    return _unpacked(rows[first[inverse]] if len(samples) else rows)


def _unpacked(rows: NDArray[np.uint8]) -> Looks:
    numbers = np.ascontiguousarray(rows[:, _PIXELS:]).view(np.float32).astype(np.float64)
    found = dict(zip(_NUMBERS, numbers.T, strict=True))
    place = np.stack([found["north"], found["east"]], 1)
    return Looks(
        thumbs=np.ascontiguousarray(rows[:, :_PIXELS]).reshape(-1, SIDE, SIDE),
        bytes=found["bytes"],
        format=found["format"],
        quality=found["quality"],
        exif=found["exif"],
        time=np.where(found["day"] > 0, found["day"] * 86400 + found["second"], np.nan),
        camera=found["camera"],
        place=np.where(
            place.any(1, keepdims=True), place, np.nan
        ),  # 0, 0 is what a receiver without sky writes
        border=np.stack([found["red"], found["green"], found["blue"]], 1),
    )


def _look(sample: Sample) -> NDArray[np.uint8] | None:
    """The row of an image; None for a file that is gone or damaged since it was scanned."""
    try:
        return _seen(sample)
    except (Undecodable, UnidentifiedImageError):
        return None


def _seen(sample: Sample) -> NDArray[np.uint8]:
    if isinstance(sample.source, Path):
        data = read_bytes(sample.source)
        with Image.open(io.BytesIO(data)) as image:
            kind = FORMATS.index(image.format) if image.format in FORMATS else len(FORMATS)
            quality = jpeg_quality(getattr(image, "quantization", None))
            exif, taken = "exif" in image.info, _exif(image)
            image.draft(None, (_DRAFT, _DRAFT))
            picture = open_rgb(image)
        numbers = [float(len(data)), float(kind), quality, float(exif), *taken]
    else:
        picture, numbers = open_rgb(sample.source), [0.0] * (4 + len(_UNTOLD))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    ring = np.concatenate([small[0], small[-1], small[1:-1, 0], small[1:-1, -1]])
    gray = np.rint(small @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    told = np.array([*numbers, *ring.mean(0)], np.float32)
    return np.concatenate([gray.ravel(), told.view(np.uint8)])


_UNTOLD = (0.0,) * 5


def _exif(image: Image.Image) -> tuple[float, ...]:
    """(day, second of the day, camera, degrees north, degrees east) by the EXIF data; `_UNTOLD` where that is silent."""
    try:
        whole = image.getexif()
        settings, receiver = whole.get_ifd(_EXIF_BLOCK), whole.get_ifd(_GPS_BLOCK)
    except (ValueError, SyntaxError, LookupError, TypeError, OSError, struct.error):  # a damaged block
        return _UNTOLD
    names = [_words(part) for part in (whole.get(_MAKE), whole.get(_MODEL), settings.get(_SERIAL))]
    camera = 1 + zlib.crc32("\0".join(names).encode()) % (_CAMERAS - 1) if any(names) else 0
    north, east = _degrees(receiver, *_LATITUDE, most=90), _degrees(receiver, *_LONGITUDE, most=180)
    place = (north, east) if math.isfinite(north) and math.isfinite(east) else _UNTOLD[:2]
    return (*_when(settings), float(camera), *place)


def _words(told: Any) -> str:
    return "" if told is None else str(told).strip(" \0")


def _when(settings: Mapping[int, Any]) -> tuple[float, float]:
    """(day, second of the day) at which the picture was taken, by the camera's clock; zeros where that is not told."""
    try:
        when = datetime.strptime(_words(settings.get(_TAKEN)), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return 0.0, 0.0
    fraction = _words(settings.get(_FRACTION))
    more = float(f"0.{fraction}") if fraction.isascii() and fraction.isdigit() else 0.0
    return float(when.toordinal()), when.hour * 3600 + when.minute * 60 + when.second + more


def _degrees(place: Mapping[int, Any], reference: int, value: int, negative: str, *, most: int) -> float:
    """An angle of degrees, minutes and seconds, in degrees; NaN where there is none that can be meant."""
    try:
        parts = [float(part) for part in place[value]]
        whole = sum(part / 60**power for power, part in enumerate(parts[:3]))
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        return math.nan
    found = -whole if _words(place.get(reference)).upper() == negative else whole
    return found if abs(found) <= most else math.nan


def jpeg_quality(tables: dict[int, list[int]] | None) -> float:
    """The quality (1 to 100, as libjpeg counts) whose luminance table has the same sum; 0 without tables.

    >>> jpeg_quality(None), jpeg_quality({0: [1] * 64})
    (0.0, 99.0)
    """
    if not tables:
        return 0.0
    scale = 100 * sum(tables[min(tables)]) / _LUMINANCE_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return float(np.clip(round(quality), 1, 100))
