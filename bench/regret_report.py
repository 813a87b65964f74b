"""What the cells of `bench/regret.py` say: regret, calibration, distance, depth, input size; as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from bench.rank_regret import fair_regret
from bench.regret_replay import Course, Floats, Result, Stored, always, auto, oracle, textbook
from headstart._core.seed import generator
from headstart.evidence.curve import Measured, fit_curve
from headstart.evidence.records import Curve
from headstart.methods import METHODS
from headstart.planning import Wishes, choose, expect
from headstart.planning.expect import Setting, output_probe

Answer = dict[str, Any]

FACTOR = 1.5
"""Predicted seconds count as right within this factor, either way."""

_FIXED = ("linear-probe", "depth-probe", "partial", "full")
_RESAMPLES = 4000
_LEAST_SETS = 6  # below, an order says nothing
_Z95 = 1.959963984540054

STRATEGIES: dict[str, Callable[[Stored], Course | None]] = {
    "auto": auto,
    "textbook": textbook,
    **{f"always {name}": partial(always, method=name) for name in _FIXED},
}


def report(cells: Sequence[Stored]) -> Answer:
    """Everything, from the stored cells."""
    rows = [cell_row(each) for each in cells]
    return {
        "regret": regret(rows),
        "time": _time(rows),
        "calibration": calibration(cells),
        "curve": curve_forecasts(cells),
        "distance": distance(cells),
        "depth": depth(cells),
        "input_size": (sizes := input_size(cells)),
        "input_size_by_set": by_set(sizes),
        "size_rule": size_rule(cells),
        "cells": rows,
    }


def cell_row(stored: Stored) -> Answer:
    """One cell: what every strategy reached, what it cost, and what the plan had foretold."""
    best = oracle(stored)
    courses = {name: course for name, strategy in STRATEGIES.items() if (course := strategy(stored))}
    correct = {each.name: stored.right(each) for each in stored.results}
    told = courses.get("auto")
    return {
        "cell": stored.name,
        "weights": stored.about.cell.weights,
        "train": stored.facts.n_train,
        "test": len(stored.truth),
        "distance": stored.evidence.distance.overall,
        "level": stored.setting(stored.native).level,
        "results": {each.name: stored.accuracy(each) for each in stored.results},
        "oracle": best.chosen.name,
        "oracle_accuracy": stored.accuracy(best.chosen),
        "oracle_seconds": best.seconds,
        "measuring_seconds": stored.measuring,
        "strategies": {
            name: {
                "chosen": course.chosen.name,
                "climbed": [each.name for each in course.climbed],
                "missing": list(course.missing),
                "accuracy": stored.accuracy(course.chosen),
                "regret": stored.accuracy(best.chosen) - stored.accuracy(course.chosen),
                "regret_fair": fair_regret(correct, course.chosen.name),
                "seconds": course.seconds,
            }
            for name, course in courses.items()
        },
        "plan": [] if told is None or told.plan is None else [_told_rung(each) for each in told.plan.rungs],
        "auto_against_oracle": None if told is None else _paired(stored, best.chosen, told.chosen),
    }


def _told_rung(rung: Any) -> Answer:
    found = rung.expected
    values = {} if found is None else {"accuracy": found.accuracy, "low": found.low, "high": found.high}
    return {"method": rung.method, "doubtful": rung.doubtful} | values


def regret(rows: Sequence[Answer]) -> Answer:
    """Strategy -> mean and worst regret over the cells in which all strategies have a result.

    `fair` is the mean against a best that was chosen on one half of the test images and is compared on the other: free of
    the luck that the best of ten results on the same images has; below zero the strategy chose better than that.
    """
    whole = [row for row in rows if set(row["strategies"]) == set(STRATEGIES)]
    return {
        "cells": len(whole),
        **{
            name: {
                "mean": float(np.mean([row["strategies"][name]["regret"] for row in whole])),
                "fair": float(np.mean([row["strategies"][name]["regret_fair"] for row in whole])),
                "worst": max(row["strategies"][name]["regret"] for row in whole),
                "worst_in": max(whole, key=lambda row: row["strategies"][name]["regret"])["cell"],
            }
            for name in STRATEGIES
            if whole
        },
    }


def _time(rows: Sequence[Answer]) -> Answer:
    """Seconds of `auto`, measuring included, against the oracle's method alone; both without reading the folder."""
    pairs = [
        (row["strategies"]["auto"]["seconds"], row["oracle_seconds"])
        for row in rows
        if "auto" in row["strategies"]
    ]
    if not pairs:
        return {}
    ours, theirs = np.array(pairs).T
    return {
        "sum_over_sum": float(ours.sum() / theirs.sum()),
        "median_ratio": float(np.median(ours / theirs)),
        "auto_seconds": float(ours.sum()),
        "oracle_seconds": float(theirs.sum()),
        "share_within_1.3": float((ours <= 1.3 * theirs).mean()),
        **{
            f"{name}_seconds": float(
                sum(row["strategies"][name]["seconds"] for row in rows if name in row["strategies"])
            )
            for name in STRATEGIES
            if name != "auto"
        },
    }


def calibration(cells: Sequence[Stored]) -> Answer:
    """How often predictions hold: for what `auto` chose, for what it ran, and for every result, by method."""
    chosen, climbed, every = [], [], []
    by_method: dict[str, list[Answer]] = {}
    for stored in cells:
        course = auto(stored)
        for result in stored.results:
            row = _checked(stored, result)
            every.append(row)
            by_method.setdefault(result.method, []).append(row)
            if course is not None and result in course.climbed:
                climbed.append(row)
            if course is not None and result is course.chosen:
                chosen.append(row)
    out = {"chosen by auto": chosen, "climbed by auto": climbed, "every result": every} | by_method
    return {name: _shares(found) for name, found in out.items() if found}


def _checked(stored: Stored, result: Result) -> Answer:
    found, reached = stored.expected(result), stored.accuracy(result)
    return {
        "holds": found.low - 1e-9 <= reached <= found.high + 1e-9,
        "difference": reached - found.accuracy,
        "width": found.high - found.low,
        "ratio": None if found.seconds is None else result.taken / found.seconds,
        "passes": result.facts.get("best_epoch"),
    }


def _shares(rows: Sequence[Answer]) -> Answer:
    ratios = np.array([row["ratio"] for row in rows if row["ratio"] is not None])
    return {
        "results": len(rows),
        "accuracy_holds": float(np.mean([row["holds"] for row in rows])),
        "mean_difference": float(np.mean([row["difference"] for row in rows])),
        "spread_of_difference": float(np.std([row["difference"] for row in rows])),
        "mean_width": float(np.mean([row["width"] for row in rows])),
        "seconds_within_factor": float(((ratios <= FACTOR) & (ratios >= 1 / FACTOR)).mean()),
        "median_seconds_ratio": float(np.median(ratios)),
    }


def curve_forecasts(cells: Sequence[Stored]) -> Answer:
    """How often a learning curve's 95 % interval holds what more images then showed.

    `half`: the curve is fitted again without its last point, as if there were half the images, and asked for that point.
    `larger`: the curve of a cell is asked for the last point of the next larger cell of the same set, which has other folds
    and mostly other images. The second number of each takes into account that the point itself has a standard error.
    """
    halves, larger = [], []
    for stored in cells:
        curve = stored.evidence.curve
        if curve is None:
            continue
        if len(curve.points) == 4:
            halves.append(_holds(_halved(curve), curve))
        nexts = [
            other
            for other in cells
            if other.evidence.curve is not None
            and (other.about.cell.images, other.about.cell.weights)
            == (stored.about.cell.images, stored.about.cell.weights)
            and other.about.cell.count > stored.about.cell.count
        ]
        if nexts:
            after = min(nexts, key=lambda other: other.about.cell.count).evidence.curve
            assert after is not None
            larger.append(_holds(curve, after))
    return {name: _curve_shares(found) for name, found in (("half", halves), ("larger", larger)) if found}


def _halved(curve: Curve) -> Curve:
    points = curve.points[:-1]
    measured = Measured(
        counts=np.array([point.n for point in points], np.float64),
        accuracies=np.array([point.accuracy for point in points]),
        covariance=np.diag([point.error**2 for point in points]),
    )
    return fit_curve(measured, total=points[-1].n)


def _holds(curve: Curve, after: Curve) -> tuple[bool, bool, float]:
    """Whether the forecast holds the last point of the other curve, also with that point's own error; and its width."""
    point = after.points[-1]
    counts = np.log([step.n for step in curve.forecast])
    low, value, high = (
        float(np.interp(math.log(point.n), counts, [getattr(step, name) for step in curve.forecast]))
        for name in ("low", "value", "high")
    )
    wide = math.hypot((high - low) / (2 * _Z95), point.error) * _Z95
    inside = low <= point.accuracy <= high
    return inside, inside or abs(point.accuracy - value) <= wide, high - low


def _curve_shares(found: Sequence[tuple[bool, bool, float]]) -> Answer:
    held, loose, widths = zip(*found, strict=True)
    return {
        "forecasts": len(found),
        "hold": float(np.mean(held)),
        "hold_with_the_error_of_the_point": float(np.mean(loose)),
        "mean_width": float(np.mean(widths)),
    }


def distance(cells: Sequence[Stored]) -> Answer:
    """Spearman's correlation of the domain distance with the transfer loss over the sets, each at its largest cell.

    The transfer gain of a set is what pretraining brings: accuracy of a probe on the last layer less that of the same probe
    on a network of the same shape with random weights, both on the same images. `loss` is the share of the way from guessing
    to no errors at all that it does not bring: 1 - (a - r) / (1 - chance). `errors_left` is another view, the share of the
    random network's errors that the pretrained one still makes: (1 - a) / (1 - r). Where random features are nearly always
    right too, pretraining brings little (a high `loss`) and yet removes most of the few errors (few are `errors_left`).
    `by_images` asks the same of the smaller cells: the sets' order should not hang on how many images there are.
    """
    out: Answer = {}
    for weight in sorted({each.about.cell.weights for each in cells}):
        own = sorted(
            (each for each in cells if each.about.cell.weights == weight),
            key=lambda each: each.about.cell.count,
        )
        largest = list({each.about.cell.images: each for each in own}.values())
        rows = [row for each in largest if (row := _loss_row(each)) is not None]
        if len(rows) < _LEAST_SETS:
            continue
        by_images = {}
        for count in sorted({each.about.cell.count for each in own}):
            there = [each for each in own if each.about.cell.count == count]
            some = [row for each in there if (row := _loss_row(each)) is not None]
            if len(some) >= _LEAST_SETS:
                by_images[str(count)] = {"sets": len(some)} | _correlations(some)
        out[weight] = {"spearman": _correlations(rows), "by_images": by_images, "sets": rows}
    return out


def _correlations(rows: Sequence[Answer]) -> Answer:
    """Spearman's correlation of the distance with each kind of loss."""
    return {
        name: float(spearmanr([row["distance"] for row in rows], [row[name] for row in rows]).statistic)
        for name in ("loss", "errors_left", "error", "loss_to_best")
    }


def _loss_row(stored: Stored) -> Answer | None:
    probe, best = output_probe(stored.evidence), oracle(stored).chosen
    last = stored.find("linear-probe", stored.native)
    if probe.random is None or last is None or stored.evidence.distance.overall is None:
        return None
    chance = 1 / len(stored.facts.classes)
    top, reached = stored.accuracy(best), stored.accuracy(last)
    return {
        "set": stored.name,
        "distance": stored.evidence.distance.overall,
        "pretrained": probe.accuracy,
        "random": probe.random,
        "loss": 1 - (probe.accuracy - probe.random) / (1 - chance),
        "errors_left": (1 - probe.accuracy) / max(1 - probe.random, 1e-3),
        "error": 1 - reached,
        "loss_to_best": (top - reached) / max(top - chance, 1e-3),
    }


def depth(cells: Sequence[Stored]) -> list[Answer]:
    """`depth-probe` less `linear-probe` on the test images of each cell at the size of the pretraining, paired."""
    out = []
    for stored in cells:
        deep, last = (stored.find(name, stored.native) for name in ("depth-probe", "linear-probe"))
        if deep is None or last is None:
            continue
        level = stored.setting(stored.native).level
        out.append({"cell": stored.name, "level": level} | _paired(stored, deep, last))
    return out


def _paired(stored: Stored, first: Result, second: Result) -> Answer:
    """The difference in accuracy on the test images with a 95 % interval by paired bootstrap."""
    gain = stored.right(first) - stored.right(second)
    return {"gain": float(gain.mean())} | dict(zip(("low", "high"), _interval(gain), strict=True))


def _interval(values: Floats) -> tuple[float, float]:
    rng = generator(0, "regret", "bootstrap")
    places = rng.integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[places].mean(1), [0.025, 0.975])
    return float(low), float(high)


def input_size(cells: Sequence[Stored]) -> list[Answer]:
    """Each method at the plan's size beside that of the pretraining, where the plan chose another: points and seconds."""
    out = []
    for stored in cells:
        course = auto(stored)
        size = stored.native if course is None or course.plan is None else course.plan.input_size
        if size is None or size == stored.native:
            continue
        for method in METHODS:
            small, large = stored.find(method, size), stored.find(method, stored.native)
            if small is not None and large is not None:
                seconds = {"seconds": stored.alone(small), "native_seconds": stored.alone(large)}
                row = {"cell": stored.name, "size": size, "method": method}
                out.append(row | _paired(stored, small, large) | seconds)
    return out


def by_set(rows: Sequence[Answer]) -> list[Answer]:
    """The same over all cells of a set, closed forms and tuning apart: one cell alone cannot tell two sizes apart.

    `gain` is the mean over the pairs, `time` the seconds at the plan's size over those at the pretraining's.
    """
    out = []
    for name in dict.fromkeys(row["cell"].partition(" ")[0] for row in rows):
        for kind in ("features", "gradient"):
            own = [
                row
                for row in rows
                if row["cell"].partition(" ")[0] == name and METHODS[row["method"]].solver == kind
            ]
            if own:
                seconds, native = (sum(row[key] for row in own) for key in ("seconds", "native_seconds"))
                gain = float(np.mean([row["gain"] for row in own]))
                out.append(
                    {"set": name, "solver": kind, "pairs": len(own), "gain": gain, "time": seconds / native}
                )
    return out


Favour = Callable[[Setting, Wishes], float]


def _half_the_doubt(*, always: bool) -> Favour:
    """Forgives half a standard error of the probe's loss, only where every pixel shows or always."""

    def favour(setting: Setting, wishes: Wishes) -> float:
        doubt = next((each.loss_error for each in setting.evidence.sizes if each.size == setting.size), 0.0)
        return max(choose._TIES[wishes.prefer], 0.5 * doubt if always or setting.shows_all else 0.0)

    return favour


_AS_MEASURED = dict.fromkeys(("_SIZE_DIFFERENCE", "_SMALL_DIFFERENCE"), 1e3)
"""Spreads of true differences beside which every error is nothing: what was measured is believed."""

_RULES: dict[str, tuple[dict[str, float], Favour]] = {
    "the planner's": ({}, choose._favour),
    "as measured": (_AS_MEASURED, choose._favour),
    "as measured, doubt forgiven where every pixel shows": (_AS_MEASURED, _half_the_doubt(always=False)),
    "as measured, doubt forgiven always": (_AS_MEASURED, _half_the_doubt(always=True)),
}
"""How the input size is chosen -> what is believed of measured differences, and what is forgiven to a cheaper size."""


def size_rule(cells: Sequence[Stored], leave_out: Iterable[str] = ("rsscn7-satellite",)) -> Answer:
    """The planner's rule for the input size and others, judged on validation and cross-validated training images alone.

    `loss`: accuracy of the best closed-form method at the size of the pretraining less that at the chosen size, in the cells
    where one of the rules chose another size than the others did.
    """
    out: Answer = {}
    for stored in cells:
        if stored.about.cell.images in leave_out:
            continue
        chosen = {name: _size_by(name, stored) for name in _RULES}
        unseen = {size: _unseen_by(stored, size) for size in {*chosen.values(), stored.native}}
        gaps = {
            name: _mean_and_error(unseen[stored.native] - unseen[size])
            for name, size in chosen.items()
            if len(unseen[size]) and len(unseen[stored.native])
        }
        out[stored.name] = {
            name: {"size": chosen[name], "loss": gap[0], "error": gap[1]} for name, gap in gaps.items()
        }
    return {"cells": out, "mean_loss": _mean_losses(out)}


def _mean_losses(cells: Answer) -> Answer:
    """Over all cells, and over those in which the rules differ."""
    rules = list(_RULES)
    whole = [cell for cell in cells.values() if set(cell) == set(rules)]
    differ = [cell for cell in whole if len({cell[name]["size"] for name in rules}) > 1]
    return {
        name: {
            "all": float(np.mean([cell[name]["loss"] for cell in whole])) if whole else None,
            "where_they_differ": float(np.mean([cell[name]["loss"] for cell in differ])) if differ else None,
            "cells_that_differ": len(differ),
        }
        for name in rules
    }


def _size_by(rule: str, stored: Stored) -> int:
    with _ruled(*_RULES[rule]):
        course = auto(stored)
    size = None if course is None or course.plan is None else course.plan.input_size
    return size or stored.native


@contextmanager
def _ruled(believed: dict[str, float], favour: Favour) -> Iterator[None]:
    """The planner with another rule for the input size."""
    with mock.patch.object(choose, "_favour", favour), mock.patch.dict(vars(expect), believed):
        yield


def _unseen_by(stored: Stored, size: int) -> Floats:
    """Correctness (N,) on images no head saw, of the closed-form method that is best there at that size; empty: none ran."""
    found = [
        stored.unseen(each)
        for each in stored.results
        if each.size == size and METHODS[each.method].solver == "features"
    ]
    empty: NDArray[np.float64] = np.zeros(0)
    return max(found, key=lambda scores: float(scores.mean()), default=empty)


def _mean_and_error(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
