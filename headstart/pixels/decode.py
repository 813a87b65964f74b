"""Files to contract pixels the fast way where the result is the same within rounding, the reference way elsewhere.

The reference is `contract_pixels(open_rgb(source))`: Pillow alone. An ordinary JPEG goes through libjpeg-turbo in
torchvision, which releases the interpreter's lock and wastes no copy, and through torch's 8-bit resize: within 2 of 255
of the reference, in less than half its time. Everything else takes the reference itself.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import ImageSource
from headstart.pixels.contract import contract_pixels, letterboxed, resample, window
from headstart.pixels.vision import F, ImageReadMode

SCALED_KEEPS = 3.5
"""How much larger than the network's view a photo decoded at 1/2, 1/4 or 1/8 must still be (libjpeg's DCT scaling).

The network's own resize then averages over at least 3.5 x 3.5 decoded pixels, which hides how they were made.
Measured on photos enlarged to 3-12 MP and on mosaics of photos: at 4 pixels left the mean difference is 0.13-0.25 of 255
and the lowest feature cosine 0.9998; at 2 it is 0.4-0.8 and 0.998; at 1 it is above 1 and 0.988."""

_MOST_WASTE = (
    4  # resized area over window area, above which resizing everything costs more than the window alone
)

_KERNELS = {"bicubic": F.InterpolationMode.BICUBIC, "bilinear": F.InterpolationMode.BILINEAR}

# JPEG markers, ITU-T T.81 table B.1.
_SOI = b"\xff\xd8"
_FRAMES = {0xC0, 0xC1, 0xC2}  # Huffman-coded baseline, extended and progressive: what every libjpeg reads
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1
_EXIF, _ORIENTATION = b"Exif\x00\x00", 0x0112


@dataclass(frozen=True)
class Header:
    """What the header of an ordinary JPEG says: upright, 8 bits, gray or three colours."""

    width: int
    height: int


def read_pixels(source: ImageSource, preprocess: Preprocess) -> NDArray[np.uint8]:
    """The contract's (height, width, 3) 8-bit pixels of a file or array.

    Raises:
        Undecodable: exactly where, and in the words in which, `open_rgb` does.
    """
    if isinstance(source, Path):
        data = jpeg_bytes(source)
        header = None if data is None else ordinary(data)
        if data is not None and header is not None:
            boxed = preprocess.fit == "letterbox"
            inner = preprocess.inside(header.width, header.height) if boxed else preprocess
            fast = _fast(data, header, inner)
            if fast is not None:
                return letterboxed(fast, preprocess) if boxed else fast
    return contract_pixels(open_rgb(source), preprocess)


def ordinary(data: bytes | bytearray) -> Header | None:
    """The header of a JPEG that needs nothing special, else None.

    None for CMYK, 12 bits, lossless or arithmetic coding, an EXIF or XMP orientation, sizes that Pillow warns of, and
    for anything this short walk over the markers does not understand: the reference decoder knows what to do.
    """
    place, exif_seen = 2, False
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = place + 4
        if marker in _FRAMES:
            return _frame(bytes(data[body : body + 6]))
        if marker in (_SCAN, _END) or (0xC0 < marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return None
        if marker == _APP1:
            segment = bytes(data[body : place + 2 + length])
            if segment.startswith(_EXIF):
                if exif_seen or not _upright(segment.removeprefix(_EXIF)):
                    return None
                exif_seen = True
            elif b":Orientation" in segment:
                return None
        place += 2 + length
    return None


def _frame(body: bytes) -> Header | None:
    bits, height, width, components = struct.unpack(">BHHB", body)
    most = Image.MAX_IMAGE_PIXELS
    if bits != 8 or components not in (1, 3) or not width or not height or (most and width * height > most):
        return None
    return Header(width=width, height=height)


def _upright(tiff: bytes) -> bool:
    """Whether an EXIF block surely says orientation 1, or nothing; in doubt it does not."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None:
        return False
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for number in range(count):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * number)
            if tag == _ORIENTATION:
                return bool(kind == 3 and values == 1 and value == 1)  # type 3: 16-bit unsigned
    except struct.error:  # offsets that point outside the block
        return False
    return True


def jpeg_bytes(path: Path) -> bytearray | None:
    """The bytes of a file that begins like a JPEG; None otherwise, and where it cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(2)
            return bytearray(head + stream.read()) if head == _SOI else None
    except (OSError, ValueError):  # `open_rgb` finds the words for it
        return None


def _fast(data: bytearray, header: Header, preprocess: Preprocess) -> NDArray[np.uint8] | None:
    """Contract pixels of an ordinary JPEG; None where it turns out damaged, for the reference to judge."""
    resized = preprocess.resized(header.width, header.height)
    spare = min(header.width / resized[0], header.height / resized[1])
    scale = next((scale for scale in (8, 4, 2) if spare / scale >= SCALED_KEEPS), 1)
    if scale > 1:
        return _scaled(data, header, preprocess, scale=scale)
    decoder = _decoder()
    if decoder is None:
        return None
    try:
        decoded = decoder(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB.value, False)
    except RuntimeError:  # torchvision's word for data that libjpeg refuses
        return None
    if wasteful(resized, preprocess):
        image = Image.fromarray(decoded.permute(1, 2, 0).numpy())
        return contract_pixels(image, preprocess)
    return viewed(decoded, preprocess)


def wasteful(resized: tuple[int, int], preprocess: Preprocess) -> bool:
    """Whether resizing a whole image to (width, height) costs more than resampling the contract's window alone."""
    return resized[0] * resized[1] > _MOST_WASTE * preprocess.width * preprocess.height


def viewed(decoded: Tensor, preprocess: Preprocess) -> NDArray[np.uint8]:
    """The contract's (height, width, 3) pixels of a decoded image (3, H, W), 8-bit, on the device that holds it."""
    resized = preprocess.resized(decoded.shape[2], decoded.shape[1])
    whole = F.resize(
        decoded, [resized[1], resized[0]], interpolation=_KERNELS[preprocess.interpolation], antialias=True
    )
    left, top = round((resized[0] - preprocess.width) / 2), round((resized[1] - preprocess.height) / 2)
    crop = whole[:, top : top + preprocess.height, left : left + preprocess.width]
    out: NDArray[np.uint8] = crop.permute(1, 2, 0).contiguous().cpu().numpy()
    return out


@cache
def _decoder() -> Callable[[Tensor, int, bool], Tensor] | None:
    """The decoder of JPEG bytes to (3, H, W) that torchvision brings; None where it has none and Pillow does all.

    The operator rather than `torchvision.io.decode_jpeg`, which warns at every call that it will go one day.
    """
    try:
        found: Callable[[Tensor, int, bool], Tensor] = torch.ops.image.decode_jpeg.default
    except AttributeError:
        return None
    return found


def _scaled(
    data: bytearray, header: Header, preprocess: Preprocess, *, scale: int
) -> NDArray[np.uint8] | None:
    """Contract pixels of a photo far larger than needed, decoded at 1/scale of its size.

    The window is that of the full picture, divided by the scale: a window computed from the rounded-up smaller size
    would lie up to a pixel beside it, which costs more than all other differences together.
    """
    try:
        with io.BytesIO(data) as stream, Image.open(stream) as image:
            image.draft("RGB", (header.width // scale, header.height // scale))
            if image.width != math.ceil(header.width / scale):  # a libjpeg without this scale
                return None
            small = image.convert("RGB")
    except (OSError, SyntaxError, ValueError):  # truncated or damaged
        return None
    left, top, right, bottom = (edge / scale for edge in window((header.width, header.height), preprocess))
    return resample(small, (left, top, min(right, small.width), min(bottom, small.height)), preprocess)
