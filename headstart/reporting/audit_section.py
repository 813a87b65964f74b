"""Is the data what it says: leaks, doubtful labels with their pictures, confounds, groups and shift, from `audit.json`."""

from __future__ import annotations

from typing import Any

from headstart.reporting.folder import RunFolder, embedded
from headstart.reporting.wording import (
    amount,
    interval,
    is_number,
    metric_words,
    number,
    percent,
    plural,
    text,
)

_SHOWN = 8
_SHARE = metric_words("accuracy")
_WITHOUT = "test_without_leaks"


def audit_section(run: RunFolder) -> dict[str, Any]:
    """What the audit found, in words; empty where there was none."""
    found = run.audit
    if not found:
        return {}
    leaks = found.get("leaks") or []
    return {
        "counts": _counts(found),
        "leaks": [_leak(each) for each in leaks[:_SHOWN]],
        "more_leaks": max(0, len(leaks) - _SHOWN),
        "with_and_without": _with_and_without(run),
        "conflicts": [_conflict(each) for each in (found.get("conflicts") or [])[:_SHOWN]],
        "suspects": [_suspect(run, each) for each in found.get("suspects") or [] if each.get("picture")],
        "confounds": [_confound(each) for each in found.get("confounds") or []],
        "notes": [*_notes(found), *(text(line) for line in found.get("skipped") or [])],
    }


def _counts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, how many) of every finding."""
    images = found.get("images") or {}
    rows = []
    for split in ("test", "val"):
        if split in images:
            count = sum(leak.get("split") == split for leak in found.get("leaks") or [])
            rows.append((f"{split} images (nearly) seen before", f"{count} of {number(images[split])}"))
    rows.append(("identical files left out of training", number(found.get("removed"))))
    rows.append(("pairs of near duplicates", number(len(found.get("pairs") or []))))
    rows.append(("duplicates with different labels", number(len(found.get("conflicts") or []))))
    if found.get("checked"):
        doubtful = len(found.get("suspects") or [])
        rows.append(("labels worth a look", f"{doubtful} of {number(found['checked'])}"))
    return rows


def _leak(each: dict[str, Any]) -> dict[str, str]:
    return {
        "name": text(each.get("name")),
        "split": text(each.get("split")),
        "twin": text(each.get("twin")),
        "twin_split": text(each.get("twin_split")),
        "alike": percent(each.get("score"), digits=0),
    }


def _conflict(each: dict[str, Any]) -> list[dict[str, str]]:
    pairs = zip(each.get("names") or (), each.get("labels") or (), strict=False)
    return [{"name": text(name), "label": text(label)} for name, label in pairs]


def _suspect(run: RunFolder, each: dict[str, Any]) -> dict[str, str]:
    return {
        "name": text(each.get("name")),
        "given": text(each.get("given")),
        "suggested": text(each.get("suggested")),
        "believed": percent(each.get("confidence"), digits=0),
        "against": percent(each.get("against"), digits=0),
        "picture": embedded(run.path, each.get("picture")),
    }


def _confound(each: dict[str, Any]) -> dict[str, str]:
    return {
        "trait": text(each.get("trait")),
        "accuracy": percent(each.get("accuracy"), digits=0),
        "interval": interval(each.get("low"), each.get("high"), _SHARE),
        "majority": percent(each.get("majority"), digits=0),
        "told": text(each.get("told")),
        "state": "bad" if each.get("technical") else "plain",
    }


def _with_and_without(run: RunFolder) -> list[dict[str, str]]:
    """The main metrics on all test images and on those that do not leak, side by side."""
    splits = run.evaluation.get("splits") or {}
    both = [(splits.get(name) or {}).get("metrics") or {} for name in ("test", _WITHOUT)]
    rows = []
    for key in [key for key in both[0] if key in both[1] and is_number(both[1][key].get("value"))]:
        words = metric_words(key)
        told = [
            f"{amount(part[key]['value'], words)} ({interval(part[key].get('low'), part[key].get('high'), words)})"
            for part in both
        ]
        rows.append({"label": words.label, "all": told[0], "without": told[1]})
    return rows


def _notes(found: dict[str, Any]) -> list[str]:
    """Groups, series and shift in sentences."""
    out = []
    series = found.get("series") or []
    shift, moved = found.get("shift") or {}, found.get("label_shift") or {}
    if series:
        largest = max(len(each.get("names") or ()) for each in series)
        out.append(
            f"{plural(len(series), 'series', 'series')} of three or more alike, up to {largest} images."
        )
    for group in found.get("groups") or []:
        torn = f"; {group.get('torn')} of them lie in more than one split" if group.get("torn") else ""
        out.append(
            f"{group.get('groups')} groups (rule {text(group.get('rule'))}) that the pictures confirm: two of one group are "
            f"closer than two of the class in {percent(group.get('alike'), digits=0)} of cases "
            f"({interval(group.get('low'), group.get('high'), _SHARE)}){torn}. "
            f"Evidence: {text(group.get('evidence'))}."
        )
    if is_number(shift.get("auc")):
        told = "can be told apart" if shift.get("low", 0) > 0.5 else "cannot be told apart with certainty"
        out.append(
            f"Training and test images {told}: area under the ROC curve {shift['auc']:.2f} "
            f"({shift['low']:.2f} to {shift['high']:.2f}; 0.5 is chance)."
        )
    if moved:
        out.append(
            f"Classes have other shares in test: {text(moved.get('label'))} has {percent(moved.get('train'), digits=0)} in "
            f"training and {percent(moved.get('test'), digits=0)} in test."
        )
    return out
