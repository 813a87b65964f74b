"""When to believe it: answering only where it is sure, sets of classes, where it fails, and what choosing did."""

from __future__ import annotations

from typing import Any

from headstart.reporting import charts
from headstart.reporting.folder import RunFolder, embedded
from headstart.reporting.wording import (
    SPACE,
    amount,
    interval,
    is_number,
    metric_words,
    number,
    percent,
    plural,
    probability_value,
    text,
)

_SHARE = metric_words("accuracy")


def abstaining_section(run: RunFolder) -> dict[str, Any]:
    """The risk-coverage curve, what it says in words, and the conformal sets; empty where neither was recorded."""
    points = [
        point
        for point in run.evaluation.get("risks") or []
        if is_number(point.get("coverage")) and is_number((point.get("risk") or {}).get("value"))
    ]
    sets = _sets(run)
    if not points and not sets:
        return {}
    line = charts.Line(
        name="share of wrong answers",
        points=tuple((100 * point["coverage"], point["risk"]["value"]) for point in points),
        band=tuple((point["risk"]["low"], point["risk"]["high"]) for point in points),
        dots=True,
    )
    return {
        "chart": charts.line_chart(
            [line], x="% of images answered, the surest first", y="share wrong", percent=True
        )
        if len(points) > 1
        else "",
        "words": [_point(point) for point in points if round(100 * point["coverage"]) in (50, 80, 100)],
        "sets": sets,
    }


def _point(point: dict[str, Any]) -> str:
    risk = point["risk"]
    return (
        f"Answering the surest {percent(point['coverage'], digits=0)} (probability {percent(point.get('confidence'))} "
        f"or more): {percent(risk['value'])} of the answers are wrong "
        f"({interval(risk.get('low'), risk.get('high'), _SHARE)}, n{SPACE}={SPACE}{number(risk.get('n'))})."
    )


def _sets(run: RunFolder) -> list[str]:
    """What the conformal sets reach, in sentences."""
    found = run.evaluation.get("sets") or {}
    if not is_number(found.get("asked")):
        return []
    size = found.get("size") or {}
    wide = interval(size.get("low"), size.get("high"), metric_words("classes in a set"))
    held = (
        f"Sets of classes that should hold the true one for {percent(found['asked'], digits=0)} of the images: "
        f"measured {_measured(found.get('coverage'))} on the test images."
    )
    large = (
        f"A set has {amount(size.get('value'), metric_words('classes in a set'))} classes on average ({wide}); "
        f"it is a single class for {_measured(found.get('single'))} of the images."
    )
    source = (
        f"The threshold comes from {plural(found.get('calibrated_on'), 'image')} that the head was not fitted to. "
        "The promise holds for images like those, whatever the model."
    )
    return [held, large, source]


def _measured(metric: Any) -> str:
    found = metric or {}
    return f"{percent(found.get('value'))} ({interval(found.get('low'), found.get('high'), _SHARE)})"


def slices_section(run: RunFolder) -> dict[str, Any]:
    """Parts of the test images that fail more often, with pictures; empty where nobody looked."""
    found = run.evaluation.get("slices")
    if not isinstance(found, dict) or not found.get("looked"):
        return {}
    looked = plural(found["looked"], "part")
    return {
        "none": f"None found: {looked} of the test images were looked at (quarters by size, shape, brightness, contrast and "
        "sharpness, groups, and clusters of images that look alike to the network); after allowing for that many looks, "
        f"no part fails more often than the rest (lowest {probability_value(found.get('lowest_p'))})."
        if not found.get("found")
        else "",
        "looked": looked,
        "rows": [
            {
                "name": text(entry.get("name")),
                "accuracy": _measured(entry.get("accuracy")),
                "n": number((entry.get("accuracy") or {}).get("n")),
                "rest": _measured(entry.get("rest")),
                "p": probability_value(entry.get("p")),
                "images": [
                    (embedded(run.path, picture), text(name))
                    for name, picture in zip(
                        entry.get("examples") or [], entry.get("thumbnails") or [], strict=False
                    )
                ],
            }
            for entry in found.get("found") or []
        ],
    }


def selection_note(run: RunFolder) -> str:
    """What choosing the best on the validation images did to its figure there, as a sentence; empty without a choice."""
    found = run.evaluation.get("selection")
    if not isinstance(found, dict):
        return ""
    return (
        f"The model was chosen among {number(found.get('candidates'))} on these images, which flatters it: "
        f"{_measured(found.get('plain'))} as it stands, {_measured(found.get('corrected'))} when each choice is judged "
        "on images that it was not made on."
    )
