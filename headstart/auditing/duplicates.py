"""Near duplicates: candidates by what the network and a perceptual hash say, each then laid over the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.auditing.alignment import details, matches
from headstart.auditing.looks import SIDE
from headstart.auditing.neighbours import Pairs, close_pairs, projected

SAME = 0.88
"""Correlation of the details from which two photos are the same one; chosen on ImageNet photos (bench/planted.py)."""

_SURE = 14.0  # what 0.88 is among ImageNet photos, in standard deviations: atanh(0.88) * sqrt(104)
_SAMPLE = 500  # pictures that say how alike any two are
_CHI = (
    0.4549  # median of a squared standard normal variable: the median of squares is not moved by some copies
)

_WAVES = 9  # of the cosine transform, along each axis
_HASH_FLOOR, _FEATURE_FLOOR = 0.4, 0.6
_MOST_HASH, _MOST_FEATURE = 4, 4

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Near:
    """Pairs that show the same picture.

    Attributes:
        pairs: (M, 2) places, the lower one first, in rising order.
        score: (M,) correlation of their details, `SAME` to 1.
        mirrored: (M,) whether one is the mirror image of the other.
        looked: how many candidates were laid over each other.
        same: the correlation from which they count here.
    """

    pairs: Pairs
    score: NDArray[np.float64]
    mirrored: NDArray[np.bool_]
    looked: int
    same: float


def near_duplicates(
    thumbs: NDArray[np.uint8], features: NDArray[np.float32] | None = None, *, same: float | None = None
) -> Near:
    """Pairs of pictures that are resized, re-compressed, slightly cropped, mirrored or brightened copies of each other.

    Args:
        thumbs: (N, SIDE, SIDE) gray, see `looks`.
        features: (N, width) of a frozen network: they bring candidates that the hash misses, and decide nothing.
        same: correlation of the details from which a candidate counts; None: what suits the pictures.
    """
    plain, turned = hashes(thumbs)
    found = [
        close_pairs(plain, most=_MOST_HASH, floor=_HASH_FLOOR),
        close_pairs(plain, turned, most=_MOST_HASH, floor=_HASH_FLOOR),
    ]
    if features is not None:
        found.append(close_pairs(projected(features), most=_MOST_FEATURE, floor=_FEATURE_FLOOR))
    candidates = np.unique(np.concatenate(found), axis=0)
    match = matches(thumbs, candidates)
    least = needed(thumbs) if same is None else same
    high = match.score >= least
    return Near(
        pairs=candidates[high],
        score=match.score[high],
        mirrored=match.mirrored[high],
        looked=len(candidates),
        same=least,
    )


def needed(thumbs: NDArray[np.uint8]) -> float:
    """The correlation from which two of these pictures are the same one: `SAME`, or more where any two are alike.

    Two digits, or two scans of one device, correlate by what all of them share. The correlation of unrelated pictures with k
    free details has a variance of 1 / k; k is about 100 for photos and 11 for digits. A pair must lie as many standard
    deviations out as `SAME` does among photos.

    Source: Fisher 1921, the transformation atanh.
    """
    chosen = generator(0, "alike", len(thumbs)).permutation(len(thumbs))[:_SAMPLE]
    rows = details(thumbs[chosen])
    rows = rows[np.abs(rows).max(1, initial=0.0) > 0]
    if len(rows) < 3:
        return SAME
    squares = (rows @ rows.T)[np.triu_indices(len(rows), 1)] ** 2
    free = _CHI / max(float(np.median(squares)), 1e-6)
    return max(SAME, float(np.tanh(_SURE / np.sqrt(free))))


def hashes(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Perceptual hashes (N, 81) at length 1, of the pictures and of their mirror images.

    The lowest waves of the cosine transform, without the mean and at weights that make up for the 1 / frequency of natural
    pictures: the numbers whose signs are the well-known 64-bit pHash, kept as numbers because bits lose a third of the
    copies at the same number of candidates.

    Source: Zauner 2010, Implementation and benchmarking of perceptual image hash functions.
    """
    wave = np.arange(_WAVES)
    table = np.cos(np.pi * wave[:, None] * (np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)
    weight = np.hypot(wave[:, None], wave[None]).astype(np.float32)
    sign = np.where(wave % 2, -1, 1).astype(np.float32)
    plain = np.empty((len(thumbs), _WAVES, _WAVES), np.float32)
    for start in range(0, len(thumbs), 4096):
        plain[start : start + 4096] = (
            table @ thumbs[start : start + 4096].astype(np.float32) @ table.T * weight
        )
    turned = plain * sign
    centre = (plain.mean(0) + turned.mean(0)) / 2 if len(thumbs) > 2 * _WAVES**2 else np.zeros_like(weight)
    return _length_one(plain - centre), _length_one(turned - centre)


def _length_one(waves: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = waves.reshape(len(waves), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-6), np.float32)


def clusters(pairs: Pairs, count: int) -> Labels:
    """The cluster (N,) of each of `count` pictures: those that pairs connect have the same number, 0 upwards by place."""
    parent = np.arange(count)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for one, other in pairs:
        low, high = sorted((root(int(one)), root(int(other))))
        parent[high] = low
    return np.unique([root(place) for place in range(count)], return_inverse=True)[1].astype(np.int64)
