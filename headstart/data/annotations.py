"""Boxes and masks made fit for use: what is wrong is clipped, left out or set aside, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from headstart._core.records import record
from headstart.data.masks import BadMask, mask_digest, read_mask
from headstart.data.records import Box, Flaw, Mask, Outline, Sample, Unreadable

DENSE = ("detect", "segment")
"""Tasks whose truth has places."""

_LEAST = 1.0  # pixels of a box's side after clipping: less is no object that could be seen


@record
class Annotated:
    """Samples whose boxes and masks can be used.

    Attributes:
        samples: in their order; boxes in pixels, inside the image, not empty; masks of the image's own size.
        unreadable: images that were set aside because of their annotation.
        flaws: what was wrong.
    """

    samples: tuple[Sample, ...]
    unreadable: tuple[Unreadable, ...]
    flaws: tuple[Flaw, ...]


def check_annotations(samples: Sequence[Sample], *, task: str, classes: int) -> Annotated:
    """The scanned samples with checked annotations; without boxes or masks they come back as they are."""
    if task not in DENSE:
        return Annotated(samples=tuple(samples), unreadable=(), flaws=())
    kept: list[Sample] = []
    aside: list[Unreadable] = []
    flaws: list[Flaw] = []
    with ThreadPoolExecutor(4, thread_name_prefix="annotations") as pool:
        for found, odd in pool.map(lambda sample: _checked(sample, task, classes), samples):
            flaws += odd
            if isinstance(found, Sample):
                kept.append(found)
            else:
                aside.append(found)
    return Annotated(samples=tuple(kept), unreadable=tuple(aside), flaws=tuple(flaws))


def _checked(sample: Sample, task: str, classes: int) -> tuple[Sample | Unreadable, list[Flaw]]:
    framed = min(sample.frame) > 1  # (1, 1): shares of the image's sides
    if framed and sample.frame != (sample.width, sample.height):
        size = f"{sample.frame[0]:g}x{sample.frame[1]:g}"
        reason = f"it was annotated at {size} pixels, but is {sample.width}x{sample.height}"
        return _aside(sample, reason)
    return _with_boxes(sample) if task == "detect" else _with_mask(sample, classes)


def _aside(sample: Sample, reason: str) -> tuple[Unreadable, list[Flaw]]:
    return Unreadable(name=sample.name, reason=reason), [
        Flaw(name=sample.name, what=reason, action="image left out")
    ]


def _with_boxes(sample: Sample) -> tuple[Sample, list[Flaw]]:
    width, height = sample.frame if min(sample.frame) > 0 else (sample.width, sample.height)
    across, down = sample.width / width, sample.height / height
    boxes: list[Box] = []
    flaws: list[Flaw] = []
    for box in sample.boxes:
        scaled = replace(
            box,
            left=box.left * across,
            top=box.top * down,
            right=box.right * across,
            bottom=box.bottom * down,
        )
        inside, what, action = clipped(scaled, sample.width, sample.height)
        if what:
            flaws.append(Flaw(name=sample.name, what=what, action=action))
        if inside is not None:
            boxes.append(inside)
    labels = tuple(sorted({box.label for box in boxes}))
    return replace(sample, boxes=tuple(boxes), labels=labels, frame=(0.0, 0.0)), flaws


def clipped(box: Box, width: int, height: int) -> tuple[Box | None, str, str]:
    """The box inside an image of that size, or None; what was wrong with it (empty: nothing); what was done.

    >>> clipped(Box(left=-4, top=0, right=10, bottom=10, label=0), 20, 20)[1:]
    ('box (-4, 0, 10, 10) reaches outside the image of 20x20', 'clipped')
    """
    words = f"box ({box.left:g}, {box.top:g}, {box.right:g}, {box.bottom:g})"
    numbers = (box.left, box.top, box.right, box.bottom)
    if not all(np.isfinite(numbers)):
        return None, f"{words} is not made of numbers", "box left out"
    if box.right < box.left or box.bottom < box.top:
        return None, f"{words} is inverted", "box left out"
    if box.right == box.left or box.bottom == box.top:
        return None, f"{words} is empty", "box left out"
    inside = replace(
        box,
        left=min(max(box.left, 0.0), width),
        top=min(max(box.top, 0.0), height),
        right=min(max(box.right, 0.0), width),
        bottom=min(max(box.bottom, 0.0), height),
    )
    lost = max(
        abs(a - b)
        for a, b in zip(numbers, (inside.left, inside.top, inside.right, inside.bottom), strict=True)
    )
    if lost > 0 and (inside.right - inside.left < _LEAST or inside.bottom - inside.top < _LEAST):
        return None, f"{words} lies outside the image of {width}x{height}", "box left out"
    if lost < _LEAST:  # rounding of a tool that counts from one, or of shares: nothing to tell
        return inside, "", ""
    return inside, f"{words} reaches outside the image of {width}x{height}", "clipped"


def _with_mask(sample: Sample, classes: int) -> tuple[Sample | Unreadable, list[Flaw]]:
    if sample.mask is None:
        return _aside(sample, "it has no mask")
    size = (sample.width, sample.height)
    mask = sample.mask
    if sample.frame == (1.0, 1.0):
        mask = _in_pixels(mask, size)
    try:
        found = read_mask(mask, size)
        digest = mask_digest(mask)
    except BadMask as error:
        return _aside(sample, error.reason)
    flaws = []
    if found.unknown:
        values = ", ".join(map(str, found.values))
        what = f"{found.unknown} pixels of its mask have values outside the list of classes ({values})"
        flaws.append(Flaw(name=sample.name, what=what, action="those pixels count neither way"))
    pixels = np.bincount(found.labels[found.labels >= 0], minlength=classes)
    labels = tuple(int(index) for index in np.flatnonzero(pixels))
    known = replace(mask, digest=digest, pixels=tuple(int(n) for n in pixels))
    return replace(sample, mask=known, labels=labels, frame=(0.0, 0.0)), flaws


def _in_pixels(mask: Mask, size: tuple[int, int]) -> Mask:
    """Outlines given in shares of the sides, in pixels."""
    if not isinstance(mask.source, tuple):
        return mask

    def scaled(polygon: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value * size[place % 2] for place, value in enumerate(polygon))

    return replace(
        mask,
        source=tuple(
            Outline(label=o.label, polygons=tuple(scaled(p) for p in o.polygons), counts=o.counts)
            for o in mask.source
        ),
    )


def repointed(sample: Sample, index: Mapping[int, int]) -> Sample:
    """The sample with labels, boxes and mask that point into another list of classes: old index -> new."""
    mask = sample.mask
    if mask is not None:
        source = mask.source
        if isinstance(source, tuple):
            source = tuple(replace(one, label=index.get(one.label, one.label)) for one in source)
        meaning = tuple((value, index.get(label, label)) for value, label in mask.meaning)
        mask = replace(mask, source=source, meaning=meaning, pixels=())
    return replace(
        sample,
        labels=tuple(sorted(index[label] for label in sample.labels)),
        boxes=tuple(replace(box, label=index[box.label]) for box in sample.boxes),
        mask=mask,
    )
