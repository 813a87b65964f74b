"""The fast way to contract pixels against the reference, on every kind of JPEG, and on what is no ordinary JPEG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from headstart import weights
from headstart.data.images import Undecodable, open_rgb
from headstart.data.preprocess import Preprocess
from headstart.pixels import contract_pixels, decode, normalise, read_pixels
from headstart.pixels.decode import ordinary

HALF = (0.5, 0.5, 0.5)
CONTRACTS = {
    "crop": Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=HALF, std=HALF),
    "bilinear": Preprocess(height=64, width=96, resize=110, interpolation="bilinear", mean=HALF, std=HALF),
    "squash": Preprocess(
        height=128, width=128, resize=128, interpolation="bicubic", mean=HALF, std=HALF, fit="squash"
    ),
}
SIZES = [(500, 375), (333, 500), (255, 257), (40, 31), (224, 224), (1001, 667), (900, 30), (1, 700)]


def photo(height: int, width: int, *, noise: float = 6.0, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours, sharp edges and sensor noise."""
    rng = np.random.default_rng(seed)
    out = np.full((height, width, 3), 127.5)
    for cells in (3, 9, 31):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        kernel = Image.Resampling.NEAREST if cells == 9 else Image.Resampling.BICUBIC
        out += (np.asarray(grid.resize((width, height), kernel)) - 127.5) * (3 / cells) ** 0.5
    out += rng.normal(0, noise, (height, width, 1))
    pixels: NDArray[np.uint8] = np.clip(out, 0, 255).astype(np.uint8)
    return pixels


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, "JPEG", **({"quality": 92} | options))
    return path


def reference(path: Path, contract: Preprocess) -> NDArray[np.int16]:
    return contract_pixels(open_rgb(path), contract).astype(np.int16)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that were taken: `slow` where Pillow's reference decoded."""
    ways: list[str] = []

    def slow(source: Any) -> Image.Image:
        ways.append("slow")
        return open_rgb(source)

    monkeypatch.setattr(decode, "open_rgb", slow)
    return ways


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_and_contracts(
    contract: Preprocess, size: tuple[int, int], tmp_path: Path, taken: list[str]
) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(photo(*size)))
    found = read_pixels(path, contract)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    difference = np.abs(found - reference(path, contract))
    assert difference.max() <= 2
    assert difference.mean() < 0.1
    assert not taken


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "4:2:0": ("RGB", {"subsampling": 2}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "stored as RGB": ("RGB", {"keep_rgb": True}),
    "gray": ("L", {}),
    "progressive": ("RGB", {"progressive": True}),
    "progressive gray": ("L", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_rows": 1}),
    "poor": ("RGB", {"quality": 10}),
    "comment and profile": ("RGB", {"comment": b"\xff\xc0 not a frame", "icc_profile": b"x" * 70_000}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_jpeg(kind: str, tmp_path: Path, taken: list[str]) -> None:
    mode, options = KINDS[kind]
    path = saved(tmp_path / "a.jpg", Image.fromarray(photo(375, 500)).convert(mode), **options)
    assert np.abs(read_pixels(path, CONTRACTS["crop"]) - reference(path, CONTRACTS["crop"])).max() <= 2
    assert not taken


def exif(orientation: int, *, tag: int = 0x0112) -> bytes:
    block = Image.Exif()
    block[0x010F] = "maker"
    block[tag] = orientation
    return block.tobytes()


UNUSUAL: dict[str, Callable[[Path], Path]] = {
    "cmyk": lambda path: saved(path, Image.fromarray(photo(300, 400)).convert("CMYK")),
    "turned": lambda path: saved(path, Image.fromarray(photo(300, 400)), exif=exif(6)),
    "broken exif": lambda path: saved(
        path, Image.fromarray(photo(300, 400)), exif=b"Exif\x00\x00II*\x00\xff\xff"
    ),
    "xmp orientation": lambda path: saved(
        path, Image.fromarray(photo(300, 400)), xmp=b'<x tiff:Orientation="6"/>'
    ),
    "png": lambda path: _as(path, Image.fromarray(photo(300, 400)), "PNG"),
    "palette": lambda path: _as(path, Image.fromarray(photo(300, 400)).quantize(16), "PNG"),
    "16 bit": lambda path: _as(path, Image.fromarray(photo(300, 400)[..., 0].astype(np.uint16) * 200), "PNG"),
    "transparent": lambda path: _as(path, Image.fromarray(photo(300, 400)).convert("RGBA"), "WEBP"),
}


def _as(path: Path, image: Image.Image, kind: str) -> Path:
    image.save(path, kind)
    return path


@pytest.mark.parametrize("kind", UNUSUAL)
def test_the_unusual_takes_the_reference(kind: str, tmp_path: Path, taken: list[str]) -> None:
    path = UNUSUAL[kind](tmp_path / "a")
    np.testing.assert_array_equal(read_pixels(path, CONTRACTS["crop"]), reference(path, CONTRACTS["crop"]))
    assert taken == ["slow"]


def test_upright_exif_stays_fast(tmp_path: Path, taken: list[str]) -> None:
    for block in (exif(1), exif(6, tag=0x011C)):  # the second is another tag
        path = saved(tmp_path / "a.jpg", Image.fromarray(photo(300, 400)), exif=block)
        assert np.abs(read_pixels(path, CONTRACTS["crop"]) - reference(path, CONTRACTS["crop"])).max() <= 2
    assert not taken


def test_without_the_fast_decoder(tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(photo(300, 400)))
    monkeypatch.setattr(decode, "_decoder", lambda: None)
    np.testing.assert_array_equal(read_pixels(path, CONTRACTS["crop"]), reference(path, CONTRACTS["crop"]))
    assert taken == ["slow"]


def test_no_warnings(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(photo(300, 400)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_pixels(path, CONTRACTS["crop"])


def test_arrays_take_the_reference() -> None:
    array = photo(50, 70)
    np.testing.assert_array_equal(
        read_pixels(array, CONTRACTS["crop"]), contract_pixels(open_rgb(array), CONTRACTS["crop"])
    )


@pytest.mark.parametrize("size", [(300, 400), (2400, 1900)], ids=["ordinary", "scaled"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_fail_as_ever(share: float, size: tuple[int, int], tmp_path: Path) -> None:
    content = saved(tmp_path / "a.jpg", Image.fromarray(photo(*size))).read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Undecodable) as wanted:
        open_rgb(path)
    with pytest.raises(Undecodable) as found:
        read_pixels(path, CONTRACTS["crop"])
    assert found.value.message == wanted.value.message


def test_missing_files_and_noise_fail_as_ever(tmp_path: Path) -> None:
    noise = tmp_path / "noise.jpg"
    noise.write_bytes(b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(500))
    for path in (tmp_path / "none.jpg", tmp_path, noise):
        with pytest.raises(Undecodable) as wanted:
            open_rgb(path)
        with pytest.raises(Undecodable) as found:
            read_pixels(path, CONTRACTS["crop"])
        assert found.value.message == wanted.value.message


def test_header_walk_survives_anything() -> None:
    """Every prefix of a file, and a thousand files with one byte changed: a header or None, never an exception."""
    stream = io.BytesIO()
    Image.fromarray(photo(40, 50)).save(stream, "JPEG", exif=exif(1), progressive=True)
    content = stream.getvalue()
    whole = ordinary(content)
    assert whole is not None
    assert (whole.width, whole.height) == (50, 40)
    for end in range(min(len(content), 900)):
        assert ordinary(content[:end]) in (None, whole)
    rng = np.random.default_rng(0)
    for place in rng.integers(2, min(len(content), 900), 1000):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        ordinary(changed)


@pytest.mark.parametrize("kind", ["enlarged photo", "sharp noise"])
def test_photos_far_larger_than_needed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded at 1/2 or 1/4 above the factor, within rounding of the contract; below it, in full."""
    contract = Preprocess(height=112, width=112, resize=128, interpolation="bicubic", mean=HALF, std=HALF)
    scales: list[int] = []
    original = decode._scaled

    def watched(data: bytearray, header: Any, preprocess: Preprocess, *, scale: int) -> Any:
        scales.append(scale)
        return original(data, header, preprocess, scale=scale)

    monkeypatch.setattr(decode, "_scaled", watched)
    for short, scale in ((890, None), (897, 2), (1793, 4)):
        image = Image.fromarray(photo(300, 400, noise=0))
        image = image.resize((short * 4 // 3 + 1, short), Image.Resampling.BICUBIC)
        if kind == "sharp noise":
            noisy = np.asarray(image) + np.random.default_rng(0).normal(0, 8, (image.height, image.width, 1))
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        path = saved(tmp_path / f"{short}.jpg", image)
        scales.clear()
        found, wanted = read_pixels(path, contract), reference(path, contract)
        assert scales == ([] if scale is None else [scale])
        assert np.abs(found - wanted).mean() < 0.5


def test_real_photos(test_data: Path) -> None:
    """Pixels within 2 of 255 and features within 0.0001 of the reference's direction."""
    backbone = weights.load("bundled:efficientnet_lite0")
    contract = backbone.info.preprocess
    files = sorted((test_data / "hymenoptera").rglob("*.jpg"))[::25]
    found = np.stack([read_pixels(path, contract) for path in files])
    wanted = np.stack([contract_pixels(open_rgb(path), contract) for path in files])
    assert np.abs(found.astype(np.int16) - wanted).max() <= 2

    def features(pixels: NDArray[np.uint8]) -> torch.Tensor:
        with torch.inference_mode():
            return backbone.features(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), contract))

    assert torch.nn.functional.cosine_similarity(features(found), features(wanted)).min() >= 0.9999


@pytest.mark.slow
def test_twelve_megapixels(test_data: Path, tmp_path: Path) -> None:
    """Photos enlarged to 12 MP with some sharp noise: mean difference below half a level, features' cosine >= 0.999."""
    backbone = weights.load("bundled:efficientnet_lite0")
    contract = backbone.info.preprocess
    pairs = []
    for number, file in enumerate(sorted((test_data / "hymenoptera").rglob("*.jpg"))[::130]):
        image = open_rgb(file)
        factor = 3024 / min(image.size)
        big = image.resize(
            (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
        )
        noise = np.random.default_rng(number).normal(0, 4, (big.height, big.width, 1))
        big = Image.fromarray(np.clip(np.asarray(big) + noise, 0, 255).astype(np.uint8))
        path = saved(tmp_path / f"{number}.jpg", big)
        pairs.append((read_pixels(path, contract), contract_pixels(open_rgb(path), contract)))
    both = np.stack([np.stack(pair) for pair in pairs])
    assert np.abs(both[:, 0].astype(np.int16) - both[:, 1]).mean((1, 2, 3)).max() < 0.5
    with torch.inference_mode():
        rows = [
            backbone.features(normalise(torch.from_numpy(both[:, k]).permute(0, 3, 1, 2), contract))
            for k in (0, 1)
        ]
    assert torch.nn.functional.cosine_similarity(rows[0], rows[1]).min() >= 0.999
