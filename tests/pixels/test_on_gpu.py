"""JPEGs decoded in groups: the same pixels, refused where they are not, and nothing lost by a damaged file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from headstart.data.images import Undecodable
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import in_order, on_gpu, read_pixels, together
from headstart.pixels.vision import ImageReadMode
from tests.pixels.test_decode import CONTRACTS, photo, saved

CONTRACT = CONTRACTS["bilinear"]


def decoded(encoded: list[Tensor]) -> list[Tensor]:
    """What a GPU's decoder would give if it were libjpeg."""
    decode = torch.ops.image.decode_jpeg.default
    return [decode(each, ImageReadMode.RGB.value, False) for each in encoded]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three photos, a PNG between them."""
    photos = [
        saved(tmp_path / f"{seed}.jpg", Image.fromarray(photo(120 + 9 * seed, 160, seed=seed)))
        for seed in range(3)
    ]
    other = tmp_path / "drawn.png"
    Image.fromarray(photo(90, 90, seed=7)).save(other)
    return [photos[0], other, *photos[1:]]


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_group_has_the_pixels_of_each_file_alone(files: list[Path], name: str) -> None:
    found = on_gpu.read_together(files, CONTRACTS[name], decode=decoded)
    for path, pixels in zip(files, found, strict=True):
        assert np.array_equal(pixels, read_pixels(path, CONTRACTS[name]))


def test_a_letterbox_is_left_to_the_processor(files: list[Path]) -> None:
    def never(encoded: list[Tensor]) -> list[Tensor]:
        raise AssertionError("a letterbox is not what the GPU's way makes")

    boxed = Preprocess(
        height=64,
        width=64,
        resize=64,
        interpolation="bilinear",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        fit="letterbox",
    )
    found = on_gpu.read_together(files, boxed, decode=never)
    assert all(np.array_equal(a, read_pixels(path, boxed)) for a, path in zip(found, files, strict=True))


def test_a_call_that_fails_goes_the_processors_way(files: list[Path]) -> None:
    def broken(encoded: list[Tensor]) -> list[Tensor]:
        raise RuntimeError("nvjpegDecode failed: 5")

    found = on_gpu.read_together(files, CONTRACT, decode=broken)
    assert all(np.array_equal(a, read_pixels(path, CONTRACT)) for a, path in zip(found, files, strict=True))


def test_a_file_that_nobody_can_read_is_told_by_its_name(files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(files[0].read_bytes()[:400])
    with pytest.raises(Undecodable, match=r"bad\.jpg"):
        on_gpu.read_together([*files, bad], CONTRACT, decode=decoded)


def test_other_pixels_are_refused_with_the_difference(files: list[Path]) -> None:
    verdict = on_gpu.try_out(files, CONTRACT, decode=lambda encoded: [one // 2 for one in decoded(encoded)])
    assert not verdict.used
    assert "pixels differ by up to" in verdict.reason


def test_a_slower_decoder_is_refused(files: list[Path]) -> None:
    def slow(encoded: list[Tensor]) -> list[Tensor]:
        time.sleep(0.5)
        return decoded(encoded)

    verdict = on_gpu.try_out(files, CONTRACT, decode=slow)
    assert not verdict.used
    assert "times as fast" in verdict.reason


def test_a_faster_decoder_with_the_same_pixels_is_taken(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(source: Path, contract: Preprocess) -> on_gpu.Pixels:
        time.sleep(0.3)
        return read_pixels(source, contract)

    monkeypatch.setattr("headstart.pixels.on_gpu.read_pixels", slowly)
    verdict = on_gpu.try_out(files, CONTRACT, decode=decoded)
    assert verdict.used
    assert "pixels within 0 of 255" in verdict.reason


def test_without_a_jpeg_there_is_nothing_to_decide(files: list[Path]) -> None:
    assert (
        on_gpu.try_out([files[1]], CONTRACT, decode=decoded).reason
        == "no ordinary JPEG among the first images"
    )


def test_groups_come_in_order(files: list[Path]) -> None:
    samples = [Sample(source=path, name=path.name, labels=(0,)) for path in files]
    found = list(
        together(
            samples,
            lambda group: on_gpu.read_together([one.source for one in group], CONTRACT, decode=decoded),
            groups=in_order(4, 3),
        )
    )
    assert [batch.positions for batch in found] == [(0, 1, 2), (3,)]
    assert np.array_equal(found[0].rows[2], read_pixels(files[2], CONTRACT))


@pytest.mark.gpu
def test_nvjpeg_reads_a_group(files: list[Path]) -> None:
    if reason := on_gpu.why_not():
        pytest.skip(reason)
    found = on_gpu.read_together(files, CONTRACT)
    for path, pixels in zip(files, found, strict=True):
        difference = np.abs(pixels.astype(np.int16) - read_pixels(path, CONTRACT))
        assert difference.mean() < 3  # what is allowed in use, `try_out` decides on the user's photos
    assert on_gpu.try_out(files, CONTRACT).reason
