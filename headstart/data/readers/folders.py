"""Class folders: `root/CLASS/…`, or `root/train/CLASS/…` with `val` and `test` beside it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from headstart._core.errors import BadInput
from headstart.data.readers.labels import clean, shown, spaces_note
from headstart.data.readers.records import SPLIT_NAMES, Listing, Reader
from headstart.data.readers.walk import Found, add_file, children, ignored_note, walk
from headstart.data.records import LoadOptions, Sample, Unreadable

_LAYOUTS = (
    "Accepted: FOLDER/CLASS/IMAGES; FOLDER/train/CLASS/IMAGES with val and test beside train; "
    "or a CSV or Parquet file with the columns path and label."
)


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a folder."""
    return Path(source).expanduser().is_dir()


def read(source: str, options: LoadOptions) -> Listing:
    """The images in class folders, each with the folder's name as its label.

    Where the only held-out folder is one for validation, it becomes the test split: it is the only data
    that nobody trains on, and validation data can be made out of the training data.

    Raises:
        BadInput: when there is no image, or when the images lie in no class folders.
    """
    root = Path(source).expanduser()
    folders, _ = children(root)
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        if folder.name.lower() in SPLIT_NAMES:
            named[SPLIT_NAMES[folder.name.lower()]].append(folder)
    others = [folder for folder in folders if folder.name.lower() not in SPLIT_NAMES]
    if not named or ("train" not in named and others):
        return _listing(root, [("", root)], ())
    for split, same in named.items():
        if len(same) > 1:
            raise BadInput(
                f"{shown(root)} has several folders for {split}: {', '.join(folder.name for folder in same)}.",
                hint="Keep one of them.",
            )
    notes = _beside(root, others)
    parts = {split: same[0] for split, same in named.items()}
    if set(parts) == {"train", "val"} and not (options.val or options.test):
        held = parts["val"]
        parts = {"train": parts["train"], "test": held}
        note = (
            f"{shown(held)} is used as the test split, because nothing else is held out; validation images are "
            f"taken out of {parts['train'].name}. To say otherwise, name both: --val DIR --test DIR."
        )
        notes = (*notes, note)
    return _listing(root, sorted(parts.items()), notes)


def _beside(root: Path, others: Sequence[Path]) -> tuple[str, ...]:
    """A note about folders beside `train` that hold images."""
    lost = [folder.name for folder in others if walk(folder, Found(seen={root.resolve()})).images]
    listed = ", ".join(map(shown, lost))
    return (f"Folders beside the split folders of {shown(root)} are not used: {listed}.",) if lost else ()


def _listing(root: Path, parts: Sequence[tuple[str, Path]], notes: tuple[str, ...]) -> Listing:
    images: list[tuple[Path, str, str]] = []
    broken: list[Unreadable] = []
    ignored: Counter[str] = Counter()
    labels: list[str] = []
    loose: list[Path] = []
    empty: list[Path] = []
    above = {root.resolve(), *(folder.resolve() for _, folder in parts)}
    for split, part in parts:
        folders, files = children(part)
        outside = Found()
        for path in files:
            add_file(path, outside)
        loose += outside.images
        for folder in folders:
            found = walk(folder, Found(seen=set(above)))
            images += [(path, folder.name, split) for path in found.images]
            broken += found.broken
            ignored += found.ignored
            if found.images:
                labels.append(folder.name)
            elif folder.resolve() not in above:
                empty.append(folder)
    if not images:
        raise _nothing(root, loose, [part for _, part in parts])
    if loose:
        notes += (f"Images outside the class folders are not used: {len(loose)}, such as {shown(loose[0])}.",)
    if empty:
        listed = ", ".join(map(shown, empty[:10])) + (" and more" if len(empty) > 10 else "")
        notes += (f"Folders without images are left out: {listed}.",)
    classes = tuple(sorted({clean(label) for label in labels}))
    index = {name: number for number, name in enumerate(classes)}
    return Listing(
        samples=tuple(
            Sample(name=shown(path), source=path, labels=(index[clean(label)],), split=split)
            for path, label, split in images
        ),
        task="classify",
        classes=classes,
        notes=notes + spaces_note(labels) + ignored_note(ignored, root),
        unreadable=tuple(broken),
    )


def _nothing(root: Path, loose: Sequence[Path], parts: Sequence[Path]) -> BadInput:
    """Why there are no labelled images in the folder."""
    if loose:
        where = shown(loose[0].parent)
        return BadInput(
            f"{where} holds images but no class folders, so their labels are missing "
            f"({len(loose)} images, such as {shown(loose[0].name)}).",
            hint=_LAYOUTS,
        )
    listed = ", ".join(map(shown, parts))
    return BadInput(f"There are no images in {listed}.", hint=_LAYOUTS)


READER = Reader(
    name="folders",
    looks_like="a folder with one folder of images per class (with or without train/ val/ test/ above them)",
    matches=matches,
    read=read,
)
