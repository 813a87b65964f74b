"""What a reader is and what it hands on."""

from __future__ import annotations

from collections.abc import Callable

from headstart._core.records import record
from headstart.data.records import Flaw, LoadOptions, Sample, Unreadable

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What people call the splits (in lower case) -> what they are called here."""


@record
class Listing:
    """What a source says it holds; no image has been opened yet.

    Attributes:
        samples: with labels that index `classes`; the split is empty where the source gives none.
        task: `classify`, `multilabel`, `detect` or `segment`.
        classes: names in output order.
        notes: what was decided, in sentences for the user.
        unreadable: what is listed but cannot be there.
        flaws: annotations that could not be taken over.
    """

    samples: tuple[Sample, ...]
    task: str
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    flaws: tuple[Flaw, ...] = ()


@record
class Reader:
    """One way to hand over labelled images.

    Attributes:
        name: in the table `READERS`.
        looks_like: what a user would type or have on disk, for help and error messages.
        matches: whether this reader is the one for a source.
        read: the listing of a source.
        options: fields of `LoadOptions` that only some readers use and this one does.
    """

    name: str
    looks_like: str
    matches: Callable[[str, LoadOptions], bool]
    read: Callable[[str, LoadOptions], Listing]
    options: tuple[str, ...] = ()
