"""From what a user typed to one listing: which reader, and how separate val and test sources join it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headstart._core.check import existing, suggestion
from headstart._core.errors import BadInput, BadOption
from headstart.data.annotations import repointed
from headstart.data.readers import READERS, Listing, Reader
from headstart.data.readers.labels import check_case
from headstart.data.records import LoadOptions, Sample, Unreadable, with_split

_DEFAULTS = LoadOptions()


def list_source(source: str, options: LoadOptions) -> Listing:
    """Everything that the source and the separate `val` and `test` sources hold, with one list of classes.

    Raises:
        BadInput: when a source is missing, is of no known kind, or disagrees with another about task or spelling.
        BadOption: for an option that the reader of this source does not use.
    """
    reader = _reader(source, options)
    _check_used(reader, source, options)
    listing = reader.read(source, options)
    if options.task and listing.task != options.task:
        raise BadOption(
            f"--task {options.task!r}: {source} is {listing.task} data.",
            hint="The task follows from the data; leave --task away, or give data of that kind.",
        )
    for split in ("val", "test"):
        given = getattr(options, split)
        if given:
            extra = _reader(given, options).read(given, options)
            listing = _joined(listing, extra, split=split, given=given)
    check_case(listing.classes)
    return listing


def _reader(source: str, options: LoadOptions) -> Reader:
    for reader in READERS.values():
        if reader.matches(source, options):
            return reader
    kinds = "; ".join(reader.looks_like for reader in READERS.values())
    try:
        path = existing(source, what="The data")
    except BadInput as error:
        built_in = suggestion(source, ["digits", "torchvision:"])
        hint = built_in or f"{error.hint} Built-in names: digits, torchvision:NAME."
        raise BadInput(error.message, hint=hint) from error
    if path.suffix.lower() in (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar"):
        raise BadInput(f"{path} is an archive.", hint="Unpack it and give the folder.")
    raise BadInput(f"{path} is no dataset that can be read.", hint=f"Accepted: {kinds}.")


def _check_used(reader: Reader, source: str, options: LoadOptions) -> None:
    """Refuse options that only other readers use: an argument without effect is a misunderstanding."""
    some_use = {name for row in READERS.values() for name in row.options}
    for name in sorted(some_use - set(reader.options)):
        value = getattr(options, name)
        if value != getattr(_DEFAULTS, name):
            users = " or ".join(row.name for row in READERS.values() if name in row.options)
            raise BadOption(
                f"--{name.replace('_', '-')} {value!r} has no effect on {source}.",
                hint=f"It is for {users} data; leave it out here.",
            )


def _joined(listing: Listing, extra: Listing, *, split: str, given: str) -> Listing:
    """The listing with that split replaced by the samples of another source.

    Where the other source has splits of its own, only the fitting one is taken, so that a training image never
    becomes a test image by accident.
    """
    if extra.task != listing.task:
        raise BadInput(
            f"--{split} {given} is {extra.task} data, the training data is {listing.task}.",
            hint="Give both in the same form.",
        )
    classes = listing.classes + tuple(name for name in extra.classes if name not in listing.classes)
    index = {name: number for number, name in enumerate(classes)}
    chosen = [sample for sample in extra.samples if sample.split == split]
    if not chosen:
        if {sample.split for sample in extra.samples} > {"train"}:
            raise BadInput(
                f"--{split} {given} has splits of its own, none of them for {split}.",
                hint=f"Give the folder or file that holds the {split} images alone.",
            )
        chosen = list(extra.samples)
    places = {number: index[name] for number, name in enumerate(extra.classes)}
    moved = [repointed(sample, places) for sample in with_split(tuple(chosen), split)]
    # `fit photos --test photos/val`: the same files in two roles have the one that was named.
    files = {path.resolve() for path in _files(moved)}
    others = [sample for sample in listing.samples if not any(p.resolve() in files for p in _files([sample]))]
    kept = [sample for sample in others if sample.split != split]
    left = len(others) - len(kept)
    notes = (f"{given} takes the place of {left} other {split} images, which are left out.",) if left else ()
    return Listing(
        samples=(*kept, *moved),
        task=listing.task,
        classes=classes,
        notes=(*listing.notes, *extra.notes, *notes),
        unreadable=listing.unreadable + extra.unreadable,
        flaws=listing.flaws + extra.flaws,
    )


def _files(samples: Iterable[Sample]) -> Iterator[Path]:
    return (sample.source for sample in samples if isinstance(sample.source, Path))


def name_of(source: Path | object, position: int) -> str:
    """What an image is called: its path, or `memory:7`."""
    return str(source) if isinstance(source, Path) else f"memory:{position}"


def few(lines: Iterable[str]) -> str:
    """Up to ten lines, and how many more there are."""
    shown = list(lines)
    more = [f"and {len(shown) - 10} more"] if len(shown) > 10 else []
    return "\n".join(f"  {line}" for line in [*shown[:10], *more])


def refuse_unreadable(unreadable: Sequence[Unreadable], total: int, *, limit: float, why: str) -> None:
    """Nothing, if at most that share of all files is unreadable.

    Raises:
        BadInput: with the first ten and their reasons.
    """
    if len(unreadable) <= limit * total:
        return
    lines = few(f"{bad.name}: {bad.reason}" for bad in unreadable)
    missing = sum(bad.reason == "file does not exist" for bad in unreadable)
    relative = " Paths in a table are relative to the table's folder." if missing else ""
    raise BadInput(
        f"{len(unreadable)} of {total} images cannot be read{why}:\n{lines}",
        hint=f"Repair or remove these files, or their lines.{relative}",
    )


def only(samples: Sequence[Sample], split: str) -> tuple[Sample, ...]:
    """The samples of that split."""
    return tuple(sample for sample in samples if sample.split == split)
