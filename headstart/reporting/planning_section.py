"""The decision: the textbook's table with this data marked on it, what was measured, and what came of the expectations."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from headstart.reporting import charts
from headstart.reporting.folder import RunFolder
from headstart.reporting.wording import duration, is_number, method_words, percent, sentence, text

_SIZES = (("small", "fewer than 1,000"), ("between", "between"), ("large", "more than 10,000"))
_LEVELS = ("close", "moderate", "far")
_TABLE = {
    ("small", "close"): "feature extraction",
    ("small", "far"): "feature extraction from earlier layers",
    ("large", "close"): "fine-tune everything",
    ("large", "far"): "fine-tune with caution, possibly from scratch",
}
_BETWEEN = "try both, compare"
_Z95 = 1.96


def planning_section(run: RunFolder) -> dict[str, Any]:
    """Everything about how the plan came about; empty where nothing was measured."""
    found = run.evidence
    if not found:
        return {}
    guide = run.plan.get("guide") or {}
    return {
        "table": [
            {
                "size": label,
                "cells": [
                    {
                        "advice": _TABLE.get((size, level), _BETWEEN),
                        "here": size == guide.get("size") and level == guide.get("similarity"),
                    }
                    for level in _LEVELS
                ],
            }
            for size, label in _SIZES
        ],
        "levels": _LEVELS,
        "prior": sentence(guide.get("prior")),
        "measured": [sentence(line) for line in guide.get("measured") or ()],
        "therefore": sentence(guide.get("therefore")),
        "flips": sentence((found.get("flips") or {}).get("told")) if found.get("flips") else "",
        "images": found.get("images"),
        "seconds": duration(found.get("seconds")),
        "places": places_chart(found),
        "place_rows": _place_rows(found),
        "place_count": found.get("places") or 0,
        "depths": depth_chart(found),
        "depth_rows": _depth_rows(found),
        "distance": distance_chart(run),
        "curve": curve_chart(found),
        "sizes": _size_rows(found, run.plan.get("input_size")),
        "ladder": ladder_chart(run),
        "rungs": _rung_rows(run),
        "times": _time_rows(run),
        "skipped": [sentence(line) for line in found.get("skipped") or ()],
    }


def depth_chart(found: dict[str, Any]) -> Markup:
    """Accuracy of a simple classifier at each single depth, of the pretrained network and of one that learnt nothing."""
    single = [probe for probe in found.get("depths") or () if len(probe.get("outputs") or ()) == 1]
    if len(single) < 2 or found.get("places"):
        return Markup("")
    own = tuple((float(k), float(probe["accuracy"])) for k, probe in enumerate(single))
    band = tuple(_around(probe["accuracy"], probe["error"]) for probe in single)
    blank = tuple(
        (float(k), float(probe["random"])) for k, probe in enumerate(single) if is_number(probe.get("random"))
    )
    lines = [charts.Line(name="this network", points=own, dots=True, band=band)]
    if blank:
        lines.append(charts.Line(name="the same, untrained", points=blank, tone="muted", dots=True))
    return charts.line_chart(
        lines, x="depth: 0 the first layers, then block by block", y="right answers", percent=True
    )


def places_chart(found: dict[str, Any]) -> Markup:
    """Places named rightly, classes alike, by a simple head on each map, of the network and of one that learnt nothing."""
    maps = [probe for probe in _of_places(found) if probe.get("stride")]
    if len(maps) < 2:
        return Markup("")
    recalls = [probe["recall"] for probe in maps]
    lines = [
        charts.Line(
            name="this network",
            points=tuple((float(k), float(each["value"])) for k, each in enumerate(recalls)),
            dots=True,
            band=tuple(_around(each["value"], each["error"]) for each in recalls),
        )
    ]
    blank = tuple(
        (float(k), max(0.0, each["value"] - each["gain"]))
        for k, each in enumerate(recalls)
        if is_number(each.get("gain"))
    )
    if blank:
        lines.append(charts.Line(name="the same, untrained", points=blank, tone="muted", dots=True))
    names = ", ".join(f"{k}: 1/{probe['stride']}" for k, probe in enumerate(maps))
    return charts.line_chart(lines, x=f"map ({names} of the size)", y="places named rightly", percent=True)


def _of_places(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [probe for probe in found.get("depths") or () if found.get("places") and probe.get("recall")]


def _place_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": f"1/{probe['stride']}" if probe.get("stride") else "all together",
            "recall": f"{percent(probe['recall']['value'])} ± {percent(probe['recall']['error'])}",
            "gain": f"{percent(probe['recall']['gain'])} ± {percent(probe['recall']['gain_error'])}"
            if is_number(probe["recall"].get("gain"))
            else "",
            "accuracy": f"{percent(probe.get('accuracy'))} ± {percent(probe.get('error'))}",
            "width": text(probe.get("width")),
        }
        for probe in _of_places(found)
    ]


def _depth_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": text(probe.get("name")),
            "accuracy": percent(probe.get("accuracy")),
            "error": percent(probe.get("error")),
            "random": percent(probe.get("random")) if is_number(probe.get("random")) else "",
            "width": text(probe.get("width")),
        }
        for probe in found.get("depths") or ()
    ]


def distance_chart(run: RunFolder) -> Markup:
    """The images' distance from those of the pretraining, among domains that everybody knows."""
    guide = run.plan.get("guide") or {}
    known, own = guide.get("known") or {}, guide.get("distance")
    if not known or not is_number(own):
        return Markup("")
    rows = [(str(name), float(value), False) for name, value in known.items()]
    rows.append(("your images", float(own), True))
    return charts.scale_chart(sorted(rows, key=lambda row: row[1]), x="distance to the pretraining images")


def curve_chart(found: dict[str, Any]) -> Markup:
    """Accuracy with part of the training images as measured, and with more of them as foretold."""
    curve = found.get("curve") or {}
    points = curve.get("points") or ()
    if len(points) < 2:
        return Markup("")
    measured = charts.Line(
        name="measured",
        points=tuple((float(p["n"]), float(p["accuracy"])) for p in points),
        dots=True,
        band=tuple(_around(p["accuracy"], p["error"]) for p in points),
    )
    steps = [step for step in curve.get("forecast") or () if step["n"] <= 4.001 * found.get("images", 0)]
    foretold = charts.Line(
        name="foretold",
        points=tuple((float(step["n"]), float(step["value"])) for step in steps),
        tone="warm",
        band=tuple((float(step["low"]), float(step["high"])) for step in steps),
    )
    return charts.line_chart([measured, foretold], x="training images", y="right answers", percent=True)


def ladder_chart(run: RunFolder) -> Markup:
    """What each rung was expected to reach, with its interval, and what it reached on the validation images."""
    marks = []
    for row in _climbed(run):
        found = row["expected"]
        marks.append(
            charts.Mark(
                label=f"{method_words(row['method'])}: expected",
                value=found["accuracy"],
                low=found["low"],
                high=found["high"],
                main=False,
            )
        )
        if row["reached"] is not None:
            value = row["reached"]
            marks.append(
                charts.Mark(
                    label=f"{method_words(row['method'])}: reached", value=value, low=value, high=value
                )
            )
    return charts.interval_chart(marks, x="right answers")


def _rung_rows(run: RunFolder) -> list[dict[str, str]]:
    return [
        {
            "name": method_words(row["method"]),
            "expected": percent(row["expected"]["accuracy"]),
            "interval": f"{percent(row['expected']['low'])} to {percent(row['expected']['high'])}",
            "reached": "not climbed" if row["reached"] is None else percent(row["reached"]),
            "planned": duration(row["expected"].get("seconds"))
            if is_number(row["expected"].get("seconds"))
            else "",
            "took": "" if row["seconds"] is None else duration(row["seconds"]),
        }
        for row in _climbed(run)
    ]


def _time_rows(run: RunFolder) -> list[dict[str, str]]:
    """Of rungs of which only the duration was foretold: that, and what they took."""
    ends = {event.get("rung"): event for event in run.history if event.get("event") == "rung_end"}
    return [
        {
            "name": method_words(rung["method"]),
            "planned": duration(rung["seconds"]),
            "took": duration(ends[rung["method"]].get("seconds"))
            if rung["method"] in ends
            else "not climbed",
        }
        for rung in run.plan.get("rungs") or ()
        if is_number(rung.get("seconds"))
    ]


def _climbed(run: RunFolder) -> list[dict[str, Any]]:
    """The planned rungs of which something was expected, with what the history says that they reached."""
    ends = {event.get("rung"): event for event in run.history if event.get("event") == "rung_end"}
    rows = []
    for rung in run.plan.get("rungs") or ():
        end = ends.get(rung.get("method"))
        if rung.get("expected"):
            reached = [value for value in ((end or {}).get("metrics") or {}).values() if is_number(value)]
            rows.append(
                {
                    "method": rung["method"],
                    "expected": rung["expected"],
                    "reached": reached[0] if reached else None,
                    "seconds": end.get("seconds") if end else None,
                }
            )
    return rows


def _size_rows(found: dict[str, Any], chosen: Any) -> list[dict[str, Any]]:
    return [
        {
            "size": text(probe.get("size")),
            "accuracy": percent(probe.get("accuracy")),
            "error": percent(probe.get("error")),
            "time": f"{1000 * probe['seconds_per_image']:.0f} ms",
            "chosen": probe.get("size") == chosen,
        }
        for probe in found.get("sizes") or ()
    ]


def _around(value: float, error: float) -> tuple[float, float]:
    return max(0.0, value - _Z95 * error), min(1.0, value + _Z95 * error)
