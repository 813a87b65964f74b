"""Masks in folders: `images/` and `masks/` beside each other, with or without split folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from headstart._core.errors import BadInput
from headstart.data.masks import IGNORED, BadMask, stored_values
from headstart.data.readers.labels import shown
from headstart.data.readers.places import (
    IGNORED_NAMES,
    ClassList,
    by_stem,
    class_list,
    first_of,
    folder_splits,
    images_below,
)
from headstart.data.readers.records import SPLIT_NAMES, Listing, Reader
from headstart.data.records import LoadOptions, Mask, Sample, Unreadable

_MASKS = ("masks", "mask", "annotations", "SegmentationClass", "labels", "gt")
_IMAGES = ("images", "image", "JPEGImages", "imgs")
_ENDINGS = ("_mask", "_labelIds", "_gt", "_L", "-mask")  # of a mask's name behind that of its image
_VOID = 255  # the index that tools write for what has no class
_MOST = 100  # classes that may be told from the masks alone


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a folder with a folder of images and one of masks, or has such split folders."""
    root = Path(source).expanduser()
    return root.is_dir() and any(_pair(place) for place, _ in _roots(root))


def _roots(root: Path) -> list[tuple[Path, str]]:
    return [(root, ""), *folder_splits(root)]


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of masks, if both are there."""
    images = next((folder / name for name in _IMAGES if (folder / name).is_dir()), None)
    masks = next((folder / name for name in _MASKS if (folder / name).is_dir()), None)
    return (images, masks) if images and masks and images_below(masks) else None


def read(source: str, options: LoadOptions) -> Listing:
    """The images with their masks, found by name.

    A mask holds class indices (gray or palette), or colours that a class file explains, or, without a class file and with
    two values, things and background.

    Raises:
        BadInput: when there is no mask, or what its values mean cannot be told.
    """
    root = Path(source).expanduser()
    pairs, missing = _pairs(root)
    if not pairs:
        raise BadInput(f"{shown(root)} holds no image with a mask.", hint=first_of(missing))
    listed = class_list(root)
    masks = [mask for _, mask, _ in pairs]
    names, meaning, notes = _from_list(listed) if listed else _from_values(masks, root)
    colour = bool(listed and listed.colours)
    samples = tuple(
        Sample(
            name=shown(image),
            source=image,
            split=split,
            mask=Mask(source=mask, meaning=meaning, colour=colour),
        )
        for image, mask, split in pairs
    )
    return Listing(samples=samples, task="segment", classes=names, notes=notes, unreadable=tuple(missing))


def _pairs(root: Path) -> tuple[list[tuple[Path, Path, str]], list[Unreadable]]:
    """(image, mask, split) of all, and the images without a mask."""
    found: list[tuple[Path, Path, str]] = []
    missing: list[Unreadable] = []
    for images, masks, split in _parts(root):
        known = by_stem(images_below(masks))
        for image in images_below(images):
            mask = next((known[k] for k in (image.stem, *_names(image.stem)) if k in known), None)
            if mask is None:
                missing.append(Unreadable(name=shown(image), reason="there is no mask of its name"))
            else:
                found.append((image, mask, split))
    return found, missing


def _names(stem: str) -> Iterator[str]:
    yield from (stem + ending for ending in _ENDINGS)


def _parts(root: Path) -> Iterator[tuple[Path, Path, str]]:
    """(images, masks, split) of each part: split folders outside or inside of images/ and masks/."""
    for place, split in _roots(root):
        pair = _pair(place)
        if pair is None:
            continue
        images, masks = pair
        inner = {folder.name: name for folder, name in folder_splits(images)} if not split else {}
        if inner:
            yield from ((images / name, masks / name, SPLIT_NAMES[name.lower()]) for name in inner)
        else:
            yield images, masks, split


def _from_list(listed: ClassList) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Names, meaning of values and notes, as a class file says."""
    kept = [name for name in listed.names if name.lower() not in IGNORED_NAMES]
    meaning = []
    for position, name in enumerate(listed.names):
        red, green, blue = listed.colours[position] if listed.colours else (0, 0, position)
        label = kept.index(name) if name in kept else IGNORED
        meaning.append((red << 16 | green << 8 | blue, label))
    if not listed.colours and len(listed.names) <= _VOID:
        meaning.append((_VOID, IGNORED))
    left = [name for name in listed.names if name not in kept]
    notes = (f"{', '.join(left)} counts neither way: in no loss and in no score.",) if left else ()
    return tuple(kept), tuple(meaning), notes


def _from_values(
    masks: Sequence[Path], root: Path
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[str, ...]]:
    """Names and meaning where no file says them: by the values that occur."""
    values: set[int] = set()
    for path in masks:
        try:
            values |= {int(value) for value in np.unique(stored_values(path, colour=False))}
        except BadMask as error:
            if "class file" in error.reason:
                raise BadInput(
                    f"{shown(path)} is a coloured mask, and nothing says what its colours mean.",
                    hint=f"Put class_dict.csv into {shown(root)}: name,r,g,b with a line for each class.",
                ) from error
    if values <= {0, 255} or values <= {0, 1}:
        top = max(values, default=1) or 1
        note = f"The masks hold 0 and {top}: background and object. A classes.txt would name them."
        return ("background", "object"), ((0, 0), (top, 1)), (note,)
    known = sorted(values - {_VOID})
    if len(known) > _MOST:
        raise BadInput(
            f"The masks hold {len(known)} different values and nothing says what they mean.",
            hint=f"Put classes.txt into {shown(root)}: one name a line, the first for the value 0.",
        )
    meaning = [(value, position) for position, value in enumerate(known)]
    note = "No classes.txt names the values of the masks: classes are called by their number."
    return tuple(f"class {value}" for value in known), (*meaning, (_VOID, IGNORED)), (note,)


READER = Reader(
    name="masks",
    looks_like="masks: images/ and masks/ with the same names (in split folders or not), and classes.txt",
    matches=matches,
    read=read,
)
