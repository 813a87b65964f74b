"""The run folder: where it is, what was asked for, and the history that survives being killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from headstart._core import files, records
from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.runs.options import FitOptions
from headstart.training import Event

RUNS = "headstart-runs"


@record
class Request:
    """`request.json`: what the user asked for, enough to do it again."""

    source: str
    options: FitOptions


def new_folder(source: str, out: str) -> Path:
    """An empty folder for a run: the one asked for, or the next free number under `headstart-runs/`.

    Raises:
        BadInput: when the folder already holds a run, or cannot be written to.
    """
    if out:
        folder = Path(out).expanduser()
        if (folder / "request.json").exists():
            raise BadInput(
                f"{folder} already holds a run.",
                hint=f"Go on with it: headstart fit --resume {folder}; or choose another folder with --out.",
            )
        return files.writable_folder(folder)
    stem = (
        "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(source).name or "run").strip("-.")
        or "run"
    )
    number = 1
    while (Path(RUNS) / f"{stem}-{number}").exists():
        number += 1
    return files.writable_folder(Path(RUNS) / f"{stem}-{number}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone.

    Raises:
        BadInput: when another process is working in it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadInput(
            f"Another headstart process is working in {folder}.", hint="Wait for it, or choose another --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


class History:
    """`history.jsonl`: one event a line, written as it happens."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "history.jsonl"

    def add(self, event: Event) -> None:
        """Append an event."""
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

    def forget_unfinished(self, rung: str, *, after_step: int) -> None:
        """Drop what an interrupted rung told after the step that it is resumed from: it is about to be told again."""
        kept = [
            line
            for line in self.read()
            if line["rung"] != rung
            or (line["event"] != "rung_start" and line["step"] <= after_step and after_step)
        ]
        files.write_text(self._path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def as_request(source: str, options: FitOptions) -> dict[str, Any]:
    """The plain form of a request, with data folders made absolute, so that a run resumes from anywhere."""
    plain = asdict(Request(source=_absolute(source), options=options))
    for split in ("val", "test"):
        plain["options"]["data"][split] = _absolute(plain["options"]["data"][split])
    return plain


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path and Path(path).expanduser().exists() else path
