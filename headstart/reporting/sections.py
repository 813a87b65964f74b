"""How the model came about and what it consists of: decisions, data, curves, ledger, contract, licences."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from headstart.reporting import charts
from headstart.reporting.folder import RunFolder, examples
from headstart.reporting.results import MANY, judged_split
from headstart.reporting.wording import (
    MISSING,
    amount,
    duration,
    humane,
    interval,
    is_number,
    method_meaning,
    method_words,
    metric_words,
    number,
    percent,
    plural,
    rate,
    sentence,
    text,
)

_SHOWN = 20  # lines of a list before "and N more"
_DRAWN = 400  # points of a curve: more cannot be told apart on a page
_GALLERY = 12  # classes with example images


def decisions_section(run: RunFolder) -> dict[str, Any]:
    """What was decided and why, the textbook's prior, and the rungs with what became of them."""
    guide = run.plan.get("guide") or {}
    return {
        "decided": [
            {
                "what": humane(entry.get("what", "")),
                "value": "none" if entry.get("value") is None else text(entry["value"]),
                "why": sentence(entry.get("why")),
            }
            for entry in run.plan.get("decided") or []
        ],
        "guide": _guide(guide),
        "rungs": rungs(run),
        "ended": next(
            (
                sentence(event.get("reason"))
                for event in reversed(run.history)
                if event.get("event") == "ladder_end"
            ),
            "",
        ),
    }


def _guide(guide: dict[str, Any]) -> dict[str, str]:
    """The textbook's advice in words that need no textbook; empty where the plan has none."""
    if not guide:
        return {}
    size, similarity = str(guide.get("size")), str(guide.get("similarity"))
    return {
        "size": {"small": "few", "between": "neither few nor many", "large": "many"}.get(size, size),
        "similarity": {"unknown": "not measured"}.get(similarity, similarity),
        "prior": sentence(guide.get("prior")),
    }


def rungs(run: RunFolder) -> list[dict[str, Any]]:
    """The planned rungs in order, each with its outcome from the history."""
    ends = {event.get("rung"): event for event in run.history if event.get("event") == "rung_end"}
    skipped = {
        event.get("rung"): event.get("reason") for event in run.history if event.get("event") == "note"
    }
    started = {event.get("rung") for event in run.history if event.get("event") == "rung_start"}
    planned = {rung.get("method"): rung for rung in run.plan.get("rungs") or []}
    rows = []
    for method in [*planned, *(name for name in ends if name not in planned)]:
        plan, end = planned.get(method, {}), ends.get(method)
        outcome = "not run" if method not in started else "not finished"
        if end is not None:
            outcome = "kept" if end.get("kept") else "not kept"
        rows.append(
            {
                "method": method_words(method),
                "meaning": method_meaning(method),
                "outcome": outcome,
                "why": sentence(plan.get("why")),
                "params": {str(key): text(value) for key, value in (plan.get("params") or {}).items()},
                "reason": sentence((end or {}).get("reason") or skipped.get(method)),
                "seconds": duration(end.get("seconds")) if end else "",
                "metrics": _in_brief(end or {}),
                "final": method == run.evaluation.get("method"),
            }
        )
    return rows


def _in_brief(event: dict[str, Any]) -> str:
    """The validation metrics of an event in one line, each with its interval where the event has one."""
    parts, spans = [], event.get("intervals") or {}
    for key, found in (event.get("metrics") or {}).items():
        words = metric_words(key)
        value = found.get("value") if isinstance(found, dict) else found
        low, high = spans.get(key) or (None, None)
        span = f" ({interval(low, high, words)})" if is_number(low) and is_number(high) else ""
        parts.append(f"{words.inside} {amount(value, words)}{span}")
    return ", ".join(parts)


def data_section(run: RunFolder) -> dict[str, Any]:
    """Splits, counts per class, measurements, examples and problems."""
    facts = run.facts
    splits = facts.get("splits") or {}
    classes = [str(name) for name in facts.get("classes") or []]
    largest = (
        max((n for part in splits.values() for n in (part.get("per_class") or {}).values()), default=1) or 1
    )
    rows = [
        {
            "name": name,
            "counts": [
                {
                    "n": (part.get("per_class") or {}).get(name, 0),
                    "bar": round((part.get("per_class") or {}).get(name, 0) / largest, 3),
                }
                for part in splits.values()
            ],
        }
        for name in classes
    ]
    gallery = [
        {"name": name, "images": examples(run.path, index)}
        for index, name in enumerate(run.classes[:_GALLERY])
    ]
    return {
        "splits": [
            {"name": key, "n": number(part.get("n")), "origin": "made here" if part.get("made") else "given"}
            for key, part in splits.items()
        ],
        "rows": rows,
        "folded": len(rows) > MANY,
        "measured": _measured(facts),
        "gallery": [entry for entry in gallery if entry["images"]],
        "gallery_more": max(0, len(run.classes) - _GALLERY),
        "unreadable": _first(facts.get("unreadable")),
        "duplicates": _first(_duplicate(entry) for entry in facts.get("duplicates") or ()),
        "notes": list(facts.get("notes") or ()),
        "recorded": bool(facts),
    }


def _first(entries: Iterable[Any] | None) -> dict[str, Any]:
    """The first lines of a list, and how many there are in all."""
    found = list(entries or ())
    return {"shown": found[:_SHOWN], "total": len(found), "more": max(0, len(found) - _SHOWN)}


def _duplicate(entry: dict[str, Any]) -> dict[str, str]:
    labels = [text(names) for names in entry.get("labels") or ()]
    note = f"labelled differently: {' / '.join(labels)}" if len(set(labels)) > 1 else ""
    return {"names": text(entry.get("names")), "action": text(entry.get("action")), "note": note}


def _measured(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was measured on the images, as (label, words)."""
    rows = [("Source", text(facts.get("source")))]
    sizes: list[float] = facts.get("size_quantiles") or []
    aspects: list[float] = facts.get("aspect_quantiles") or []
    if len(sizes) == 5:
        least, median, most = (number(sizes[k], digits=0) for k in (0, 2, 4))
        rows.append(("Short side", f"{least} to {most} px, median {median} px"))
    if len(aspects) == 5:
        rows.append(("Width / height", f"{aspects[0]:.2f} to {aspects[4]:.2f}, median {aspects[2]:.2f}"))
    for label, key in (("File formats", "formats"), ("Pixel modes", "modes")):
        if facts.get(key):
            rows.append((label, ", ".join(f"{name} {number(n)}" for name, n in facts[key].items())))
    if is_number(facts.get("imbalance")):
        rows.append(("Largest / smallest class", f"{facts['imbalance']:.2f} to 1 in training"))
    if facts.get("channel_mean"):
        rows.append(("Mean colour (R, G, B)", ", ".join(f"{value:.3f}" for value in facts["channel_mean"])))
    if facts.get("groups"):
        rows.append(("Groups kept together", number(facts["groups"])))
    rows.append(("Digest", text(facts.get("digest"))))
    return rows


def curves_section(run: RunFolder) -> list[dict[str, Any]]:
    """For each rung that was judged: its curves, or, where it was solved and not trained, how and with what result."""
    names = list(
        dict.fromkeys(
            event.get("rung") for event in run.history if event.get("event") in ("step", "validation")
        )
    )
    return [
        _trained(run, rung) if _curve(run, rung, "step", "loss") else _solved(run, rung) for rung in names
    ]


def _solved(run: RunFolder, rung: Any) -> dict[str, Any]:
    """A rung without steps has no curve: what was chosen, and what the validation images say."""
    last = [e for e in run.history if e.get("rung") == rung and e.get("event") == "validation"][-1]
    return {
        "method": method_words(rung),
        "solved": True,
        "how": sentence(last.get("reason")),
        "metrics": _in_brief(last),
    }


def _trained(run: RunFolder, rung: Any) -> dict[str, Any]:
    """Losses and the validation metric against the epoch."""
    losses = _curve(run, rung, "step", "loss")
    checks = _curve(run, rung, "validation", "log_loss")
    metric = "accuracy" if _curve(run, rung, "validation", "accuracy") else _other_metric(run, rung)
    words = metric_words(metric)
    lines = [charts.Line(name="training loss", points=_thinned(losses), tone="muted")]
    around = _band(run, rung, "log_loss")
    lines.append(charts.Line(name="validation log-loss", points=checks, dots=True, band=around))
    scores = charts.Line(
        name=f"validation {words.inside}",
        points=_curve(run, rung, "validation", metric),
        band=_band(run, rung, metric),
        dots=True,
    )
    drawn = charts.line_chart([scores], x="epoch", y=scores.name, percent=words.share)
    return {
        "method": method_words(rung),
        "solved": False,
        "loss": charts.line_chart(lines, x="epoch", y="loss"),
        "metric": drawn if len(scores.points) > 1 else "",  # one point is no curve
        "steps": number(len(losses)),
        "thinned": len(losses) > _DRAWN,
    }


def _other_metric(run: RunFolder, rung: Any) -> str:
    keys = [
        key
        for e in run.history
        if e.get("rung") == rung and e.get("event") == "validation"
        for key in e.get("metrics") or {}
    ]
    return next((str(key) for key in keys if key not in ("log_loss", "loss")), "")


def _curve(run: RunFolder, rung: Any, kind: str, key: str) -> charts.Points:
    """(epoch, value) in order; a step that a resumed run took again counts as it went the last time."""
    points: dict[float, float] = {}
    for event in run.history:
        if event.get("rung") != rung or event.get("event") != kind:
            continue
        epoch, value = event.get("epoch"), event.get(key, (event.get("metrics") or {}).get(key))
        value = value.get("value") if isinstance(value, dict) else value
        if is_number(epoch) and is_number(value):
            points[float(epoch)] = float(value)
    return tuple(sorted(points.items()))


def _band(run: RunFolder, rung: Any, key: str) -> tuple[tuple[float, float], ...]:
    """The interval at each point of that metric's curve; empty where one has none."""
    spans: dict[float, Any] = {}
    for event in run.history:
        if event.get("rung") == rung and event.get("event") == "validation" and is_number(event.get("epoch")):
            spans[float(event["epoch"])] = (event.get("intervals") or {}).get(key)
    known = [spans[epoch] for epoch, _ in _curve(run, rung, "validation", key)]
    if not all(isinstance(span, list) and len(span) == 2 and all(map(is_number, span)) for span in known):
        return ()
    return tuple((float(low), float(high)) for low, high in known)


def _thinned(points: charts.Points) -> charts.Points:
    return points[:: -(-len(points) // _DRAWN)] if points else ()


def ledger_section(run: RunFolder) -> dict[str, Any]:
    """Every tensor group, and whether what was called frozen is bit-identical."""
    groups = [_ledger_row(group) for group in run.ledger.get("groups") or []]
    checked = sum(group["state"] != "plain" for group in groups)
    identical = run.ledger.get("frozen_identical")
    if not groups:
        proof, state = "", "plain"
    elif not checked:
        proof, state = "Nothing was called frozen, so there is nothing to prove.", "plain"
    elif identical:
        where = f"{checked} of {plural(len(groups), 'group')}"
        proof = f"Proven: what was called frozen, in {where}, is bit-identical before and after training."
        state = "good"
    else:
        proof, state = "Broken: something that was called frozen has changed. Do not trust this run.", "bad"
    return {"groups": groups, "proof": proof, "state": state}


def _ledger_row(group: dict[str, Any]) -> dict[str, Any]:
    trains, verified = bool(group.get("trains")), group.get("verified")
    state = "good" if verified is True else "bad" if verified is False else "plain"
    unchanged = "frozen part identical" if trains else "identical"
    unproven = "trained" if trains else "not checked"
    return {
        "name": text(group.get("name")),
        "tensors": number(group.get("tensors")),
        "parameters": number(group.get("parameters")),
        "trains": trains,
        "lr": rate(group["lr"]) if trains and is_number(group.get("lr")) else "\u2014",
        "weight_decay": rate(group["weight_decay"])
        if trains and is_number(group.get("weight_decay"))
        else "\u2014",
        "buffers": number(group.get("buffers")),
        "move": bool(group.get("buffers_may_move")),
        "before": text(group.get("hash_before")),
        "after": text(group.get("hash_after")),
        "before_short": str(group.get("hash_before") or MISSING)[:12],
        "after_short": str(group.get("hash_after") or MISSING)[:12],
        "verified": {"good": unchanged, "bad": "CHANGED", "plain": unproven}[state],
        "state": state,
    }


def contract_section(run: RunFolder) -> dict[str, Any]:
    """The preprocessing in words, step by step, and its numbers."""
    weights = run.manifest.get("weights")
    contract = (
        run.manifest.get("preprocess")
        or (weights.get("preprocess") if isinstance(weights, dict) else None)
        or {}
    )
    if not contract:
        return {"steps": [], "rows": []}
    height, width, kernel = contract.get("height"), contract.get("width"), text(contract.get("interpolation"))
    steps = ["Turn the image upright (EXIF) and make it RGB, 8 bits a channel."]
    if contract.get("fit") == "squash":
        steps.append(
            f"Resize the whole image, of any shape, to {width} x {height} pixels, {kernel}, anti-aliased."
        )
    elif contract.get("fit") == "letterbox":
        steps.append(
            f"Resize the whole image, {kernel}, anti-aliased, to the largest size that fits into {width} x {height} pixels."
        )
        steps.append("Put it into the upper left corner; what is left over has the mean colour.")
    else:
        steps.append(
            f"Resize it, {kernel}, anti-aliased, to a short side of {text(contract.get('resize'))} pixels."
        )
        steps.append(f"Cut out the centre, {width} x {height} pixels.")
    steps.append("Divide by 255, subtract the mean and divide by the standard deviation of each channel.")
    labels = {"mean": "Mean (R, G, B)", "std": "Standard deviation (R, G, B)"}
    rows = [(labels.get(key, humane(key)), text(value)) for key, value in contract.items()]
    return {"steps": [step.replace(" x ", " \u00d7 ") for step in steps], "rows": rows}


def licence_section(run: RunFolder) -> dict[str, Any]:
    """What is known about the pretrained weights and what may be done with them."""
    weights = run.manifest.get("weights")
    if not isinstance(weights, dict):
        name = weights or run.evaluation.get("weights") or run.plan.get("weights")
        return {"rows": [("Pretrained weights", text(name)), ("Licence", MISSING)], "licence": ""}
    allowed = {
        True: "allowed by this licence",
        False: "not allowed by this licence",
        None: "not known: ask the authors",
    }
    top1 = weights.get("top1")
    rows = [
        ("Pretrained weights", text(weights.get("name"))),
        ("Architecture", text(weights.get("arch"))),
        ("Licence", text(weights.get("licence"))),
        ("Commercial use", allowed.get(weights.get("commercial"), MISSING)),
        ("Pretrained on", f"{text(weights.get('data'))}, {text(weights.get('objective'))}"),
        ("ImageNet-1k accuracy, as published", percent(top1)),
        ("Parameters of the backbone", number(weights.get("parameters") or None)),
        ("Source", text(weights.get("source"))),
        ("SHA-256", text(weights.get("sha256"))),
        ("Paper", text(weights.get("paper"))),
    ]
    return {"rows": rows, "licence": text(weights.get("licence"))}


def environment_section(run: RunFolder) -> dict[str, Any]:
    """Versions, machine, seed, budget, and where the time went."""
    seconds = {key: value for key, value in (run.evaluation.get("seconds") or {}).items() if is_number(value)}
    bars = [(humane(key), float(value), duration(value)) for key, value in seconds.items() if key != "total"]
    rows = [(key, text(value)) for key, value in (run.manifest.get("versions") or {}).items()]
    budget = run.plan.get("budget_seconds")
    rows += [
        ("Machine", text(run.manifest.get("machine"))),
        ("Seed", text(run.plan.get("seed"))),
        ("Budget", duration(budget) if is_number(budget) else "none" if run.plan else MISSING),
    ]
    return {
        "rows": rows,
        "bars": charts.bar_chart(bars, label="Seconds by stage"),
        "total": duration(seconds.get("total")),
    }


def use_section(run: RunFolder) -> dict[str, Any]:
    """The commands to go on with, ready to paste."""
    name = shlex.quote(run.path.resolve().name)
    split, _ = judged_split(run)
    return {
        "commands": [
            ("Ask it about images", f"headstart predict {name} photos/ --out answers.csv"),
            ("Measure it on other labelled images", f"headstart evaluate {name} other-images/"),
            ("Hand it on as one ONNX file, checked for parity", f"headstart export {name} --format onnx"),
        ],
        "split": split,
    }
