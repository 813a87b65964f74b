"""Contracts over the table of augmentation presets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart._core.seed import generator
from headstart.data.preprocess import Preprocess
from headstart.pixels import PRESETS, augmented_pixels, contract_pixels

HALF = (0.5, 0.5, 0.5)
CONTRACT = Preprocess(height=40, width=48, resize=56, interpolation="bicubic", mean=HALF, std=HALF)
SIZES = ((80, 60), (60, 80), (8, 8), (300, 1), (1, 300), (1, 1))


def ramp(width: int = 96, height: int = 80) -> Image.Image:
    """Dark on the left, bright on the right."""
    line = np.linspace(30, 220, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    return Image.fromarray(line.astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng([width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def augmented(name: str, image: Image.Image, seed: int, *, flip: bool = False) -> NDArray[np.uint8]:
    rng = generator(seed, "augment", 0, 0)
    return augmented_pixels(image, CONTRACT, augment=PRESETS[name], flip=flip, rng=rng)


def slope(pixels: NDArray[np.uint8]) -> float:
    """Positive where the right is brighter than the left."""
    columns = pixels.mean((0, 2))
    return float(np.polyfit(np.arange(len(columns)), columns, 1)[0])


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_name_is_the_rows_own(name: str) -> None:
    assert PRESETS[name].name == name
    assert PRESETS[name].summary


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", list(PRESETS))
def test_the_networks_own_size_comes_out(name: str, size: tuple[int, int], flip: bool) -> None:
    for seed in range(5):
        out = augmented(name, noise(*size), seed, flip=flip)
        assert out.shape == (40, 48, 3)
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_seed_decides_everything(name: str) -> None:
    image = noise(80, 60)
    before = np.array(image)
    first = [augmented(name, image, seed, flip=True) for seed in range(8)]
    again = [augmented(name, image, seed, flip=True) for seed in reversed(range(8))]
    for a, b in zip(first, reversed(again), strict=True):
        assert np.array_equal(a, b)
    different = len({a.tobytes() for a in first})
    assert different == (2 if name == "none" else 8)  # `none` can only be mirrored or not
    assert np.array_equal(np.array(image), before)


@pytest.mark.parametrize("name", list(PRESETS))
def test_without_flip_nothing_is_ever_mirrored(name: str) -> None:
    slopes = np.array([slope(augmented(name, ramp(), seed)) for seed in range(150)])
    assert (slopes > 0).all()
    mirrored = np.array([slope(augmented(name, ramp(), seed, flip=True)) < 0 for seed in range(150)])
    assert 0.35 < mirrored.mean() < 0.65  # 150 fair coins: 3.7 standard deviations


def test_none_is_the_contract_itself() -> None:
    for size in SIZES:
        assert np.array_equal(augmented("none", noise(*size), 3), contract_pixels(noise(*size), CONTRACT))


def test_presets_grow_stronger() -> None:
    """In each quantity, and so in the distance from the plain pixels."""
    rows = [PRESETS[name] for name in ("none", "light", "medium", "strong")]
    assert list(PRESETS) == [row.name for row in rows]
    for milder, stronger in itertools.pairwise(rows):
        assert stronger.area < milder.area
        assert stronger.jitter > milder.jitter
        assert stronger.turn >= milder.turn
        assert stronger.erase >= milder.erase
    plain = contract_pixels(ramp(), CONTRACT).astype(float)
    gaps = [
        np.mean([np.abs(augmented(row.name, ramp(), seed) - plain).mean() for seed in range(60)])
        for row in rows
    ]
    assert gaps[0] == 0
    assert gaps == sorted(gaps)


def test_a_crop_keeps_the_share_it_promises() -> None:
    """On a ramp the range of values tells how much of the width is in view: never less than the smallest allowed."""
    low = PRESETS["light"].area
    narrowest = np.sqrt(low * 3 / 4) * 80 / 96  # aspect 3:4, of the short side (80 of the 96 columns)
    whole = 220 - 30
    for seed in range(60):
        columns = augmented("light", ramp(), seed).mean((0, 2))
        seen = np.ptp(columns) / whole / 1.21  # contrast and brightness may stretch by 1.1 each
        assert seen < 1.01
        assert np.ptp(columns) / whole / 0.81 > narrowest * 0.95  # and shrink it by 0.9 each


def test_erasing_fills_with_the_mean_colour() -> None:
    """Among many, some have one rectangle of a single colour, and none where nothing is erased."""

    def largest_flat(pixels: NDArray[np.uint8]) -> int:
        flat = (pixels[1:, 1:] == pixels[:-1, :-1]).all(2) & (pixels[1:, 1:] == pixels[1:, :-1]).all(2)
        return int(flat.sum())

    image = noise(96, 80)
    strong = [largest_flat(augmented("strong", image, seed)) for seed in range(60)]
    light = [largest_flat(augmented("light", image, seed)) for seed in range(60)]
    assert max(light) < 5
    assert 5 <= sum(count > 15 for count in strong) <= 60
