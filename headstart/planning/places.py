"""Which rungs for boxes and masks: from what pretraining is worth at single places, and from what each pass costs. Pure.

How well a detector or a segmenter will do is not foretold: a head for single places is too far from one that finds whole
objects. What is measured decides what is tried, and how long it takes is told.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from headstart.data.records import DatasetFacts
from headstart.evidence import Cost, DepthProbe, Evidence
from headstart.methods import METHODS, Choice, Method, Suggestion
from headstart.metrics import told_around, told_points
from headstart.planning.records import Rung, Wishes
from headstart.planning.worth import told_seconds

_LOOKS = 13  # at the validation images, of a schedule that is not shorter: each costs a good part of a pass
_LAST = 1  # look at the end, by the whole network
_ROOM = 2**30  # bytes of decoded images that training keeps
_START = 2.0  # seconds to build, fold and check a network
_FORWARD = 1 / 3  # of a training step's time that a forward pass takes
_FIRST = 0.25  # of the budget that a first rung may have: the ladder plans no more for it
_FEWEST = 3  # passes below which a rung on stored maps is not worth its maps
_ENOUGH = 0.2  # of the planned passes, with which everything is tuned: that changes what is off early too
_TIMES = 3.0  # as many passes `partial` must have in the same time to be preferred to too few of `full`

Willing = dict[str, Suggestion]


@dataclass(frozen=True)
class Pace:
    """What a rung takes on this machine, in seconds.

    Attributes:
        once: before the first step.
        epoch: a pass over the training images.
        look: at the validation images.
        planned: passes of its schedule.
    """

    once: float
    epoch: float
    look: float
    planned: int

    def seconds(self, passes: int) -> float:
        """Of so many passes."""
        looks = min(passes, _LOOKS) + _LAST
        return self.once + passes * self.epoch + looks * self.look

    def fitting(self, seconds: float) -> int:
        """How many passes fit, at most those that are planned."""
        if math.isinf(seconds):
            return self.planned
        return sum(self.seconds(passes) <= seconds for passes in range(1, self.planned + 1))


def pace_of(method: Method, params: dict[str, Any], facts: DatasetFacts, cost: Cost) -> Pace:
    """What a method with these parameters takes on this data.

    Where a frozen beginning is stored, it runs once for each view, and reading is over then. Otherwise images are read once
    and stay decoded, as far as there is room for them.
    """
    n, n_val = facts.n_train, facts.splits["val"].n if "val" in facts.splits else 0
    planned, body = int(params.get("epochs", 1)), cost.step - cost.head
    kept = kept_share(facts)
    again = kept * cost.prepare + (1 - kept) * cost.read
    first = n * (cost.read - again)  # the first view of an image is read besides
    if method.step == "step":
        look = cost.forward + cost.head * _FORWARD + cost.answer
        return Pace(once=_START + first, epoch=n * (cost.step + again), look=n_val * look, planned=planned)
    tuned = 0.0
    if method.step == "partial_step":
        own = cost.stages[-int(params.get("unfreeze", 2)) :]
        tuned = sum(own) if own else body
    views = min(int(params.get("views", 1)), planned)
    frozen = (cost.forward - cost.read) * (1 - tuned / max(body, 1e-12))
    return Pace(
        once=_START + first + views * n * (again + frozen) + n_val * (cost.read + frozen),
        epoch=n * (cost.head + tuned),
        look=n_val * ((cost.head + tuned) * _FORWARD + cost.answer),
        planned=planned,
    )


def kept_share(facts: DatasetFacts) -> float:
    """Share of the training images that stay decoded in memory, in (0, 1]."""
    short = facts.size_quantiles[len(facts.size_quantiles) // 2] if facts.size_quantiles else facts.long_side
    size = 3.0 * facts.n_train * facts.long_side * short
    return min(1.0, _ROOM / max(size, 1.0))


def choose(
    willing: Willing, facts: DatasetFacts, evidence: Evidence, wishes: Wishes
) -> tuple[tuple[Rung, ...], list[Choice]]:
    """The rungs in order, and why the others are left out and how far the budget reaches.

    Args:
        willing: methods that may stand on the ladder, the cheapest first.
        facts: of the data.
        evidence: with probes of places, as far as they could be made.
        wishes: with the budget.
    """
    budget = math.inf if wishes.budget_seconds is None else wishes.budget_seconds
    cost = evidence.cost
    if cost is None:
        names, told = _untimed(willing), list[Choice]()
        return tuple(_rung(name, willing[name], evidence, None) for name in names), told
    paces = {name: pace_of(METHODS[name], asdict(each.params), facts, cost) for name, each in willing.items()}
    first, told = _first(paces, budget)
    left = budget - sum(min(paces[name].seconds(paces[name].planned), _FIRST * budget) for name in first)
    main, why = _main(paces, evidence, left if first else budget)
    names, rungs, room = [*first, *main], list[Rung](), budget
    told += why
    for name in names:
        # The ladder plans a quarter of the budget for the first of several rungs, whichever that is.
        own = _FIRST * budget if name == names[0] and len(names) > 1 else room
        passes = paces[name].fitting(own)
        if not passes and rungs:
            takes = f"a single pass takes about {told_seconds(paces[name].seconds(1))}"
            reason = f"{takes}, and there are {told_seconds(max(own, 0.0))} left for it"
            told.append(Choice(what=name, value="left out", why=reason))
            continue
        seconds = paces[name].seconds(max(1, passes))
        rungs.append(_rung(name, willing[name], evidence, seconds))
        told.append(_told_passes(name, paces[name], max(1, passes), own))
        room -= seconds
    return tuple(rungs), told


def _untimed(willing: Willing) -> list[str]:
    """All but what only saves time."""
    return [name for name in willing if METHODS[name].step != "partial_step" or len(willing) == 1]


def _first(paces: dict[str, Pace], budget: float) -> tuple[list[str], list[Choice]]:
    """The rung that gives a model soon, where it can within its share of the budget."""
    heads = [name for name in paces if METHODS[name].step == "head"]
    if not heads or len(paces) == 1:
        return heads, []
    name, share = heads[0], _FIRST * budget
    if paces[name].fitting(share) >= min(_FEWEST, paces[name].planned):
        return [name], []
    why = (
        f"{told_seconds(paces[name].seconds(_FEWEST))} for its maps and {_FEWEST} passes: more than a quarter of the "
        f"budget of {told_seconds(budget)}, which tuning makes more of"
    )
    return [], [Choice(what=name, value="left out", why=why)]


def _main(paces: dict[str, Pace], evidence: Evidence, left: float) -> tuple[list[str], list[Choice]]:
    """What is tuned in the time that is left: everything, or the late stages where too little of that fits."""
    whole = [name for name in paces if METHODS[name].step == "step" and METHODS[name].expects != "scratch"]
    part = [name for name in paces if METHODS[name].step == "partial_step"]
    scratch = [name for name in paces if METHODS[name].expects == "scratch"]
    if not whole or not part:
        return [*part, *whole, *scratch], []
    name, other = whole[0], part[0]
    passes, more = paces[name].fitting(left), paces[other].fitting(left)
    enough = passes >= _ENOUGH * paces[name].planned
    told = f"{passes} of {paces[name].planned} passes of {name} fit into {_told_left(left)}"
    if not enough and more >= _TIMES * max(passes, 1) and early_transfers(evidence):
        why = (
            f"only {told}; {other}, whose first stages stay frozen and run only {_once(paces[other])}, has {more} in the "
            "same time, and what its frozen maps know is worth keeping"
        )
        return [other, *scratch], [Choice(what=name, value="left out", why=why)]
    if enough:
        why = f"{told}, enough for the early stages to adapt too"
    elif more < _TIMES * max(passes, 1):
        why = f"it would have {more} passes in {_told_left(left)} where {name} has {passes}: too little is saved"
    else:
        why = (
            "the maps that it would freeze know no more than those of random weights: they have to change too"
        )
    return [name, *scratch], [Choice(what=other, value="left out", why=why)]


def _once(pace: Pace) -> str:
    return f"once ({told_seconds(pace.once)})"


def _told_left(left: float) -> str:
    return "the time without a budget" if math.isinf(left) else f"the {told_seconds(left)} that are left"


def early_transfers(evidence: Evidence) -> bool:
    """Whether the finest map knows more by its pretraining, by a standard error; taken to be so where not measured."""
    maps = [probe for probe in evidence.depths if probe.stride and probe.recall is not None]
    first = min(maps, key=lambda probe: probe.stride, default=None)
    if first is None or first.recall is None or first.recall.gain is None:
        return True
    return first.recall.gain > (first.recall.gain_error or 0.0)


def _told_passes(name: str, pace: Pace, passes: int, room: float) -> Choice:
    why = f"{told_seconds(pace.epoch)} a pass over the training images, as measured on this machine"
    if pace.once > _START + 1:
        why += f", after {told_seconds(pace.once)} for maps that are stored"
    if passes < pace.planned:
        why += f"; {told_seconds(pace.seconds(pace.planned))} for all of them, and there are {told_seconds(room)}"
    return Choice(what=f"{name}: passes", value=f"about {passes} of {pace.planned}", why=why)


def _rung(name: str, suggestion: Suggestion, evidence: Evidence, seconds: float | None) -> Rung:
    return Rung(
        method=name, params=asdict(suggestion.params), why=_why(name, evidence, seconds), seconds=seconds
    )


def _why(name: str, evidence: Evidence, seconds: float | None) -> str:
    """What speaks for a rung, in sentences without a full stop at the end."""
    time = "" if seconds is None else f"about {told_seconds(seconds)}: "
    if METHODS[name].step == "head":
        best = best_map(evidence)
        known = "" if best is None else f"on frozen maps {named(best, evidence)}{_worth(best)}. "
        return f"{time}{known}A model soon, and the floor for every costlier rung"
    if METHODS[name].expects == "scratch":
        return (
            f"{time}pretraining is worth nothing measurable here. Kept only if the validation images say so"
        )
    what = "the late stages" if METHODS[name].step == "partial_step" else "every stage"
    return f"{time}{what} and the heads learn what boxes and masks need. Kept only if the validation images say so"


def best_map(evidence: Evidence) -> DepthProbe | None:
    """The probe that names most places rightly, all classes alike; None without probes of places."""
    probes = [probe for probe in evidence.depths if probe.recall is not None]
    return max(probes, key=_recall, default=None)


def _recall(probe: DepthProbe) -> float:
    return probe.recall.value if probe.recall is not None else 0.0


def measured(evidence: Evidence) -> tuple[str, ...]:
    """What the measurements of places say, in sentences without a full stop."""
    out = []
    parts = (evidence.distance.early, evidence.distance.middle, evidence.distance.late)
    if all(part is not None for part in parts):
        early, middle, late = (f"{part:.2g}" for part in parts)
        out.append(
            f"by depth: {early} in the early third of the layers, {middle} in the middle, {late} in the late"
        )
    best = best_map(evidence)
    if best is None:
        return tuple(out)
    where = f"of {evidence.places} places in {evidence.images} training images"
    out.append(f"{where}, all classes alike, a simple head on {named(best, evidence)}{_worth(best)}")
    singles = [probe for probe in evidence.depths if probe.stride and probe.recall is not None]
    if len(singles) > 1:
        told = ", ".join(f"{told_recall(probe, evidence)} at 1/{probe.stride}" for probe in singles)
        out.append(f"on one map alone: {told}")
    return tuple(out)


def named(probe: DepthProbe, evidence: Evidence) -> str:
    """What a probe names rightly, with its map in words: `the map at 1/8 names 71.0% (68.6% to 73.3%) rightly`."""
    which = f"the map at 1/{probe.stride} names" if probe.stride else "all maps together names"
    return f"{which} {told_recall(probe, evidence)} rightly"


def told_recall(probe: DepthProbe, evidence: Evidence) -> str:
    """The share of a probe's places that are named rightly, classes alike, with its 95 % interval over images."""
    assert probe.recall is not None  # whoever asks has a probe of places
    return told_around(probe.recall.value, probe.recall.error, evidence.images)


def _worth(probe: DepthProbe) -> str:
    """What pretraining is worth there."""
    found = probe.recall
    if found is None or found.gain is None or found.gain_error is None:
        return ""
    return f", {told_points(found.gain, found.gain_error)} more than with random weights"
