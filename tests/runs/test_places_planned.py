"""`headstart plan` on boxes and masks: what it prints, and that nothing is measured twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart._core import records
from headstart.cli import main
from headstart.evidence import places, site_features
from headstart.runs.fit import fit, plan
from tests.tasks.scenes import write

NETWORK = "random:test_resnet"


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_what_is_printed(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", 40)[task == "segment"]
    with pytest.raises(SystemExit) as left:
        main(["plan", str(data), "--weights", NETWORK, "--budget", "1h"])
    assert left.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "places of these images can be named from what a map shows there?" in told
    assert "all maps together" in told
    assert "Therefore: frozen (about" in told
    assert "passes" in told
    assert "right answers" not in told  # that is what tasks of whole images are told


def test_a_fit_takes_what_was_measured_and_a_resumed_one_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "data", 40)[0]
    before = plan(data, weights=NETWORK)
    monkeypatch.setattr(site_features, "batches", None)  # places are remembered: a pass would fail
    again = plan(data, weights=NETWORK)
    assert before.evidence is not None
    assert again.evidence is not None
    assert again.evidence.depths == before.evidence.depths
    assert [rung.method for rung in again.plan.rungs] == [rung.method for rung in before.plan.rungs]


def test_one_method_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "data", 12)[1]
    monkeypatch.setattr(places, "measure_places", None)  # a call would fail
    done = fit(data, weights=NETWORK, method="frozen", epochs=2, budget="none", out=str(tmp_path / "run"))
    assert not (done.folder / "evidence.json").exists()
    outcome = records.read_json(done.folder / "checkpoint/frozen/outcome.json")
    assert outcome["facts"]["stored_prefix"] is True
    assert not list((done.folder / "checkpoint/frozen").glob("prefix-*"))
    history = (done.folder / "history.jsonl").read_text(encoding="utf-8")
    assert "the frozen part is stored for 2 views of" in history
