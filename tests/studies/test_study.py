"""Whole studies: every task, stop and resume, the budget, and what is refused."""

from __future__ import annotations

import html
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headstart._core import records
from headstart._core.clock import Clock
from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart.data.records import LoadOptions, SealedSplit
from headstart.runs.fit import Interrupted
from headstart.studies import STUDIES, StudyOptions
from headstart.studies import arm as arms
from headstart.studies.run import run
from headstart.tasks import TASKS as ROWS
from tests.runs.kill_resume import kill_when
from tests.runs.kill_resume import run as run_words
from tests.studies.made import NETWORK, TASKS, images_of

READING = LoadOptions(val_fraction=0.2, test_fraction=0.3)
SMALL = StudyOptions(
    fractions="1",
    schedules="1,2",
    epochs=1,
    rates="1",
    weights=NETWORK,
    budget="none",
    batch_size=16,
    augment="light",
)


def saved(folder: Path) -> dict[str, Any]:
    """`study.json` without times."""
    plain: dict[str, Any] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del plain["seconds"], plain["settings"]["speed"]
    for cell in plain["cells"]:
        for arm in cell["arms"]:
            del arm["seconds"]
    return plain


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_study(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.tasks.detect.REPEATS", 20)  # each as much work as the value itself
    size = 64 if task in ("classify", "multilabel") else 96
    done = run(
        "scratch",
        images_of(task, tmp_path),
        replace(SMALL, input_size=size, out=str(tmp_path / "out")),
        READING if size == 64 else LoadOptions(),
    )
    found = records.load(type(done.result), tmp_path / "out/study.json")
    assert found == done.result
    assert found.settings.task == task
    assert found.settings.frame == ((64, 64) if size == 64 else (96, 64))
    assert found.primary == ROWS[task].primary
    assert [(cell.schedule, cell.epochs) for cell in found.cells] == [(1, 1), (2, 2)]
    for cell in found.cells:
        assert [arm.arm for arm in cell.arms] == ["pretrained", "scratch"]
        for arm in cell.arms:
            assert 0 <= arm.value.low <= arm.value.value <= arm.value.high <= 1
            assert len(arm.curves[0]) == cell.epochs  # every schedule runs to its end
            assert arm.metrics
        first, second = (arm.value.value for arm in cell.arms)
        assert cell.pairs[0].difference == pytest.approx(first - second)
        assert cell.pairs[0].n == found.test
    assert len(found.reaches) == 1
    assert found.reaches[0].against[0].difference == pytest.approx(-found.cells[0].pairs[0].difference)
    assert found.settings.own["pretrained"]["batchnorm"] == "frozen"
    assert found.settings.own["scratch"]["batchnorm"] == "tuned"
    assert (tmp_path / "out/study.html").stat().st_size > 10_000
    assert found.finding in html.unescape((tmp_path / "out/study.html").read_text(encoding="utf-8"))


def test_the_arms_differ_in_what_is_said_alone(tmp_path: Path) -> None:
    """Of all parameters only those that the settings list as an arm's own, and the rate, are different."""
    done = run("scratch", images_of("classify", tmp_path), replace(SMALL, out=str(tmp_path / "out")), READING)
    settings = done.result.settings
    dataset, facts = arms_data(tmp_path)
    from headstart import weights

    backbone = weights.load(NETWORK)
    params = [
        arms.params_of(arm, facts, backbone, arms.shared_of(settings) | {"epochs": 3, "patience": 3})
        for arm in STUDIES["scratch"].arms
    ]
    differ = {name for name, value in vars(params[0]).items() if getattr(params[1], name) != value}
    assert differ - {"learning_rate"} == set(settings.own["scratch"]) == set(settings.own["pretrained"])
    assert dataset.train


def arms_data(folder: Path) -> Any:
    from headstart.runs.fit import read

    return read(str(folder / "tints"), READING)


def test_rates_are_chosen_without_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test split is opened once, after the last training; the rate is the one that validation prefers."""
    told: list[str] = []
    opened, trained = SealedSplit.open, arms.train

    def watch(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            told.append(name)
            return real(*args, **named)

        return call

    monkeypatch.setattr(SealedSplit, "open", watch("open", opened))
    monkeypatch.setattr("headstart.studies.progress.train", watch("train", trained))
    options = replace(SMALL, rates="0.001,1", out=str(tmp_path / "out"))
    found = run("scratch", images_of("classify", tmp_path), options, READING).result
    assert told == ["train"] * 6 + ["open"]
    for place, arm in enumerate(found.cells[0].arms):
        assert [each.rate / found.settings.usual[arm.arm] for each in arm.tried] == pytest.approx([0.001, 1])
        values = [each.validation for each in arm.tried]
        best = max(range(2), key=lambda n: values[n] or 0.0)
        if values[0] != values[1]:
            assert arm.rate == arm.tried[best].rate
        assert arm.edge == ("lowest" if arm.rate == arm.tried[0].rate else "highest")
        assert found.cells[1].arms[place].rate == arm.rate  # a longer schedule takes it over
        assert found.cells[1].arms[place].tried == ()


def test_a_second_call_trains_what_is_new_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images_of("classify", tmp_path)
    options = replace(SMALL, out=str(tmp_path / "out"))
    first = run("scratch", data, options, READING).result
    calls: list[str] = []
    real = arms._followed

    def count(*args: Any, **named: Any) -> Any:
        calls.append("training")
        return real(*args, **named)

    monkeypatch.setattr(arms, "_followed", count)
    again = run("scratch", data, options, READING).result
    assert not calls
    assert again.cells == first.cells
    longer = run("scratch", data, replace(options, schedules="1,2,3", seeds="0,1"), READING).result
    assert len(calls) == 2 + 2 * 3  # a longer schedule for the first seed, all three for the second
    assert [len(arm.seeds) for cell in longer.cells for arm in cell.arms] == [2] * 6
    for cell in longer.cells:
        for arm in cell.arms:
            assert arm.value.value == pytest.approx(sum(arm.seeds) / 2)
    assert longer.cells[0].arms[0].seeds[0] == first.cells[0].arms[0].seeds[0]
    with pytest.raises(BadInput, match="holds a study with another batch_size: 16, now 20") as told:
        run("scratch", data, replace(options, batch_size=20), READING)
    assert "--out" in told.value.hint


def test_a_rate_without_a_number_is_no_candidate(tmp_path: Path) -> None:
    options = replace(SMALL, schedules="1", rates="1,1000", out=str(tmp_path / "out"))
    with pytest.MonkeyPatch.context() as patch:
        real = arms._followed

        def follow(steps: Any, history: Any, job: Any, *, primary: str) -> Any:
            if job.factor > 1:
                raise BadPlan("The training loss is nan at step 1 of 3.", hint="Lower it.")
            return real(steps, history, job, primary=primary)

        patch.setattr(arms, "_followed", follow)
        found = run("scratch", images_of("classify", tmp_path), options, READING).result
        for arm in found.cells[0].arms:
            assert [each.validation is None for each in arm.tried] == [False, True]
            assert arm.edge == "lowest"
        patch.setattr(
            arms,
            "_followed",
            lambda steps, history, job, *, primary: follow(
                steps, history, replace(job, factor=9), primary=primary
            ),
        )
        with pytest.raises(BadInput, match="No learning rate of pretrained with 100% of the images"):
            run("scratch", tmp_path / "tints", replace(options, out=str(tmp_path / "other")), READING)


def test_a_budget_that_is_used_up_leaves_trainings_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images_of("classify", tmp_path)
    options = replace(SMALL, out=str(tmp_path / "out"), budget="1h")
    trainings: list[str] = []
    real = arms.train

    def spend(ground: Any, settings: Any, job: Any, clock: Clock) -> Any:
        trainings.append(job.name)
        if len(trainings) == 3:
            clock._seconds = 0.0
        return real(ground, settings, job, clock)

    monkeypatch.setattr("headstart.studies.progress.train", spend)
    found = run("scratch", data, options, READING).result
    assert found.left == "1 of 4 trainings were not begun: the time budget is used up"
    assert [cell.schedule for cell in found.cells] == [1]
    assert "were not begun" in (tmp_path / "out/study.html").read_text(encoding="utf-8")
    whole = run("scratch", data, options, READING).result
    assert whole.left == ""
    assert [cell.schedule for cell in whole.cells] == [1, 2]
    assert whole.cells[0] == found.cells[0]


def test_a_budget_shortens_the_schedules_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from headstart.studies.records import Speed

    slow = Speed(train={"pretrained": 1.0, "scratch": 1.0}, forward=0.1)
    monkeypatch.setattr("headstart.studies.prepare.measure_speed", lambda *_: slow)
    data = images_of("classify", tmp_path)
    options = replace(SMALL, epochs=5, schedules="1", out=str(tmp_path / "out"), budget="4m")
    with caplog.at_level("INFO", logger="headstart"):
        found = run("scratch", data, options, READING).result
    assert found.settings.wished == 5
    assert 2 <= found.settings.epochs < 5
    assert f"1x is {found.settings.epochs} epochs instead of 5" in caplog.text
    assert all(len(arm.curves[0]) == found.settings.epochs for arm in found.cells[0].arms)
    with pytest.raises(BadPlan, match=r"--budget 20\.0 s is too little"):
        run("scratch", data, replace(options, out=str(tmp_path / "none"), budget="20s"), READING)
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_studied_is_refused(tmp_path: Path) -> None:
    data = images_of("classify", tmp_path)
    with pytest.raises(BadOption, match=r"does not know 'scrach'") as told:
        run("scrach", data, SMALL, READING)
    assert "'scratch'" in told.value.hint
    with pytest.raises(BadInput, match="too few to train on"):
        run("scratch", data, replace(SMALL, fractions="0.5,1"), READING)
    with pytest.raises(BadOption, match="--input-size is 5000"):
        run("scratch", data, replace(SMALL, input_size=5000), READING)
    with pytest.raises(BadOption, match="--augment does not know 'wild'"):
        run("scratch", data, replace(SMALL, augment="wild", out=str(tmp_path / "out")), READING)
    with pytest.raises(BadPlan, match="scratch declines: BatchNorm statistics of batches of 8"):
        run("scratch", data, replace(SMALL, batch_size=8, out=str(tmp_path / "out")), READING)
    with pytest.raises(BadInput, match="is the folder of the images"):
        run("scratch", data, replace(SMALL, out=str(data)), READING)
    assert not (tmp_path / "out").exists()


def test_stopping_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C within the third training: two are kept, and the same command ends like one that was left alone."""
    data = images_of("classify", tmp_path)
    options = replace(SMALL, checkpoint_every=0.0)
    whole = run("scratch", data, replace(options, out=str(tmp_path / "whole")), READING)
    cut = replace(options, out=str(tmp_path / "cut"))
    trainings: list[str] = []
    real = arms._followed

    def stop(*args: Any, **named: Any) -> Any:
        trainings.append("training")
        if len(trainings) == 3:
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(
                signal.SIGINT, None
            )  # as the interpreter calls it; true signals go to processes of their own below
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(arms, "_followed", stop)
        with pytest.raises(Interrupted, match="Stopped by Ctrl-C: 2 of 4 trainings are done") as told:
            run("scratch", data, cut, READING)
    assert told.value.exit_code == 130
    assert "Ctrl-C: ending cleanly with all that is trained so far" in caplog.text
    assert not (tmp_path / "cut/study.json").exists()
    run("scratch", data, cut, READING)
    assert saved(tmp_path / "cut") == saved(whole.folder)


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    """kill -9 at three moments of a study by the command line; the same command ends with the same figures."""
    data = images_of("classify", tmp_path)
    words = [
        "study",
        "scratch",
        str(data),
        "--fractions",
        "1",
        "--schedules",
        "1,3",
        "--epochs",
        "2",
        "--rates",
        "1,3",
    ]
    words += ["--weights", NETWORK, "--batch-size", "16", "--input-size", "64", "--budget", "none"]
    words += ["--checkpoint-every", "0", "--val-fraction", "0.2", "--test-fraction", "0.3", "--out"]
    assert run_words([*words, str(tmp_path / "whole")], tmp_path) == 0
    target = tmp_path / "cut"
    moments: list[Callable[[], bool]] = [
        lambda: len(list(target.rglob("outcome.json"))) >= 2,
        lambda: len(list(target.rglob("training.pt"))) >= 1 and len(list(target.rglob("outcome.json"))) >= 4,
        lambda: len(list(target.rglob("test.npz"))) >= 1,
    ]
    for ready in moments:
        assert (
            kill_when([*words, str(target)], tmp_path, ready=ready, number=signal.SIGKILL) == -signal.SIGKILL
        )
    assert run_words([*words, str(target)], tmp_path) == 0
    assert saved(target) == saved(tmp_path / "whole")
    assert not list(target.rglob("*.tmp"))
