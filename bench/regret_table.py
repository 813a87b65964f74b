"""The report of `bench/regret.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.regret_report import FACTOR, STRATEGIES

Answer = dict[str, Any]

_INTRODUCTION = """Points of accuracy on the test images. Regret is against the best of all results of a cell on the same
test images, which nobody can choose and which is also the luckiest."""


def table(report: Answer) -> str:
    """The whole report: regret first, then each cell, then everything that the predictions promised."""
    parts = [
        "# What the planner's choices cost",
        _INTRODUCTION,
        _regret(report["regret"]),
        _time(report["time"]),
        _cells(report["cells"]),
        _calibration(report["calibration"]),
        _curve(report["curve"]),
        _distance(report["distance"]),
        _depth(report["depth"]),
        _input_size(report["input_size"], report["input_size_by_set"]),
        _rule(report["size_rule"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _regret(found: Answer) -> str:
    rows = [
        (
            name,
            *(_points(found[name][what]) for what in ("mean", "worst")),
            found[name]["worst_in"],
            f"{100 * found[name]['fair']:+.1f}",
        )
        for name in STRATEGIES
        if name in found
    ]
    head = ("strategy", "mean regret", "worst", "in", "mean without the luck of the best")
    luck = (
        "Without luck: the best result is chosen on one half of the test images and compared on the other half; below zero "
        "a strategy chooses better than that."
    )
    return f"## Regret over {found['cells']} cells\n\n" + _rows(head, rows) + f"\n\n{luck}"


def _time(found: Answer) -> str:
    if not found:
        return ""
    others = ", ".join(
        f"{name} {found[f'{name}_seconds']:.0f} s" for name in STRATEGIES if f"{name}_seconds" in found
    )
    return (
        f"All cells together take `auto` {found['auto_seconds']:.0f} s, measuring included, and the oracle's methods "
        f"{found['oracle_seconds']:.0f} s: {found['sum_over_sum']:.2f} times as long (median of the cells "
        f"{found['median_ratio']:.2f}; at most 1.3 times in {found['share_within_1.3']:.0%} of them). The others: {others}."
    )


def _cells(rows: Sequence[Answer]) -> str:
    def told(row: Answer, name: str) -> str:
        found = row["strategies"].get(name)
        return "" if found is None else _points(found["accuracy"])

    body = []
    for row in rows:
        found = row["strategies"].get("auto")
        chosen = "" if found is None else f"{found['chosen']}, {found['seconds']:.0f} s"
        regret = "" if found is None else _points(found["regret"])
        best = f"{_points(row['oracle_accuracy'])} {row['oracle']}, {row['oracle_seconds']:.0f} s"
        rest = [told(row, name) for name in STRATEGIES if name != "auto"]
        body.append((row["cell"], row["level"], chosen, told(row, "auto"), regret, *rest, best))
    head = (
        "set, images",
        "distance",
        "auto",
        "accuracy",
        "regret",
        *(n for n in STRATEGIES if n != "auto"),
        "oracle",
    )
    return "## Cells\n\n" + _rows(head, body)


def _calibration(found: Answer) -> str:
    rows = [
        (
            name,
            str(row["results"]),
            f"{row['accuracy_holds']:.0%}",
            f"{100 * row['mean_difference']:+.1f} +- {100 * row['spread_of_difference']:.1f}",
            _points(row["mean_width"]),
            f"{row['seconds_within_factor']:.0%}",
            f"{row['median_seconds_ratio']:.2f}",
        )
        for name, row in found.items()
    ]
    head = (
        "predictions for",
        "results",
        "interval holds the accuracy",
        "reached less expected",
        "width of the interval",
        f"seconds within {FACTOR:g}x",
        "seconds taken / expected, median",
    )
    return "## Predictions\n\n" + _rows(head, rows)


def _curve(found: Answer) -> str:
    rows = [
        (
            name,
            str(row["forecasts"]),
            f"{row['hold']:.0%}",
            f"{row['hold_with_the_error_of_the_point']:.0%}",
            _points(row["mean_width"]),
        )
        for name, row in found.items()
    ]
    head = ("learning curve", "forecasts", "hold", "with the error of the point", "width")
    return "## More labels\n\n" + _rows(head, rows) if rows else ""


def _distance(found: Answer) -> str:
    parts = []
    for weight, row in found.items():
        rho = row["spearman"]
        rows = [
            (
                each["set"],
                f"{each['distance']:.3f}",
                f"{each['loss']:.2f}",
                f"{each['errors_left']:.2f}",
                _points(each["pretrained"]),
                _points(each["random"]),
                _points(each["error"]),
                _points(each["loss_to_best"]),
            )
            for each in sorted(row["sets"], key=lambda each: each["distance"])
        ]
        head = (
            "set",
            "distance",
            "transfer loss",
            "errors left",
            "probe, pretrained",
            "probe, random",
            "error of the probe",
            "loss to the best",
        )
        told = (
            f"Spearman with {weight}: {rho['loss']:.2f} with the transfer loss (the share of the way from guessing to no "
            f"errors that pretraining does not bring beyond random weights), {rho['errors_left']:.2f} with the share of a "
            f"random network's errors that are left, {rho['error']:.2f} with the bare error, "
            f"{rho['loss_to_best']:.2f} with the loss to the best method. {_smaller(row['by_images'])}"
        )
        parts.append(f"{told}\n\n{_rows(head, rows)}")
    return "## Distance and transfer loss\n\n" + "\n\n".join(parts) if parts else ""


def _smaller(found: Answer) -> str:
    """The same correlation in cells of one size, in a sentence."""
    told = ", ".join(
        f"{each['loss']:.2f} with {count} images ({each['sets']} sets)" for count, each in found.items()
    )
    return f"With the transfer loss of smaller cells: {told}." if told else ""


def _depth(rows: Sequence[Answer]) -> str:
    body = [(row["cell"], row["level"], _interval(row)) for row in rows]
    title = "## Depth probe less last-layer probe, points with a paired 95 % interval"
    return f"{title}\n\n" + _rows(("cell", "distance", "gain"), body) if body else ""


def _interval(row: Answer) -> str:
    return f"{100 * row['gain']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def _input_size(rows: Sequence[Answer], by_set: Sequence[Answer]) -> str:
    body = [
        (
            row["cell"],
            row["method"],
            f"{row['size']} px",
            _interval(row),
            f"{row['seconds']:.1f} s",
            f"{row['native_seconds']:.1f} s",
        )
        for row in rows
    ]
    head = (
        "cell",
        "method",
        "the plan's size",
        "gain over the pretraining's size",
        "seconds",
        "at the pretraining's",
    )
    if not body:
        return ""
    kinds = {"features": "closed forms", "gradient": "tuning"}
    whole = [
        (
            row["set"],
            kinds[row["solver"]],
            str(row["pairs"]),
            f"{100 * row['gain']:+.1f}",
            f"{row['time']:.2f}",
        )
        for row in by_set
    ]
    head_whole = ("set", "methods", "pairs", "mean gain", "time at the plan's size / at the pretraining's")
    return (
        f"## Input size\n\n{_rows(head, body)}\n\n### Over all cells of a set\n\n{_rows(head_whole, whole)}"
    )


def _rule(found: Answer) -> str:
    rows = [
        (name, _points(row["all"]), _points(row["where_they_differ"]), str(row["cells_that_differ"]))
        for name, row in found["mean_loss"].items()
    ]
    title = "## When doubt is in favour of a smaller input: points lost, on images of training and validation"
    head = ("rule", "all cells", "cells in which the rules differ", "number of those")
    return f"{title}\n\n" + _rows(head, rows)
