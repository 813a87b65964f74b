"""Evidence made by hand and the plans that must follow from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import Any

import pytest

from headstart._core import records
from headstart._core.records import from_plain
from headstart.data.records import DatasetFacts, SplitFacts
from headstart.evidence import Cost, Curve, CurvePoint, DepthProbe, Evidence, SizeProbe
from headstart.methods import METHODS, Suggestion
from headstart.metrics import wilson
from headstart.planning import Plan, Wishes, make_plan
from headstart.planning.expect import Setting, expect, place_words, seconds, tuning_share
from headstart.planning.worth import chance_of_confirming, confidence, not_worth
from headstart.similarity import Distance
from headstart.weights import Backbone, blank
from tests.test_methods import facts as base_facts
from tests.test_planning import on_ladder

NATIVE = 160  # of test_resnet
DISTANCE = {"close": 0.02, "moderate": 0.05, "far": 0.12}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def facts(n: int, n_val: int | None = None, n_test: int = 200) -> DatasetFacts:
    counts = {"train": n, "val": n // 4 if n_val is None else n_val, "test": n_test}
    return replace(
        base_facts(n),
        splits={
            name: SplitFacts(n=k, per_class=dict.fromkeys("abc", k // 3), made=True)
            for name, k in counts.items()
        },
    )


def probe(name: str, accuracy: float, error: float = 0.01, random: float | None = 0.4) -> DepthProbe:
    return DepthProbe(name=name, outputs=(name,), width=64, accuracy=accuracy, error=error, random=random)


def evidence(level: str, *depths: DepthProbe, images: int = 1000, **more: Any) -> Evidence:
    value = DISTANCE[level]
    usual: dict[str, Any] = {
        "weights": "bundled:efficientnet_lite0",
        "images": images,
        "distance": Distance(overall=value, low=value * 0.98, high=value * 1.02, n=128),
        "standing": f"{level} ({value})",
        "depths": depths,
        "sizes": (SizeProbe(size=NATIVE, accuracy=depths[-1].accuracy, error=0.01, seconds_per_image=0.01),),
        "curve": None,
        "cost": Cost(forward=0.01, step=0.04, partial_step=0.01),
        "findings": (),
        "seconds": 5.0,
    }
    return Evidence(**(usual | more))


def plan(backbone: Backbone, n: int, found: Evidence | None, **wishes: Any) -> Plan:
    given = {"given": {}} | wishes
    return make_plan(facts(n), found, backbone=backbone, wishes=Wishes(**given))


def names(made: Plan) -> list[str]:
    return [rung.method for rung in made.rungs]


def why_left_out(made: Plan, name: str) -> str:
    return next(c.why for c in made.decided if c.what == name and c.value == "left out")


CLOSE = evidence("close", probe("stage2", 0.85), probe("stage4", 0.93), probe("output", 0.96), images=240)
FAR = evidence("far", probe("stage2", 0.86), probe("stage3", 0.936), probe("output", 0.839), images=630)


# The textbook's corners, measured


def test_few_close_images_begin_with_the_probe(backbone: Backbone) -> None:
    made = plan(backbone, 240, CLOSE)
    assert names(made)[0] == "linear-probe"
    assert "depth-probe" not in names(made)
    assert (made.guide.size, made.guide.similarity, made.guide.prior) == (
        "small",
        "close",
        "feature extraction",
    )
    # Tuning, if it is planned at all, is announced as a doubtful rung: 60 validation images cannot show half a point.
    assert len(made.rungs) > 1
    for rung in made.rungs[1:]:
        assert rung.doubtful
        assert "Climbed only if" in rung.why
        assert f"then, if that ends below its expectation, {rung.method}" in made.guide.therefore


def test_few_far_images_begin_with_earlier_layers(backbone: Backbone) -> None:
    made = plan(backbone, 630, FAR)
    assert names(made)[0] == "depth-probe"
    assert "linear-probe" not in names(made)
    why = why_left_out(made, "linear-probe")
    assert "block 3 93.6% (" in why
    assert "the last layer 83.9% (" in why
    assert made.guide.prior == "feature extraction from earlier layers"
    # errors of 0.01 each, on the same images: 1.96 of them about the difference
    assert any("9.7 points (7.7 to 11.7) more" in line for line in made.guide.measured)


def test_many_close_images_end_with_tuning_everything(backbone: Backbone) -> None:
    found = evidence("close", probe("stage4", 0.7), probe("output", 0.8), images=2000)
    made = plan(backbone, 20_000, found, budget_seconds=None)
    assert names(made)[0] == "linear-probe"
    assert names(made)[-1] == "full"
    assert made.guide.prior == "fine-tune the entire network"
    full = made.rungs[-1].expected
    first = made.rungs[0].expected
    assert full is not None
    assert first is not None
    # From 1,600 images in a fold to 20,000 errors fall as n ** -1/4; close: 0.15 for each tenfold beyond 100 images, so
    # log10(200) * 0.15 = 34.5 % of what is left, but for the last passes: 8 of them bring 1 - exp(-2).
    left = 0.2 * (1600 / 20_000) ** 0.25
    assert full.accuracy == pytest.approx(1 - left * (1 - 0.345 * 0.865), abs=0.001)
    assert "Kept only if" in made.rungs[-1].why


@pytest.mark.parametrize(
    ("depth", "chosen"),
    [
        (0.955, ["linear-probe", "depth-probe"]),  # below, by less than chance: the search may find more
        (0.90, ["linear-probe"]),  # far below
        (0.965, ["depth-probe"]),  # above: it chooses among the last layer too
        (0.985, ["depth-probe"]),
    ],
)
def test_the_search_for_depths_is_left_out_only_where_it_is_hopeless(
    depth: float, chosen: list[str], backbone: Backbone
) -> None:
    found = evidence("close", probe("stage3", depth), probe("output", 0.96), images=240)
    made = plan(backbone, 240, found)
    assert [name for name in names(made) if METHODS[name].solver == "features"] == chosen
    assert not any(rung.doubtful for rung in made.rungs if METHODS[rung.method].solver == "features")


def test_a_search_that_takes_long_does_not_go_first(backbone: Backbone) -> None:
    """Two thousand images, of which a thousand were probed: a pass over 1,500 takes 15 s, search and heads 16."""
    found = evidence("close", probe("stage3", 0.965), probe("output", 0.96), images=1000)
    assert names(plan(backbone, 2000, found))[:2] == ["linear-probe", "depth-probe"]
    clear = evidence("close", probe("stage3", 0.985), probe("output", 0.96), images=1000)
    assert names(plan(backbone, 2000, clear))[0] == "depth-probe"


def test_for_haste_a_tie_goes_to_the_cheaper(backbone: Backbone) -> None:
    found = evidence("close", probe("stage3", 0.965), probe("output", 0.96), images=240)
    assert "depth-probe" not in names(plan(backbone, 240, found, prefer="speed"))
    assert "depth-probe" in names(plan(backbone, 240, found, prefer="size"))


@pytest.mark.parametrize(
    ("accuracies", "read"),
    [
        (
            (0.80, 0.953, 0.965, 0.96),
            "stage2",
        ),  # 0.012 below the best, with errors of 0.02 / sqrt(2) each: a tie
        ((0.80, 0.90, 0.965, 0.96), "stage3"),
        ((0.80, 0.85, 0.90, 0.96), None),  # only the last layer is good
    ],
)
def test_for_size_the_shallowest_depth_of_a_tie_is_read(
    accuracies: tuple[float, ...], read: str | None, backbone: Backbone
) -> None:
    depths = [
        probe(name, each) for name, each in zip(("stage1", "stage2", "stage3"), accuracies, strict=False)
    ]
    wide = [replace(each, error=0.02) for each in (*depths, probe("output", accuracies[-1]))]
    made = plan(backbone, 240, evidence("close", *wide, images=240), prefer="size")
    first = made.rungs[0]
    assert first.params.get("depths", None) == read
    if read is not None:
        assert "linear-probe" not in names(made)
        assert "is not saved" in next(each.why for each in made.decided if each.what == "depth-probe: depths")
        assert first.expected is not None
        by_accuracy = dict(zip(("stage1", "stage2", "stage3"), accuracies, strict=False))
        assert first.expected.accuracy == pytest.approx(
            by_accuracy[read], abs=0.02
        )  # its own, not that of the best
        asked = plan(
            backbone, 240, evidence("close", *wide, images=240), prefer="size", given={"depths": "output"}
        )
        assert asked.rungs[0].params["depths"] == "output"


@pytest.mark.parametrize(
    ("accuracies", "tuned", "why"),
    [
        ((0.5, 0.6, 0.7, 0.8, 0.9), 2, "up to stage4: 90.0% (87.9% to 91.8%), the last"),  # the least
        (
            (0.5, 0.6, 0.7, 0.69, 0.68),
            2,
            "up to stage2: 70.0% (68.0% to 71.9%) and no further (stage4: 68.0% (66.0% to",
        ),
        ((0.5, 0.7, 0.6, 0.6, 0.6), 3, "up to stage1: 70.0%"),
        ((0.7, 0.6, 0.6, 0.6, 0.6), 4, "up to stem: 70.0%"),  # all but the stem
        # better by less than the standard error is not better
        ((0.7, 0.705, 0.705, 0.705, 0.705), 4, "up to stem: 70.0%"),
    ],
)
def test_what_lies_behind_the_best_depth_is_tuned(
    accuracies: tuple[float, ...], tuned: int, why: str, backbone: Backbone
) -> None:
    stages = [stage.name for stage in backbone.stages]
    assert len(stages) == len(accuracies)
    probes = [probe(name, value) for name, value in zip(stages, accuracies, strict=True)]
    found = evidence("far", *probes, probe("output", 0.6))
    answer = METHODS["partial"].suggest(facts(630), found, backbone, {})
    assert isinstance(answer, Suggestion)
    assert answer.params.unfreeze == tuned
    told = next(choice for choice in answer.choices if choice.what == "tuned stages")
    assert told.value == ", ".join(stages[-tuned:])
    assert why in told.why
    asked = METHODS["partial"].suggest(facts(630), found, backbone, {"unfreeze": 1})
    assert isinstance(asked, Suggestion)
    assert asked.params.unfreeze == 1


# Time


def test_a_tiny_budget_leaves_the_probe(backbone: Backbone) -> None:
    """4,000 images at 0.04 s a step: one pass takes 160 s."""
    found = evidence("moderate", probe("stage3", 0.7), probe("output", 0.8))
    made = plan(backbone, 4000, found, budget_seconds=60.0)
    assert "full" not in names(made)
    assert "a single pass takes about" in why_left_out(made, "full")
    assert names(made)[0] == "linear-probe"


def test_passes_follow_the_budget(backbone: Backbone) -> None:
    """2,000 images, step 0.04 and 500 validation images at 0.01: a pass takes 85 s; the start with the probe about 45."""
    found = evidence("moderate", probe("stage3", 0.7), probe("output", 0.8))
    setting = Setting(facts=facts(2000), evidence=found, size=NATIVE, native=NATIVE)
    full = METHODS["full"]
    one, two = (seconds(full, {"epochs": count}, setting) for count in (1, 2))
    assert one is not None
    assert two is not None
    assert two - one == pytest.approx(2000 * 0.04 + 500 * 0.01)
    made = plan(backbone, 2000, found, budget_seconds=600.0)
    rung = made.rungs[-1]
    assert rung.expected is not None
    assert rung.expected.seconds is not None
    assert rung.expected.seconds < 600
    if rung.method == "full":
        assert 1 <= rung.params["epochs"] < 15
    free = plan(backbone, 2000, found, budget_seconds=None)
    assert free.rungs[-1].params["epochs"] == 15


def test_given_passes_are_not_shortened(backbone: Backbone) -> None:
    found = evidence("moderate", probe("stage3", 0.7), probe("output", 0.8))
    made = plan(backbone, 2000, found, budget_seconds=300.0, given={"epochs": 15})
    assert all(rung.params.get("epochs", 15) == 15 for rung in made.rungs)


def test_seconds_by_hand() -> None:
    """1,000 images all probed, 250 for validation; the last two of three stages cost 0.005 + 0.015 s an image."""
    cost = Cost(forward=0.01, step=0.04, partial_step=0.5, read=0.002, stages=(0.02, 0.005, 0.015))
    found = evidence("far", probe("output", 0.8), images=1000, cost=cost)
    setting = Setting(facts=facts(1000), evidence=found, size=NATIVE, native=NATIVE)
    probed = 0.15 + 250 * 0.01 + 1000 * 0.002  # start, validation images, head
    assert seconds(METHODS["linear-probe"], {"views": 1}, setting) == pytest.approx(probed)
    searched = seconds(METHODS["depth-probe"], {"views": 1}, setting)
    assert searched == pytest.approx(probed + 0.4 + 1000 * 0.005)
    full = seconds(METHODS["full"], {"epochs": 10}, setting)
    assert full == pytest.approx(probed + 10 * (1000 * 0.042 + 250 * 0.01))
    patient = seconds(METHODS["full"], {"epochs": 10, "patience": 5}, setting)
    assert patient == pytest.approx(probed + 8 * (1000 * 0.042 + 250 * 0.01)), (
        "it ends early four times in five"
    )
    assert seconds(METHODS["full"], {"epochs": 10, "patience": 5}, setting, longest=True) == full
    partial = seconds(METHODS["partial"], {"epochs": 10, "views": 4, "unfreeze": 2}, setting)
    assert partial == pytest.approx(probed + 4250 * 0.01 + 10 * (1000 + 250 / 3) * 0.02)


def test_features_at_another_size_that_was_probed_cost_nothing_more() -> None:
    """At half the size a pass takes a quarter; 390 of 1,000 images were probed there, at all depths."""
    rows = tuple(replace(row, images=390) for row in sizes((80, 0.8, 0.0025), (NATIVE, 0.8, 0.01)))
    found = evidence("far", probe("output", 0.8), images=1000, sizes=rows)
    setting = Setting(facts=facts(1000), evidence=found, size=80, native=NATIVE)
    passed = 0.15 + (1250 - 390) * 0.0025 + 1000 * 0.002
    assert seconds(METHODS["linear-probe"], {"views": 1}, setting) == pytest.approx(passed)
    assert seconds(METHODS["depth-probe"], {"views": 1}, setting) == pytest.approx(
        passed + 0.4 + 1000 * 0.005
    )
    other = tuple(
        replace(row, reusable=False) for row in rows
    )  # computed by a runtime that the fit will not have
    alone = replace(setting, evidence=replace(found, sizes=other))
    assert seconds(METHODS["linear-probe"], {"views": 1}, alone) == pytest.approx(passed + 390 * 0.0025)


# Input size


def sizes(*rows: tuple[int, float, float]) -> tuple[SizeProbe, ...]:
    native = next(accuracy for size, accuracy, _ in rows if size == NATIVE)
    return tuple(
        SizeProbe(
            size=size,
            accuracy=accuracy,
            error=0.01,
            seconds_per_image=each,
            loss=native - accuracy,
            loss_error=0.004,
        )
        for size, accuracy, each in rows
    )


def test_small_pictures_get_a_small_input(backbone: Backbone) -> None:
    """At half the size the probe loses a point, but four times as many passes fit into the budget."""
    rows = sizes((80, 0.79, 0.0025), (NATIVE, 0.8, 0.01))
    found = evidence("far", probe("stage3", 0.78), probe("output", 0.8), sizes=rows)
    made = plan(backbone, 4000, found, budget_seconds=600.0)
    assert made.input_size == 80
    why = next(c.why for c in made.decided if c.what == "input size")
    assert "80 px: 79.0% (" in why
    assert "160 px: 80.0% (" in why


def test_photos_keep_the_size_of_the_pretraining(backbone: Backbone) -> None:
    rows = sizes((80, 0.70, 0.0025), (NATIVE, 0.96, 0.01))
    found = replace(CLOSE, sizes=rows)
    assert plan(backbone, 240, found).input_size == NATIVE


@pytest.mark.parametrize(
    ("size", "short", "usual", "chosen"),
    [(128, 80.0, 0.0, 128), (80, 80.0, 0.01, NATIVE), (80, 300.0, 0.02, NATIVE)],
    ids=["small pictures", "small pictures at half the size", "photos"],
)
def test_what_a_doubtful_probe_says_of_a_size_is_drawn_to_what_is_usual(
    backbone: Backbone, size: int, short: float, usual: float, chosen: int
) -> None:
    """2 points lost, give or take 6: small pictures usually lose nothing by a smaller input, 1 by half of it, photos 2."""
    rows = tuple(replace(row, loss_error=0.06) for row in sizes((size, 0.94, 0.009), (NATIVE, 0.96, 0.01)))
    known = replace(facts(240), size_quantiles=(short,) * 5)
    found = replace(CLOSE, sizes=rows)
    setting = Setting(facts=known, evidence=found, size=size, native=NATIVE)
    spread = 0.03 if usual == 0.01 else 0.02
    trust = spread**2 / (spread**2 + 0.06**2)  # a fifth; a tenth
    assert setting.size_loss == pytest.approx(usual + 0.5 * trust * (0.02 - usual))
    wishes = Wishes(given={})
    assert make_plan(known, found, backbone=backbone, wishes=wishes).input_size == chosen


def test_no_difference_on_a_few_images_is_no_proof() -> None:
    """Of 40 photos none changed sides: the error is one image, 2.5 points, and the usual loss of two points weighs more."""
    rows = tuple(
        replace(row, loss_error=0.0, images=40) for row in sizes((80, 0.96, 0.009), (NATIVE, 0.96, 0.01))
    )
    known = replace(facts(40), size_quantiles=(300.0,) * 5)
    setting = Setting(facts=known, evidence=replace(CLOSE, sizes=rows, images=40), size=80, native=NATIVE)
    assert setting.size_loss == pytest.approx(0.02 * (1 - 0.5 * 0.02**2 / (0.02**2 + 0.025**2)))


def test_a_sure_probe_is_believed(backbone: Backbone) -> None:
    """Four points lost, give or take 0.4 (one image of 240): that depth loses 98 % of it, also with small pictures."""
    rows = sizes((80, 0.92, 0.009), (NATIVE, 0.96, 0.01))
    known = replace(facts(240), size_quantiles=(80.0,) * 5)
    setting = Setting(facts=known, evidence=replace(CLOSE, sizes=rows), size=80, native=NATIVE)
    trust = 1 / (1 + (1 / 240) ** 2 / 0.03**2)
    assert setting.size_loss == pytest.approx(0.01 + 0.5 * trust * 0.03), "other depths show half of it"
    made = make_plan(known, setting.evidence, backbone=backbone, wishes=Wishes(given={}))
    assert made.input_size == NATIVE


def test_speed_takes_the_smaller_of_two_good_sizes(backbone: Backbone) -> None:
    rows = sizes((80, 0.953, 0.0025), (NATIVE, 0.96, 0.01))
    found = replace(CLOSE, sizes=rows)
    assert plan(backbone, 240, found).input_size == NATIVE
    assert plan(backbone, 240, found, prefer="speed").input_size == 80


# Predictions


def test_the_probe_is_expected_where_cross_validation_saw_it() -> None:
    """Its heads have learnt from 192 images in each fold, the last one learns from all 300: errors fall as n ** -1/4."""
    found = replace(CLOSE, images=240)
    setting = Setting(facts=facts(240), evidence=found, size=NATIVE, native=NATIVE)
    got = expect(METHODS["linear-probe"], {}, setting)
    grown = 0.04 * (1 - (192 / 300) ** 0.25)
    value = 0.96 + grown
    assert got.accuracy == pytest.approx(value)
    # variance: the probe's 0.01, 0.012 between probes, half of what grew, 200 test images; 1.645 standard deviations
    variance = 0.01**2 + 0.012**2 + (grown / 2) ** 2 + value * (1 - value) / 200 + 0.25 / 200**2
    assert got.low == pytest.approx(value - 1.645 * variance**0.5, abs=1e-4)
    assert got.high == pytest.approx(min(1.0, value + 1.645 * variance**0.5), abs=1e-4)
    low, high = wilson(0.96 * 384, 384)  # as many images as have a standard error of 0.01
    assert f"96.0% ({low:.1%} to {high:.1%}) of 240 training images" in got.because[0]
    assert got.interval[0] == pytest.approx(value - 1.96 * variance**0.5, abs=1e-4)
    assert got.interval[1] == pytest.approx(min(1.0, value + 1.96 * variance**0.5), abs=1e-4)


def test_validation_images_that_the_user_gave_are_not_learnt_from() -> None:
    known = facts(240)
    given = replace(known, splits=known.splits | {"val": replace(known.splits["val"], made=False)})
    settings = [
        Setting(facts=each, evidence=replace(CLOSE, images=240), size=NATIVE, native=NATIVE)
        for each in (known, given)
    ]
    assert [setting.n_head for setting in settings] == [300, 240]


def test_the_learning_curve_fills_up_what_was_sampled() -> None:
    """limit - 2 / sqrt(n): of 10 + 11.2 points missing at 320 images 10 + 1.8 are left at 12,500."""
    points = (CurvePoint(n=200, accuracy=0.76, error=0.01), CurvePoint(n=400, accuracy=0.8, error=0.01))
    curve = Curve(
        points=points, limit=0.9, scale=2, rate=0.5, twice=(0.83, 0.8, 0.86), fourfold=(0.85, 0.8, 0.88)
    )
    found = evidence("close", probe("output", 0.8), images=400, curve=curve)
    setting = Setting(facts=facts(10_000), evidence=found, size=NATIVE, native=NATIVE)
    got = expect(METHODS["linear-probe"], {}, setting)
    left = 0.2 * (0.1 + 2 / 12_500**0.5) / (0.1 + 2 / 320**0.5)
    assert got.accuracy == pytest.approx(1 - left)
    grown = 100 * (0.2 - left)
    told = f"the learning curve adds {grown:.1f} points ({0.02 * grown:.1f} to {1.98 * grown:.1f})"
    assert told in " ".join(got.because)


def test_the_best_of_many_depths_was_also_lucky() -> None:
    """9.7 points more on stage3, give or take about 1: nearly all of it; give or take 6: half."""
    sure = Setting(facts=facts(630), evidence=FAR, size=NATIVE, native=NATIVE)
    unsure = evidence("far", probe("stage3", 0.936, 0.06), probe("output", 0.839, 0.06), images=630)
    doubtful = Setting(facts=facts(630), evidence=unsure, size=NATIVE, native=NATIVE)
    depth = METHODS["depth-probe"]
    left = (
        504 / 787
    ) ** 0.25  # of the errors: a fold has 504 images, all for training and validation are 787
    for setting, trust in ((sure, 0.06**2 / (0.06**2 + 0.01**2)), (doubtful, 0.5)):
        expected = 1 - (1 - 0.839 - trust * 0.097) * left
        assert expect(depth, {}, setting).accuracy == pytest.approx(expected)


@pytest.mark.parametrize(
    ("level", "n", "share"),
    [("close", 100, 0.0), ("close", 10_000, 0.3), ("far", 1000, 0.3), ("far", 10, 0.0), ("far", 10**7, 0.75)],
)
def test_shares_by_hand(level: str, n: int, share: float) -> None:
    found = evidence(level, probe("output", 0.8))
    setting = Setting(facts=facts(n), evidence=found, size=NATIVE, native=NATIVE)
    assert tuning_share(setting) == pytest.approx(share)


def test_tuning_is_expected_to_reach_what_a_better_depth_has() -> None:
    setting = Setting(facts=facts(630), evidence=FAR, size=NATIVE, native=NATIVE)
    got = expect(METHODS["full"], {"epochs": 15}, setting)
    assert got.accuracy >= 0.91
    assert got.low < 0.9 < got.high


def test_intervals_stay_inside_the_unit() -> None:
    found = evidence("far", probe("output", 1.0, error=0.0), images=50)
    setting = Setting(facts=facts(50, n_test=10), evidence=found, size=NATIVE, native=NATIVE)
    for method in METHODS.values():
        got = expect(method, {"epochs": 5}, setting)
        assert 0 <= got.low <= got.accuracy <= got.high <= 1


# Worth


def test_confidence_is_shared_among_candidates() -> None:
    """Each of k keeps a tie by luck with 1 - c; all k together with 10 %."""
    for k in (1, 2, 5):
        assert 1 - confidence(k) ** k == pytest.approx(0.1)


def test_more_images_confirm_more() -> None:
    chances = [chance_of_confirming(0.02, accuracy=0.9, images=n, candidates=1) for n in (50, 500, 5000)]
    assert chances == sorted(chances)
    assert chances[0] < 0.25
    assert chances[-1] > 0.95


# The plan as a whole


def test_a_measured_plan_is_pure_and_survives_its_file(backbone: Backbone) -> None:
    before = copy.deepcopy(records.to_plain(FAR))
    made = plan(backbone, 630, FAR)
    assert made == plan(backbone, 630, FAR)
    assert records.to_plain(FAR) == before
    assert from_plain(Plan, records.to_plain(made), where="the test") == made
    for rung in made.rungs:
        assert asdict(from_plain(METHODS[rung.method].params, rung.params, where="the test")) == rung.params


def test_every_reason_names_its_numbers(backbone: Backbone) -> None:
    for made in (plan(backbone, 240, CLOSE), plan(backbone, 630, FAR)):
        for rung in made.rungs:
            assert rung.expected is not None
            assert f"{rung.expected.accuracy:.1%}" in rung.why
            assert all(any(char.isdigit() for char in reason) for reason in rung.expected.because)
        assert any(char.isdigit() for char in made.guide.therefore)
        left = [c for c in made.decided if c.value == "left out"]
        assert {c.what for c in left} | set(names(made)) == set(on_ladder())
        assert all(c.why for c in left)


def test_words_for_newcomers(backbone: Backbone) -> None:
    made = plan(backbone, 630, FAR)
    told = " ".join((*made.guide.measured, made.guide.therefore, *(r.why for r in made.rungs)))
    for word in ("BatchNorm", "stage3", "logit", "KL"):
        assert word not in told
    assert place_words("stage2+output") == "block 2 and the last layer"


def test_one_method_is_planned_as_asked_and_predicted(backbone: Backbone) -> None:
    made = plan(backbone, 630, FAR, method="full", budget_seconds=5.0)
    assert names(made) == ["full"]
    assert made.rungs[0].why == "asked for"
    assert made.rungs[0].params["epochs"] == 15
    assert made.rungs[0].expected is not None


@pytest.mark.parametrize(
    ("gain", "seconds_taken", "prefer", "asked"),
    [
        (0.001, 20.0, "accuracy", False),  # tried sooner than foretold
        (0.0, 5.0, "size", False),
        (-0.001, 5.0, "accuracy", True),  # a loss is expected
        (0.001, 21.0, "accuracy", True),
        (0.001, 5.0, "speed", True),
        (0.001, None, "accuracy", True),  # nothing was timed
    ],
)
def test_what_takes_seconds_is_tried(
    gain: float, seconds_taken: float | None, prefer: str, asked: bool
) -> None:
    why = not_worth(gain, accuracy=0.8, images=60, candidates=1, seconds=seconds_taken, prefer=prefer)
    assert bool(why) == asked
