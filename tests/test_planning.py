"""Plans: everything resolved, each value with its reason, and no argument without effect."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest

from headstart._core import records
from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart._core.records import from_plain
from headstart.methods import METHODS
from headstart.planning import Plan, Wishes, check_given, make_plan
from headstart.weights import Backbone, blank
from tests.test_methods import facts


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def plan(backbone: Backbone, n: int = 200, **wishes: Any) -> Plan:
    return make_plan(facts(n), None, backbone=backbone, wishes=Wishes(**({"given": {}} | wishes)))


def usual(n: int = 200) -> list[str]:
    """The methods that stand on a ladder where nothing was measured."""
    return [name for name in on_ladder() if not METHODS[name].why_not(facts(n), None)]


def on_ladder() -> list[str]:
    """The methods that `auto` considers."""
    return [name for name, row in METHODS.items() if not row.on_request and "classify" in row.tasks]


def test_auto_climbs_every_usual_method_in_the_order_of_cost(backbone: Backbone) -> None:
    made = plan(backbone)
    assert [rung.method for rung in made.rungs] == usual()
    assert {"linear-probe", "full"} <= set(usual())
    left_out = {choice.what for choice in made.decided if choice.value == "left out"}
    assert left_out == set(on_ladder()) - set(usual())
    assert (made.task, made.weights, made.seed, made.budget_seconds) == (
        "classify",
        "random:test_resnet",
        0,
        600,
    )
    assert all(rung.why for rung in made.rungs)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if "classify" in row.tasks])
def test_one_method_alone(name: str, backbone: Backbone) -> None:
    made = plan(backbone, method=name)
    assert [rung.method for rung in made.rungs] == [name]
    assert made.rungs[0].why == "asked for"


def test_nothing_is_left_to_decide(backbone: Backbone) -> None:
    """Every rung's parameters are a whole record of their method, and a plan survives its file."""
    made = plan(backbone)
    for rung in made.rungs:
        params = from_plain(METHODS[rung.method].params, rung.params, where="the test")
        assert asdict(params) == rung.params
        # Left to the solver: what it finds out by cross-validation, and what depends on the machine that will train.
        left = {key for key, value in rung.params.items() if value == "auto"}
        assert left <= {"depths", "pooling", "compiled"}
    assert from_plain(Plan, records.to_plain(made), where="the test") == made


def test_a_plan_is_pure(backbone: Backbone) -> None:
    given = {"epochs": 3}
    assert plan(backbone, given=given) == plan(backbone, given=given)
    assert given == {"epochs": 3}


def test_every_decision_has_a_reason(backbone: Backbone) -> None:
    made = plan(backbone, given={"epochs": 3})
    assert made.decided[0].what == "weights"
    assert made.decided[0].value == "random:test_resnet"
    assert "licence none" in made.decided[0].why
    reasons = {choice.what: (choice.value, choice.why) for choice in made.decided}
    assert len(reasons) == len(made.decided)
    assert all(why for _, why in reasons.values())
    assert reasons["full: epochs"] == ("3", "asked for")


@pytest.mark.parametrize(
    ("n", "size"), [(999, "small"), (1000, "between"), (10_000, "between"), (10_001, "large")]
)
def test_the_guide_by_size(n: int, size: str, backbone: Backbone) -> None:
    guide = plan(backbone, n=n).guide
    assert (guide.size, guide.similarity) == (size, "unknown")
    assert guide.prior


# Arguments


def test_an_unknown_option_is_answered(backbone: Backbone) -> None:
    with pytest.raises(BadOption, match=r"--epoch has no effect on linear-probe, .*full") as caught:
        plan(backbone, given={"epoch": 3})
    assert "Did you mean 'epochs'?" in str(caught.value)


def test_an_option_without_effect_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(BadOption, match="--batch-size has no effect on linear-probe") as caught:
        plan(backbone, method="linear-probe", given={"batch_size": 8})
    assert re.search(r"It belongs to ([\w-]+, )*full(, [\w-]+)*\.", str(caught.value))
    assert caught.value.exit_code == 2


def test_an_unknown_method_is_answered() -> None:
    with pytest.raises(BadOption, match="Did you mean 'linear-probe'"):
        check_given("linear_probe", {})


def test_a_shared_option_reaches_both(backbone: Backbone) -> None:
    made = plan(backbone, given={"class_weights": "auto"})
    assert [rung.params["class_weights"] for rung in made.rungs] == ["auto"] * len(usual())


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("augment", "heavy"), ("folds", 1)])
def test_bad_values_are_refused_before_any_work(key: str, value: Any) -> None:
    with pytest.raises(BadOption, match=f"--{key}"):
        check_given("auto", {key: value})


def test_a_value_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="epochs"):
        check_given("full", {"epochs": "many"})


def test_values_become_what_the_record_holds(backbone: Backbone) -> None:
    """From Python or JSON a whole number may come as text or as 5.0; the plan says 5."""
    made = plan(backbone, method="full", given={"epochs": "5", "batch_size": 16.0})
    assert made.rungs[0].params["epochs"] == 5
    assert type(made.rungs[0].params["epochs"]) is int
    assert type(made.rungs[0].params["batch_size"]) is int
    assert {c.what: c.value for c in made.decided}["full: epochs"] == "5"


# A method that declines

NOISY = {"batchnorm": "tuned", "batch_size": 8}


def test_a_decline_leaves_the_rung_out_and_says_so(backbone: Backbone) -> None:
    made = plan(backbone, given=NOISY)
    assert made.rungs[0].method == "linear-probe"
    assert "full" not in {rung.method for rung in made.rungs}
    left_out = next(choice for choice in made.decided if choice.what == "full")
    assert left_out.value == "left out"
    assert "batches of 8" in left_out.why


def test_a_decline_of_the_one_method_asked_for_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(BadPlan, match=r"full declines: .*batches of 8"):
        plan(backbone, method="full", given=NOISY)
