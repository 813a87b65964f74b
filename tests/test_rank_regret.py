"""The bench of the ranking: its arithmetic on hand-made cells, and that it goes on where it was interrupted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import rank_regret
from headstart import data
from headstart.data.records import LoadOptions
from headstart.ranking import Ranked, Ranking, Scores
from tests.tiny import make_nets, make_tints


def row(name: str, *, tied: bool, top1: float = 0.8) -> Ranked:
    return Ranked(
        weights=name,
        parameters=1,
        licence="mit",
        commercial=True,
        pretraining="",
        objective="supervised",
        top1=top1,
        latency=1.0,
        scores=Scores(probe=0.9, probe_error=0.0, log_me=0.0),
        expected=0.5,
        low=0.4,
        high=0.6,
        best=0.5,
        tied=tied,
        why="",
    )


def cell(correct: dict[str, np.ndarray], *rows: Ranked) -> dict[str, Any]:
    found = Ranking(
        task="classify",
        images=10,
        of=10,
        rows=rows,
        skipped=(),
        offers=(),
        chosen=rows[0].weights,
        reason="",
        seconds=0.0,
    )
    return rank_regret.cell("x/set", found, correct, {each.weights: each.weights.upper() for each in rows})


def test_regret_by_hand() -> None:
    """Of 100 images a gets 50, b 52 (two more) and c 90 right: against b nothing is shown, against c it is."""
    a, b, c = np.zeros(100), np.zeros(100), np.zeros(100)
    a[:50], b[:52], c[:90] = 1, 1, 1
    near = cell({"a": a, "b": b}, row("a", tied=True), row("b", tied=True, top1=0.9))
    assert (near["chosen"], near["best"], near["data"]) == ("A", "B", "set")
    assert near["regret"] == pytest.approx(0.02)
    assert near["regret_shown"] == 0
    assert near["regret_by_imagenet_alone"] == 0
    assert near["noise"] == pytest.approx(np.sqrt(0.02 * 0.98 / 99))
    assert near["pairs"][0]["true_tie"]
    assert near["intervals_that_hold"] == 1
    far = cell({"a": a, "c": c}, row("a", tied=True), row("c", tied=False))
    assert far["regret"] == far["regret_shown"] == pytest.approx(0.4)
    assert far["intervals_that_hold"] == 0.5
    assert far["regret_fair"] == pytest.approx(0.4, abs=0.01)
    both = rank_regret.summary([near, far])
    assert both["mean_regret"] == pytest.approx(0.21)
    assert both["mean_regret_shown"] == pytest.approx(0.2)
    assert both["cells_with_regret_shown"] == 1
    assert both["share_of_regret_inside_noise"] == pytest.approx(0.02 / 0.42)
    assert both["mean_regret_error"] == pytest.approx(0.19)  # two cells: half of their difference
    assert rank_regret.summary([near])["mean_regret_error"] is None
    assert rank_regret.summary([near])["share_of_regret_inside_noise"] == 1
    assert (both["wins_called"], both["wins_that_the_test_split_contradicts"]) == (1, 1)
    assert (both["test_ties"], both["test_ties_called_ties"]) == (1, 1)


def test_the_fair_regret_of_equals_is_nothing() -> None:
    """The best of ten equal networks on 100 images seems several points better than any one of them."""
    rng = np.random.default_rng(0)
    luck, fair = [], []
    for _ in range(20):
        correct = {f"net{number}": (rng.random(100) < 0.8).astype(float) for number in range(10)}
        luck.append(max(each.mean() for each in correct.values()) - correct["net0"].mean())
        fair.append(rank_regret.fair_regret(correct, "net0"))
    assert np.mean(luck) > 0.03
    assert abs(np.mean(fair)) < 0.02
    worse = {"a": np.repeat([1.0, 0.0], [50, 50]), "b": np.repeat([1.0, 0.0], [80, 20])}
    assert rank_regret.fair_regret(worse, "a") == pytest.approx(0.3, abs=0.01)
    assert rank_regret.fair_regret(worse, "b") == 0


def test_fewer_training_images_keep_the_classes_shares(tmp_path: Path) -> None:
    dataset = data.load(str(make_tints(tmp_path / "tints")), LoadOptions())
    few = rank_regret.with_train(dataset, 20)
    assert np.bincount([each.labels[0] for each in few.train]).tolist() == [10, 10]
    assert {each.split for each in few.samples} == {"train"}
    assert rank_regret.with_train(dataset, 0) is dataset


def test_the_bench_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = make_nets(tmp_path)
    monkeypatch.setattr(rank_regret, "ARCH", "test_resnet")
    monkeypatch.setattr(rank_regret, "everyone", lambda _: [nets["blind"], nets["sees"]])
    folder, out = make_tints(tmp_path / "tints"), tmp_path / "out.json"
    words = ["rank_regret.py", str(folder), "--test", "12", "--out", str(out), "--train", "30"]
    monkeypatch.setattr(sys, "argv", words)
    rank_regret.main()
    first = json.loads(out.read_text())
    assert [each["chosen"] for each in first["cells"]] == ["sees test_resnet"]
    assert (first["cells"][0]["train"], first["cells"][0]["test"]) == (30, 12)
    assert first["summary"]["mean_regret"] == 0
    done = out.stat().st_mtime_ns
    rank_regret.main()
    assert out.stat().st_mtime_ns == done, "nothing was missing"
    monkeypatch.setattr(sys, "argv", [*words, "--train", "0"])
    rank_regret.main()
    second = json.loads(out.read_text())
    assert second["cells"][0] == first["cells"][0]
    assert [each["asked"]["train"] for each in second["cells"]] == [30, 0]


def test_sets_go_by_their_names_and_those_without_a_source_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nets = make_nets(tmp_path)
    monkeypatch.setattr(rank_regret, "ARCH", "test_resnet")
    monkeypatch.setattr(rank_regret, "everyone", lambda _: [nets["sees"], nets["blind"]])
    out = tmp_path / "out.json"
    words = ["rank_regret.py", "hymenoptera", "digits", "--made", str(tmp_path / "made"), "--train", "60"]
    monkeypatch.setattr(sys, "argv", [*words, "--test", "40", "--out", str(out)])
    rank_regret.main()
    (found,) = json.loads(out.read_text())["cells"]
    assert found["asked"] == {"data": "digits", "train": 60, "test": 40, "images": 1000}
    assert (found["train"], found["test"]) == (60, 40)
    assert "hymenoptera is left out" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["rank_regret.py"])
    with pytest.raises(SystemExit):
        rank_regret.main()
    assert "name class folders" in capsys.readouterr().err
