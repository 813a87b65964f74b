"""Where the images and what the network expects do not fit, in sentences for somebody who never heard of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts, Sample

LOOK = 48
"""Images whose pixels are looked at."""

_SMALL_SIDE = 64  # pixels to which images are shrunk before their colours are counted
_ENLARGED = 1.5  # factor from which enlarging is worth a word
_IN_VIEW = 0.6  # share of a typical image below which what the crop hides is worth a word
_MOST = 0.5  # share of the images from which something is said of all
_SOME = 0.02  # … from which it is said of some
_GRAY_MODES, _DEEP_MODES = ("1", "L", "LA", "La"), ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_CLEAR_MODES = ("RGBA", "LA", "La", "PA", "RGBa")
_DARK, _BRIGHT = 0.1, 0.9  # of full brightness
_FLAT = 0.06  # deviation of brightness, of 1: photos have 0.2
_RELATED = 0.5  # correlation of two colour channels: above 0.7 in nearly all photos
_EMPTY = 0.01  # deviation of a channel that says nothing, where another one says something

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What the pixels of a few images (N) show; brightness in [0, 1].

    Attributes:
        mean: (3,) of red, green and blue.
        deviation: (3,) of the pixels, over all images.
        colourless: share of images whose three channels are the same.
        relation: median over coloured images of the lowest correlation between two channels; NaN without such images.
        dark: median share of an image's pixels that are nearly black.
        bright: … that are nearly white.
        contrast: median over images of the deviation of their brightness.
    """

    mean: Floats
    deviation: Floats
    colourless: float
    relation: float
    dark: float
    bright: float
    contrast: float


def look_at(samples: Sequence[Sample], *, clock_over: Callable[[], bool] = lambda: False) -> Look | None:
    """What up to `LOOK` images show, evenly spread; None without images, or where time is over before the first.

    Args:
        samples: readable images.
        clock_over: asked before each image.
    """
    step = max(1, len(samples) // LOOK)
    pixels = []
    for sample in samples[::step][:LOOK]:
        if clock_over():
            break
        image = open_rgb(sample.source)
        image.thumbnail((_SMALL_SIDE, _SMALL_SIDE))
        pixels.append(np.asarray(image, np.float64).reshape(-1, 3) / 255)
    if not pixels:
        return None
    gray = np.array([bool((np.ptp(each, axis=1) < 2 / 255).mean() > 0.99) for each in pixels])
    relations = [_relation(each) for each, plain in zip(pixels, gray, strict=True) if not plain]
    together = np.concatenate(pixels)
    light = [each.mean(1) for each in pixels]
    return Look(
        mean=together.mean(0),
        deviation=together.std(0),
        colourless=float(gray.mean()),
        relation=float(np.median(relations)) if relations else float("nan"),
        dark=float(np.median([(each < _DARK).mean() for each in light])),
        bright=float(np.median([(each > _BRIGHT).mean() for each in light])),
        contrast=float(np.median([each.std() for each in light])),
    )


def _relation(pixels: Floats) -> float:
    """The lowest correlation between two channels of an image's pixels (P, 3); a channel without variation has 0."""
    centred = pixels - pixels.mean(0)
    lengths = np.sqrt((centred**2).sum(0))
    table = centred.T @ centred / np.maximum(np.outer(lengths, lengths), 1e-12)
    return float(min(table[0, 1], table[0, 2], table[1, 2]))


def find_mismatches(facts: DatasetFacts, contract: Preprocess, look: Look | None) -> tuple[str, ...]:
    """Sentences, the weightiest first; none where everything fits.

    Args:
        facts: of the dataset: sizes and how files store their pixels.
        contract: what the network expects.
        look: at the pixels, if there was one.
    """
    found = [*_sizes(facts, contract), *_modes(facts)]
    return tuple(found if look is None else [*found, *_pixels(facts, look, contract)])


def _sizes(facts: DatasetFacts, contract: Preprocess) -> list[str]:
    out = []
    own = min(contract.height, contract.width)
    typical = facts.size_quantiles[len(facts.size_quantiles) // 2] if facts.size_quantiles else 0.0
    factor = contract.resize / typical if typical else 0.0
    if factor >= _ENLARGED:
        out.append(
            f"Half of the images are no larger than {typical:.0f} pixels on their short side; the network was made for "
            f"{own} and gets them enlarged {factor:.1f} times. That adds no detail, and takes them away from the sharp "
            "pictures it knows."
        )
    seen = _in_view(facts.aspect_quantiles, contract)
    if contract.fit == "crop" and seen < _IN_VIEW:
        out.append(
            f"The network looks at the centre square of each image: of a typical one here that is {100 * seen:.0f} % of the "
            "area. If what matters lies near the edges, cut or pad the images to squares first."
        )
    return out


def _in_view(aspects: Sequence[float], contract: Preprocess) -> float:
    """The share of a typical image's area that the crop shows, in (0, 1]."""
    if not aspects:
        return 1.0
    shapes = [max(aspect, 1 / aspect) for aspect in aspects if aspect > 0]
    typical = sorted(shapes)[len(shapes) // 2]
    return contract.height * contract.width / contract.resize**2 / typical


def _modes(facts: DatasetFacts) -> list[str]:
    total = sum(facts.modes.values())
    if not total:
        return []
    out = []
    for names, words in (
        (
            _DEEP_MODES,
            "store more than 8 bits for each pixel, as medical and scientific cameras do. They are reduced to 8 bits.",
        ),
        (_CLEAR_MODES, "are partly transparent. What is transparent becomes white."),
        (("CMYK",), "are stored in printing colours (CMYK). They are converted to red, green and blue."),
    ):
        share = sum(facts.modes.get(name, 0) for name in names) / total
        if share > 0:
            out.append(f"{_how_many(share)} images {words}")
    gray = sum(facts.modes.get(name, 0) for name in _GRAY_MODES) / total
    if _SOME < gray < 1 - _SOME:
        out.append(
            f"{_how_many(gray)} images are gray, the others in colour. Check that this has nothing to do with their class: "
            "a network would learn it instead."
        )
    return out


def _how_many(share: float) -> str:
    if share > 1 - 1e-9:
        return "All"
    return f"{100 * share:.0f} % of the" if share >= _SOME else "A few"


def _pixels(facts: DatasetFacts, look: Look, contract: Preprocess) -> list[str]:
    out = []
    stored_gray = sum(facts.modes.get(name, 0) for name in (*_GRAY_MODES, *_DEEP_MODES))
    if look.colourless > _MOST:
        said = "stored as colour but gray" if stored_gray < sum(facts.modes.values()) / 2 else "gray"
        out.append(
            f"The images are {said}. The network knows coloured pictures; the one channel is shown to it three times."
        )
    empty = [
        name
        for name, deviation in zip(("red", "green", "blue"), look.deviation, strict=True)
        if deviation < _EMPTY and look.deviation.max() > _FLAT
    ]
    if empty:
        out.append(
            f"The {' and '.join(empty)} channel is the same everywhere: only part of the network's input is used."
        )
    elif look.relation < _RELATED:
        out.append(
            "The three colour channels have little to do with each other, as they never do in photos: these may be other "
            "measurements (stains, bands, depth) in the place of red, green and blue, or false colours."
        )
    return [*out, *_brightness(look, contract)]


def _brightness(look: Look, contract: Preprocess) -> list[str]:
    """Sentences on pictures darker, brighter or flatter than the contract's means and deviations suppose."""
    gray = look.colourless > _MOST
    if look.contrast < _FLAT:
        words = f"brightness varies by {100 * look.contrast:.0f} % where photos vary by 20 %"
        return [f"The images have little contrast: {words}. Were they normalised already? Use the originals."]
    if look.dark > _MOST:
        more = (
            " If they are drawings or scans, they may be inverted: networks know dark on light."
            if gray
            else ""
        )
        return [f"More than half of a typical image is black.{more}"]
    if look.bright > _MOST:
        return ["More than half of a typical image is white: the subject fills little of the network's view."]
    means = np.asarray(contract.mean)
    away = np.abs(look.mean - means) / np.asarray(contract.std)
    if away.max() > 1:
        where = "darker" if float((look.mean - means).mean()) < 0 else "brighter"
        return [
            f"The images are much {where} than those that the network was made for. Check how they were exported."
        ]
    return []
