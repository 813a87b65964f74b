"""kill -9 at random moments of a run, resume, and compare: are the final weights the same bits?

    python tests/runs/kill_resume.py DATA --kills 10 [-- any options of headstart fit]

prints one line a kill: where the run was, what it had written, and whether the resumed run's weights are those of an
uninterrupted one. Exits with 1 if any differs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_PATIENCE = 1800.0  # seconds after which a run is taken for stuck


@dataclass(frozen=True)
class Kill:
    """One kill and what became of the run.

    Attributes:
        after: seconds after the start of the run.
        stage: what the run was doing, by the files it had written.
        step: the last optimiser step in its history.
        same: whether the resumed run ended with the weights of the uninterrupted one.
    """

    after: float
    stage: str
    step: int
    same: bool


def start(words: Sequence[str], folder: Path) -> BaseProcess:
    """`headstart` with these words, running in a process of its own whose working directory is `folder`.

    A server that has imported torch forks it: a real process, to be killed, without seconds of imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headstart.runs.fit"])
    process = context.Process(target=_headstart, args=(list(words), str(folder)))
    process.start()
    return process


def _headstart(words: list[str], folder: str) -> None:
    from headstart.cli import main

    os.chdir(folder)
    with Path("output.txt").open("a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    main(words)


def run(words: Sequence[str], folder: Path) -> int:
    """The exit code of `headstart` with these words."""
    process = start(words, folder)
    process.join(_PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"headstart {' '.join(words)} did not end; see {folder / 'output.txt'}")
    return process.exitcode


def kill_when(words: Sequence[str], folder: Path, *, ready: Callable[[], bool], number: int) -> int:
    """The exit code of `headstart` after a signal that it was sent as soon as `ready`."""
    process = start(words, folder)
    while process.is_alive() and not ready():
        time.sleep(0.002)
    if process.is_alive() and process.pid:
        os.kill(process.pid, number)
    process.join(_PATIENCE)
    assert process.exitcode is not None
    return process.exitcode


def weights_of(run_folder: Path) -> str:
    """SHA-256 of the bundle's tensors, as its manifest has it."""
    return str(json.loads((run_folder / "bundle" / "manifest.json").read_text(encoding="utf-8"))["sha256"])


def history_of(run_folder: Path) -> list[dict[str, Any]]:
    """All whole lines of the history."""
    path = run_folder / "history.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def stage_of(run_folder: Path) -> str:
    """What a run was doing when it ended, judged by its folder."""
    if not (run_folder / "request.json").exists():
        return "before the run folder"
    if (run_folder / "report.md").exists():
        return "done"
    if (run_folder / "evaluation.json").exists():
        return "bundle and report"
    events = history_of(run_folder)
    if any(event["event"] == "ladder_end" for event in events):
        return "test and pictures"
    if not events:
        return "before the first rung"
    last = events[-1]
    return f"after {last['rung']}" if last["event"] == "rung_end" else f"in {last['rung']}"


def marks_of(run_folder: Path) -> int:
    """How far a run has come: the number of files and of events that it has written."""
    names = ("request.json", "facts.json", "plan.json", "evaluation.json", "report.html", "report.md")
    files = sum((run_folder / name).exists() for name in names)
    return files + len(history_of(run_folder)) + len(list(run_folder.glob("bundle/*")))


def experiment(
    data: Path, options: Sequence[str], folder: Path, *, moments: Sequence[tuple[float, float]]
) -> list[Kill]:
    """A run that is left alone, and one kill and resume for each moment; resumed in another working directory.

    Args:
        data: what is fitted.
        options: of `headstart fit`.
        folder: an empty one to work in.
        moments: (share in [0, 1] of the marks that a whole run leaves, seconds to wait after reaching it). A share of
            the marks, not of the time: it means the same on a machine that others use too.
    """
    words = ["fit", str(data), *options, "--out"]
    if run([*words, str(folder / "whole")], folder) != 0:
        raise RuntimeError((folder / "output.txt").read_text(encoding="utf-8"))
    marks, wanted = marks_of(folder / "whole"), weights_of(folder / "whole")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return [
        _killed(words, folder / f"killed-{number}", elsewhere, wanted, when=(share * marks, wait))
        for number, (share, wait) in enumerate(moments)
    ]


def _killed(
    words: Sequence[str], target: Path, elsewhere: Path, wanted: str, *, when: tuple[float, float]
) -> Kill:
    begun = time.monotonic()

    def ready() -> bool:
        if marks_of(target) < when[0]:
            return False
        time.sleep(when[1])
        return True

    kill_when([*words, str(target)], target.parent, ready=ready, number=signal.SIGKILL)
    after, stage, events = time.monotonic() - begun, stage_of(target), history_of(target)
    if stage == "before the run folder":
        code = run([*words, str(target)], target.parent)
    else:
        code = 0 if stage == "done" else run(["fit", "--resume", str(target)], elsewhere)
    same = code == 0 and weights_of(target) == wanted
    return Kill(after, stage, max([event["step"] for event in events] or [0]), same)


def main() -> int:
    """Print the table; 0 if all weights are the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    words = [*sys.argv[1:], "--"]
    given = parser.parse_args(words[: words.index("--")])
    options = words[words.index("--") + 1 : -1] or [
        "--method",
        "full",
        "--epochs",
        "3",
        "--checkpoint-every",
        "2",
    ]
    draw = random.Random(given.seed)
    moments = sorted((draw.uniform(0, 1), draw.uniform(0, 0.5)) for _ in range(given.kills))
    folder = Path(tempfile.mkdtemp(prefix="kill-resume-"))
    try:
        kills = experiment(given.data.absolute(), [*options, "--budget", "none"], folder, moments=moments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'killed after':>12}  {'while':<24} {'step':>5}  same weights")
    for kill in kills:
        print(f"{kill.after:>10.1f} s  {kill.stage:<24} {kill.step:>5}  {'yes' if kill.same else 'NO'}")
    same = sum(kill.same for kill in kills)
    print(f"{same} of {len(kills)} the same as the uninterrupted run")
    return int(same < len(kills))


if __name__ == "__main__":
    sys.exit(main())
