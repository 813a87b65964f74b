"""Everything that can be wrong with what a user gives, and what headstart must say to it.

The rows below are the parameters of `test_bad_input.py` and the table of `docs/errors.md`, which

    python -m tests.cli.bad_input

writes again from what is really printed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from unittest import mock

import numpy as np
from PIL import Image

from headstart.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
FIT = ("--method", "linear-probe", "--weights", "random:test_resnet")
_WIDE = "400"  # columns of the terminal: no line of a table is folded
_HOME = "/home/ann"  # stands for the folder of a case, whose real name changes from run to run


@dataclass(frozen=True)
class Case:
    """Something wrong.

    Attributes:
        what: in a few words, for the table.
        words: the command line; the working directory is the case's own folder.
        code: the exit code that must come.
        says: what the message must contain: the thing, and the next move.
        build: makes the files that the case needs.
        around: a context in which the command runs, for faults of the machine.
    """

    what: str
    words: str
    code: int
    says: tuple[str, ...]
    build: Callable[[], None] = lambda: None
    around: Callable[[], contextlib.AbstractContextManager[object]] = field(default=contextlib.nullcontext)


@dataclass(frozen=True)
class Printed:
    """What a command left behind: its exit code, its two streams, and the files that are new or changed."""

    code: int
    out: str
    err: str
    changed: tuple[str, ...]


def image(path: str, *, side: int = 24, colour: int = 0) -> None:
    """A small picture, different for every path, with a tint."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*place.name.encode(), colour])
    pixels = rng.integers(0, 90, (side, side, 3))
    pixels[..., colour % 3] += 120
    Image.fromarray(pixels.astype(np.uint8)).save(place)


def fruit(root: str = "fruit", classes: tuple[str, ...] = ("apple", "pear"), each: int = 8) -> None:
    """Class folders that can be fitted."""
    for colour, label in enumerate(classes):
        for number in range(each):
            image(f"{root}/{label}/{number}.png", colour=colour)


def _broken(each: int = 8) -> None:
    fruit(each=each)
    Path("fruit/apple/zero.jpg").write_bytes(b"")
    Path("fruit/apple/text.jpg").write_text("This is no picture.", encoding="utf-8")
    whole = Path("fruit/pear/0.png").read_bytes()
    Path("fruit/pear/cut.png").write_bytes(whole[: len(whole) // 2])


def _one_broken() -> None:
    fruit(each=20)
    Path("fruit/apple/zero.jpg").write_bytes(b"")


def _bomb() -> None:
    fruit(each=4)
    header = b"GIF89a" + (65535).to_bytes(2, "little") * 2 + b"\xf0\x00\x00" + bytes(6)
    block = b"\x2c" + bytes(4) + (65535).to_bytes(2, "little") * 2 + b"\x00\x02\x02\x44\x01\x00\x3b"
    Path("fruit/apple/bomb.gif").write_bytes(header + block)


def _only_test() -> None:
    fruit("fruit/train")
    fruit("fruit/test", ("apple", "pear", "plum"), each=2)


def _loop() -> None:
    fruit(each=4)
    Path("fruit/apple/again.png").symlink_to("again.png")


def _table(text: str) -> Callable[[], None]:
    def build() -> None:
        fruit()
        Path("list.csv").write_text(text, encoding="utf-8")

    return build


def _loose() -> None:
    for number in range(4):
        image(f"photos/{number}.png")


def _file(name: str) -> Callable[[], None]:
    def build() -> None:
        fruit()
        Path(name).write_text("x", encoding="utf-8")

    return build


def _changed_run() -> None:
    """An interrupted run whose images have changed since."""
    fruit()
    killed = mock.patch("headstart.runs.fit.examine", side_effect=KeyboardInterrupt)
    with killed, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        assert call(["fit", "fruit", "--out", "begun", *FIT]) == 130
    image("fruit/apple/new.png")


def call(words: list[str]) -> int:
    """The exit code of a command, run in this process."""
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("main() came back")


@contextlib.contextmanager
def _refusing(number: int) -> Iterator[None]:
    """A machine on which nothing can be written: the disk is full, or the file system is read-only."""

    def refuse(*_args: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    with mock.patch("tempfile.mkstemp", refuse), mock.patch("tempfile.TemporaryFile", refuse):
        yield


@contextlib.contextmanager
def _not_root() -> Iterator[None]:
    """As a user who may not write to `locked/`."""
    Path("locked").chmod(0o555)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)
        Path("locked").chmod(0o755)


def _locked() -> None:
    fruit()
    Path("locked").mkdir()


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*_args: object, **_named: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    usual = mock.patch.dict(os.environ, {"HF_ENDPOINT": "https://huggingface.co"})
    # The hub's own word for it: otherwise its client tries again and again for twenty seconds.
    offline = mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with mock.patch("socket.getaddrinfo", refuse), usual, offline:
        yield


CASES = (
    # Paths
    Case("wrong path", "fit frui", 1, ("'frui'", "Did you mean 'fruit'?"), fruit),
    Case(
        "a path far from anything",
        "audit no/such/place",
        1,
        ("'no/such/place'", "nearest folder that exists"),
    ),
    Case("a built-in name with a slip", "fit digit", 1, ("'digit'", "Did you mean 'digits'?")),
    Case(
        "empty folder", "fit nothing", 1, ("nothing", "FOLDER/CLASS/IMAGES"), lambda: Path("nothing").mkdir()
    ),
    Case("images without class folders", "fit photos", 1, ("photos", "0.png", "FOLDER/CLASS"), _loose),
    Case("an archive", "fit photos.zip", 1, ("photos.zip", "Unpack"), _file("photos.zip")),
    Case("a file that is no dataset", "fit notes.txt", 1, ("notes.txt", "Accepted"), _file("notes.txt")),
    # Classes
    Case("one class", "fit fruit", 1, ("'apple'", "two classes"), lambda: fruit(classes=("apple",))),
    Case("one image per class", "fit fruit", 1, ("'apple' (1)", "Add images"), lambda: fruit(each=1)),
    Case("a class only in test", "fit fruit", 1, ("'plum'", "add training images"), _only_test),
    Case(
        "labels that differ in case",
        "fit fruit",
        1,
        ("'Apple' / 'apple'", "one spelling"),
        lambda: fruit(classes=("Apple", "apple", "pear")),
    ),
    # Files
    Case(
        "zero bytes, text named .jpg, a truncated file: more than 5 %",
        "fit fruit",
        1,
        ("3 of 19", "zero.jpg: empty file", "text.jpg: text", "cut.png: truncated", "Repair or remove"),
        _broken,
    ),
    Case("one unreadable file with --strict", "fit fruit --strict", 1, ("1 of 41", "zero.jpg"), _one_broken),
    Case("a decompression bomb", "fit fruit", 1, ("bomb.gif: decompression bomb", "Repair"), _bomb),
    Case("a link that leads to itself", "fit fruit", 1, ("again.png", "link leads to nothing"), _loop),
    # Tables
    Case(
        "a CSV with missing files",
        "fit list.csv",
        1,
        ("gone.png: file does not exist", "relative to the table's folder"),
        _table("path,label\nfruit/apple/0.png,apple\ngone.png,pear\n"),
    ),
    Case(
        "a CSV without a column",
        "fit list.csv",
        1,
        ("no column 'path'", "--path-column"),
        _table("file,label\nx,y\n"),
    ),
    Case(
        "a CSV with a row without a label",
        "fit list.csv",
        1,
        ("without a label", "Fill in"),
        _table("path,label\nfruit/apple/0.png,\nfruit/pear/0.png,pear\n"),
    ),
    Case(
        "a CSV with a split that is none",
        "fit list.csv",
        1,
        ("'trian'", "Did you mean 'train'?"),
        _table("path,label,split\nfruit/apple/0.png,apple,trian\n"),
    ),
    Case("an empty CSV", "fit list.csv", 1, ("list.csv is empty", "path,label"), _table("")),
    # Options
    Case("unknown command", "fitt fruit", 2, ("'fitt'", "Did you mean 'fit'?")),
    Case("unknown command below weights", "weights lst", 2, ("'lst'", "Did you mean 'list'?")),
    Case("unknown option", "fit fruit --budgett 3s", 2, ("--budgett", "Did you mean '--budget'?"), fruit),
    Case("missing argument", "predict", 2, ("Missing argument 'run'", "headstart predict --help")),
    Case("an option without its value", "fit fruit --method", 2, ("--method", "requires an argument")),
    Case("neither data nor --resume", "fit", 2, ("either data or --resume", "headstart fit FOLDER")),
    Case("a word for a number", "fit fruit --epochs many", 2, ("--epochs is 'many'", "whole number"), fruit),
    Case(
        "a number out of range",
        "fit fruit --label-smoothing 3",
        2,
        ("--label-smoothing is 3", "0 and 0.9"),
        fruit,
    ),
    Case("a share out of range", "fit fruit --val-fraction 2", 2, ("--val-fraction", "at most 0.5"), fruit),
    Case("unknown value of an option", "fit fruit --method ful", 2, ("'ful'", "Did you mean 'full'?"), fruit),
    Case("a budget that is none", "fit fruit --budget soon", 2, ("'soon'", "30s, 10m, 1h"), fruit),
    Case(
        "an option without effect",
        "fit fruit --method full --folds 3",
        2,
        ("--folds has no effect on full", "belongs to linear-probe"),
        fruit,
    ),
    Case(
        "weights without their source",
        "fit fruit --weights resnet50",
        2,
        ("'resnet50'", "Did you mean"),
        fruit,
    ),
    Case(
        "weights of no known source", "fit fruit --weights tim:resnet50", 2, ("Did you mean 'timm'?",), fruit
    ),
    Case(
        "a checkpoint that is not there",
        "fit fruit --weights file:w.pth --arch resnet18",
        1,
        ("'w.pth'", "nearest folder"),
        fruit,
    ),
    # The machine
    Case(
        "no network",
        "fit fruit --weights timm:resnet18.a1_in1k",
        1,
        ("timm:resnet18.a1_in1k is not on this machine", "put it at", "bundled:efficientnet_lite0"),
        fruit,
        _no_network,
    ),
    Case(
        "no network for a dataset",
        "fit torchvision:CIFAR10",
        1,
        ("put cifar-10-python.tar.gz into",),
        around=_no_network,
    ),
    Case(
        "a folder that may not be written to",
        "fit fruit --out locked/run",
        1,
        ("locked/run", "--out"),
        _locked,
        _not_root,
    ),
    Case(
        "a read-only file system",
        "fit fruit --out run",
        1,
        ("run cannot be written: Read-only file system", "--out"),
        fruit,
        lambda: _refusing(errno.EROFS),
    ),
    Case(
        "disk full",
        "fit fruit --out run",
        1,
        ("disk is full", "run", "Free some space"),
        fruit,
        lambda: _refusing(errno.ENOSPC),
    ),
    Case(
        "--out is a file",
        "fit fruit --out notes.txt",
        1,
        ("notes.txt is a file", "--out"),
        _file("notes.txt"),
    ),
    Case(
        "--out is below a file",
        "fit fruit --out notes.txt/run",
        1,
        ("notes.txt/run", "--out"),
        _file("notes.txt"),
    ),
    Case("--out is the data", "fit fruit --out fruit", 1, ("the folder of the images", "--out"), fruit),
    # A finished run
    Case("--out holds a run", "fit fruit --out done", 1, ("already holds a run", "--resume done"), fruit),
    Case("resume of a finished run", "fit --resume done", 1, ("is finished", "report.html")),
    Case(
        "resume of no run", "fit --resume fruit", 1, ("holds no run", "headstart fit DATA --out fruit"), fruit
    ),
    Case(
        "resume after the data has changed",
        "fit --resume begun",
        1,
        ("have changed", "new run"),
        _changed_run,
    ),
    Case(
        "an option beside --resume", "fit --resume done --seed 1", 2, ("--seed has no effect with --resume",)
    ),
    Case(
        "predict with a folder that is no run",
        "predict fruit fruit",
        1,
        ("no fitted model", "headstart fit"),
        fruit,
    ),
    Case(
        "predict of a missing image",
        "predict done fruit/apple/00.png",
        1,
        ("'fruit/apple/00.png'", "Did you mean '0.png'?"),
        fruit,
    ),
    Case(
        "predict of an empty folder",
        "predict done nothing",
        1,
        ("no images in nothing",),
        lambda: Path("nothing").mkdir(),
    ),
    Case(
        "predict into an unknown format", "predict done fruit --out x.xlsx", 2, ("'.xlsx'", ".parquet"), fruit
    ),
    Case(
        "predict onto a full disk",
        "predict done fruit --out x.csv",
        1,
        ("disk is full", "x.csv"),
        fruit,
        lambda: _refusing(errno.ENOSPC),
    ),
    Case(
        "evaluate with a class that the model does not know",
        "evaluate done fruit",
        1,
        ("does not know the class 'appel'", "Did you mean 'apple'?"),
        lambda: fruit(classes=("appel", "pear")),
    ),
    Case("export to an unknown format", "export done --format onx", 2, ("'onx'", "Did you mean 'onnx'?")),
    Case(
        "export below a file",
        "export done --out notes.txt/m.onnx",
        1,
        ("notes.txt is a file", "--out"),
        _file("notes.txt"),
    ),
    Case("unknown study", "study scrach fruit", 2, ("'scrach'", "Did you mean 'scratch'?")),
    Case(
        "a study of more than all images",
        "study scratch fruit --fractions 0.5,2",
        2,
        ("--fractions holds 2", "at most 1"),
        fruit,
    ),
    Case(
        "a study of too few images",
        "study scratch fruit --weights random:test_resnet",
        1,
        ("0.5 of 10 training images is 5", "too few to train on", "Add images"),
        fruit,
    ),
    Case(
        "report of a folder that is no run", "report fruit", 1, ("not a run folder", "headstart fit"), fruit
    ),
)


def make_run(place: Path) -> None:
    """A finished run in `place/done`, fitted on `place/fruit`."""
    with contextlib.chdir(place), contextlib.redirect_stderr(io.StringIO()) as told:
        fruit(each=8)
        with contextlib.redirect_stdout(io.StringIO()):
            assert call(["fit", "fruit", "--out", "done", *FIT]) == 0, told.getvalue()


class Tried(Protocol):
    """What can be tried: `Case`, and `Flaws` of `bad_places.py`."""

    @property
    def words(self) -> str:
        """The command line."""

    @property
    def build(self) -> Callable[[], None]:
        """Makes the files that it needs."""


def try_case(case: Tried, place: Path, finished: Path) -> Printed:
    """What comes of a case in an empty folder, in which a finished run is put beside the case's own files."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(place):
        case.build()
        if re.search(r"\bdone\b", case.words):
            shutil.copytree(finished / "done", "done")
        before = _files()
        around = case.around() if isinstance(case, Case) else mock.patch.dict(os.environ, COLUMNS=_WIDE)
        with around, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = call(case.words.split())
        changed = tuple(sorted(name for name, content in _files().items() if before.get(name) != content))
    said, told = (stream.getvalue().replace(str(place), _HOME) for stream in (out, err))
    return Printed(code, said, told, changed)


def _files() -> dict[str, bytes]:
    """Every file and folder here, but for lock files and the cache."""
    found = [path for path in Path().rglob("*") if path.name != ".lock" and path.parts[0] != "cache"]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


def message_of(printed: Printed) -> str:
    """The error message and its hint, without what was told before it."""
    return printed.err[printed.err.index("Error: ") :].strip() if "Error: " in printed.err else printed.err


def _shortened(message: str) -> str:
    """The message with long lists cut: a new command or method must not change the page."""
    return re.sub(r"((?:Allowed|Sources|Known): [^,\n]+, [^,\n]+), [^\n;.]+", r"\1, …", message)


def section_of(case: Case, printed: Printed) -> str:
    """The case's part of `docs/errors.md`."""
    told = _shortened(message_of(printed))
    return f"**{case.what}** · exit code {printed.code}\n\n```text\n$ headstart {case.words}\n{told}\n```\n"


_HEAD = """# What headstart says when something is wrong

Every message names the thing and, on the next line, the next move. Nothing is left half-written. `--debug` adds the
traceback. Exit codes: 0 ok, 1 failure, 2 wrong use, 3 `audit --check` found something, 130 interrupted.

This page is written by `python -m tests.cli.bad_input` from what is really printed; a test compares the two.

What is bad but not an error: unreadable files up to 5 % of all (listed in `facts.json` and the report), spaces around
labels (removed, with a note), names in any script, pictures of 20000 x 1 pixels, links that lead in circles between
folders, files that are no images (counted in a note), and unreadable images in `predict` (a row with the reason).
"""


def write_docs() -> None:
    """Write `docs/errors.md` from what every case prints now."""
    # Imported here: it takes `Case` from this file.
    from tests.cli.bad_places import ERRORS, FLAWS, FLAWS_HEAD, Flaws, flaw_section

    parts = [_HEAD]
    every: list[Case | Flaws] = [*CASES, *ERRORS, *FLAWS]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        os.environ["HEADSTART_CACHE"] = str(base / "cache")
        make_run(base)
        for number, case in enumerate(every):
            place = base / f"case-{number}"
            place.mkdir()
            os.environ["HEADSTART_CACHE"] = str(place / "cache")
            base.chmod(0o755)
            printed = try_case(case, place, base)
            parts += [FLAWS_HEAD] if case is FLAWS[0] else []
            parts.append(section_of(case, printed) if isinstance(case, Case) else flaw_section(case, printed))
    DOCS.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    from tests.cli import (
        bad_input,
    )  # by its name, as `bad_places` has it: else there would be two of each class

    bad_input.write_docs()
