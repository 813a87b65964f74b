"""The decision: the textbook's table with this data marked on it, what was measured, and what came of the expectations."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from headstart.metrics import around, wilson
from headstart.metrics.intervals import Z95
from headstart.planning import at_95
from headstart.reporting import charts
from headstart.reporting.folder import RunFolder
from headstart.reporting.wording import (
    duration,
    interval,
    is_number,
    method_words,
    metric_words,
    percent,
    sentence,
    signed,
    text,
)

_SIZES = (("small", "fewer than 1,000"), ("between", "between"), ("large", "more than 10,000"))
_LEVELS = ("close", "moderate", "far")
_TABLE = {
    ("small", "close"): "feature extraction",
    ("small", "far"): "feature extraction from earlier layers",
    ("large", "close"): "fine-tune everything",
    ("large", "far"): "fine-tune with caution, possibly from scratch",
}
_BETWEEN = "try both, compare"
_SHARE = metric_words("accuracy")

Span = tuple[float, float]
"""Lower and upper end of a 95 % interval."""


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
    band = tuple(_around(found, probe) for probe in single)
    blank = [(float(k), probe) for k, probe in enumerate(single) if is_number(probe.get("random"))]
    lines = [charts.Line(name="this network", points=own, dots=True, band=band)]
    if blank:
        twin = charts.Line(
            name="the same, untrained",
            points=tuple((k, float(probe["random"])) for k, probe in blank),
            tone="muted",
            dots=True,
            band=tuple(_around_twin(found, probe) for _, probe in blank),
        )
        lines.append(twin)
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
            band=tuple(_around(found, each, "value") for each in recalls),
        )
    ]
    blank = [(float(k), each) for k, each in enumerate(recalls) if is_number(each.get("gain"))]
    if blank:
        twin = charts.Line(
            name="the same, untrained",
            points=tuple((k, max(0.0, each["value"] - each["gain"])) for k, each in blank),
            tone="muted",
            dots=True,
            band=tuple(_below(each) for _, each in blank),
        )
        lines.append(twin)
    names = ", ".join(f"{k}: 1/{probe['stride']}" for k, probe in enumerate(maps))
    return charts.line_chart(lines, x=f"map ({names} of the size)", y="places named rightly", percent=True)


def _of_places(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [probe for probe in found.get("depths") or () if found.get("places") and probe.get("recall")]


def _place_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": f"1/{probe['stride']}" if probe.get("stride") else "all together",
            "recall": _shown(probe["recall"]["value"], _around(found, probe["recall"], "value")),
            "gain": _told_gain(probe["recall"]),
            "accuracy": _shown(probe["accuracy"], _around(found, probe)),
            "width": text(probe.get("width")),
        }
        for probe in _of_places(found)
    ]


def _depth_rows(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": text(probe.get("name")),
            "accuracy": _shown(probe["accuracy"], _around(found, probe)),
            "random": _shown(probe["random"], _around_twin(found, probe))
            if is_number(probe.get("random"))
            else "",
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
        band=tuple(_around(found, p) for p in points),
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
        found, (low, high) = row["expected"], row["span"]
        marks.append(
            charts.Mark(
                label=f"{method_words(row['method'])}: expected",
                value=found["accuracy"],
                low=low,
                high=high,
                main=False,
            )
        )
        if row["reached"] is not None:
            value, (low, high) = row["reached"]
            marks.append(
                charts.Mark(label=f"{method_words(row['method'])}: reached", value=value, low=low, high=high)
            )
    return charts.interval_chart(marks, x="right answers")


def _rung_rows(run: RunFolder) -> list[dict[str, str]]:
    return [
        {
            "name": method_words(row["method"]),
            "expected": _shown(row["expected"]["accuracy"], row["span"]),
            "reached": "not climbed" if row["reached"] is None else _shown(*row["reached"]),
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
            expected = rung["expected"]
            rows.append(
                {
                    "method": rung["method"],
                    "expected": expected,
                    "span": at_95(expected["accuracy"], expected["low"], expected["high"]),
                    "reached": _reached(run, end or {}),
                    "seconds": end.get("seconds") if end else None,
                }
            )
    return rows


def _reached(run: RunFolder, end: dict[str, Any]) -> tuple[float, Span] | None:
    """What a rung reached on the validation images, with its interval; None where it did not end."""
    for name, value in (end.get("metrics") or {}).items():
        if is_number(value):
            images = ((run.facts.get("splits") or {}).get("val") or {}).get("n") or 0
            found = (end.get("intervals") or {}).get(name)  # old runs kept none
            low, high = found or wilson(min(max(value, 0.0), 1.0) * images, images)
            return float(value), (float(low), float(high))
    return None


def _size_rows(found: dict[str, Any], chosen: Any) -> list[dict[str, Any]]:
    return [
        {
            "size": text(probe.get("size")),
            "accuracy": _shown(probe["accuracy"], _around(found, probe)),
            "time": f"{1000 * probe['seconds_per_image']:.0f} ms",
            "chosen": probe.get("size") == chosen,
        }
        for probe in found.get("sizes") or ()
    ]


def _around(found: dict[str, Any], probe: dict[str, Any], key: str = "accuracy") -> Span:
    """The 95 % interval of what a probe reached, from its standard error."""
    return around(probe[key], probe["error"], probe.get("images") or found.get("images") or 0)


def _around_twin(found: dict[str, Any], probe: dict[str, Any]) -> Span:
    """The same of the untrained network, from the number of images that it saw."""
    images = found.get("twin_images") or found.get("images") or 0
    return wilson(min(max(probe["random"], 0.0), 1.0) * images, images)


def _below(recall: dict[str, Any]) -> Span:
    """Where the untrained network may lie below this one: the interval of the gap, which is known place by place."""
    value, gain, reach = recall["value"], recall["gain"], Z95 * (recall.get("gain_error") or 0.0)
    return max(0.0, value - gain - reach), min(1.0, max(0.0, value - gain + reach))


def _shown(value: float, span: Span) -> str:
    """A share with its interval."""
    return f"{percent(value)} ({interval(*span, _SHARE)})"


def _told_gain(recall: dict[str, Any]) -> str:
    """What pretraining is worth, with its interval in points; empty where it was not measured."""
    if not is_number(recall.get("gain")):
        return ""
    reach = Z95 * (recall.get("gain_error") or 0.0)
    low, high = (signed(recall["gain"] + side * reach, share=True) for side in (-1, 1))
    return f"{signed(recall['gain'], share=True)} points ({low} to {high})"
