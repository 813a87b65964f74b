"""The run folder: where it is, what was asked for, and the history that survives being killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headstart._core import files, records
from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.runs.options import FitOptions
from headstart.runs.source import names_of
from headstart.training import Event

RUNS = "headstart-runs"
REQUEST = "request.json"


@record
class Request:
    """`request.json`: what the user asked for, enough to do it again."""

    source: str
    options: FitOptions


def check_out(source: str, out: str) -> None:
    """Nothing, if a run may go to `out` (empty: the next free folder); told before the data is read.

    Raises:
        BadInput: when the folder already holds a run, holds the images themselves, or cannot be written to.
    """
    folder = Path(out or RUNS).expanduser()
    if out and (folder / REQUEST).exists():
        raise BadInput(
            f"{folder} already holds a run.",
            hint=f"Go on with it: headstart fit --resume {folder}; or choose another folder with --out.",
        )
    if out and Path(source).is_dir() and folder.resolve() == Path(source).resolve():
        raise BadInput(
            f"--out {folder} is the folder of the images.", hint="Choose another folder with --out."
        )
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        files.writable_folder(folder)
    finally:
        with contextlib.suppress(OSError):  # never made, or not empty: another process works there
            for part in missing:  # nothing stays behind if the data cannot be used
                part.rmdir()


def new_folder(source: str, out: str) -> Path:
    """An empty folder for a run: the one asked for, or the next free number under `headstart-runs/`."""
    if out:
        return files.writable_folder(out)
    stem = (
        "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(source).name or "run").strip("-.")
        or "run"
    )
    files.writable_folder(RUNS)
    number = 1
    while True:
        folder = Path(RUNS) / f"{stem}-{number}"
        with contextlib.suppress(FileExistsError):  # also another process's, made in this very moment
            folder.mkdir()
            return folder
        number += 1


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone, cleared of what a killed one left half-written.

    Raises:
        BadInput: when another process is working in it, or it cannot be written to.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadInput(
            f"Another headstart process is working in {folder}.", hint="Wait for it, or choose another --out."
        ) from error
    except OSError as error:
        raise files.explain_os_error(error, folder) from error
    try:
        for left in folder.rglob(".*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


class History:
    """`history.jsonl`: one event a line, written as it happens."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.jsonl"
        self._started: set[str] = set()

    def add(self, event: Event) -> None:
        """Append an event; that a rung starts is told once, also where it goes on after an interruption."""
        if event.event == "rung_start" and event.rung in self._started:
            return
        line = json.dumps(records.to_plain(event), ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise files.explain_os_error(error, self._path) from error

    def read(self) -> list[dict[str, Any]]:
        """All whole lines (a killed run may leave half a line at the end)."""
        if not self._path.exists():
            return []
        out = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                out.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return out

    def mend(self, ended: Sequence[Event], unfinished: Mapping[str, int]) -> None:
        """Make the history one that the rest of an interrupted run can be added to.

        Args:
            ended: the last event of every finished rung, told here if the run was killed before it was.
            unfinished: rung -> the step that it goes on from; what it told after that is about to be told again.
        """
        rungs = {*unfinished, *(event.rung for event in ended)}  # what comes behind them is told again
        lines = [line for line in self.read() if line["rung"] in rungs and self._stays(line, unfinished)]
        told = {line["rung"] for line in lines if line["event"] == "rung_end"}
        lines += [records.to_plain(event) for event in ended if event.rung not in told]
        self._started = {line["rung"] for line in lines if line["event"] == "rung_start"}
        files.write_text(self._path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    @staticmethod
    def _stays(line: dict[str, Any], unfinished: Mapping[str, int]) -> bool:
        if line["event"] == "ladder_end":
            return False
        step = unfinished.get(line["rung"])
        if step is None:
            return True
        return step > 0 and (line["event"] == "rung_start" or 0 < line["step"] <= step)


def as_request(source: str, options: FitOptions) -> Request:
    """A request in which all paths are absolute, so that a run resumes from anywhere and names its images alike."""
    names = (name.partition(":") for name in names_of(options.weights))
    weights = ",".join(
        f"file:{_absolute(path)}" if kind == "file" else f"{kind}:{path}" for kind, _, path in names
    )
    plan = _absolute(options.plan)
    held = replace(options.data, val=_absolute(options.data.val), test=_absolute(options.data.test))
    places = replace(held, labels=_absolute(options.data.labels))
    return Request(
        source=_absolute(source),
        options=replace(options, weights=weights or options.weights, data=places, plan=plan),
    )


def _absolute(text: str) -> str:
    """The absolute path, if it is one that exists and not the name of built-in data."""
    if not text or text == "digits" or text.startswith("torchvision:"):
        return text
    path = Path(text).expanduser()
    return str(files.absolute(path)) if path.exists() else text
