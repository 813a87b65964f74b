"""JPEGs decoded by an NVIDIA GPU, where torchvision can and where the pixels stay within rounding of the contract.

The GPU's decoder is not libjpeg: it may widen the colours of a 4:2:0 photo another way. So it must earn its place on the
user's own first images: every pixel within `WITHIN` of what the processor's way makes, and in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.preprocess import Preprocess
from headstart.data.records import ImageSource
from headstart.pixels.batches import ahead, cpus
from headstart.pixels.decode import jpeg_bytes, ordinary, read_pixels, viewed, wasteful
from headstart.pixels.vision import ImageReadMode

WITHIN = 2
"""Of 255, what a pixel may differ: as much as the processor's fast way may differ from Pillow."""

Decode = Callable[[list[Tensor]], list[Tensor]]
"""Bytes of JPEGs to (3, H, W) 8-bit images of three colours."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """Whether the GPU decodes, and why."""

    used: bool
    reason: str


def why_not() -> str:
    """Why no GPU can decode here, or an empty string."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if not hasattr(torch.ops.image, "decode_jpegs_cuda"):
        return "this torchvision was built without nvJPEG"
    return ""


def nvjpeg(encoded: list[Tensor]) -> list[Tensor]:
    """The images on the GPU.

    Raises:
        RuntimeError: for one that the GPU cannot decode.
    """
    found: list[Tensor] = torch.ops.image.decode_jpegs_cuda(
        encoded, ImageReadMode.RGB.value, torch.device("cuda")
    )
    return found


def read_together(
    sources: Sequence[ImageSource], preprocess: Preprocess, *, decode: Decode = nvjpeg
) -> list[Pixels]:
    """The contract's (height, width, 3) 8-bit pixels of each source, ordinary JPEGs decoded in one call.

    What is no ordinary JPEG, and all of a call in which one turns out damaged, goes the processor's way.

    Raises:
        Undecodable: exactly where, and in the words in which, `read_pixels` does.
    """
    encoded = {place: data for place, source in enumerate(sources) if (data := _fit(source, preprocess))}
    decoded: dict[int, Tensor] = {}
    if encoded:
        # Without a damaged image the call does not fail, so nobody waits for the second try of a sound folder.
        try:
            tensors = [torch.frombuffer(data, dtype=torch.uint8) for data in encoded.values()]
            decoded = dict(zip(encoded, decode(tensors), strict=True))
        except RuntimeError:
            decoded = {}
    return [
        viewed(decoded[place], preprocess) if place in decoded else read_pixels(source, preprocess)
        for place, source in enumerate(sources)
    ]


def try_out(sources: Sequence[ImageSource], preprocess: Preprocess, *, decode: Decode = nvjpeg) -> Verdict:
    """The verdict on these readable images: the same within rounding, and sooner.

    Args:
        sources: the user's first images.
        preprocess: the contract.
        decode: what decodes.
    """
    ordinary_ones = [source for source in sources if _fit(source, preprocess)]
    if not ordinary_ones:
        return Verdict(used=False, reason="no ordinary JPEG among the first images")
    read_together(ordinary_ones, preprocess, decode=decode)  # the first call opens the decoder
    began = time.perf_counter()
    found = read_together(ordinary_ones, preprocess, decode=decode)
    between = time.perf_counter()
    ways = ahead(
        lambda source: read_pixels(source, preprocess),
        ordinary_ones,
        workers=cpus(),
        waiting=len(ordinary_ones),
    )
    wanted = list(ways)
    ended = time.perf_counter()
    largest = max(int(np.abs(a.astype(np.int16) - b).max()) for a, b in zip(found, wanted, strict=True))
    if largest > WITHIN:
        return Verdict(
            used=False, reason=f"its pixels differ by up to {largest} of 255, at most {WITHIN} asked"
        )
    ratio = (ended - between) / (between - began)
    if ratio <= 1:
        return Verdict(
            used=False, reason=f"the processor's {cpus()} threads are {1 / ratio:.1f} times as fast"
        )
    return Verdict(used=True, reason=f"{ratio:.1f} times as fast, pixels within {largest} of 255")


def _fit(source: ImageSource, preprocess: Preprocess) -> bytearray | None:
    """The bytes of a JPEG that is decoded whole and then resized; None for all else."""
    if preprocess.fit == "letterbox" or not isinstance(source, Path):
        return None
    data = jpeg_bytes(source)
    header = None if data is None else ordinary(data)
    if header is None:
        return None
    return None if wasteful(preprocess.resized(header.width, header.height), preprocess) else data
