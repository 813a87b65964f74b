"""Plans for boxes and masks: evidence made by hand, the rungs that must follow from it, and what they are said to take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headstart._core import records
from headstart.data.records import DatasetFacts, SplitFacts
from headstart.evidence import Cost, DepthProbe, Evidence, Recall
from headstart.methods import METHODS
from headstart.planning import Plan, Wishes, load_plan, make_plan
from headstart.planning.places import Pace, early_transfers, kept_share, measured, pace_of
from headstart.similarity import Distance
from headstart.weights import Backbone, blank
from tests.test_methods import facts as base_facts

STAGES = (0.05, 0.04, 0.03, 0.02, 0.01)
COST = Cost(
    forward=0.05, step=0.25, partial_step=0.13, read=0.01, stages=STAGES, head=0.1, answer=0.005, prepare=0.01
)
TASKS = pytest.mark.parametrize("task", ["detect", "segment"])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def facts(task: str = "detect", n: int = 200, n_val: int = 80) -> DatasetFacts:
    splits = {
        name: SplitFacts(n=k, per_class={"a": k}, made=False)
        for name, k in (("train", n), ("val", n_val), ("test", 70))
    }
    return replace(
        base_facts(n), task=task, splits=splits, long_side=480.0, box_quantiles=(0.1, 0.2, 0.3, 0.4, 0.5)
    )


def probe(stage: int, stride: int, recall: float, gain: float | None, error: float = 0.01) -> DepthProbe:
    return DepthProbe(
        name=f"stage{stage}" if stride else "all",
        outputs=(f"layer{stage}",),
        width=64,
        accuracy=recall,
        error=error,
        recall=Recall(value=recall, error=error, gain=gain, gain_error=None if gain is None else error),
        stride=stride,
    )


def evidence(*depths: DepthProbe, cost: Cost | None = COST) -> Evidence:
    return Evidence(
        weights="bundled:efficientnet_lite0",
        images=128,
        distance=Distance(overall=0.34, low=0.33, high=0.35, early=1.15, middle=0.213, late=1.07, n=128),
        standing="far (0.34)",
        depths=depths,
        sizes=(),
        curve=None,
        cost=cost,
        findings=(),
        seconds=5.0,
        places=3600 if depths else 0,
    )


KNOWS = (probe(1, 4, 0.82, 0.05), probe(2, 8, 0.87, 0.1), probe(3, 16, 0.93, 0.34), probe(0, 0, 0.935, 0.15))
NOTHING = (probe(1, 4, 0.5, 0.01), probe(2, 8, 0.52, -0.05), probe(3, 16, 0.4, 0.015), probe(0, 0, 0.6, 0.0))
LATE = (probe(1, 4, 0.5, 0.005), probe(2, 8, 0.52, 0.0), probe(3, 16, 0.6, 0.2), probe(0, 0, 0.65, 0.1))


def plan(backbone: Backbone, found: Evidence | None, task: str = "detect", **wishes: Any) -> Plan:
    given: dict[str, Any] = {"given": {}, "budget_seconds": 3600.0} | wishes
    return make_plan(facts(task), found, backbone=backbone, wishes=Wishes(**given))


def names(made: Plan) -> list[str]:
    return [rung.method for rung in made.rungs]


def told(made: Plan, what: str) -> tuple[str, str]:
    return next((choice.value, choice.why) for choice in made.decided if choice.what == what)


# Which rungs


@TASKS
def test_heads_first_and_then_everything_where_the_time_is_ample(task: str, backbone: Backbone) -> None:
    made = plan(backbone, evidence(*KNOWS), task)
    assert names(made) == ["frozen", "full"]
    value, why = told(made, "partial")
    assert value == "left out"
    assert "enough for the early stages to adapt too" in why
    assert "random weights need 10000 training images" in told(made, "scratch")[1]
    frozen, full = (rung.why for rung in made.rungs)
    assert (
        "all maps together names 93.5% (91.3% to 95.2%) rightly, 15.0 points (13.0 to 17.0) more than with random weights"
        in frozen
    )
    assert "Kept only if the validation images say so" in full
    assert all(rung.expected is None for rung in made.rungs)  # a mean average precision is not foretold
    assert made.frame is not None


def test_late_stages_alone_where_too_few_passes_of_everything_fit(backbone: Backbone) -> None:
    cost = replace(COST, stages=(0.5, 0.4, 0.05, 0.02, 0.01), step=1.08)
    made = plan(backbone, evidence(*KNOWS, cost=cost), budget_seconds=900.0)
    assert names(made) == ["frozen", "partial"]
    value, why = told(made, "full")
    assert value == "left out"
    assert "only 2 of 100 passes of full fit" in why
    assert "partial, whose first stages stay frozen" in why


def test_early_maps_that_know_nothing_are_not_kept(backbone: Backbone) -> None:
    cost = replace(COST, stages=(0.5, 0.4, 0.05, 0.02, 0.01), step=1.08)
    made = plan(backbone, evidence(*LATE, cost=cost), budget_seconds=900.0)
    assert names(made) == ["frozen", "full"]
    assert "know no more than those of random weights" in told(made, "partial")[1]


def test_where_little_time_is_saved_everything_is_tuned(backbone: Backbone) -> None:
    cost = replace(COST, stages=(0.0, 0.0, 0.0, 0.03, 0.02), head=0.9, step=0.95)
    made = plan(backbone, evidence(*KNOWS, cost=cost), budget_seconds=3000.0)
    assert names(made) == ["frozen", "full"]
    assert "too little is saved" in told(made, "partial")[1]


@TASKS
def test_a_pretraining_that_is_worth_nothing_is_not_frozen_and_scratch_has_a_try(
    task: str, backbone: Backbone
) -> None:
    made = plan(backbone, evidence(*NOTHING), task)
    assert names(made) == ["full", "scratch"]
    assert "random weights" in told(made, "frozen")[1]
    assert "pretraining is worth nothing measurable here" in made.rungs[1].why


def test_no_first_rung_where_its_maps_alone_take_too_long(backbone: Backbone) -> None:
    made = plan(backbone, evidence(*KNOWS), budget_seconds=240.0)
    assert "frozen" not in names(made)
    assert "more than a quarter of the budget" in told(made, "frozen")[1]


def test_what_does_not_fit_at_all_is_left_out(backbone: Backbone) -> None:
    """Heads and their maps take 118 s for three passes; one of everything 1222 s, of the late stages 520, without looks."""
    cost = replace(COST, stages=(2.0, 1.0, 0.5, 1.0, 1.5), step=6.1)
    made = plan(backbone, evidence(*KNOWS, cost=cost), budget_seconds=700.0)
    assert names(made) == ["frozen"]
    assert "a single pass takes about" in told(made, "full")[1]
    assert told(made, "partial")[0] == "left out"
    alone = plan(backbone, evidence(*NOTHING, cost=cost), budget_seconds=60.0)
    assert names(alone) == ["full"]  # something is always tried


@pytest.mark.parametrize("found", [None, evidence(), evidence(*KNOWS, cost=None)])
def test_what_was_not_measured_is_not_used(found: Evidence | None, backbone: Backbone) -> None:
    made = plan(backbone, found)
    assert names(made) == ["frozen", "full"]
    if found is None or found.cost is None:
        assert all(rung.seconds is None for rung in made.rungs)


def test_without_a_budget_everything_is_tuned_for_all_passes(backbone: Backbone) -> None:
    made = plan(backbone, evidence(*KNOWS), budget_seconds=None)
    assert names(made) == ["frozen", "full"]
    for rung in made.rungs:
        assert (
            told(made, f"{rung.method}: passes")[0]
            == f"about {rung.params['epochs']} of {rung.params['epochs']}"
        )


@pytest.mark.parametrize("name", ["frozen", "partial", "full", "scratch"])
def test_one_method_alone(name: str, backbone: Backbone) -> None:
    made = plan(backbone, None, method=name)
    assert names(made) == [name]


def test_a_plan_survives_its_file(backbone: Backbone, tmp_path: Path) -> None:
    made = plan(backbone, evidence(*KNOWS))
    records.save(tmp_path / "plan.json", made)
    assert load_plan(tmp_path / "plan.json") == made


# What they take


def test_seconds_by_hand(backbone: Backbone) -> None:
    """200 images in training and 80 in validation, four views, ten passes."""
    params = {"epochs": 10, "views": 4, "unfreeze": 2}
    frozen = pace_of(METHODS["frozen"], params, facts(), COST)
    assert frozen == Pace(
        once=pytest.approx(2 + 880 * 0.05),  # type: ignore[arg-type]
        epoch=pytest.approx(20.0),  # type: ignore[arg-type]
        look=pytest.approx(80 * (0.1 / 3 + 0.005)),  # type: ignore[arg-type]
        planned=10,
    )
    partial = pace_of(METHODS["partial"], params, facts(), COST)
    assert partial.epoch == pytest.approx(200 * (0.1 + 0.03))
    assert partial.once == pytest.approx(2 + 880 * (0.01 + 0.04 * (1 - 0.03 / 0.15)))
    full = pace_of(METHODS["full"], params, facts(), COST)
    assert full.epoch == pytest.approx(200 * 0.26)
    assert full.look == pytest.approx(80 * (0.05 + 0.1 / 3 + 0.005))
    assert full.seconds(10) == pytest.approx(2 + 10 * 52 + 11 * full.look)
    assert full.seconds(20) == pytest.approx(
        2 + 20 * 52 + 14 * full.look
    )  # looks do not grow with the passes


def test_images_are_read_once_as_far_as_there_is_room(backbone: Backbone) -> None:
    cost, params = replace(COST, prepare=0.002), {"epochs": 10, "views": 4}
    full = pace_of(METHODS["full"], params, facts(), cost)
    assert full.epoch == pytest.approx(200 * 0.252)
    assert full.once == pytest.approx(2 + 200 * 0.008)
    frozen = pace_of(METHODS["frozen"], params, facts(), cost)
    assert frozen.once == pytest.approx(2 + 200 * 0.008 + 800 * 0.042 + 80 * 0.05)
    large = replace(facts(), long_side=4000.0, size_quantiles=(3000.0,) * 5)  # 36 MB each: 29.8 of them fit
    assert kept_share(large) == pytest.approx(2**30 / (200 * 36e6))
    assert pace_of(METHODS["full"], params, large, cost).epoch == pytest.approx(
        200 * (0.25 + 0.002 * kept_share(large) + 0.01 * (1 - kept_share(large)))
    )


def test_few_passes_need_no_more_views(backbone: Backbone) -> None:
    few, many = (pace_of(METHODS["frozen"], {"epochs": n, "views": 4}, facts(), COST) for n in (2, 10))
    assert few.once == pytest.approx(2 + 480 * 0.05)
    assert many.once > few.once


def test_passes_that_fit() -> None:
    pace = Pace(once=10, epoch=20, look=1, planned=6)
    assert [pace.fitting(seconds) for seconds in (0, 31.9, 32, 53, 1000, float("inf"))] == [0, 0, 1, 2, 6, 6]


def test_the_prediction_is_of_what_fits(backbone: Backbone) -> None:
    """No rung is said to take more than there is, if a single pass fits."""
    made = plan(backbone, evidence(*KNOWS), budget_seconds=3000.0)
    seconds = [rung.seconds for rung in made.rungs]
    assert seconds[0] is not None
    assert seconds[1] is not None
    assert seconds[0] <= 750
    assert sum(each for each in seconds if each) <= 3000
    passes = int(told(made, "full: passes")[0].split()[1])
    pace = pace_of(METHODS["full"], made.rungs[1].params, facts(), COST)
    assert seconds[1] == pytest.approx(pace.seconds(passes))
    assert pace.seconds(passes + 1) > 3000 - seconds[0]


# What is told


def test_the_guide_says_what_was_measured_and_what_follows(backbone: Backbone) -> None:
    guide = plan(backbone, evidence(*KNOWS)).guide
    assert guide.similarity == "far"
    assert guide.measured == (
        "distance to the pretraining images: far (0.34)",
        "by depth: 1.1 in the early third of the layers, 0.21 in the middle, 1.1 in the late",
        (
            "of 3600 places in 128 training images, all classes alike, a simple head on all maps together names "
            "93.5% (91.3% to 95.2%) rightly, 15.0 points (13.0 to 17.0) more than with random weights"
        ),
        "on one map alone: 82.0% (80.0% to 83.9%) at 1/4, 87.0% (84.9% to 88.8%) at 1/8, 93.0% (90.8% to 94.7%) at 1/16",
    )
    assert guide.therefore.startswith("frozen (about ")
    assert "; then full (about " in guide.therefore


def test_nothing_is_said_of_what_was_not_measured(backbone: Backbone) -> None:
    bare = replace(evidence(), distance=Distance(overall=None, n=0, reason="nothing to compare with"))
    assert measured(bare) == ()
    single = evidence(probe(1, 4, 0.8, None))
    assert "random" not in " ".join(measured(single))
    assert early_transfers(single)
    assert single.transfers is None
    assert evidence(*KNOWS).transfers is True
    assert evidence(*NOTHING).transfers is False
