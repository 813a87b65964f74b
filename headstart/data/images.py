"""The one decoder: whatever a picture is stored as, it comes out upright and RGB, or with a reason why not."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.records import ImageSource

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height

# What Pillow's readers raise on damaged files; each is a report on the file, not a bug of the caller.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
_FEW_BITS = 4096  # a 16-bit image that stays below this comes from a camera of 9 to 12 bits
_PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class Undecodable(BadInput):
    """A picture that cannot be decoded; `reason` says why without its name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}", hint="Replace the file or remove it from the dataset.")
        self.name = name
        self.reason = reason


@record
class Probe:
    """What a complete look at a file told, without its pixels.

    Attributes:
        width: pixels, upright.
        height: pixels, upright.
        format: Pillow's name of the file format.
        mode: Pillow's name of the stored pixel mode.
    """

    width: int
    height: int
    format: str
    mode: str


def open_rgb(source: ImageSource | Image.Image | bytes) -> Image.Image:
    """The picture, upright, in mode RGB; of an animation or a multi-page file, the first frame.

    Transparency is laid on white. 16-bit gray is divided by 257 where it uses more than 12 bits; below that
    (raw values of 9- to 12-bit cameras) its own minimum and maximum become 0 and 255, and values that all fit
    8 bits are kept. Floats in [0, 1] are scaled by 255, other floats and 32-bit integers from their finite
    minimum and maximum to [0, 255]; NaN counts as the minimum.

    Args:
        source: a file; the bytes of a file; an open image; or 8-bit values of shape (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4).

    Raises:
        Undecodable: naming the file and why: empty, truncated, text, missing, without permission and so on.
    """
    name = name_of(source)
    if isinstance(source, np.ndarray):
        return _rgb(_from_array(source, name))
    with _decoding(name, source if isinstance(source, bytes) else b""):
        if isinstance(source, Image.Image):
            source.load()
            return _upright(_rgb(source), _orientation(source))
    data = source if isinstance(source, bytes) else read_bytes(source)
    with _decoding(name, data), Image.open(io.BytesIO(data)) as image:
        image.load()
        return _upright(_rgb(image), _orientation(image))


def probe(data: bytes, name: str) -> Probe:
    """Size, format and mode of a file, decoded to its end; readable exactly where `open_rgb` reads it.

    A JPEG is decoded at an eighth of its size: every byte is still read, so truncation still shows, at a
    fraction of the time.

    Raises:
        Undecodable: as `open_rgb` does.
    """
    with _decoding(name, data), Image.open(io.BytesIO(data)) as image:
        (width, height), mode, kind = image.size, image.mode, image.format or "unknown"
        if kind in ("JPEG", "MPO"):
            image.draft(None, (max(1, width // 8), max(1, height // 8)))
            image.load()
        else:
            image.load()
            _rgb(image)  # odd pixel modes fail only here
        if _orientation(image) in _SIDEWAYS:
            width, height = height, width
    return Probe(width=width, height=height, format=kind, mode=mode)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        Undecodable: when it is missing, a folder, empty, or may not be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise Undecodable(str(path), "the file does not exist") from error
    except PermissionError as error:
        raise Undecodable(str(path), "no permission to read the file") from error
    except IsADirectoryError as error:
        raise Undecodable(str(path), "a folder, not an image") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise Undecodable(str(path), f"the file cannot be read ({error})") from error
    if not data:
        raise Undecodable(str(path), "empty file")
    return data


def name_of(source: ImageSource | Image.Image | bytes) -> str:
    """What to call a picture in a message: its path where it has one."""
    if isinstance(source, bytes):
        return "image in memory"
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape}"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "image in memory"
    return str(source)


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8:
        raise Undecodable(name, f"its type is {array.dtype}, expected uint8 (values 0 to 255)")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise Undecodable(name, "expected shape (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise Undecodable(name, "it has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded image in mode RGB, not yet upright."""
    if image.mode.startswith("I;16"):
        return _gray(_sixteen_bits(np.asarray(image)))
    if image.mode == "I":
        values = np.asarray(image)
        in_range = values.min() >= 0 and values.max() < 1 << 16
        return _gray(_sixteen_bits(values) if in_range else _stretched(values))
    if image.mode == "F":
        values = np.asarray(image)
        finite = values[np.isfinite(values)]
        in_unit = finite.size == values.size and finite.min() >= 0 and finite.max() <= 1
        return _gray(np.rint(values * 255) if in_unit else _stretched(values))
    if image.has_transparency_data and image.mode != "RGBX":
        return _on_white(image)
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """The image over white.

    White, because pages and paper are: drawings and cut-outs were made to be seen on it. Dropping alpha
    instead would show whatever colour a tool left under the transparent pixels, often black.
    """
    if image.mode == "La":  # Pillow has no direct way from premultiplied gray to RGBA
        image = image.convert("LA")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _sixteen_bits(values: NDArray[Any]) -> NDArray[Any]:
    top = int(values.max())
    if top <= 255:
        return values
    return _stretched(values) if top < _FEW_BITS else np.rint(values / 257)


def _stretched(values: NDArray[Any]) -> NDArray[Any]:
    """Values mapped from their finite range onto [0, 255]; a constant image becomes middle gray."""
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    if not finite.size or finite.min() == finite.max():
        return np.full(values.shape, 128)
    low, high = finite.min(), finite.max()
    wide = np.nan_to_num(wide, nan=low, posinf=high, neginf=low)
    out: NDArray[Any] = np.rint((wide - low) / (high - low) * 255)
    return out


def _gray(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged.

    Read after `load`: PNG may keep its EXIF behind the pixels.
    """
    with suppress(*_DAMAGE):
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value) if int(value) in _UPRIGHT else 1
    return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


@contextmanager
def _decoding(name: str, data: bytes) -> Iterator[None]:
    """Turns what Pillow raises into `Undecodable`, and keeps its warnings from the user.

    The filter is put into and taken out of the list itself, because `warnings.catch_warnings` restores a
    snapshot of the whole list, which goes wrong when many threads decode at once.
    """
    filters: list[Any] = warnings.filters  # type: ignore[assignment]  # a list, typed as a sequence
    filters.insert(0, _PILLOW_WARNINGS)
    try:
        yield
    except UnidentifiedImageError as error:
        raise Undecodable(name, _what_it_is(data)) from error
    except Image.DecompressionBombError as error:
        raise Undecodable(
            name, "decompression bomb: it claims far more pixels than a photo can have"
        ) from error
    except MemoryError as error:
        raise Undecodable(name, "too large for the memory of this machine") from error
    except Undecodable:
        raise
    except _DAMAGE as error:
        raise Undecodable(name, _damage(str(error))) from error
    finally:
        with suppress(ValueError):
            filters.remove(_PILLOW_WARNINGS)


def _damage(message: str) -> str:
    if "truncated" in message.lower():
        return "truncated: the file ends before the picture does"
    return f"damaged: {message or 'the data cannot be decoded'}"


_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
)


def _what_it_is(data: bytes) -> str:
    """Why Pillow did not know a file, judged by its first bytes."""
    head = data[:4096]
    if not head:
        return "empty file"
    if head.startswith(b"\x00\x05\x16\x07"):
        return "a macOS side file (AppleDouble), not an image"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return "HEIC, which Pillow does not read; convert it to JPEG or PNG"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return f"{kind} by its first bytes, but damaged or of a kind that Pillow does not read"
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="ignore")
    if re.match(r"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", text, re.IGNORECASE | re.DOTALL):
        return "an HTML page, not an image"
    if re.match(r"\s*(<\?xml.*?>\s*)?(<!.*?>\s*)*<svg\b", text, re.IGNORECASE | re.DOTALL):
        return "an SVG drawing; convert it to PNG"
    # `ignore` drops bytes that are no UTF-8: text loses at most one character cut at the end of the head.
    if len(text.encode()) >= len(head) - 6 and all(c.isprintable() or c in "\t\n\r\f" for c in text):
        return "text, not an image"
    return "unknown image format"
