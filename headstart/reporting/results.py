"""How good the model is: verdict, metrics, baselines, classes and mistakes, ready to be laid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.metrics import claims, wilson
from headstart.reporting import charts
from headstart.reporting.folder import RunFolder, embedded
from headstart.reporting.wording import (
    DASH,
    JOINED_DASH,
    MISSING,
    SPACE,
    amount,
    duration,
    interval,
    is_number,
    listed,
    method_words,
    metric_words,
    number,
    percent,
    plural,
    probability_value,
    signed,
    text,
)

MANY = 30  # classes; above it whole tables stop being readable
_TITLE_NAMES = 45  # characters of class names that a headline can carry
_INTERVALS = {"wilson": "Wilson", "bootstrap": "bootstrap", "influence": "influence"}


_HEADLINES = {
    "multilabel": ("map", "mean_average_precision", "map_macro", "macro_f1"),
    "detect": ("map50",),
    "segment": ("miou",),
}


def judged_split(run: RunFolder) -> tuple[str, dict[str, Any]]:
    """The split the page speaks about, with its numbers: test, else validation, else nothing."""
    splits = run.evaluation.get("splits") or {}
    name = next((name for name in ("test", "val") if (splits.get(name) or {}).get("metrics")), "")
    return name, splits.get(name) or {}


def headline(run: RunFolder) -> tuple[str, dict[str, Any]]:
    """The metric that the verdict is about, with its name."""
    metrics = judged_split(run)[1].get("metrics") or {}
    wanted = _HEADLINES.get(run.task, ("accuracy",))
    name = next((name for name in (*wanted, *metrics) if name in metrics), "")
    return name, metrics.get(name) or {}


def verdict(run: RunFolder) -> dict[str, str]:
    """`{"sentence", "caution", "context"}`: what the model can do, in one sentence, and what qualifies it."""
    split, numbers = judged_split(run)
    name, metric = headline(run)
    if not name:
        return {"sentence": "This model has not been evaluated yet.", "caution": "", "context": ""}
    n, words = numbers.get("n"), metric_words(name)
    shown = amount(metric.get("value"), words)
    span = interval(metric.get("low"), metric.get("high"), words).replace(DASH, JOINED_DASH)
    within = f"{shown} (95{SPACE}%{SPACE}interval {span})"
    unseen = f"{number(n)} test images it never saw" if split == "test" else f"{number(n)} validation images"
    if run.task == "multilabel":
        ability = f"finds which of {plural(len(run.classes), 'label')} apply to an image"
        sentence = f"This model {ability}: {words.inside} {within} on {unseen}."
    elif run.task in ("detect", "segment"):
        verb = "finds objects of" if run.task == "detect" else "tells each pixel one of"
        sentence = f"This model {verb} {plural(len(run.classes), 'class', 'classes')}: {words.label} {within} on {unseen}."
    elif name == "accuracy" and is_number(n) and is_number(metric.get("value")):
        right = number(round(metric["value"] * n))
        ability = _ability(run.classes, weak=metric["value"] < 0.5)
        sentence = f"This model {ability}: right on {right} of {unseen}, {within}."
    else:
        sentence = f"This model {_ability(run.classes)}: {words.inside} {within} on {unseen}."
    caution = (
        ""
        if split == "test"
        else "No test images were set aside. These images helped to choose the model: the figure flatters it."
    )
    return {"sentence": sentence, "caution": caution, "context": _against_chance(run, split)}


def _ability(classes: Sequence[str], *, weak: bool = False) -> str:
    """What the model does, or, where it is wrong more often than right, tries to do."""
    tells = "tries to tell" if weak else "tells"
    if len(classes) == 2:
        return f"{tells} {classes[0]} from {classes[1]}"
    if 2 < len(classes) <= 5 and sum(map(len, classes)) <= 2 * _TITLE_NAMES:
        return f"{tells} {listed(classes)} apart"
    few = f" ({listed(classes, most=3)})" if sum(map(len, classes[:3])) <= _TITLE_NAMES else ""
    return f"{tells} {plural(len(classes), 'class', 'classes')} apart{few}" if classes else "answers"


def _against_chance(run: RunFolder, split: str) -> str:
    """What the simplest baseline reaches on the same images, and whether the model is better, as a sentence."""
    metric = (((run.evaluation.get("baselines") or {}).get("majority") or {}).get("metrics") or {}).get(
        "accuracy"
    ) or {}
    if not is_number(metric.get("value")) or run.task == "multilabel" or split != "test":
        return ""
    span = interval(metric.get("low"), metric.get("high"), metric_words("accuracy"))
    always = (
        f"Always answering the most common class would be right on {percent(metric['value'])} of them"
        + (f" ({span})" if span != MISSING else "")
    )
    found = {entry.get("b"): entry.get("verdict") for entry in run.evaluation.get("comparisons") or []}
    doubt = claims.against_chance(found.get("majority", claims.BETTER))
    return f"{always}: {doubt}." if doubt else f"{always}."


def tiles(run: RunFolder) -> list[dict[str, str]]:
    """The few numbers to take away: label, value and a line below."""
    split, numbers = judged_split(run)
    name, metric = headline(run)
    metrics, seconds = numbers.get("metrics") or {}, run.evaluation.get("seconds") or {}
    words = metric_words(name) if name else metric_words("accuracy")
    found = [key for key in metrics if metric_words(key).label.startswith("Calibration error")]
    final = next((key for key in found if "before" not in metric_words(key).label), "")
    before = next((key for key in found if "before" in metric_words(key).label), "")
    error = metrics.get(final) or {}
    facts = run.facts.get("splits") or {}
    total = sum(part.get("n") or 0 for part in facts.values())
    method = run.evaluation.get("method") or run.ledger.get("method")
    twice = "; each image is looked at in a mirror too" if run.manifest.get("mirrored") else ""
    span = interval(metric.get("low"), metric.get("high"), words)
    error_below = (
        interval(error.get("low"), error.get("high"), metric_words(final))
        if final
        else "stated against true probability"
    )
    if before:
        raw = metrics[before] or {}
        span_before = interval(raw.get("low"), raw.get("high"), metric_words(before))
        error_below += f"; before scaling {percent(raw.get('value'))}"
        error_below += f" ({span_before})" if span_before != MISSING else ""
    calibration = {"label": "Calibration error", "value": percent(error.get("value")), "below": error_below}
    return [
        {
            "label": f"{words.label}, {split}" if split else words.label,
            "value": amount(metric.get("value"), words),
            "below": f"{span}, n{SPACE}={SPACE}{number(numbers.get('n'))}" if name else "not evaluated",
        },
        *([] if run.evaluation.get("places") else [calibration]),
        {"label": "Method", "value": method_words(method), "below": f"{text(_weights_name(run))}{twice}"},
        {
            "label": "Time",
            "value": duration(seconds.get("total")),
            "below": f"of it training {duration(seconds['train'])}" if "train" in seconds else "",
        },
        {
            "label": "Images",
            "value": number(total) if facts else MISSING,
            "below": ", ".join(f"{number(part.get('n'))} {key}" for key, part in facts.items()),
        },
    ]


def _weights_name(run: RunFolder) -> Any:
    weights = run.evaluation.get("weights") or run.manifest.get("weights") or run.plan.get("weights")
    return weights.get("name") if isinstance(weights, dict) else weights


def metric_rows(metrics: dict[str, Any], n: Any) -> list[dict[str, Any]]:
    """One row a metric: name, value, interval, n, direction and meaning."""
    rows = []
    for key, metric in metrics.items():
        words = metric_words(key)
        rows.append(
            {
                "label": words.label,
                "meaning": words.meaning,
                "value": amount(metric.get("value"), words),
                "interval": interval(metric.get("low"), metric.get("high"), words),
                "how": _INTERVALS.get(str(metric.get("interval")), text(metric.get("interval"))),
                "n": number(metric.get("n", n)),
                "direction": claims.direction(lower=words.lower_is_better),
            }
        )
    return rows


def accuracy_section(run: RunFolder) -> dict[str, Any]:
    """Metrics of each split, the chart against the baselines, and the paired comparisons in words."""
    split, numbers = judged_split(run)
    name, metric = headline(run)
    words = metric_words(name)
    marks = [
        _mark(f"this model ({method_words(run.evaluation.get('method'))})", metric, words.share, main=True)
    ]
    for key, baseline in (run.evaluation.get("baselines") or {}).items():
        marks.append(
            _mark(method_words(key), (baseline.get("metrics") or {}).get(name) or {}, words.share, main=False)
        )
    rows = [mark for mark in marks if mark]
    others = run.evaluation.get("splits") or {}
    return {
        "split": split,
        "metrics": metric_rows(numbers.get("metrics") or {}, numbers.get("n")),
        "validation": metric_rows(
            (others.get("val") or {}).get("metrics") or {}, (others.get("val") or {}).get("n")
        )
        if split == "test"
        else [],
        "chart": charts.interval_chart(rows, x=words.inside, percent=words.share) if name else "",
        "baselines": [
            {"name": method_words(key), "rows": metric_rows(part.get("metrics") or {}, part.get("n"))}
            for key, part in (run.evaluation.get("baselines") or {}).items()
        ],
        "comparisons": [comparison(entry) for entry in run.evaluation.get("comparisons") or []],
        "opened": run.evaluation.get("test_opened"),
    }


def _mark(label: str, metric: dict[str, Any], share: bool, *, main: bool) -> charts.Mark | None:
    value, low, high = (metric.get(key) for key in ("value", "low", "high"))
    if not is_number(value):
        return None
    low, high = (low if is_number(low) else value), (high if is_number(high) else value)
    shown = percent(value) if share else number(value)
    return charts.Mark(label=f"{label}  {shown}", value=value, low=low, high=high, main=main)


def comparison(entry: dict[str, Any]) -> dict[str, str]:
    """A paired comparison in words that claim no more than its interval does."""
    words = metric_words(str(entry.get("metric", "")))
    unit = " points" if words.share else ""
    low, high = signed(entry.get("low"), share=words.share), signed(entry.get("high"), share=words.share)
    details = [
        f"95 % interval {low} to {high}",
        probability_value(entry.get("p")),
        f"n{SPACE}={SPACE}{number(entry.get('n'))}",
    ]
    found = str(entry.get("verdict") or "")
    ends = [float(entry.get(end) or 0.0) for end in ("low", "high")]
    return {
        "pair": f"{method_words(entry.get('a'))} against {method_words(entry.get('b'))}",
        "difference": f"{words.inside} {signed(entry.get('difference'), share=words.share)}{unit}",
        "details": "; ".join(part for part in details if part),
        "verdict": found or MISSING,
        "meaning": claims.meaning(found, ends[0], ends[1]),
        "tone": {claims.BETTER: "good", claims.WORSE: "bad"}.get(found, "plain"),
    }


def confusion_section(run: RunFolder) -> dict[str, Any]:
    """The confusion matrix as heat-coloured rows, or, for many classes, its twenty largest errors."""
    matrix, classes = run.evaluation.get("confusion"), run.classes
    if not isinstance(matrix, list) or not matrix or len(matrix) != len(classes) or not _square(matrix):
        return {"kind": "none"}
    sums = [sum(row) for row in matrix]
    cells = [(i, j, n) for i, row in enumerate(matrix) for j, n in enumerate(row)]
    errors = sorted(
        (cell for cell in cells if cell[0] != cell[1] and cell[2]),
        key=lambda cell: (-cell[2], cell[0], cell[1]),
    )
    worst = [
        {
            "truth": classes[i],
            "predicted": classes[j],
            "n": n,
            "of": sums[i],
            "share": f"{percent(n / sums[i])} ({interval(*wilson(n, sums[i]), metric_words('accuracy'))})",
            "heat": round(n / sums[i], 3),
        }
        for i, j, n in errors[:20]
    ]
    if len(classes) > MANY:
        return {"kind": "pairs", "worst": worst, "pairs": len(errors), "errors": sum(n for _, _, n in errors)}
    rows = [
        {
            "name": classes[i],
            "total": sums[i],
            "cells": [
                {
                    "n": n,
                    "heat": round(n / sums[i], 3) if sums[i] else 0,
                    "right": i == j,
                    "level": level(n / sums[i] if sums[i] else 0),
                    "predicted": classes[j],
                }
                for j, n in enumerate(row)
            ],
        }
        for i, row in enumerate(matrix)
    ]
    return {
        "kind": "matrix",
        "classes": classes,
        "rows": rows,
        "worst": worst[:3] if len(classes) > 2 else [],
    }


def level(share: float) -> str:
    """How deep a cell's colour is: decides which text stays readable on it."""
    return "deep" if share > 0.78 else "mid" if share > 0.65 else ""


def _square(matrix: list[Any]) -> bool:
    return all(
        isinstance(row, list) and len(row) == len(matrix) and all(isinstance(n, int) for n in row)
        for row in matrix
    )


def classes_section(run: RunFolder) -> dict[str, Any]:
    """Per-class rows in the given order, or the worst fifteen and best five by F1 where there are many."""
    entries = [_class_row(entry) for entry in run.evaluation.get("per_class") or []]
    if len(entries) <= MANY:
        return {"rows": entries, "best": [], "total": len(entries)}
    ordered = sorted(entries, key=lambda row: (row["order"], row["name"]))
    return {"rows": ordered[:15], "best": ordered[:-6:-1], "total": len(entries)}


def _class_row(entry: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": text(entry.get("name")),
        "support": number(entry.get("support")),
        "f1": percent(entry.get("f1")),
        "f1_interval": interval(entry.get("f1_low"), entry.get("f1_high"), metric_words("f1"))
        if is_number(entry.get("f1_low"))
        else "",
        "order": entry["f1"] if is_number(entry.get("f1")) else -1.0,
    }
    for key in ("precision", "recall"):
        metric = entry.get(key) or {}
        words = metric_words("accuracy")
        row[key] = amount(metric.get("value"), words) if metric.get("n", 1) else "\u2014"
        row[f"{key}_interval"] = (
            interval(metric.get("low"), metric.get("high"), words) if metric.get("n", 1) else ""
        )
        row[f"{key}_bar"] = round(metric["value"], 3) if is_number(metric.get("value")) else 0
    return row


def reliability_section(run: RunFolder) -> dict[str, Any]:
    """The reliability chart and the temperature."""
    before, after = (_bins(run.evaluation.get(key)) for key in ("reliability_before", "reliability_after"))
    temperature = run.evaluation.get("temperature", run.manifest.get("temperature"))
    effect = ""
    if is_number(temperature):
        effect = "less" if temperature > 1.005 else "more" if temperature < 0.995 else "equally"
    numbers = judged_split(run)[1]
    rows = metric_rows(numbers.get("metrics") or {}, numbers.get("n"))
    errors = [row for row in rows if row["label"].startswith("Calibration error")]
    return {
        "chart": charts.reliability_chart(before, after),
        "temperature": rate_or_missing(temperature),
        "classwise": _classwise(run.evaluation.get("classwise") or run.manifest.get("classwise") or {}),
        "effect": effect,
        "errors": [(row["label"], f"{row['value']} ({row['interval']}), n = {row['n']}") for row in errors],
    }


def _classwise(found: dict[str, Any]) -> str:
    """How the classes were calibrated apart and what that gained, as a sentence; empty where they were not."""
    if not is_number(found.get("gain")):
        return ""
    words = metric_words("log_loss")
    return (
        f"The classes are calibrated apart, each with a scale and a shift that are part of the head: on "
        f"{plural(found.get('n'), 'image')} that neither was fitted to, the log-loss is lower by "
        f"{amount(found['gain'], words)} ({interval(found.get('low'), found.get('high'), words)}) than with one temperature "
        f"({rate_or_missing(found.get('temperature'))})."
    )


def rate_or_missing(value: Any) -> str:
    """A temperature to three digits."""
    return f"{value:.3g}" if is_number(value) else MISSING


def _bins(entries: Any) -> list[charts.Mark]:
    marks = []
    for entry in entries or []:
        metric = entry.get("accuracy") or {}
        if entry.get("n") and is_number(entry.get("confidence")) and is_number(metric.get("value")):
            low, high = metric.get("low"), metric.get("high")
            marks.append(
                charts.Mark(
                    label="",
                    value=metric["value"],
                    low=low if is_number(low) else metric["value"],
                    high=high if is_number(high) else metric["value"],
                    x=entry["confidence"],
                    n=entry["n"],
                )
            )
    return marks


def mistakes_section(run: RunFolder) -> dict[str, Any]:
    """The most confidently wrong images, with their pictures as `data:` URIs."""
    entries = run.evaluation.get("mistakes")
    cards = [
        {
            "name": _under(run.facts.get("source"), text(entry.get("name"))),
            "truth": text(entry.get("truth") or "none"),
            "predicted": text(entry.get("predicted") or "none"),
            "probability": percent(entry.get("probability")),
            "explained": text(entry.get("explained") or entry.get("predicted")),
            "decision": _decision(entry) if run.task == "multilabel" else "",
            "thumbnail": embedded(run.path, entry.get("thumbnail")),
            "overlay": embedded(run.path, entry.get("overlay")),
        }
        for entry in entries or []
    ]
    return {"cards": cards, "recorded": isinstance(entries, list)}


def _decision(entry: dict[str, Any]) -> str:
    """What went wrong with the label that `explained` names: it was put on the image, or left out."""
    added = entry.get("explained") in str(entry.get("predicted", "")).split("|")
    return "wrongly added" if added else "missed"


def _under(source: Any, name: str) -> str:
    """A file's name as seen from the folder that was given, where it lies in it."""
    return name.removeprefix(f"{str(source).rstrip('/')}/") if source else name
