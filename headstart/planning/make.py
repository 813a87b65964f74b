"""Facts, evidence and wishes become a plan: rungs in order, each value with its reason. Pure."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from headstart._core.check import one_of, suggestion
from headstart._core.errors import BadOption, BadPlan
from headstart._core.records import from_plain
from headstart.data.records import DatasetFacts
from headstart.evidence import Evidence
from headstart.methods import METHODS, Choice, Suggestion
from headstart.planning import places
from headstart.planning.choose import as_rungs, by_size, select
from headstart.planning.expect import Setting
from headstart.planning.guide import guide
from headstart.planning.records import Plan, Rung, Wishes
from headstart.tasks import TASKS, HeadSpec, head_of
from headstart.weights import Backbone


def make_plan(facts: DatasetFacts, evidence: Evidence | None, *, backbone: Backbone, wishes: Wishes) -> Plan:
    """The plan for this data.

    Args:
        facts: about the images.
        evidence: what was measured with this network; None where nothing was: then every method is a rung, the cheapest
            first, and nothing is predicted.
        backbone: the network.
        wishes: what the user asked for.

    Raises:
        BadOption: for a parameter that none of the planned methods has: an argument without effect is an error.
        BadPlan: when the one method that was asked for declines.
    """
    decided = [Choice(what="weights", value=backbone.info.name, why=_why_weights(backbone))]
    willing, left = _willing(facts, evidence, backbone, wishes)
    decided += left
    frame, head, told = _shown(facts, wishes)
    decided += told
    size: int | None = None
    if evidence is not None and frame is not None:
        rungs, told_rungs = places.choose(willing, facts, evidence, wishes)
        decided += told_rungs
    elif evidence is None or not evidence.depths:
        rungs = _unmeasured(willing, wishes)
    else:
        native = _native(backbone)
        size, why, candidates, left_out = by_size(willing, facts, evidence, native=native, wishes=wishes)
        setting = Setting(facts=facts, evidence=evidence, size=size, native=native)
        if wishes.method == "auto":
            candidates, dropped = select(candidates, setting, wishes)
            left_out = [*left_out, *dropped]
        rungs = as_rungs(candidates, setting, wishes)
        willing = {each.name: each.suggestion for each in candidates}
        decided += [why, *left_out]
    decided += [
        Choice(what=f"{rung.method}: {c.what.replace('_', ' ')}", value=c.value, why=c.why)
        for rung in rungs
        for c in willing[rung.method].choices
    ]
    return Plan(
        task=facts.task,
        weights=backbone.info.name,
        seed=wishes.seed,
        budget_seconds=wishes.budget_seconds,
        decided=tuple(decided),
        rungs=rungs,
        guide=guide(facts, evidence, rungs),
        input_size=size,
        frame=frame,
        head=head,
        prefer=wishes.prefer,
    )


def _shown(
    facts: DatasetFacts, wishes: Wishes
) -> tuple[tuple[int, int] | None, HeadSpec, tuple[Choice, ...]]:
    """The letterbox (None for tasks of whole images), the head, and why they.

    Raises:
        BadOption: for a head that is not one of the task.
        MissingPackage: for a head whose package is not installed.
    """
    head, places = head_of(facts.task, wishes.head), TASKS[facts.task].places
    if places is None:
        return None, HeadSpec(name=head.name), ()
    frame, why_frame = places.frame(facts)
    settings, why = head.fit(facts, frame)
    chosen = "asked for" if wishes.head else "the task's usual one"
    told = [
        Choice(what="input size", value=f"{frame[0]}x{frame[1]} px", why=why_frame),
        Choice(what="head", value=head.name, why=f"{chosen}; {head.summary} ({head.source})"),
    ]
    if why:
        told.append(Choice(what=f"{head.name}: settings", value=told_settings(asdict(settings)), why=why))
    return frame, head.spec(settings), tuple(told)


def told_settings(settings: dict[str, Any]) -> str:
    """What was fitted to the data for a head, as `decided` says it.

    >>> told_settings({"sizes": ((16.0, 22.6), (32.0, 45.3)), "ratios": (0.5, 1.0)})
    'sizes 16 22.6 32 45.3, ratios 0.5 1'
    """
    return ", ".join(f"{name} {' '.join(f'{v:g}' for v in _flat(value))}" for name, value in settings.items())


def _flat(value: Any) -> list[float]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list | tuple) else [value]


def _willing(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, wishes: Wishes
) -> tuple[dict[str, Suggestion], list[Choice]]:
    """Method -> its suggestion, in the table's order, and why the others are left out.

    Raises:
        BadPlan: where there is none.
    """
    names = [name for name in check_given(wishes.method, wishes.given) if facts.task in METHODS[name].tasks]
    if not names:
        able = ", ".join(name for name, row in METHODS.items() if facts.task in row.tasks)
        raise BadPlan(
            f"{wishes.method} is not made for the task {facts.task}.", hint=f"Methods that are: {able}."
        )
    decided: list[Choice] = []
    willing: dict[str, Suggestion] = {}
    for name in names:
        if wishes.method == "auto" and (reason := METHODS[name].why_not(facts, evidence)):
            decided.append(Choice(what=name, value="left out", why=reason))
            continue
        answer = METHODS[name].suggest(facts, evidence, backbone, _own(name, wishes.given))
        if isinstance(answer, Suggestion):
            willing[name] = answer
            continue
        if wishes.method != "auto":
            raise BadPlan(
                f"{name} declines: {answer.reason}.", hint="Change the value named, or use --method auto."
            )
        decided.append(Choice(what=name, value="left out", why=answer.reason))
    if not willing:
        reasons = "; ".join(f"{choice.what}: {choice.why}" for choice in decided)
        raise BadPlan(f"No method can be planned: {reasons}.", hint="Change the values named.")
    return willing, decided


def check_given(method: str, given: dict[str, Any]) -> list[str]:
    """The methods that will be planned, after a check that every value the user gave has an owner among them.

    Raises:
        BadOption: for an unknown method, and for an argument without effect.
    """
    on_ladder = [name for name, row in METHODS.items() if not row.on_request]
    names = on_ladder if method == "auto" else [one_of("--method", method, ["auto", *METHODS])]
    known = {name: {field.name for field in fields(METHODS[name].params)} for name in METHODS}
    usable = set().union(*(known[name] for name in names))
    for key in given:
        if key in usable:
            continue
        owners = [name for name, own in known.items() if key in own]
        hint = f"It belongs to {', '.join(owners)}." if owners else suggestion(key, usable)
        raise BadOption(f"--{key.replace('_', '-')} has no effect on {', '.join(names)}.", hint=hint)
    for name in names:
        METHODS[name].check(_record(name, given))
    return names


def _record(name: str, given: dict[str, Any]) -> Any:
    """The method's record of parameters: what the user gave, converted to the fields' types, and defaults."""
    row = METHODS[name]
    own = {field.name for field in fields(row.params)}
    return from_plain(row.params, {key: value for key, value in given.items() if key in own}, where=name)


def _own(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the user gave that belongs to this method, as its record holds it: "3" from Python is 3 in the plan."""
    return {key: value for key, value in asdict(_record(name, given)).items() if key in given}


def _why_weights(backbone: Backbone) -> str:
    info = backbone.info
    return f"{info.parameters / 1e6:.1f} million parameters, {info.objective} on {info.data}, licence {info.licence}"


def _why_rung(name: str, asked: str) -> str:
    if asked != "auto":
        return "asked for"
    if METHODS[name].solver == "features":
        return "seconds: one pass over the images; the floor for every costlier method"
    return "minutes: may adapt early layers too; kept only if the validation images say so"


def _unmeasured(willing: dict[str, Suggestion], wishes: Wishes) -> tuple[Rung, ...]:
    """Every method that is willing, in the table's order: the cheapest first."""
    return tuple(
        Rung(method=name, params=asdict(answer.params), why=_why_rung(name, wishes.method))
        for name, answer in willing.items()
    )


def _native(backbone: Backbone) -> int:
    """Pixels of the short side of the input in pretraining."""
    contract = backbone.info.preprocess
    return min(contract.height, contract.width)
