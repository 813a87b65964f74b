"""From a source to a `Dataset`: listed, read, split, free of leaks, with the test split sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart._core import log
from headstart._core.check import suggestion
from headstart._core.errors import BadInput, BadOption
from headstart.data.annotations import check_annotations, repointed
from headstart.data.duplicates import settle
from headstart.data.groups import with_groups
from headstart.data.masks import IGNORED
from headstart.data.readers import Listing
from headstart.data.readers.labels import shown
from headstart.data.records import Dataset, Flaw, LoadOptions, Sample, SealedSplit, Unreadable, with_split
from headstart.data.relabel import relabelled
from headstart.data.scan import Scanned, scan
from headstart.data.sources import list_source, name_of, only, refuse_unreadable
from headstart.data.splits import make_splits

_DEFAULTS = LoadOptions()
_WANTED = {
    "classify": "Give one label for each image.",
    "multilabel": "Give several labels a cell with --separator, or one 0/1 column for each label.",
    "detect": "Give boxes: VOC, COCO or YOLO data, or a CSV file with path,label,left,top,right,bottom.",
    "segment": "Give masks: a folder with images/ and masks/, or COCO data with --task segment.",
}
_TOLERATED = 0.05  # share of unreadable files that a run puts up with


def load(source: str, options: LoadOptions = _DEFAULTS) -> Dataset:
    """The dataset that a folder, a table or a built-in name holds.

    Missing splits are made, unreadable files left out and listed, identical files kept out of two splits.

    Args:
        source: whatever a row of `READERS` takes: class folders, a CSV or Parquet file, boxes as VOC, COCO or YOLO write
            them, images with masks, `digits`, or `torchvision:NAME`.
        options: how to read it; `options.val` and `options.test` name separate sources for these splits.

    Raises:
        BadInput: when it cannot be found or read, labels are missing or contradictory, more than 5 % of the
            images are unreadable (with `options.strict`: any), or a class has too few images.
        BadOption: for an option that has no effect on this source.
    """
    listing = _as_asked(list_source(source, options), options)
    scanned = _scanned(listing)
    unreadable = listing.unreadable + scanned.unreadable
    refuse_unreadable(
        unreadable,
        len(listing.samples) + len(listing.unreadable),
        limit=0.0 if options.strict else _TOLERATED,
        why=" (--strict allows none)" if options.strict else f" (at most {_TOLERATED:.0%} may be)",
    )
    return _dataset(source, listing, scanned, options)


def from_arrays(
    sources: Sequence[Path | NDArray[np.uint8]],
    targets: NDArray[np.integer],
    *,
    classes: Sequence[str],
    options: LoadOptions = _DEFAULTS,
) -> Dataset:
    """A dataset of images in memory or on disk, with a validation split made and no test split.

    Args:
        sources: paths, or uint8 arrays (H, W), (H, W, 3) or (H, W, 4).
        targets: class indices (N,), or 0 and 1 (N, classes) for multi-label.
        classes: names in the order of the indices.
        options: seed and share of the validation split.

    Raises:
        BadInput: when counts, indices or images do not fit, or any image is unreadable.
    """
    rows = np.asarray(targets)
    _check_targets(rows, len(sources), len(classes))
    samples = tuple(
        Sample(
            name=shown(name_of(source, position)),
            source=source,
            labels=(int(row),) if rows.ndim == 1 else tuple(int(index) for index in np.flatnonzero(row)),
        )
        for position, (source, row) in enumerate(zip(sources, rows, strict=True))
    )
    task = "classify" if rows.ndim == 1 else "multilabel"
    scanned = scan(samples)
    refuse_unreadable(scanned.unreadable, len(samples), limit=0.0, why="")
    listing = Listing(samples=samples, task=task, classes=tuple(classes))
    return _dataset("memory", listing, scanned, options, make_test=False)


def load_labelled(
    source: str, options: LoadOptions, *, classes: Sequence[str], task: str
) -> tuple[Sample, ...]:
    """Labelled samples to test a finished model on; labels index the model's classes, matched by name.

    Where the source has splits, its test split is used, else its validation split, else everything.

    Args:
        source: as for `load`.
        options: as for `load`.
        classes: the model's, in output order.
        task: the model's.

    Raises:
        BadInput: for a class that the model does not know, another task, or no readable image.
    """
    listing = _as_asked(list_source(source, options), options)
    if listing.task != task:
        raise BadInput(
            f"{source} is {listing.task} data, the model was trained for {task}.", hint=_WANTED[task]
        )
    scanned = _scanned(replace(listing, samples=_judging(source, listing)))
    scanned = replace(scanned, samples=_matched(scanned.samples, listing.classes, classes))
    unreadable = listing.unreadable + scanned.unreadable
    if options.strict or not scanned.samples:
        refuse_unreadable(unreadable, len(scanned.samples) + len(unreadable), limit=0.0, why="")
    if unreadable:
        worst = f"{unreadable[0].name}: {unreadable[0].reason}"
        log.warn(f"{len(unreadable)} images cannot be read and are left out, such as {worst}")
    return scanned.samples


def _scanned(listing: Listing) -> Scanned:
    """The listing's samples after one look at every image and its annotation."""
    scanned = scan(listing.samples)
    checked = check_annotations(scanned.samples, task=listing.task, classes=len(listing.classes))
    return replace(
        scanned,
        samples=checked.samples,
        unreadable=scanned.unreadable + checked.unreadable,
        flaws=listing.flaws + checked.flaws,
    )


def _as_asked(listing: Listing, options: LoadOptions) -> Listing:
    """The listing with reviewed labels, and with groups out of file names, where that is wished."""
    if options.labels:
        listing = relabelled(listing, options.labels)
    if options.group:
        listing = replace(listing, samples=with_groups(listing.samples, options.group))
    return listing


def _dataset(
    root: str, listing: Listing, scanned: Scanned, options: LoadOptions, *, make_test: bool = True
) -> Dataset:
    if not any(sample.split in ("", "train") for sample in scanned.samples):
        raise BadInput(
            f"{root} holds no training images.",
            hint="Put them into a folder train (or give train as the split) beside the others.",
        )
    if len(listing.classes) == 1 and listing.task == "classify":
        raise BadInput(
            f"{root} has one class only: {listing.classes[0]!r}.",
            hint="Classification needs two classes or more, one folder (or label) each. If the class folders lie "
            "one level deeper, give that folder.",
        )
    try:
        splits = make_splits(
            scanned.samples, classes=listing.classes, options=options, task=listing.task, make_test=make_test
        )
    except BadInput:
        for note in listing.notes:  # what was odd about the labels may be why
            log.warn(note)
        raise
    for split in ("val", "test"):
        value, usual = getattr(options, f"{split}_fraction"), getattr(_DEFAULTS, f"{split}_fraction")
        if value != usual and split not in splits.made:
            given = "is there already" if split == "val" or make_test else "is not made here"
            raise BadOption(
                f"--{split}-fraction {value:g} has no effect: a {split} split {given}.", hint="Leave it out."
            )
    samples, duplicates = settle(splits.samples, listing.classes)
    return Dataset(
        root=root,
        task=listing.task,
        classes=listing.classes,
        samples=tuple(sample for sample in samples if sample.split != "test"),
        test=SealedSplit(only(samples, "test")),
        made=splits.made,
        unreadable=_sorted(listing.unreadable + scanned.unreadable),
        duplicates=duplicates,
        notes=listing.notes + splits.notes + _flaw_note(scanned.flaws),
        formats=scanned.formats,
        modes=scanned.modes,
        flaws=scanned.flaws,
    )


def _sorted(unreadable: Sequence[Unreadable]) -> tuple[Unreadable, ...]:
    return tuple(sorted(unreadable, key=lambda bad: bad.name))


def _check_targets(rows: NDArray[np.integer], images: int, classes: int) -> None:
    if not images:
        raise BadInput("There are no images.", hint="Give one image or more for each class.")
    if len(rows) != images or rows.ndim not in (1, 2):
        raise BadInput(
            f"There are {images} images but targets of shape {rows.shape}.",
            hint="Give class indices of shape (N,), or 0 and 1 of shape (N, classes).",
        )
    if rows.ndim == 2 and rows.shape[1] != classes:
        raise BadInput(f"There are {rows.shape[1]} columns for {classes} classes.", hint="Give one for each.")
    low, high = (0, 1) if rows.ndim == 2 else (0, classes - 1)
    whole = (
        np.issubdtype(rows.dtype, np.integer) or rows.dtype == np.bool_ or bool(np.all(rows == rows.round()))
    )
    if not whole or rows.min() < low or rows.max() > high:
        raise BadInput(
            f"Targets run from {rows.min()} to {rows.max()}.",
            hint=f"They must be whole numbers from {low} to {high}.",
        )


def _judging(source: str, listing: Listing) -> tuple[Sample, ...]:
    """The samples that a finished model should be judged on."""
    for split in ("test", "val"):
        chosen = only(listing.samples, split)
        if chosen:
            others = len(listing.samples) - len(chosen)
            if others:
                log.say(f"{source}: the {len(chosen)} {split} images are used, not the {others} others")
            return tuple(with_split(chosen, "test"))
    log.say(f"{source}: all {len(listing.samples)} images are used, for it has no test split")
    return tuple(with_split(listing.samples, "test"))


def _flaw_note(flaws: Sequence[Flaw]) -> tuple[str, ...]:
    """A note that counts what was wrong with annotations and gives an example of each action."""
    notes = []
    for action in dict.fromkeys(flaw.action for flaw in flaws):
        some = [flaw for flaw in flaws if flaw.action == action]
        images = len({flaw.name for flaw in some})
        notes.append(
            f"Annotations: {len(some)} in {images} images: {action}, such as {some[0].name}: {some[0].what}."
        )
    return tuple(notes)


def _matched(samples: Sequence[Sample], theirs: Sequence[str], ours: Sequence[str]) -> tuple[Sample, ...]:
    """The samples with labels that index our classes; of masks, what is none of our classes counts neither way."""
    used = {theirs[label] for sample in samples for label in sample.labels}
    unknown = sorted(used - set(ours))
    if unknown:
        known = ", ".join(ours[:20]) + (" …" if len(ours) > 20 else "")
        raise BadInput(
            f"The model does not know the class {unknown[0]!r}"
            + (f" (nor {', '.join(map(repr, unknown[1:10]))})." if unknown[1:] else "."),
            hint=f"{suggestion(unknown[0], ours)} It knows: {known}.".strip(),
        )
    index = {name: number for number, name in enumerate(ours)}
    places = {number: index.get(name, IGNORED) for number, name in enumerate(theirs)}
    return tuple(repointed(sample, places) for sample in samples)
