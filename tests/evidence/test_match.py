"""Sentences on what does not fit: each kind of odd image is named, and ordinary photos are left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts, Sample, SplitFacts
from headstart.evidence.match import find_mismatches, look_at

HALF = (0.5, 0.5, 0.5)
CONTRACT = Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=HALF, std=HALF)
FACTS = DatasetFacts(
    source="x",
    task="classify",
    digest="",
    classes=("a", "b"),
    splits={"train": SplitFacts(n=100, per_class={"a": 50, "b": 50}, made=False)},
    size_quantiles=(200.0, 300.0, 400.0, 500.0, 600.0),
    aspect_quantiles=(0.8, 1.0, 1.2, 1.3, 1.5),
    formats={"JPEG": 100},
    modes={"RGB": 100},
    imbalance=1.0,
    unreadable=(),
    duplicates=(),
    examples={},
    notes=(),
)

Picture = Callable[[np.random.Generator], NDArray[np.float64]]


def shades(rng: np.random.Generator) -> NDArray[np.float64]:
    """(32, 32, 1) brightness with structure, around the middle."""
    coarse = rng.normal(0.5, 0.22, (8, 8)).repeat(4, 0).repeat(4, 1)
    return np.asarray(coarse)[:, :, None]


def photo(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(shades(rng) + rng.normal(0, 0.04, (32, 32, 3)))


def samples(make: Picture) -> list[Sample]:
    rng = np.random.default_rng(0)
    pictures = [np.clip(make(rng), 0, 1) * np.ones((1, 1, 3)) for _ in range(12)]
    return [Sample(name=str(n), source=(255 * each).astype(np.uint8)) for n, each in enumerate(pictures)]


def said(make: Picture, facts: DatasetFacts = FACTS) -> str:
    return " ".join(find_mismatches(facts, CONTRACT, look_at(samples(make))))


def test_ordinary_photos_fit() -> None:
    assert said(photo) == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rng: rng.random((32, 32, 3)), "little to do with each other"),
        (shades, "stored as colour but gray"),
        (lambda rng: photo(rng) * [1, 1, 0], "blue channel is the same everywhere"),
        (lambda rng: 0.5 + 0.1 * (photo(rng) - 0.5), "little contrast"),
        (lambda rng: np.where(rng.random((32, 32, 1)) < 0.2, 1.0, 0.0), "inverted"),
        (lambda rng: np.where(rng.random((32, 32, 1)) < 0.2, 0.2, 1.0), "is white"),
    ],
)
def test_odd_pixels_are_named(make: Picture, words: str) -> None:
    assert words in said(make)
    assert words not in said(photo)


def test_small_images_are_named_with_the_factor() -> None:
    small = replace(FACTS, size_quantiles=(32.0, 32.0, 32.0, 32.0, 32.0))
    assert "enlarged 8.0 times" in said(photo, small)


def test_the_hidden_part_of_long_images_is_named() -> None:
    long = replace(FACTS, aspect_quantiles=(2.0, 2.0, 2.0, 2.0, 2.0))
    assert "38 % of the area" in said(photo, long), "224² / 256² / 2"
    assert said(photo, replace(long, aspect_quantiles=(0.9, 1.0, 1.0, 1.0, 1.1))) == ""


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        ({"I;16": 100}, "All images store more than 8 bits"),
        ({"RGB": 70, "RGBA": 30}, "30 % of the images are partly transparent"),
        ({"RGB": 999, "CMYK": 1}, "A few images are stored in printing colours"),
        ({"RGB": 60, "L": 40}, "40 % of the images are gray, the others in colour"),
    ],
)
def test_pixel_modes_are_named(modes: dict[str, int], words: str) -> None:
    assert words in " ".join(find_mismatches(replace(FACTS, modes=modes), CONTRACT, None))
