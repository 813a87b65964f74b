"""A search for a rate that goes on where the best one lies at the end of what was tried."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from headstart._core.clock import Clock
from headstart.studies import STUDIES, progress
from headstart.studies.grid import Slot, read_grid
from headstart.studies.progress import Running
from headstart.studies.records import Job, StudyOptions, Trained
from tests.studies.made import result
from tests.studies.test_grid import work

BEST = {"pretrained": 0.08, "scratch": 1.0}
"""The factor at which an arm would be best."""


def outcome(job: Job) -> Trained:
    """A training that is the better the nearer its rate is to the arm's best; no number far above it."""
    away = abs(job.factor - BEST[job.arm])
    value = None if job.factor > 20 else 1 / (1 + away)
    return Trained(
        job=job, steps=1, curve=(), validation=value, judged=value, best_epoch=1.0, seconds=1.0, ended=""
    )


def running(monkeypatch: pytest.MonkeyPatch, **asked: Any) -> tuple[Running, list[str]]:
    """A study whose trainings take no time, and the names of those that were done, in order."""
    done: list[str] = []

    def train(_ground: Any, _settings: Any, job: Job, _clock: Clock) -> Trained:
        done.append(job.name)
        return outcome(job)

    monkeypatch.setattr(progress, "train", train)
    monkeypatch.setattr(progress, "is_done", lambda _, job: job.name in done)
    monkeypatch.setattr(progress, "_plan_words", lambda *_: [])
    ground: Any = SimpleNamespace(study=STUDIES["scratch"])
    grid = read_grid(StudyOptions(fractions="1", schedules="1,2", **asked))
    settings = replace(result().settings, usual={"pretrained": 0.1, "scratch": 0.1})
    return Running(ground, settings, grid, Clock(), work()), done


def rates(done: list[str], start: str) -> list[str]:
    return [name.split("-rate")[1].split("-")[0] for name in done if name.startswith(start)]


def test_the_best_rate_comes_to_lie_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    study, done = running(monkeypatch, widen=3)
    assert study.train_all() == ""
    # 0.09 is better than 0.3, 0.027 is not better than 0.09: there the search ends.
    assert rates(done, "pretrained-1-1x") == ["0.3", "1", "3", "0.09", "0.027"]
    assert rates(done, "scratch-1-1x") == ["0.3", "1", "3"]  # inside at once
    assert rates(done, "pretrained-1-2x") == ["0.09"]  # a longer schedule takes it over
    assert study.best("pretrained", 1.0, 1).job.factor == 0.09
    assert [each.job.factor for each in study.tried("pretrained", 1.0, 1)] == [0.027, 0.09, 0.3, 1.0, 3.0]
    (chosen,) = study.finals("pretrained", 1.0, 1)
    assert chosen == Slot("pretrained", 1.0, 1, 0.09, 0)


def test_what_went_without_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    study, done = running(monkeypatch)
    study.train_all()
    assert rates(done, "pretrained-1-1x") == ["0.3", "1", "3"]
    first = len(done)
    wider = Running(study.ground, study.settings, replace(study.grid, widen=1), Clock(), study.work)
    monkeypatch.setattr(progress, "train", _only_new(done))
    wider.train_all()
    assert done[first:] == ["pretrained-1-1x-rate0.09-seed0", "pretrained-1-2x-rate0.09-seed0"]


def _only_new(done: list[str]) -> Any:
    """As `arm.train`: what is finished is read, not trained again."""

    def train(_ground: Any, _settings: Any, job: Job, _clock: Clock) -> Trained:
        if job.name not in done:
            done.append(job.name)
        return outcome(job)

    return train


def test_a_rate_without_a_number_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEST, "scratch", 30.0)
    study, done = running(monkeypatch, widen=3)
    study.train_all()
    assert rates(done, "scratch-1-1x") == ["0.3", "1", "3", "9", "27"]
    assert study.best("scratch", 1.0, 1).job.factor == 9.0
