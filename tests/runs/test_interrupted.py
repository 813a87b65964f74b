"""Whole runs that are killed, stopped, crowded or repeated."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bad_input import fruit
from tests.runs.kill_resume import history_of, kill_when, run, stage_of, start, weights_of

FAST = ["--weights", "random:test_resnet", "--batch-size", "16", "--augment", "light"]
FULL = [
    *FAST,
    "--method",
    "full",
    "--epochs",
    "3",
    "--patience",
    "9",
    "--budget",
    "none",
    "--checkpoint-every",
    "0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images `fruit`, and in `whole` an uninterrupted run on them."""
    folder = tmp_path_factory.mktemp("runs").resolve()
    before = Path.cwd()
    os.chdir(folder)
    try:
        fruit(classes=("apple", "pear", "plum"), each=16)
    finally:
        os.chdir(before)
    assert run(["fit", "fruit", *FULL, "--out", "whole"], folder) == 0, _output(folder)
    return folder


def _output(folder: Path) -> str:
    return (folder / "output.txt").read_text(encoding="utf-8")


def _evaluation(run_folder: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((run_folder / "evaluation.json").read_text(encoding="utf-8"))
    del plain["seconds"]
    return plain


def _steps(run_folder: Path) -> list[int]:
    return [event["step"] for event in history_of(run_folder) if event["event"] == "step"]


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before the first step": lambda run_folder: (run_folder / "plan.json").exists(),
    "in the first epoch": lambda run_folder: bool(_steps(run_folder)),
    "in the second epoch": lambda run_folder: max(_steps(run_folder), default=0) >= 3,
    "while a checkpoint is written": lambda run_folder: any(
        run_folder.glob("checkpoint/full/.training.pt.*.tmp")
    ),
    "before the outcome": lambda run_folder: (run_folder / "checkpoint/full/model.pt").exists(),
    "while it is tested": lambda run_folder: (run_folder / "bundle/manifest.json").exists(),
    "before the report": lambda run_folder: (run_folder / "evaluation.json").exists(),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_is_the_same(moment: str, place: Path) -> None:
    target, elsewhere = place / moment.replace(" ", "-"), place / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    words = ["fit", "fruit", *FULL, "--out", target.name]
    kill_when(words, place, ready=lambda: MOMENTS[moment](target), number=signal.SIGKILL)
    if stage_of(target) == "done":
        pytest.skip("the run was over before it could be killed")
    assert run(["fit", "--resume", str(target)], elsewhere) == 0, _output(elsewhere)
    assert weights_of(target) == weights_of(place / "whole")
    assert _evaluation(target) == _evaluation(place / "whole")
    assert not list(target.rglob("*.tmp"))
    assert _steps(target) == _steps(place / "whole"), "every step is told once"
    ends = [event["event"] for event in history_of(target) if event["event"].endswith("_end")]
    assert ends == ["rung_end", "ladder_end"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_climb_with_the_best_so_far(number: int, place: Path) -> None:
    target = place / f"stopped-{number}"
    words = [
        "fit",
        "fruit",
        *FAST,
        "--epochs",
        "500",
        "--patience",
        "500",
        "--budget",
        "none",
        "--out",
        target.name,
    ]

    def ready() -> bool:
        return (target / "bundle/manifest.json").exists() and bool(_steps(target))

    assert kill_when(words, place, ready=ready, number=number) == 0, _output(place)
    assert stage_of(target) == "done"
    assert _evaluation(target)["splits"]["test"]["n"] > 0
    assert history_of(target)[-1]["event"] == "ladder_end"
    assert history_of(target)[-1]["reason"] in ("Ctrl-C", "SIGTERM")


@pytest.mark.slow
def test_a_budget_ends_the_climb_and_each_seed_is_one_result(place: Path) -> None:
    for name in ("short", "again"):
        words = ["fit", "fruit", *FAST, "--budget", "0.01s", "--seed", "7", "--out", name]
        assert run(words, place) == 0, _output(place)
        reasons = [event["reason"] for event in history_of(place / name)]
        decided = json.loads((place / name / "plan.json").read_text(encoding="utf-8"))["decided"]
        reasons += [line["why"] for line in decided if line["value"] == "left out"]
        assert any("budget" in reason for reason in reasons), reasons
    plain = json.loads((place / "short/evaluation.json").read_text(encoding="utf-8"))
    assert (plain["format"], plain["method"], plain["weights"]) == (1, "linear-probe", "random:test_resnet")
    test = plain["splits"]["test"]
    assert test["n"] == sum(map(sum, plain["confusion"]))
    assert {"value", "low", "high", "interval"} <= set(test["metrics"]["accuracy"])
    assert test["metrics"]["accuracy"]["interval"] == "wilson"
    assert plain["seconds"]["total"] > 0
    for file in ("facts.json", "plan.json", "history.jsonl", "ledger.json", "report.html", "report.md"):
        assert (place / "short" / file).is_file(), file
    assert _evaluation(place / "short") == _evaluation(place / "again")
    assert weights_of(place / "short") == weights_of(place / "again")


@pytest.mark.slow
def test_two_processes_do_not_share_a_folder(place: Path) -> None:
    target = place / "shared"
    words = [
        "fit",
        "fruit",
        *FAST,
        "--epochs",
        "500",
        "--patience",
        "500",
        "--budget",
        "none",
        "--out",
        target.name,
    ]
    first = start(words, place)
    try:
        while first.is_alive() and not (target / "plan.json").exists():
            time.sleep(0.01)
        request = (target / "request.json").read_bytes()
        elsewhere = place / "second"
        elsewhere.mkdir()
        assert run(["fit", "--resume", str(target)], elsewhere) == 1
        assert "Another headstart process is working in" in _output(elsewhere)
        assert run(["fit", "../fruit", *FAST, "--out", str(target)], elsewhere) == 1
        assert "already holds a run" in _output(elsewhere)
        assert (target / "request.json").read_bytes() == request
        assert first.is_alive()
    finally:
        first.kill()
        first.join()
