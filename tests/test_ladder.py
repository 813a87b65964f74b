"""The judge of the ladder, on cases worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart.adaptation import Ledger
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.ladder import FEW, Climbed, Outcome, chance_of_gain, judge, stays_below
from headstart.planning import Expected, Guide, Plan, Rung
from headstart.tasks import TASKS, Classifier
from headstart.training import FitResult, TrainingData
from headstart.weights import blank

DRAWS = 2000
Logits = NDArray[np.float64]


@pytest.mark.parametrize(
    ("differences", "chance"),
    [
        ([1, 1, 1], 1.0),
        ([0, 0, 0, 0], 0.5),  # every resample ties, and a tie counts half
        ([-1, -1], 0.0),
        ([1, -1], 0.5),  # 1/4 above, 1/2 tied
        ([1, 0], 3 / 4 + 1 / 8),  # tied only where both draws hit the zero
        ([1, 0, 0], 1 - 8 / 27 + 4 / 27),
        ([1, 1, -1], 20 / 27),  # above where at least two of three draws are +1
        ([-1, -1, 1], 7 / 27),
    ],
)
def test_chance_by_hand(differences: list[float], chance: float) -> None:
    spread = 3.3 * np.sqrt(chance * (1 - chance) / DRAWS)  # 3.3 standard errors: 1 in 1000
    for seed in range(3):
        assert chance_of_gain(np.array(differences, float), seed=seed) == pytest.approx(
            chance, abs=spread + 1e-9
        )


def test_chance_is_repeatable_and_seeded() -> None:
    values = np.random.default_rng(0).normal(0.02, 1, 200)
    assert chance_of_gain(values, seed=1) == chance_of_gain(values, seed=1)
    assert chance_of_gain(values, seed=1) != chance_of_gain(values, seed=2)


def test_chance_agrees_with_the_normal_approximation() -> None:
    """For many images the bootstrap of a mean is normal: chance = Phi(mean / standard error)."""
    from scipy.stats import norm

    values = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], 2000, p=[0.05, 0.88, 0.07])
    expected = norm.cdf(values.mean() / (values.std() / np.sqrt(len(values))))
    assert chance_of_gain(values, seed=0) == pytest.approx(expected, abs=0.03)


# judge


def samples(labels: list[int]) -> tuple[Sample, ...]:
    pixels = np.zeros((2, 2, 3), np.uint8)
    return tuple(Sample(name=str(n), source=pixels, labels=(label,)) for n, label in enumerate(labels))


def data(labels: list[int], train: list[int] | None = None) -> TrainingData:
    values: dict[str, Any] = {
        "train": samples(train or []),
        "val": samples(labels),
        "task": TASKS["classify"],
        "classes": ("a", "b"),
        "preprocess": Preprocess(
            height=1, width=1, resize=1, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        "store": None,
        "seed": 0,
        "refit": False,
    }
    return TrainingData(**values)


@pytest.fixture(scope="module")
def model() -> Classifier:
    body = blank("test_resnet")
    return Classifier(body.module, body.width, 2)


def logits(answers: list[int]) -> Logits:
    return np.eye(2)[answers]


def result(
    model: Classifier, answers: list[int], method: str = "full", crossed: list[int] | None = None
) -> FitResult:
    return FitResult(
        method=method,
        model=model,
        val_logits=logits(answers),
        temperature=1.0,
        seconds=1.0,
        ended="done",
        facts={},
        crossed=None if crossed is None else logits(crossed),
    )


def climbed(
    model: Classifier, answers: list[int], method: str = "linear-probe", crossed: list[int] | None = None
) -> Climbed:
    outcome = Outcome(
        method=method,
        temperature=1.0,
        seconds=1.0,
        kept=True,
        reason="",
        ended="",
        facts={},
        ledger=Ledger(method=method, groups=(), frozen_identical=True),
    )
    return Climbed(
        outcome=outcome,
        model=model,
        val_logits=logits(answers),
        crossed=None if crossed is None else logits(crossed),
    )


TRUTH = [0, 1] * 20
WRONG = [1 - label for label in TRUTH]


def right(count: int, *, first: int = 0) -> list[int]:
    """Answers right on that many images, from image `first` on."""
    return [TRUTH[n] if first <= n < first + count else WRONG[n] for n in range(40)]


def test_the_first_rung_is_always_kept(model: Classifier) -> None:
    kept, reason = judge(result(model, WRONG), None, data(TRUTH))
    assert kept
    assert "accuracy 0.0% (0.0% to 8.8%) on 40 validation images" in reason


def test_a_tie_keeps_the_cheaper(model: Classifier) -> None:
    """As good, and even as good on other images: no reason to pay more."""
    for own, other in ((right(30), right(30)), (right(20), right(20, first=20))):
        kept, reason = judge(result(model, own), climbed(model, other), data(TRUTH))
        assert not kept
        assert "linear-probe stays" in reason


def test_a_clear_gain_replaces(model: Classifier) -> None:
    """Ten images gained, none lost: no resample but the one without any of the ten ties."""
    kept, reason = judge(result(model, right(40)), climbed(model, right(30)), data(TRUTH))
    assert kept
    assert (
        "accuracy 100.0% (91.2% to 100.0%) on 40 validation images against 75.0% (59.8% to 85.8%) for linear-probe"
        in reason
    )
    assert "chance of a true gain 100%" in reason


def test_a_doubtful_gain_does_not_replace(model: Classifier) -> None:
    """One image of forty gained: tied where no draw hits it, (39/40)^40 = 36 %; chance 1 - 0.36 / 2 = 82 %."""
    kept, reason = judge(result(model, right(31)), climbed(model, right(30)), data(TRUTH))
    assert not kept
    assert "below 90%" in reason
    assert any(f"gain {percent}%" in reason for percent in range(79, 85))


def test_two_images_gained_and_none_lost_suffice(model: Classifier) -> None:
    """(38/40)^40 = 12.9 %; chance 93.6 %, above the 90 % asked for."""
    assert judge(result(model, right(32)), climbed(model, right(30)), data(TRUTH))[0]


def test_a_loss_never_replaces(model: Classifier) -> None:
    assert not judge(result(model, right(20)), climbed(model, right(30)), data(TRUTH))[0]


def test_the_comparison_is_paired(model: Classifier) -> None:
    """The same accuracies, 80 % against 75 %: sure where only gains were made, doubtful where answers were exchanged."""
    mixed = right(32, first=8)  # eight lost at the front, ten gained at the back
    assert judge(result(model, right(32)), climbed(model, right(30)), data(TRUTH))[0]
    assert not judge(result(model, mixed), climbed(model, right(30)), data(TRUTH))[0]


# Several candidates, few images


def test_more_candidates_must_be_surer(model: Classifier) -> None:
    """Two of forty gained is 93.6 % sure: enough for one candidate (90 %), not for each of three (0.9 ** (1/3) = 96.5 %)."""
    assert judge(result(model, right(32)), climbed(model, right(30)), data(TRUTH), candidates=1)[0]
    kept, reason = judge(result(model, right(32)), climbed(model, right(30)), data(TRUTH), candidates=3)
    assert not kept
    assert "below 97% (asked of each of 3 rungs)" in reason


def test_few_images_are_judged_by_cross_validation_too(model: Classifier) -> None:
    """Validation alone: a tie. Ten of forty cross-validated training images gained and none lost: kept."""
    rows = data(TRUTH, train=TRUTH)
    before = climbed(model, right(30), crossed=right(20))
    kept, reason = judge(result(model, right(30), "depth-probe", crossed=right(30)), before, rows)
    assert kept
    assert "75.0% (64.5% to 83.2%) on 40 validation images and 40 cross-validated training images" in reason
    assert not judge(result(model, right(30), "full"), before, rows)[
        0
    ]  # tuning has no cross-validated answers


def test_many_images_are_judged_on_validation_alone(model: Classifier) -> None:
    many = TRUTH * (FEW // len(TRUTH) + 1)
    before = climbed(model, right(30), crossed=[1 - label for label in many])
    kept, reason = judge(result(model, right(30), crossed=many), before, data(TRUTH, train=many))
    assert not kept
    assert "on 40 validation images against" in reason


# Rungs that are not worth their climb


def rungs_of(first: float, second: float, seconds: float, **more: Any) -> Plan:
    """A plan of two rungs with these expectations."""
    rungs = tuple(
        Rung(
            method=name,
            params={},
            why="",
            expected=Expected(accuracy=value, low=0, high=1, seconds=seconds, because=()),
        )
        for name, value in (("linear-probe", first), ("full", second))
    )
    guide = Guide(size="small", similarity="close", prior="")
    usual: dict[str, Any] = {"budget_seconds": 600.0}
    return Plan(task="classify", weights="", seed=0, decided=(), rungs=rungs, guide=guide, **(usual | more))


def test_a_gain_that_cannot_be_confirmed_is_not_waited_for(model: Classifier) -> None:
    """A tenth of 25 % errors is 2.5 points; 40 images have a spread of 7.9 and ask for 10.1: one chance in six."""
    plan = rungs_of(0.75, 0.775, 60)
    reason = stays_below(plan, plan.rungs[1], climbed(model, right(30)), data(TRUTH))
    assert "gain of 2.5 points (-13.0 to 18.0) on 40 validation images would be confirmed" in reason
    assert "chance of only 17%" in reason
    assert "linear-probe has reached 75.0%" in reason


def test_without_a_budget_every_rung_is_climbed(model: Classifier) -> None:
    plan = rungs_of(0.75, 0.775, 60, budget_seconds=None)
    assert stays_below(plan, plan.rungs[1], climbed(model, right(30)), data(TRUTH)) == ""


def test_what_was_reached_counts_not_what_was_expected(model: Classifier) -> None:
    """The plan expects half the errors to go. Of 2.5 % errors that is nothing one could see, of 50 % it is much."""
    plan = rungs_of(0.8, 0.9, 60)
    assert stays_below(plan, plan.rungs[1], climbed(model, right(39)), data(TRUTH))
    assert stays_below(plan, plan.rungs[1], climbed(model, right(20)), data(TRUTH)) == ""


def test_luck_on_few_validation_images_is_seen_through(model: Classifier) -> None:
    """All 40 validation images right, but half of 400 others not when cross-validated: (40 + 200) / 440 = 54.5 %."""
    plan = rungs_of(0.8, 0.9, 60)
    truth = TRUTH * 10
    half = [label if n % 4 < 2 else 1 - label for n, label in enumerate(truth)]
    lucky = climbed(model, right(40), crossed=half)
    assert stays_below(plan, plan.rungs[1], lucky, data(TRUTH, train=truth)) == ""
    reason = stays_below(plan, plan.rungs[1], climbed(model, right(40)), data(TRUTH, train=truth))
    assert "has reached 100.0% (91.2% to 100.0%) and no gain is expected" in reason


def test_a_gain_below_its_price_is_not_waited_for(model: Classifier) -> None:
    """Ten points in twenty minutes: worth it at a twentieth of a point a minute, not at one point a minute."""
    many = TRUTH * 25
    best = climbed(model, [*(TRUTH * 20), *([1 - label for label in TRUTH] * 5)])
    hasty = rungs_of(0.8, 0.9, 1200, prefer="speed")
    assert "not worth the 20 min" in stays_below(hasty, hasty.rungs[1], best, data(many))
    usual = rungs_of(0.8, 0.9, 1200)
    assert stays_below(usual, usual.rungs[1], best, data(many)) == ""


def test_the_log_of_a_climb_is_json(model: Classifier, tmp_path: Path) -> None:
    """An outcome survives its file: what a resumed climb reads is what the interrupted one wrote."""
    from headstart._core import records

    outcome = climbed(model, right(3)).outcome
    records.save(tmp_path / "outcome.json", outcome)
    assert records.load(Outcome, tmp_path / "outcome.json") == outcome
