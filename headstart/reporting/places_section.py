"""What the page says of boxes and masks: class by class, precision against recall, kinds of errors, the worst images."""

from __future__ import annotations

from typing import Any

from headstart.reporting import charts
from headstart.reporting.folder import RunFolder, embedded
from headstart.reporting.results import level
from headstart.reporting.wording import interval, is_number, metric_words, number, percent, text

_CURVES = 8  # classes with a curve of their own
_MATRIX = 20  # classes above which a matrix stops being readable
_KINDS = {
    "right": "right: the class and the place",
    "confused": "the place of an object of another class",
    "misplaced": "the class of an object that it only touches",
    "double": "an object that was found already",
    "background": "nothing is there",
    "missed": "an object without an answer",
}


def places_section(run: RunFolder) -> dict[str, Any]:
    """Everything about answers with places; empty for other tasks."""
    found = run.evaluation.get("places")
    if not isinstance(found, dict):
        return {}
    per_class: dict[str, dict[str, Any]] = found.get("per_class") or {}
    columns = list(next(iter(per_class.values()), {}))
    errors = found.get("errors") or {}
    return {
        "kind": "boxes" if errors else "masks",
        "columns": [metric_words(name).label for name in columns],
        "rows": [
            {"name": name, "cells": [_cell(scores.get(column) or {}) for column in columns]}
            for name, scores in per_class.items()
        ],
        "curves": [_curve(each) for each in (found.get("curves") or [])[:_CURVES]],
        "errors": [(words, number(errors.get(kind))) for kind, words in _KINDS.items() if kind in errors],
        "threshold": f"{found['threshold']:.2f}" if is_number(found.get("threshold")) else "",
        "trust": _trust(found.get("trust")),
        "matrix": _matrix(run, found.get("confusion") or [], pixels=not errors),
        "worst": _worst(run),
    }


def _trust(trust: Any) -> dict[str, Any]:
    """What the threshold was chosen for, how right the shown boxes are, and what scores mean; empty where not recorded."""
    if not isinstance(trust, dict):
        return {}
    asked = trust.get("asked")
    words = metric_words("map50")
    out: dict[str, Any] = {"asked": percent(asked) if is_number(asked) and asked > 0 else ""}
    for name in ("precision", "recall", "before", "after"):
        metric = trust.get(name) or {}
        out[name] = percent(metric.get("value")) if is_number(metric.get("value")) else ""
        out[f"{name}_interval"] = interval(metric.get("low"), metric.get("high"), words)
    return out


def _cell(metric: dict[str, Any]) -> dict[str, Any]:
    words = metric_words("map50")
    return {
        "value": percent(metric.get("value")),
        "interval": interval(metric.get("low"), metric.get("high"), words),
        "bar": round(float(metric["value"]), 3) if is_number(metric.get("value")) else 0,
        "n": number(metric.get("n")),
    }


def _curve(each: dict[str, Any]) -> dict[str, Any]:
    points = tuple(zip(each.get("recall") or (), each.get("precision") or (), strict=False))
    line = charts.Line(name=text(each.get("name")), points=points)
    return {"name": text(each.get("name")), "chart": charts.line_chart([line], x="recall", y="precision")}


def _matrix(run: RunFolder, table: list[list[int]], *, pixels: bool) -> dict[str, Any]:
    """Rows with shares of each true class; empty where there are too many classes."""
    if not table or len(table) > _MATRIX:
        return {}
    names = [*run.classes, *([] if pixels else ["background"])]
    rows = []
    for position, (name, counts) in enumerate(zip(names, table, strict=False)):
        whole = sum(counts) or 1
        cells = [
            {
                "shown": percent(n / whole, digits=0) if pixels else number(n),
                "heat": round(n / whole, 3),
                "right": column == position,
                "none": not n,
                "level": level(n / whole),
            }
            for column, n in enumerate(counts)
        ]
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def _worst(run: RunFolder) -> list[dict[str, Any]]:
    return [
        {
            "name": text(each.get("name")),
            "picture": embedded(run.path, each.get("thumbnail")),
            "truth": text(each.get("truth")),
            "predicted": text(each.get("predicted")),
            "score": percent(1 - each["probability"]) if is_number(each.get("probability")) else "",
        }
        for each in run.evaluation.get("mistakes") or []
    ]
