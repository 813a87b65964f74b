"""Evaluation: the contract of its JSON, its verdicts, and its edge cases."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from headstart import evaluation
from headstart._core import records
from headstart.evaluation import About, Answers

ABOUT = About(
    task="classify",
    classes=("ant", "bee", "fly"),
    method="full",
    weights="w",
    temperature=2.0,
    seed=0,
    seconds={"total": 1.5},
)


def answers(n: int, skill: float, *, classes: int = 3, seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    noise = np.random.default_rng(seed + 1).normal(size=(n, classes))
    rng.shuffle(truth)
    return Answers(
        names=tuple(map(str, range(n))), truth=truth, logits=noise + skill * np.eye(classes)[truth]
    )


def test_json_contract() -> None:
    result = evaluation.evaluate(
        answers(90, 2.0), val=answers(30, 2.0), baselines={"probe": answers(90, 1.0)}, about=ABOUT
    )
    plain = json.loads(records.dumps(result))
    assert plain["format"] == 1
    assert (plain["task"], plain["method"], plain["weights"]) == ("classify", "full", "w")
    assert plain["seconds"]["total"] == 1.5
    metric = plain["splits"]["test"]["metrics"]["accuracy"]
    assert plain["splits"]["test"]["n"] == 90
    assert metric["interval"] == "wilson"
    assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    again = records.from_plain(
        evaluation.Evaluation, {k: v for k, v in plain.items() if k != "format"}, where="here"
    )
    assert again == result


def test_every_metric_lies_in_its_interval() -> None:
    scores = evaluation.score(answers(60, 1.0), ABOUT)
    for name, metric in scores.metrics.items():
        assert metric.low <= metric.value <= metric.high, name
        assert metric.n == 60


def test_temperature_changes_calibration_not_answers() -> None:
    cold = evaluation.score(answers(200, 1.0), replace(ABOUT, temperature=0.2)).metrics
    warm = evaluation.score(answers(200, 1.0), replace(ABOUT, temperature=1.0)).metrics
    assert cold["accuracy"] == warm["accuracy"]
    assert cold["log_loss"].value > warm["log_loss"].value
    assert cold["calibration_error_before"] == warm["calibration_error_before"]


@pytest.mark.parametrize(("skill", "verdict"), [(6.0, "better"), (-6.0, "worse")])
def test_a_clear_difference_is_called_one(skill: float, verdict: str) -> None:
    out = evaluation.compare(answers(100, skill), answers(100, 0.0), names=("a", "b"), about=ABOUT)
    assert out.verdict == verdict
    assert out.p is not None
    assert out.p < 0.001


def test_better_is_rarely_said_of_equals() -> None:
    said = [
        evaluation.compare(
            answers(80, 1.0, seed=s),
            replace(
                answers(80, 1.0, seed=s),
                logits=answers(80, 1.0, seed=s).logits
                + 0.5 * np.random.default_rng(s + 999).normal(size=(80, 3)),
            ),
            names=("a", "b"),
            about=replace(ABOUT, seed=s),
        ).verdict
        for s in range(60)
    ]
    assert said.count("worse") <= 5
    same = evaluation.compare(answers(80, 1.0), answers(80, 1.0), names=("a", "b"), about=ABOUT)
    assert (same.verdict, same.difference, same.p) == ("no difference shown", 0.0, 1.0)


def test_mistakes_are_the_most_confident_wrong_ones() -> None:
    logits = np.array([[9.0, 0, 0], [0, 5.0, 0], [3.0, 0, 0], [0, 0, 1.0]])
    given = Answers(names=("a", "b", "c", "d"), truth=np.array([1, 1, 2, 0]), logits=logits)
    out = evaluation.evaluate(given, val=None, baselines={}, about=replace(ABOUT, temperature=1.0))
    assert [(m.name, m.truth, m.predicted) for m in out.mistakes] == [
        ("a", "bee", "ant"),
        ("c", "fly", "ant"),
        ("d", "ant", "fly"),
    ]
    assert out.confusion == ((0, 0, 1), (1, 1, 0), (1, 0, 0))


def test_majority_knows_only_frequencies() -> None:
    logits = evaluation.majority(np.array([0, 0, 0, 1]), 2, ("a", "b", "c"))
    assert logits.argmax(1).tolist() == [0, 0]
    assert np.exp(logits).sum(1) == pytest.approx([1, 1])


def test_multilabel_scores() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((120, 4)) < 0.3).astype(np.int64)
    given = Answers(
        names=tuple(map(str, range(120))), truth=truth, logits=rng.normal(size=truth.shape) + 4 * truth - 2
    )
    about = replace(ABOUT, task="multilabel", classes=("a", "b", "c", "d"))
    baseline = replace(given, logits=evaluation.majority(truth, 120, about.classes))
    out = evaluation.evaluate(given, val=None, baselines={"majority": baseline}, about=about)
    metrics = out.splits["test"].metrics
    assert {"map", "f1_micro", "f1_macro", "subset_accuracy", "log_loss", "calibration_error"} <= set(metrics)
    assert metrics["map"].value > 0.9 > out.baselines["majority"].metrics["map"].value
    assert out.comparisons[0].verdict == "better"
    assert out.confusion == ()
    for mistake in out.mistakes:
        assert mistake.truth != mistake.predicted


def test_one_image_of_one_class() -> None:
    given = Answers(names=("x",), truth=np.array([1]), logits=np.array([[0.0, 1.0, 0.0]]))
    out = evaluation.evaluate(given, val=None, baselines={}, about=ABOUT)
    assert out.splits["test"].metrics["accuracy"].value == 1.0
    assert out.per_class[0].support == 0
    json.loads(records.dumps(out))


def test_large_evaluations_are_fast() -> None:
    given = answers(10_000, 3.0, classes=100)
    about = replace(ABOUT, classes=tuple(map(str, range(100))))
    started = time.perf_counter()
    evaluation.score(given, about)
    assert time.perf_counter() - started < 15
