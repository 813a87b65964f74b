"""A plan that the user has edited: `plan.json` back into a `Plan`, without fields that are unknown or have no effect."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from headstart._core.check import in_range, one_of, suggestion
from headstart._core.errors import BadPlan
from headstart._core.records import from_plain, read_json
from headstart.methods import METHODS, Choice
from headstart.planning.make import told_settings
from headstart.planning.records import PREFERENCES, Plan, Rung
from headstart.tasks import task_of

_SIZES = (8, 2048)  # pixels


def load_plan(path: Path) -> Plan:
    """The plan in a file, checked: what `headstart plan --json` printed or a run folder's `plan.json`, edited or not.

    Raises:
        BadInput: when the file is missing, no JSON, or has a field that a plan has not.
        BadOption: for a value outside its range.
        BadPlan: for an edit that would have no effect, and for a plan that cannot be climbed.
    """
    plain = read_json(path)
    plain.pop("evidence", None)  # `plan --json` prints it beside the plan; it explains, it is not obeyed
    plan = from_plain(Plan, plain, where=str(path))
    one_of("prefer", plan.prefer, PREFERENCES)
    if plan.input_size is not None:
        in_range("input_size", plan.input_size, low=_SIZES[0], high=_SIZES[1])
    if not plan.rungs:
        raise BadPlan(f"{path} has no rungs: there is nothing to do.", hint=f"Methods: {', '.join(METHODS)}.")
    names = [rung.method for rung in plan.rungs]
    for name in names:
        one_of("rungs: method", name, METHODS)
        if names.count(name) > 1:
            raise BadPlan(f"{path} has the rung {name} twice.", hint="A method is climbed once; remove one.")
    rungs = tuple(_checked(rung, path) for rung in plan.rungs)
    task_of(plan.task, plan.head)
    plan = replace(plan, rungs=rungs)
    _check_decided(plan, path)
    return plan


def _checked(rung: Rung, path: Path) -> Rung:
    """The rung with its parameters as the method's record holds them."""
    row = METHODS[rung.method]
    known = {field.name for field in fields(row.params)}
    for key in rung.params:
        if key not in known:
            owners = [name for name in METHODS if key in {f.name for f in fields(METHODS[name].params)}]
            hint = f"It belongs to {', '.join(owners)}." if owners else suggestion(key, known)
            raise BadPlan(f"{path}: {key} has no effect on the rung {rung.method}.", hint=hint)
    params = from_plain(row.params, rung.params, where=f"{path}: the rung {rung.method}")
    row.check(params)
    return replace(rung, params=asdict(params))


def _check_decided(plan: Plan, path: Path) -> None:
    """Nothing, if `decided`, which only explains, says what the plan does; an edit there would have no effect."""
    obeyed: dict[str, Any] = {"weights": ("weights", plan.weights)}
    if plan.input_size is not None:
        obeyed["input size"] = ("input_size", f"{plan.input_size} px")
    if plan.frame is not None:
        obeyed["input size"] = ("frame", f"{plan.frame[0]}x{plan.frame[1]} px")
    if plan.head.name:
        obeyed["head"] = ("head: name", plan.head.name)
        obeyed[f"{plan.head.name}: settings"] = ("head: settings", told_settings(plan.head.settings))
    for rung in plan.rungs:
        for key, value in rung.params.items():
            obeyed[f"{rung.method}: {key.replace('_', ' ')}"] = (
                f"{key} of the rung {rung.method}",
                str(value),
            )
    for choice in plan.decided:
        owner, value = obeyed.get(choice.what, ("", choice.value))
        if choice.value != value:
            raise BadPlan(
                f"{path}: `decided` says {choice.what} = {choice.value}, but {owner} is {value}.",
                hint=f"`decided` only explains and has no effect: edit {owner}, and change or remove this line.",
            )


def told_edited(plan: Plan, path: Path) -> Plan:
    """The plan with the note that it came from a file, so that reasons that no longer hold are not taken for ours."""
    note = Choice(what="plan", value=str(path), why="given with --plan; reasons below are those of the file")
    return replace(plan, decided=(note, *(choice for choice in plan.decided if choice.what != "plan")))
