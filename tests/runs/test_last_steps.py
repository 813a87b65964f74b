"""Runs that end with an average of tuned networks and a mirror: every file says so, and a resumed run says it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import data, export, ladder
from headstart._core import records
from headstart.data.records import LoadOptions
from headstart.planning import Guide, Plan, Rung
from headstart.runs.fit import fit, resume
from headstart.runs.folder import History
from headstart.tasks import Mirrored
from headstart.training import Event
from headstart.training.soup import Soup, average
from tests.runs.test_depth_run import pictures

PARAMS = {"epochs": 2, "batch_size": 16, "head_start": "random", "learning_rate": 1e-3, "flip": True}


def plan_in(path: Path, *methods: str) -> Path:
    """A plan of these tuning methods, in a file."""
    plan = Plan(
        task="classify",
        weights="random:test_resnet",
        seed=0,
        budget_seconds=None,
        decided=(),
        rungs=tuple(Rung(method=name, params=dict(PARAMS), why="a test") for name in methods),
        guide=Guide(size="small", similarity="unknown", prior="none"),
    )
    records.save(path, plan)
    return path


def agreeable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An average of all, and a judge who likes whatever comes: what luck with the images would bring."""

    def all_of(states: Any, *_: Any, targets: Any, answer: Any) -> Soup:
        del targets
        mixed = average(states)
        return Soup(tuple(range(len(states))), mixed, answer(mixed), tried=1)

    monkeypatch.setattr(ladder, "greedy", all_of)
    monkeypatch.setattr(ladder, "chance_of_gain", lambda *_, **__: 1.0)


def ends(run: Path) -> list[tuple[str, str]]:
    lines = History(run).read()
    return [
        (line["event"], line["rung"]) for line in lines if line["event"] not in ("step", "validation", "note")
    ]


@pytest.mark.slow
def test_a_run_that_ends_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreeable(monkeypatch)
    images = pictures(tmp_path / "images", 16)
    plan = plan_in(tmp_path / "plan.json", "partial", "full")
    run = fit(images, plan=str(plan), out=str(tmp_path / "run")).folder
    manifest, told = (records.read_json(run / name) for name in ("bundle/manifest.json", "evaluation.json"))
    assert (manifest["method"], manifest["mirrored"], told["method"]) == ("soup", True, "soup")
    assert set(told["baselines"]) == {"majority", "partial", "full"}
    ledger = records.read_json(run / "ledger.json")
    assert ledger["method"] == "soup"
    assert ledger["frozen_identical"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "average of the tuned networks" in page
    assert "answers averaged over a mirror image" in page
    assert "random:test_resnet; each image is looked at in a mirror too" in page
    expected = [
        *((event, rung) for rung in ("partial", "full", "soup") for event in ("rung_start", "rung_end")),
        ("rung_end", "mirror"),
        ("ladder_end", "soup"),
    ]
    assert ends(run) == expected
    bundle = export.open_bundle(run)
    assert isinstance(bundle.model, Mirrored)
    samples = data.load(str(images), LoadOptions(seed=0)).test.open()
    said = bundle.predict([sample.source for sample in samples])
    right = [
        each.answer == bundle.classes[sample.labels[0]] for each, sample in zip(said, samples, strict=True)
    ]
    assert np.mean(right) == pytest.approx(told["splits"]["test"]["metrics"]["accuracy"]["value"])
    for late in ("evaluation.json", "report.md"):  # as if killed while it was tested
        (run / late).unlink()
    monkeypatch.setattr(ladder, "greedy", None)  # a call would fail: it is read back
    resume(run)
    again = records.read_json(run / "bundle/manifest.json")
    assert (again["sha256"], again["temperature"]) == (manifest["sha256"], manifest["temperature"])
    assert ends(run) == expected, "each is told once"


def test_what_comes_behind_the_rungs_is_told_anew(tmp_path: Path) -> None:
    history = History(tmp_path)
    for rung in ("full", "soup"):
        history.add(Event(event="rung_start", rung=rung))
        history.add(Event(event="rung_end", rung=rung, kept=True))
    history.add(Event(event="note", rung="mirror", reason="no gain"))
    history.add(Event(event="ladder_end", rung="soup"))
    after = History(tmp_path)
    after.mend([Event(event="rung_end", rung="full", kept=True)], {})
    assert ends(tmp_path) == [("rung_start", "full"), ("rung_end", "full")]
    after.add(Event(event="rung_start", rung="soup"))
    assert ends(tmp_path)[-1] == ("rung_start", "soup")
