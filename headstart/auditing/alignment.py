"""Whether two small pictures show the same one: laid over each other, mirrored if need be, and correlated."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from headstart._core.progress import track
from headstart.auditing.looks import SIDE

Pictures = NDArray[np.float32]
Floats = NDArray[np.float32]

# The way is found on coarse pictures of half the size, the place on fine ones; blurs in pixels of the whole picture.
_WAY, _PLACE = 1.0, 0.6
_FIRST, _MORE, _LAST = 3, 3, 4  # steps: of the way before a first look, after it, and of the place
# Correlations below which a pair is given up, at the first look and (of the details) at the end of the way. Chosen on copies
# of ImageNet photos, of which none that is found lies below 0.78 and 0.71.
_LOST, _PROMISING = 0.65, 0.4
_FINE, _COARSE = (
    0.6,
    3.0,
)  # blurs between which a detail counts: below it is interpolation, above it is composition
_SCALES = (0.72, 1.4)  # what "cropped a little" may do to either side
_SHIFT = 6.0  # pixels
_LEAST_OVERLAP = 0.5  # of the picture
_FLAT = 0.7  # gray levels of detail below which a picture is a plain surface
_BATCH = 64  # pairs whose pictures stay in the processor's caches: a third of the time of 512
_HOPELESS = 0.25  # correlation before any alignment: below it no small crop was ever seen


@dataclass(frozen=True)
class Match:
    """How alike M pairs are.

    Attributes:
        score: (M,) correlation of the details after alignment, in [-1, 1]; 0 for plain surfaces.
        mirrored: (M,) whether the second picture was mirrored for it.
    """

    score: NDArray[np.float64]
    mirrored: NDArray[np.bool_]


def matches(thumbs: NDArray[np.uint8], pairs: NDArray[np.int64]) -> Match:
    """How alike the pictures of each pair are, whatever their brightness and contrast.

    The second picture is moved and scaled (each axis by itself) until it fits the first best, by Gauss-Newton steps with
    a free gain and offset; what is told is the correlation of the band-passed pictures where they overlap. Two photos
    with the same composition, sky above and ground below, agree before the band-pass and not after it.

    Args:
        thumbs: (N, SIDE, SIDE) gray.
        pairs: (M, 2) places in `thumbs`.

    Source: Evangelidis & Psarakis 2008, enhanced correlation coefficient (gain and offset); Lucas & Kanade 1981.
    """
    score, mirrored = np.zeros(len(pairs)), np.zeros(len(pairs), bool)

    def match(start: int) -> None:
        part = slice(start, start + _BATCH)
        first = thumbs[pairs[part, 0]].astype(np.float32)
        second = thumbs[pairs[part, 1]].astype(np.float32)
        plain, turned = _agreement(first, second)
        mirrored[part] = turned > plain
        hopeful = np.flatnonzero(np.maximum(turned, plain) > _HOPELESS)
        if len(hopeful):
            other = np.where((turned > plain)[:, None, None], second[:, :, ::-1], second)
            score[start + hopeful] = _aligned(first[hopeful], other[hopeful])

    starts = range(0, len(pairs), _BATCH)
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="match") as pool:
        for _ in track(pool.map(match, starts), label="comparing pictures", total=len(starts)):
            pass  # each batch has written its own part
    return Match(score, mirrored)


def details(thumbs: NDArray[np.uint8]) -> Floats:
    """What is compared after alignment: (N, SIDE * SIDE) rows of mean 0 and length 1; zeros for plain surfaces."""
    rows = _band(thumbs.astype(np.float32), _FINE, _COARSE).reshape(len(thumbs), -1)
    rows -= rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(length < _FLAT * SIDE, 0.0, rows / np.maximum(length, 1e-6)), np.float32)


def _agreement(first: Pictures, second: Pictures) -> tuple[Floats, Floats]:
    """Correlation of the blurred pictures as they lie, without the coarsest shades: with the second one, and its mirror."""
    one, other, whole = _band(first, 2.0, 5.0), _band(second, 2.0, 5.0), np.ones_like(first)
    return _correlation(one, other, whole), _correlation(one, other[:, :, ::-1], whole)


def _aligned(first: Pictures, second: Pictures) -> Floats:
    """Correlation of the details where the second picture fits the first best; 0 where it clearly fits nowhere."""
    out = np.zeros(len(first), np.float32)
    target, moving = _halved(first), _halved(second)
    place = np.tile(
        np.array([1, 0, 1, 0], np.float32), (len(first), 1)
    )  # scale and shift of columns, then of rows; shifts in pixels of the picture at hand
    place = _climbed(target, moving, place, _FIRST)
    on = np.flatnonzero(_correlation(target, *_moved(moving, place)) > _LOST)
    if not len(on):
        return out
    place = _climbed(target[on], moving[on], place[on], _MORE) * np.array([1, 2, 1, 2], np.float32)
    out[on] = _judged(first[on], second[on], place)
    close = np.flatnonzero(out[on] > _PROMISING)
    if len(close):
        on = on[close]
        target, moving = _blurred(first[on], _PLACE), _blurred(second[on], _PLACE)
        fine = _climbed(target, moving, place[close], _LAST)
        out[on] = np.maximum(out[on], _judged(first[on], second[on], fine))
    return out


def _climbed(target: Pictures, moving: Pictures, place: Floats, steps: int) -> Floats:
    for _ in range(steps):
        place = _step(target, moving, place)
    return place


def _halved(pictures: Pictures) -> Pictures:
    """Coarse pictures at half the size: blurred, and the mean of each two by two pixels."""
    kernel = _kernel(_WAY).reshape(SIDE // 2, 2, SIDE).mean(1)
    return np.asarray(kernel @ pictures @ kernel.T, np.float32)


def _judged(first: Pictures, second: Pictures, place: Floats) -> Floats:
    low, high = _SCALES
    scales, shifts = place[:, [0, 2]], place[:, [1, 3]]
    sound = ((scales > low) & (scales < high) & (np.abs(shifts) < _SHIFT)).all(1)
    moved, inside = _moved(second, place)
    fine_first = _band(np.where(inside > 0, first, moved), _FINE, _COARSE)
    fine_moved = _band(moved, _FINE, _COARSE)
    overlap = inside.mean((1, 2)) >= _LEAST_OVERLAP
    return np.where(sound & overlap, _correlation(fine_first, fine_moved, inside), 0.0).astype(np.float32)


def _step(target: Pictures, moving: Pictures, place: Floats) -> Floats:
    """A Gauss-Newton step: the target is gain x moved + offset + slopes x the small change of the place."""
    moved, inside = _moved(moving, place)
    down, across = np.gradient(moved, axis=(1, 2))
    side = target.shape[1]
    columns, rows = _axis(side)[None, None, :], _axis(side)[None, :, None]
    parts = (
        np.stack([moved, np.ones_like(moved), across * columns, across, down * rows, down], axis=1)
        * inside[:, None]
    )
    flat = parts.reshape(len(moved), 6, -1)
    aim = (target * inside).reshape(len(moved), -1, 1)
    square = flat @ flat.transpose(0, 2, 1)
    ridge = 1e-4 * np.trace(square, axis1=1, axis2=2)[:, None, None] / 6 + 1e-3
    found = np.linalg.solve(square + ridge * np.eye(6, dtype=np.float32), flat @ aim)[:, :, 0]
    gain = np.where(np.abs(found[:, :1]) < 0.1, 0.1, found[:, :1])
    pixel = side / SIDE
    change = np.clip(found[:, 2:] / gain, [-0.06, -1.5 * pixel] * 2, [0.06, 1.5 * pixel] * 2)
    # slopes are taken on the moved picture's own grid: a change there is one of the place times its scale
    scales = place[:, [0, 0, 2, 2]]
    most = np.array([2.0, 9 * pixel, 2.0, 9 * pixel])
    return np.asarray(np.clip(place + change * scales, most * [0.25, -1, 0.25, -1], most), np.float32)


def _moved(pictures: Pictures, place: Floats) -> tuple[Pictures, Pictures]:
    """The pictures at `scale x place + shift` of each axis (linear between pixels), and 1 where that lies inside."""
    across, wide = _weights(place[:, 0], place[:, 1], pictures.shape[2])
    down, high = _weights(place[:, 2], place[:, 3], pictures.shape[1])
    moved = np.asarray(down @ pictures @ across.transpose(0, 2, 1), np.float32)
    return moved, (high[:, :, None] & wide[:, None, :]).astype(np.float32)


def _weights(scale: Floats, shift: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(M, side, side) of linear interpolation along an axis, and which of its places (M, side) lie inside."""
    where = scale[:, None] * _axis(side)[None] + shift[:, None] + np.float32((side - 1) / 2)
    held = np.clip(where, 0, side - 1)
    weights = np.maximum(0, 1 - np.abs(held[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights.astype(np.float32, copy=False), (where > -0.5) & (where < side - 0.5)


@cache
def _axis(side: int) -> Floats:
    """Places of the pixels along an axis, from the middle of the picture."""
    return (np.arange(side) - (side - 1) / 2).astype(np.float32)


def _blurred(pictures: Pictures, sigma: float) -> Pictures:
    kernel = _kernel(sigma)
    return np.asarray(kernel @ pictures @ kernel.T, np.float32)


@cache
def _kernel(sigma: float) -> Pictures:
    """(SIDE, SIDE): each row averages its neighbours with Gaussian weights.

    Beyond the edge the picture goes on point-mirrored (2 x edge - inside), which leaves slopes as they are: cut off there,
    the shade from sky to ground would become a detail at the edge that all landscapes share.
    """
    reach = SIDE - 1
    places = np.arange(-reach, SIDE + reach)
    weights = np.exp(-((np.arange(SIDE)[:, None] - places[None]) ** 2) / (2 * sigma**2))
    weights /= weights.sum(1, keepdims=True)
    out = weights[:, reach : reach + SIDE].copy()
    before, after = weights[:, :reach], weights[:, reach + SIDE :]
    out[:, 1:] -= before[:, ::-1]
    out[:, :-1] -= after[:, ::-1]
    out[:, 0] += 2 * before.sum(1)
    out[:, -1] += 2 * after.sum(1)
    return np.asarray(out, np.float32)


def _band(pictures: Pictures, fine: float, coarse: float) -> Pictures:
    return _blurred(pictures, fine) - _blurred(pictures, coarse)


def _correlation(first: Pictures, second: Pictures, inside: Pictures) -> Floats:
    """Of each pair (M,) where `inside` is 1; 0 where a picture has no detail."""
    count = np.maximum(inside.sum((1, 2)), 1)
    means = [(each * inside).sum((1, 2)) / count for each in (first, second)]
    one, two = (
        (each - mean[:, None, None]) * inside for each, mean in zip((first, second), means, strict=True)
    )
    sizes = [np.sqrt((each**2).sum((1, 2)) / count) for each in (one, two)]
    product = (one * two).sum((1, 2)) / count
    flat = np.minimum(*sizes) < _FLAT
    return np.where(flat, 0.0, product / np.maximum(sizes[0] * sizes[1], 1e-6)).astype(np.float32)
