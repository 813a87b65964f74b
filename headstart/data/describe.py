"""What can be said about a dataset before any network sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from headstart._core.files import sha256_bytes
from headstart.data.images import open_rgb
from headstart.data.records import (
    Dataset,
    DatasetFacts,
    Sample,
    SplitFacts,
    count_boxes,
    count_labels,
    sample_digest,
    share_pixels,
)

T = TypeVar("T")

_EXAMPLES = 6
_COLOURS = 64
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def describe(dataset: Dataset, source: str) -> DatasetFacts:
    """The facts of a dataset: counts, sizes, formats, problems, and a digest that changes with any of it.

    Sizes, groups and colours are those of training and validation images; of the test split only counts and
    content hashes are used.
    """
    shorts = [min(sample.width, sample.height) for sample in dataset.samples]
    aspects = [sample.width / max(1, sample.height) for sample in dataset.samples]
    splits = _splits(dataset)
    counts = [count for count in splits["train"].per_class.values() if count]
    return DatasetFacts(
        source=source,
        task=dataset.task,
        digest=_digest(dataset),
        classes=dataset.classes,
        splits=splits,
        size_quantiles=_quantiles(shorts),
        aspect_quantiles=_quantiles(aspects),
        formats=dataset.formats,
        modes=dataset.modes,
        imbalance=max(counts) / min(counts) if counts else 1.0,
        unreadable=dataset.unreadable,
        duplicates=dataset.duplicates,
        examples=dict(_examples(dataset)),
        notes=dataset.notes,
        groups=len({sample.group for sample in dataset.samples if sample.group}),
        channel_mean=_channel_mean(dataset.train),
        flaws=dataset.flaws,
        box_quantiles=_quantiles(list(_box_sizes(dataset.train))),
        long_side=float(np.median([max(sample.width, sample.height) for sample in dataset.samples])),
    )


def _box_sizes(samples: Sequence[Sample]) -> Iterator[float]:
    for sample in samples:
        for box in sample.boxes:
            area = (box.right - box.left) * (box.bottom - box.top)
            yield area**0.5 / max(sample.width, sample.height, 1)


def _splits(dataset: Dataset) -> dict[str, SplitFacts]:
    """The splits that have images, and train in any case."""
    out = {}
    for split in ("train", "val"):
        samples = dataset.of(split)
        if samples or split == "train":
            per_class = count_labels(samples, dataset.classes)
            out[split] = SplitFacts(
                n=len(samples),
                per_class=per_class,
                made=split in dataset.made,
                boxes=count_boxes(samples, dataset.classes),
                pixels=share_pixels(samples, dataset.classes),
            )
    if len(dataset.test):
        per_class = dataset.test.per_class(dataset.classes)
        boxes, pixels = dataset.test.amounts(dataset.classes)
        out["test"] = SplitFacts(
            n=len(dataset.test),
            per_class=per_class,
            made="test" in dataset.made,
            boxes=boxes,
            pixels=pixels,
        )
    return out


def _digest(dataset: Dataset) -> str:
    own = (sample_digest(sample, dataset.classes) for sample in dataset.samples)
    return sha256_bytes("\n".join(sorted([*own, *dataset.test.digests(dataset.classes)])).encode())


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, _QUANTILES)) if values else ()


def _examples(dataset: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    for index, name in enumerate(dataset.classes):
        having = [sample.name for sample in dataset.train if index in sample.labels]
        yield name, tuple(_spread(having, _EXAMPLES))


def _spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` items, evenly spread over all of them, the first one included."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _channel_mean(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Mean of red, green, blue in [0, 1] over a few images, each image counting the same."""
    means = []
    for sample in _spread(samples, _COLOURS):
        image = open_rgb(sample.source).reduce(max(1, min(sample.width, sample.height) // 32))
        means.append(np.asarray(image).reshape(-1, 3).mean(0) / 255)
    return tuple(float(value) for value in np.mean(means, axis=0)) if means else ()
