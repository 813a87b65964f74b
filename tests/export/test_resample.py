"""The resize inside the graph against Pillow, on sizes from one pixel to twenty thousand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.data.preprocess import Preprocess
from headstart.pixels import contract_pixels
from headstart.pixels.contract import KERNELS
from tests.export.conftest import noise, preprocess

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

CONTRACTS = {
    "crop": preprocess(224),
    "260 of 297, not a multiple of the block": preprocess(260),
    "bilinear": preprocess(224, interpolation="bilinear"),
    "squash": preprocess(160, resize=160, fit="squash"),
    "no margin": preprocess(96, resize=96),
    "oblong": preprocess(96, width=160, resize=160),
    "oblong squash": preprocess(96, width=160, resize=160, fit="squash"),
}
SIZES = [
    (500, 375), (375, 500), (333, 517), (375, 777), (1201, 800), (257, 256), (225, 224), (32, 32), (17, 23),
    (1, 1), (300, 1), (1, 300), (20000, 1), (1, 20000),
]  # fmt: skip


def session(contract: Preprocess) -> Any:
    from headstart.export.onnx import _resize_model

    return ort.InferenceSession(
        _resize_model(contract).SerializeToString(), providers=["CPUExecutionProvider"]
    )


def in_graph(running: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    (out,) = running.run(None, {"images": pixels})
    return out.transpose(0, 2, 3, 1)  # type: ignore[no-any-return]


def columns_then_rows(image: Image.Image, contract: Preprocess) -> NDArray[np.uint8]:
    """The contract by two calls of Pillow, because from Pillow 13 on one call may take the rows first."""
    width, height = image.size
    resized = contract.resized(width, height)
    left, top = (
        round((size - window) / 2)
        for size, window in zip(resized, (contract.width, contract.height), strict=True)
    )
    x, y = width / resized[0], height / resized[1]
    kernel, reach = KERNELS[contract.interpolation], 2 * max(y, 1) + 1
    first = max(0, math.floor(top * y - reach))
    last = min(height, math.ceil((top + contract.height) * y + reach))
    columns = (left * x, 0, min((left + contract.width) * x, width), last - first)
    lines = image.crop((0, first, width, last)).resize((contract.width, last - first), kernel, box=columns)
    rows = (0, top * y - first, contract.width, min((top + contract.height) * y, height) - first)
    return np.asarray(lines.resize((contract.width, contract.height), kernel, box=rows))


@pytest.mark.parametrize("name", CONTRACTS)
def test_pixels_are_those_of_pillow(name: str) -> None:
    contract = CONTRACTS[name]
    running = session(contract)
    for size in SIZES:
        pixels = noise(*size)
        ours = in_graph(running, pixels[None])[0]
        reference = columns_then_rows(Image.fromarray(pixels), contract).astype(np.float32)
        assert ours.shape == (contract.height, contract.width, 3)
        gap = np.abs(ours - reference)
        assert gap.max() <= 1, f"{size}: {gap.max()}"
        # Pillow keeps crop boxes in single precision, which shows on very long images
        assert (gap > 0).mean() < (0.05 if max(size) > 2000 else 0.01), f"{size}: {(gap > 0).mean():.4f}"


@pytest.mark.parametrize("interpolation", KERNELS)
def test_a_letterbox_is_that_of_pillow_to_the_last_gray_level(interpolation: str) -> None:
    contract = preprocess(320, width=416, resize=320, fit="letterbox", interpolation=interpolation)
    running = session(contract)
    for size in [*SIZES, (640, 480), (480, 640), (832, 640), (208, 160), (4000, 3000)]:
        pixels = noise(*size)
        ours = in_graph(running, pixels[None])[0]
        np.testing.assert_array_equal(ours, contract_pixels(Image.fromarray(pixels), contract), str(size))


def test_photos_come_out_as_the_contract_makes_them(test_data: Path) -> None:
    contract = preprocess(224)
    running = session(contract)
    shares = []
    for file in sorted((test_data / "hymenoptera" / "val").rglob("*.jpg"))[:20]:
        image = Image.open(file).convert("RGB")
        gap = np.abs(
            in_graph(running, np.asarray(image)[None])[0]
            - contract_pixels(image, contract).astype(np.float32)
        )
        shares.append((gap > 1).mean())
    assert float(np.median(shares)) == 0
    assert max(shares) < 0.2  # a tall image whose rows Pillow >= 13 takes first


def test_a_batch_gives_what_its_images_give_alone() -> None:
    running = session(preprocess(96))
    images = np.stack([noise(120, 90, seed) for seed in range(3)])
    together = in_graph(running, images)
    alone = np.concatenate([in_graph(running, image[None]) for image in images])
    np.testing.assert_array_equal(together, alone)


def test_a_flat_image_stays_flat() -> None:
    running = session(preprocess(224))
    for level in (0, 1, 127, 254, 255):
        out = in_graph(running, np.full((1, 333, 517, 3), level, np.uint8))
        assert (out == level).all()


@pytest.mark.parametrize("spare", range(8))
def test_the_window_starts_where_python_rounds_to(spare: int) -> None:
    """An image that needs no resize shows the crop alone: halves go to the even neighbour."""
    contract = preprocess(32, resize=32 + spare)
    pixels = noise(32 + spare, 32 + spare)
    start = round(spare / 2)
    out = in_graph(session(contract), pixels[None])[0]
    np.testing.assert_array_equal(out, pixels[start : start + 32, start : start + 32])
