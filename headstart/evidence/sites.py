"""Places of images whose class is known: what a probe for boxes and masks is asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import Scene, read_scene

PER_IMAGE = 48
"""Places of an image at most: neighbours look alike, so more of them say little more."""

_CORE = 0.5  # of a box's sides: what lies nearer to its border shows as much of what is beside the object as of itself

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """The places of one image.

    Attributes:
        where: (P, 2) x and y of their centres in pixels of the letterbox.
        labels: (P,) class indices.
        shares: (P,) how much of the image each stands for; they add up to one.
    """

    where: Floats
    labels: Labels
    shares: Floats


@dataclass(frozen=True)
class Sites:
    """The places (P) of some images (N), image after image.

    Attributes:
        image: (P,) number of its image in 0 … N - 1.
        labels: (P,) class indices.
        shares: (P,) how much of its image each stands for; those of one image add up to one.
        folds: (P,) in which fold it is held out; all places of an image, and all images of a group, in one.
    """

    image: Labels
    labels: Labels
    shares: Floats
    folds: Labels

    def __len__(self) -> int:
        """How many places."""
        return len(self.labels)

    @property
    def images(self) -> int:
        """How many images have places."""
        return len(np.unique(self.image))

    def by_image(self, values: Floats) -> Floats:
        """(N,) means of values (P,) over each image's places, each place counting as much as it stands for."""
        _, number = np.unique(self.image, return_inverse=True)
        return np.asarray(np.bincount(number, self.shares * values) / np.bincount(number, self.shares))

    def by_class(self, values: Floats) -> tuple[float, float]:
        """The mean over classes of the means of values (P,) over a class's places, and its standard error over images.

        The error is that of the delete-one-image jackknife: each image is left out in turn.

        Source: Efron & Tibshirani 1993, An introduction to the bootstrap, chapter 11.
        """
        _, number = np.unique(self.image, return_inverse=True)
        names, label = np.unique(self.labels, return_inverse=True)
        cell, shape = number * len(names) + label, (number.max() + 1, len(names))
        sums, counts = (
            np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape)
            for weights in (values, np.ones(len(values)))
        )
        value = float((sums.sum(0) / counts.sum(0)).mean())
        left = counts.sum(0) - counts
        without = np.where(left > 0, (sums.sum(0) - sums) / np.maximum(left, 1), np.nan)
        means = np.nanmean(without, axis=1) if shape[0] > 1 else np.array([value])
        n = len(means)
        return value, float(np.sqrt((n - 1) / n * np.square(means - means.mean()).sum()))


def draw_sites(sample: Sample, contract: Preprocess, *, classes: int, seed: int) -> tuple[Scene, Drawn]:
    """The scene by the contract and some of its places, as many of each class that occurs in it, drawn at random.

    Raises:
        BadInput: for an image or a mask that cannot be read.
    """
    scene = read_scene(sample, contract)
    shown = contract.resized(sample.width, sample.height)
    rng = generator(seed, "sites", sample.digest)
    if scene.labels is not None:
        return scene, _in_mask(np.asarray(scene.labels, np.int64), rng)
    return scene, _in_boxes(scene, shown, classes, rng)


def _in_mask(labels: Labels, rng: np.random.Generator) -> Drawn:
    """Places of a class map (H, W): each class that occurs gets as many, and each place stands for its part of the class."""
    flat = labels.ravel()
    present = np.unique(flat[flat >= 0])
    if len(present) > PER_IMAGE:
        present = rng.permutation(present)
    most = max(1, PER_IMAGE // max(1, len(present)))
    picked, shares = [], []
    for label in present[:PER_IMAGE]:
        own = np.flatnonzero(flat == label)
        some = rng.choice(own, min(most, len(own)), replace=False)
        picked.append(some)
        shares.append(np.full(len(some), len(own) / len(some)))
    places = np.concatenate(picked) if picked else np.empty(0, np.int64)
    weights = np.concatenate(shares) if shares else np.empty(0)
    where = np.stack([places % labels.shape[1] + 0.5, places // labels.shape[1] + 0.5], 1)
    return Drawn(where=where, labels=flat[places], shares=weights / max(weights.sum(), 1e-12))


def _in_boxes(scene: Scene, shown: tuple[int, int], classes: int, rng: np.random.Generator) -> Drawn:
    """A place near the middle of each object, and about as many that lie in no box: the background, class `classes`.

    Places in the outer parts of a box are not asked about: a detector's heads do not answer there either. Where boxes lie
    over each other, a place that is in the middle of another, smaller object is that one's, and is left out here.
    """
    boxes = scene.boxes.astype(np.float64)
    objects = boxes[boxes[:, 5] == 0]
    objects = objects[rng.permutation(len(objects))[: PER_IMAGE // 2]]
    middle, half = (objects[:, :2] + objects[:, 2:4]) / 2, (objects[:, 2:4] - objects[:, :2]) / 2
    inner = middle + _CORE * half * rng.uniform(-1, 1, middle.shape)
    area = (objects[:, 2:4] - objects[:, :2]).prod(1)
    smaller = (boxes[:, 2:4] - boxes[:, :2]).prod(1)[None] < area[:, None] - 1e-6
    own = ~(_inside(inner, boxes) & smaller).any(1)
    free = rng.uniform(0, 1, (8 * PER_IMAGE, 2)) * np.array(shown)
    free = free[~_inside(free, boxes).any(1)][: max(PER_IMAGE // 4, int(own.sum()))]
    where = np.concatenate([inner[own], free])
    labels = np.concatenate([objects[own, 4].astype(np.int64), np.full(len(free), classes)])
    return Drawn(where=where, labels=labels, shares=np.full(len(where), 1 / max(1, len(where))))


def _inside(where: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """(P, M): whether a place lies in a box."""
    x, y = where[:, :1], where[:, 1:]
    return (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
