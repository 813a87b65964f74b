"""Facts and wishes become a plan: rungs in order, each value with its reason. Pure: nothing is read, run or written."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from headstart._core.check import one_of, suggestion
from headstart._core.errors import BadOption, BadPlan
from headstart._core.records import from_plain, record
from headstart.data.records import DatasetFacts
from headstart.methods import METHODS, Choice, Decline
from headstart.weights import Backbone

SMALL, LARGE = 1_000, 10_000  # images; the bounds of the decision guide


@record
class Wishes:
    """What the user asked for.

    Attributes:
        method: a name of `METHODS`, or `auto` for the whole ladder.
        budget_seconds: time for the climb; None for no limit.
        seed: of everything random.
        given: values for parameters of the methods, by field name.
    """

    method: str = "auto"
    budget_seconds: float | None = 600.0
    seed: int = 0
    given: dict[str, Any]


@record
class Rung:
    """A method with all its parameters resolved, and why it stands there."""

    method: str
    params: dict[str, Any]
    why: str


@record
class Guide:
    """The textbook's advice for this size of data: where the plan starts from."""

    size: str
    similarity: str
    prior: str


@record
class Plan:
    """What `fit` will do: `plan.json`.

    Attributes:
        decided: every value that was chosen for this data, with its reason.
        rungs: in the order in which they are climbed, cheapest first.
    """

    task: str
    weights: str
    seed: int
    budget_seconds: float | None
    decided: tuple[Choice, ...]
    rungs: tuple[Rung, ...]
    guide: Guide


def make_plan(facts: DatasetFacts, backbone: Backbone, wishes: Wishes) -> Plan:
    """The plan for this data.

    Raises:
        BadOption: for a parameter that none of the planned methods has: an argument without effect is an error.
        BadPlan: when the one method that was asked for declines.
    """
    names = check_given(wishes.method, wishes.given)
    rungs: list[Rung] = []
    decided = [Choice(what="weights", value=backbone.info.name, why=_why_weights(backbone))]
    for name in names:
        answer = METHODS[name].suggest(facts, None, backbone, _own(name, wishes.given))
        if isinstance(answer, Decline):
            if wishes.method != "auto":
                raise BadPlan(
                    f"{name} declines: {answer.reason}.", hint="Change the value named, or use --method auto."
                )
            decided.append(Choice(what=name, value="left out", why=answer.reason))
            continue
        rungs.append(Rung(method=name, params=asdict(answer.params), why=_why_rung(name, wishes.method)))
        decided.extend(
            Choice(what=f"{name}: {c.what.replace('_', ' ')}", value=c.value, why=c.why)
            for c in answer.choices
        )
    return Plan(
        task=facts.task,
        weights=backbone.info.name,
        seed=wishes.seed,
        budget_seconds=wishes.budget_seconds,
        decided=tuple(decided),
        rungs=tuple(rungs),
        guide=_guide(facts.n_train),
    )


def check_given(method: str, given: dict[str, Any]) -> list[str]:
    """The methods that will be planned, after a check that every value the user gave has an owner among them.

    Raises:
        BadOption: for an unknown method, and for an argument without effect.
    """
    names = list(METHODS) if method == "auto" else [one_of("--method", method, ["auto", *METHODS])]
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
        return "seconds: one pass over the images; the floor that every costlier method must beat"
    return "minutes: may adapt early layers too; kept only if the validation images say so"


def _guide(n: int) -> Guide:
    """The textbook's row; similarity is not measured yet, so both of its columns are told."""
    if n < SMALL:
        prior = "feature extraction; from earlier layers if the images are unlike the source's"
        return Guide(size="small", similarity="unknown", prior=prior)
    if n > LARGE:
        prior = "fine-tune the entire network; with caution, possibly from scratch, if the images are unlike the source's"
        return Guide(size="large", similarity="unknown", prior=prior)
    return Guide(
        size="between",
        similarity="unknown",
        prior="both: feature extraction first, then fine-tuning, and compare",
    )
