"""Images to measure on: found, replicated with distinct bytes, enlarged, or made of scikit-learn's digits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_JPEG = (".jpg", ".jpeg")
_START = b"\xff\xd8"  # of every JPEG file
_COMMENT = b"\xff\xfe"
_TESTED = ("val", "test", "valid", "validation")
_EVERY = 5  # without a split of its own, a folder's every fifth image is for testing


def default_data(work: Path) -> Path:
    """The folder to measure on when none is named: real photos where they are, else digits made in `work`."""
    told = os.environ.get("HEADSTART_TEST_DATA")
    real = Path(told).resolve() / "hymenoptera" if told else None
    return real if real and real.is_dir() else make_digits(work / "digits")


def make_digits(folder: Path, *, each: int = 40) -> Path:
    """A folder with `each` JPEG files (96 x 96) of every handwritten digit."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for digit in range(10):
        place = folder / str(digit)
        place.mkdir(parents=True)
        for number, values in enumerate(found.images[found.target == digit][:each]):
            image = Image.fromarray((values * 15.9375).astype(np.uint8)).convert("RGB")
            image.resize((96, 96), Image.Resampling.BICUBIC).save(place / f"{number:03}.jpg", quality=95)
    return folder


def photos(folder: Path, limit: int = 0) -> list[Path]:
    """The JPEG files below a folder in order; at most `limit` of them (0: all), evenly spaced, so from every class.

    Raises:
        ValueError: when there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _JPEG)
    if not found:
        raise ValueError(f"There are no JPEG files in {folder}.")
    if not limit or limit >= len(found):
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, limit).round().astype(int)]


def marked(content: bytes, mark: str) -> bytes:
    """The same JPEG image in other bytes: with a comment in front."""
    if not content.startswith(_START):
        raise ValueError("This is no JPEG file.")
    text = mark.encode()
    return _START + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + content[2:]


def replicate(data: Path, into: Path, *, copies: int, limit: int = 0) -> int:
    """How many files `into` now has: each photo `copies` times, `copy0` (unchanged) to the last, all different bytes."""
    chosen = photos(data, limit)
    for path in chosen:
        content = path.read_bytes()
        for copy in range(copies):
            place = into / f"copy{copy}" / path.relative_to(data)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(marked(content, f"copy {copy}") if copy else content)
    return copies * len(chosen)


def small(data: Path, into: Path, *, count: int, side: int = 160, share: int = 500) -> None:
    """`count` files of different bytes in subfolders of `share`, made of the photos at that short side."""
    into.mkdir(parents=True)
    contents = []
    for path in photos(data):
        image = Image.open(path).convert("RGB")
        scale = side / min(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        file = into / "one.tmp"
        image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        contents.append(file.read_bytes())
        file.unlink()
    for number in range(count):
        place = into / f"part{number // share:04}"
        place.mkdir(exist_ok=True)
        (place / f"{number:06}.jpg").write_bytes(marked(contents[number % len(contents)], f"image {number}"))


def enlarge(data: Path, into: Path, *, count: int, size: tuple[int, int]) -> None:
    """`count` photos of that (long, short) side, by cubic resampling, upright ones upright."""
    into.mkdir(parents=True)
    for number, path in enumerate(photos(data, count)):
        image = Image.open(path).convert("RGB")
        wanted = size if image.width >= image.height else size[::-1]
        image.resize(wanted, Image.Resampling.BICUBIC).save(into / f"{number:03}.jpg", quality=92)


@dataclass(frozen=True)
class Labelled:
    """Photos with their class numbers, and which are for testing.

    Attributes:
        names: relative to the folder.
        labels: (N,) class numbers: of the folder that a file lies in.
        tested: (N,) whether the file lies below a folder called val or test; without one, every fifth.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    tested: tuple[bool, ...]


def labelled(paths: Sequence[Path], folder: Path) -> Labelled:
    """The paths with labels."""
    relative = [path.relative_to(folder) for path in paths]
    classes = sorted({path.parent.name for path in relative})
    tested = [any(part in _TESTED for part in path.parts[:-1]) for path in relative]
    if not any(tested) or all(tested):
        tested = [number % _EVERY == 0 for number in range(len(relative))]
    return Labelled(
        names=tuple(path.as_posix() for path in relative),
        labels=tuple(classes.index(path.parent.name) for path in relative),
        tested=tuple(tested),
    )
