"""What a dataset is made of, before any network sees it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadPlan
from headstart._core.files import sha256_bytes
from headstart._core.records import record

SPLITS = ("train", "val", "test")

SCANNED_SINCE = time.time()
"""No sample of this process was scanned before (seconds since 1970): older files still have the content of their digest."""

ImageSource = Path | NDArray[np.uint8]
"""Where an image's pixels are: a file, or an (H, W), (H, W, 3) or (H, W, 4) array of 8-bit values in memory."""


@record
class Box:
    """Where one object is, in pixels of the upright image counted from its upper left corner.

    Attributes:
        left: of its first column; `right - left` is its width, `bottom - top` its height.
        top: of its first row.
        right: behind its last column.
        bottom: behind its last row.
        label: class index.
        crowd: neither to be found nor to be missed (COCO's `iscrowd`, VOC's `difficult`).
    """

    left: float
    top: float
    right: float
    bottom: float
    label: int
    crowd: bool = False


@record
class Outline:
    """The region of one object as COCO writes it.

    Attributes:
        label: class index, -1 for a region that counts neither way.
        polygons: of each, x and y in turns.
        counts: run lengths instead of polygons, compressed or (numbers joined by spaces) plain.
        size: (width, height) of the image that the run lengths are said to belong to; (0, 0): nothing is said.
    """

    label: int
    polygons: tuple[tuple[float, ...], ...] = ()
    counts: str = ""
    size: tuple[int, int] = field(default=(0, 0), repr=False)  # it changes no pixel, so no digest either


@record
class Mask:
    """Where a class for each pixel is to be read.

    Attributes:
        source: an image, or outlines that are drawn one over the other.
        meaning: (stored value, class index) for each value that may occur, -1 for what counts neither way; a colour's value
            is 65536 * red + 256 * green + blue. Outlines lie on the first class, their background.
        colour: whether the stored values are colours.
        digest: SHA-256 of the source; empty until read.
        pixels: how many each class has; empty until read.
    """

    source: ImageSource | tuple[Outline, ...]
    meaning: tuple[tuple[int, int], ...]
    colour: bool = False
    digest: str = ""
    pixels: tuple[int, ...] = ()


@record
class Flaw:
    """Something wrong with an image's boxes or mask: `what` it is and what was done about it, in words for the user."""

    name: str
    what: str
    action: str


@record
class Sample:
    """One image with what is known about it.

    Attributes:
        name: what it is called in predictions and reports: the path as the user would type it, or `memory:7`.
        source: where the pixels are.
        labels: class indices; exactly one for classification, any number for multi-label, none where unknown; for boxes and
            masks those that occur in them.
        split: `train`, `val`, `test`, or empty while undecided.
        group: samples of one group (patient, video, place) never lie in two splits; empty where unknown.
        digest: SHA-256 of the file's bytes (of the array's, with its shape); empty until scanned.
        width: pixels, upright; 0 until scanned.
        height: pixels, upright; 0 until scanned.
        boxes: of its objects.
        mask: of its pixels' classes.
        frame: (width, height) of the image in the units of its annotation, (0, 0) for pixels of the image as it is.
    """

    name: str
    source: ImageSource
    labels: tuple[int, ...] = ()
    split: str = ""
    group: str = ""
    digest: str = ""
    width: int = 0
    height: int = 0
    boxes: tuple[Box, ...] = ()
    mask: Mask | None = None
    frame: tuple[float, float] = (0.0, 0.0)


@record
class Unreadable:
    """A file that could not be used, and why (in words for the user)."""

    name: str
    reason: str


@record
class Duplicate:
    """Samples with the same content. `action` says what was done: `kept` or `removed NAME from train: also in test`."""

    names: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    action: str


class SealedSplit:
    """The test split. It opens once; a second look is a programming error, not an option."""

    def __init__(self, samples: tuple[Sample, ...]) -> None:
        self._samples = samples
        self.opened = 0

    def __len__(self) -> int:
        """How many test images there are (their number is no secret)."""
        return len(self._samples)

    def open(self) -> tuple[Sample, ...]:
        """The test samples, once.

        Raises:
            BadPlan: at the second call.
        """
        if self.opened:
            raise BadPlan(
                "The test split was opened a second time.",
                hint="Choose on validation data; test only at the end.",
            )
        self.opened += 1
        return self._samples

    def per_class(self, classes: Sequence[str]) -> dict[str, int]:
        """Class name -> number of test images that have it. Counts are no secret; the images stay sealed."""
        return count_labels(self._samples, classes)

    def amounts(self, classes: Sequence[str]) -> tuple[dict[str, int], dict[str, float]]:
        """Boxes of each class, and the share of the pixels that each class has."""
        return count_boxes(self._samples, classes), share_pixels(self._samples, classes)

    def digests(self, classes: Sequence[str]) -> tuple[str, ...]:
        """`sample_digest` of each test sample: enough to notice a change, not to see an image."""
        return tuple(sample_digest(sample, classes) for sample in self._samples)


def count_labels(samples: Iterable[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Class name -> number of samples that have it, in output order, zeros included."""
    counts = Counter(label for sample in samples for label in sample.labels)
    return {name: counts[index] for index, name in enumerate(classes)}


def count_boxes(samples: Iterable[Sample], classes: Sequence[str]) -> dict[str, int]:
    """Class name -> number of boxes, crowds left out; empty where no sample has any."""
    counts = Counter(box.label for sample in samples for box in sample.boxes if not box.crowd)
    return {name: counts[index] for index, name in enumerate(classes)} if counts else {}


def share_pixels(samples: Iterable[Sample], classes: Sequence[str]) -> dict[str, float]:
    """Class name -> share of the pixels that have a class; empty where no sample has a mask."""
    counts = [sample.mask.pixels for sample in samples if sample.mask is not None]
    sums = np.sum(counts, axis=0) if counts else np.zeros(len(classes))
    return {name: float(n / sums.sum()) for name, n in zip(classes, sums, strict=True)} if sums.any() else {}


def sample_digest(sample: Sample, classes: Sequence[str]) -> str:
    """SHA-256 over a sample's name, content hash, label names, boxes, mask and split."""
    labels = sorted(classes[label] for label in sample.labels)
    content: list[object] = [sample.name, sample.digest, labels, sample.split]
    if sample.boxes:
        content.append([[classes[b.label], b.left, b.top, b.right, b.bottom, b.crowd] for b in sample.boxes])
    if sample.mask is not None:
        meaning = [(value, classes[label] if label >= 0 else "") for value, label in sample.mask.meaning]
        content.append([sample.mask.digest, meaning])
    return sha256_bytes(json.dumps(content).encode())


@record
class Dataset:
    """Images and labels with their splits, scanned, without unreadable files, without leaks of identical files.

    Attributes:
        task: a name of the table `TASKS`: `classify`, `multilabel`, `detect` or `segment`.
        classes: class names in output order.
        samples: all samples of the training and validation splits.
        test: the sealed test samples.
        made: the splits that the user did not give and that were made here.
        unreadable: files left out, with reasons.
        duplicates: groups of identical files.
        notes: what else was decided on the way in, in sentences for the user.
        formats: file format (Pillow's name, or `array`) -> count, over all splits.
        modes: Pillow's pixel mode -> count, over all splits.
        flaws: what was wrong with boxes and masks.
    """

    root: str
    task: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    test: SealedSplit
    made: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    notes: tuple[str, ...] = ()
    formats: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()

    def of(self, split: str) -> tuple[Sample, ...]:
        """The samples of `train` or `val`; the test split is reached through `test.open()` alone."""
        if split == "test":
            raise BadPlan(
                "The test split is sealed.", hint="Call dataset.test.open() in the final evaluation."
            )
        return tuple(sample for sample in self.samples if sample.split == split)

    @property
    def train(self) -> tuple[Sample, ...]:
        """The training samples."""
        return self.of("train")

    @property
    def val(self) -> tuple[Sample, ...]:
        """The validation samples."""
        return self.of("val")


@record
class LoadOptions:
    """How to read a dataset; the owner of these options' names and defaults.

    Attributes:
        val: a separate validation folder or file of the same kind, or empty.
        test: a separate test folder or file of the same kind, or empty.
        path_column: name of the column with the image paths (CSV, Parquet).
        label_column: name of the column with the labels; empty: every column that is 0/1 is a label (multi-label).
        split_column: name of the column with the split.
        group_column: name of the column with the group.
        group: `prefix`, `word` or `folder` takes groups from the file names: `patient12` of `patient12_003.png`, the first
            word of the name, or the folder.
        labels: a reviewed CSV file (path, label) whose labels take the place of those the data came with; see `headstart
            audit --export-labels`.
        separator: splits one cell into several labels; empty: one label a cell.
        val_fraction: share of the training images to hold out where no validation split is given, in (0, 0.5].
        test_fraction: share of all images to seal where no test split is given, in (0, 0.5].
        seed: of the splits that are made.
        strict: an unreadable image is an error instead of a line in the report.
        task: `detect` or `segment`, where a source has both boxes and outlines; by default what the data is made for.
    """

    val: str = ""
    test: str = ""
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    group_column: str = "group"
    group: str = ""
    labels: str = ""
    separator: str = ""
    val_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    strict: bool = False
    task: str = ""


@record
class SplitFacts:
    """How many images of each class a split has, and whether it was given or made.

    Attributes:
        boxes: class -> number of boxes; empty where there are none.
        pixels: class -> share of the pixels that have a class; empty where there are no masks.
    """

    n: int
    per_class: dict[str, int]
    made: bool
    boxes: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, float] = field(default_factory=dict)


@record
class DatasetFacts:
    """What was measured on the images themselves: `facts.json`.

    Attributes:
        source: what the user typed.
        digest: SHA-256 over the sorted (name, content hash, labels, split) of every sample, test included.
        size_quantiles: short side in pixels at the 0, 25, 50, 75 and 100 % quantiles.
        aspect_quantiles: width / height at the same quantiles.
        formats: file format (Pillow's name) -> count.
        modes: Pillow's pixel mode -> count.
        imbalance: images of the largest class / images of the smallest, in the training split.
        examples: class -> names of up to six training images.
        groups: how many groups the training and validation images have; 0 without a group column.
        channel_mean: mean of red, green and blue in [0, 1] over up to 64 training images, evenly spread.
        flaws: what was wrong with boxes and masks, and what was done about it.
        box_quantiles: square root of area of the training boxes, in shares of the image's long side, at the same quantiles.
        long_side: median long side of training and validation images in pixels.
    """

    source: str
    task: str
    digest: str
    classes: tuple[str, ...]
    splits: dict[str, SplitFacts]
    size_quantiles: tuple[float, ...]
    aspect_quantiles: tuple[float, ...]
    formats: dict[str, int]
    modes: dict[str, int]
    imbalance: float
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[Duplicate, ...]
    examples: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    groups: int = 0
    channel_mean: tuple[float, ...] = field(default=())
    flaws: tuple[Flaw, ...] = ()
    box_quantiles: tuple[float, ...] = field(default=())
    long_side: float = 0.0

    @property
    def n_train(self) -> int:
        """How many training images there are."""
        return self.splits["train"].n


def with_split(samples: tuple[Sample, ...], split: str) -> Iterator[Sample]:
    """The samples, all moved to that split."""
    return (replace(sample, split=split) for sample in samples)
