"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headstart._core.errors import BadInput
from headstart.data.readers.labels import shown
from headstart.data.readers.records import EXTENSIONS
from headstart.data.records import Unreadable

_CLUTTER = ("__macosx", "thumbs.db", "desktop.ini", "headstart-runs")
_RUN_FILES = ("request.json", "facts.json")  # a folder with both is one of our runs: its pictures are no data
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


@dataclass
class Found:
    """What a walk has seen so far.

    Attributes:
        images: paths below the folder as it was typed.
        broken: names with an image's ending that cannot be files.
        ignored: ending -> how many other files were passed over.
        seen: folders that were entered, links resolved; one is never entered twice.
    """

    images: list[Path] = field(default_factory=list)
    broken: list[Unreadable] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    seen: set[Path] = field(default_factory=set)


def children(folder: Path) -> tuple[list[Path], list[Path]]:
    """(folders, other entries) in a folder, sorted by name; hidden names, system clutter and runs are left out.

    Raises:
        BadInput: when the folder may not be listed.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise BadInput(
            f"The folder {shown(folder)} cannot be read: {error.strerror or error}.",
            hint="Check its permissions, or leave it out.",
        ) from error
    entries = [path for path in entries if not (path.name[0] == "." or path.name.lower() in _CLUTTER)]
    folders = [path for path in entries if is_kind(path.is_dir)]
    others = [path for path in entries if not is_kind(path.is_dir)]
    return [path for path in folders if not _is_run(path)], others


def _is_run(folder: Path) -> bool:
    return all(is_kind((folder / name).is_file) for name in _RUN_FILES)


def is_kind(question: Callable[[], bool]) -> bool:
    """What `path.is_file` or `path.is_dir` answers; False where the system refuses to look (rights, length)."""
    try:
        return question()
    except OSError:
        return False


def walk(folder: Path, found: Found) -> Found:
    """`found`, with everything below the folder added; links are followed, a loop of links ends by itself."""
    real = folder.resolve()
    if real in found.seen:
        return found
    found.seen.add(real)
    folders, files = children(folder)
    for path in files:
        add_file(path, found)
    for path in folders:
        walk(path, found)
    return found


def add_file(path: Path, found: Found) -> None:
    """Put one entry where it belongs: image, broken, or ignored."""
    named = path.suffix.lower() in EXTENSIONS
    if not is_kind(path.is_file):
        if named and not is_kind(path.exists):
            linked = is_kind(path.is_symlink)
            reason = "the link leads to nothing that exists" if linked else "it may not be looked at"
            found.broken.append(Unreadable(name=shown(path), reason=reason))
        return
    if named or (not path.suffix and _starts_like_image(path)):
        found.images.append(path)
    else:
        found.ignored[path.suffix.lower() or "no ending"] += 1


def ignored_note(ignored: Mapping[str, int], where: Path) -> tuple[str, ...]:
    """A note that counts the files that were passed over, or nothing."""
    if not ignored:
        return ()
    kinds = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))[:5]
    listed = ", ".join(f"{ending} {count}" for ending, count in kinds)
    total = sum(ignored.values())
    return (f"Ignored in {shown(where)}, for want of an image's ending: {total} of the files ({listed}).",)


def _starts_like_image(path: Path) -> bool:
    """Whether the first bytes are those of an image format; a file that may not be opened counts as one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError:
        return os.access(path, os.F_OK)  # it is listed as unreadable later, with the reason
    # "BM" alone starts many texts: a bitmap also has four reserved bytes that are zero.
    bitmap = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or bitmap
