"""Which input size, how many passes, which rungs in which order: choices among what the measurements let expect."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from headstart.data.records import DatasetFacts
from headstart.evidence import DepthProbe, Evidence
from headstart.methods import METHODS, Choice, Decline, Suggestion
from headstart.metrics import told_points
from headstart.planning.expect import (
    Setting,
    best_probe,
    doubt,
    expect,
    output_probe,
    place_words,
    seconds,
    told_expected,
    told_probe,
    told_size,
)
from headstart.planning.records import Expected, Rung, Wishes
from headstart.planning.worth import CHEAP, not_worth, told_seconds

_SAFETY = 0.85  # share of the time that is left which a rung is planned to use
_TIES = {
    "accuracy": 0.003,
    "speed": 0.01,
    "size": 0.003,
}  # accuracies closer than this are a tie: the cheaper is taken
_STEP_TIME, _STEP_GAIN = (
    0.25,
    0.5,
)  # a rung before the best one must cost at most, and gain at least, this share


@dataclass(frozen=True)
class Candidate:
    """A method that is willing, with what is expected of it."""

    name: str
    suggestion: Suggestion
    expected: Expected


Willing = dict[str, Suggestion]


def by_size(
    willing: Willing, facts: DatasetFacts, evidence: Evidence, *, native: int, wishes: Wishes
) -> tuple[int, Choice, list[Candidate], list[Choice]]:
    """The input size at which most is expected within the budget, why, and the candidates at it with what was left out.

    Of sizes whose best rungs tie, the smallest is taken: it costs least. What is expected has been drawn to what is usual,
    the more, the less sure the probes are: no loss at a size that shows all that the images hold, some at one that throws
    pixels away. Where speed or size matter more, the probes' doubt is in favour of the smaller size besides.
    """
    tried = sorted({probe.size for probe in evidence.sizes} | {native})
    settings = {size: Setting(facts=facts, evidence=evidence, size=size, native=native) for size in tried}
    found = {size: _at_size(willing, settings[size], wishes) for size in tried}
    most = {size: _most(found[size][0]) for size in tried}
    reached = {size: 0.0 if (one := most[size]) is None else one.accuracy for size in tried}
    best = max(reached.values())
    chosen = min(size for size in tried if reached[size] >= best - _favour(settings[size], wishes))
    told_sizes = "; ".join(
        f"{probe.size} px: {told_size(probe, evidence)}, {1000 * probe.seconds_per_image:.0f} ms an image"
        for probe in evidence.sizes
    )
    if len(tried) == 1:
        why = "the size of the pretraining; no other was measured"
    elif chosen == native:
        why = (
            f"the size of the pretraining: the best that is expected within the budget. Probes: {told_sizes}"
        )
    else:
        why = (
            f"{_told_most(most[chosen])} is expected at it and {_told_most(most[native])} at the pretraining's {native} px, "
            f"within the same budget; a tie goes to the cheaper. Probes: {told_sizes}"
        )
    return chosen, Choice(what="input size", value=f"{chosen} px", why=why), *found[chosen]


def _most(candidates: list[Candidate]) -> Expected | None:
    """The highest that is expected of any; None where there is none."""
    return max((each.expected for each in candidates), key=lambda found: found.accuracy, default=None)


def _told_most(found: Expected | None) -> str:
    return "nothing" if found is None else told_expected(found)


def _favour(setting: Setting, wishes: Wishes) -> float:
    """Accuracy that is forgiven to an input size because it costs less."""
    tie = _TIES[wishes.prefer]
    if wishes.prefer == "accuracy":
        return tie
    doubts = (probe.loss_error for probe in setting.evidence.sizes if probe.size == setting.size)
    return max(tie, *doubts, 0.0)


def _at_size(willing: Willing, setting: Setting, wishes: Wishes) -> tuple[list[Candidate], list[Choice]]:
    """What each method is expected to reach at one size inside the budget, and what does not fit into it."""
    fitting, left_out = [], []
    spent = sum(
        seconds(METHODS[name], asdict(each.params), setting) or 0.0
        for name, each in willing.items()
        if METHODS[name].expects == "output"
    )
    for name, each in willing.items():
        fitted = fit_epochs(name, each, setting, wishes, spent=spent)
        if isinstance(fitted, Decline):
            left_out.append(Choice(what=name, value="left out", why=fitted.reason))
            continue
        found = expect(METHODS[name], asdict(fitted.params), setting)
        fitting.append(Candidate(name, fitted, found))
    return fitting, left_out


def fit_epochs(
    name: str, suggestion: Suggestion, setting: Setting, wishes: Wishes, *, spent: float
) -> Suggestion | Decline:
    """The suggestion with as many passes as the budget allows; declined where not even one fits.

    Args:
        name: of the method.
        suggestion: its own parameters for this data.
        setting: what was measured, and at which input size.
        wishes: with the budget.
        spent: seconds of it that go to the rungs before.
    """
    params, method = asdict(suggestion.params), METHODS[name]
    planned = params.get("epochs")
    if wishes.budget_seconds is None or setting.evidence.cost is None or planned is None:
        return suggestion
    if (
        wishes.method != "auto" or "epochs" in wishes.given
    ):  # asked for: the loop shortens its schedule itself
        return suggestion
    takes = [
        seconds(method, params | {"epochs": count}, setting, longest=True) or 0.0
        for count in range(1, planned + 1)
    ]
    left = wishes.budget_seconds - spent
    if takes[-1] <= left:
        return suggestion
    budget = told_seconds(wishes.budget_seconds)
    fits = sum(each <= _SAFETY * left for each in takes)
    if not fits:
        reason = f"a single pass takes about {told_seconds(takes[0])}, too much for the budget of {budget}"
        return Decline(reason=reason)
    why = f"{planned} passes would take {told_seconds(takes[-1])}, and the budget is {budget}"
    kept = tuple(choice for choice in suggestion.choices if choice.what != "epochs")
    return Suggestion(
        params=replace(suggestion.params, epochs=fits),
        choices=(*kept, Choice(what="epochs", value=str(fits), why=why)),
    )


def select(
    candidates: list[Candidate], setting: Setting, wishes: Wishes
) -> tuple[list[Candidate], list[Choice]]:
    """The candidates that are climbed, in order, and why the others are not.

    First what is found in closed form, in seconds; then the tuning of which most is expected, a tie going to the cheaper;
    before it, at most, one that costs a fraction and brings a good part of the gain. Without a budget all tuning is tried.
    """
    closed = [each for each in candidates if METHODS[each.name].solver == "features"]
    tuned = [each for each in candidates if METHODS[each.name].solver != "features"]
    first, left_out = _closed(closed, setting, wishes)
    if wishes.budget_seconds is None:
        return [*first, *sorted(tuned, key=lambda each: each.expected.seconds or 0.0)], left_out
    floor = _most(first)
    reached = 0.0 if floor is None else floor.accuracy
    hopeful = [each for each in tuned if each.expected.accuracy > reached]
    left_out += [
        Choice(
            what=each.name,
            value="left out",
            why=f"{_told_hope(each)}; a cheaper rung is expected to reach {_told_most(floor)}",
        )
        for each in tuned
        if each not in hopeful
    ]
    chosen = _best_tuned(hopeful, reached, wishes)
    left_out += [
        Choice(
            what=each.name,
            value="left out",
            why=f"{_told_hope(each)}; {chosen[-1].name} promises more for its time: {_told_hope(chosen[-1])}",
        )
        for each in hopeful
        if each not in chosen
    ]
    return [*first, *chosen], left_out


def _closed(
    closed: list[Candidate], setting: Setting, wishes: Wishes
) -> tuple[list[Candidate], list[Choice]]:
    """Of the probe on the last layer and the one on other depths: the better, or both where it is open which that is.

    The quick probes of the evidence look at single depths and few sets. The fitted one searches on, for seconds: it found
    89 % where the evidence saw 62 and the last layer has 57 (coloured noise). So it is left out for haste alone, and
    where it is quick it takes the place of the last layer, which is among what it chooses from, at the first sign of a gain.
    Where size matters most, the one depth is read behind which most of the network can be left away.
    """
    evidence = setting.evidence
    output, best = output_probe(evidence), best_probe(evidence)
    gain, error = best.accuracy - output.accuracy, doubt(best, output)
    compared = (
        f"{place_words(best.name)} {told_probe(best, evidence)}, {place_words(output.name)} "
        f"{told_probe(output, evidence)}"
    )
    last = [each for each in closed if METHODS[each.name].expects != "depths"]
    deep = [each for each in closed if METHODS[each.name].expects == "depths"]
    if not deep or not last:
        return closed, []
    small = _shallowest(evidence) if wishes.prefer == "size" and "depths" not in wishes.given else None
    if small is not None:
        why = f"what lies behind {place_words(small.name)} is left away: {compared}"
        cut = [_read_at(each, small, setting) for each in deep]
        return cut, [Choice(what=each.name, value="left out", why=why) for each in last]
    if gain <= error and wishes.prefer == "speed":
        tie = (
            "a tie, so the simpler one stays" if gain > 0 else "no other depth sees more than the last layer"
        )
        return last, [Choice(what=each.name, value="left out", why=f"{tie}: {compared}") for each in deep]
    quick = all((each.expected.seconds or 0.0) <= CHEAP for each in deep)
    if gain > 2 * error or (gain > 0 and quick):
        why = (
            f"another depth sees more, by {told_points(gain, error)}: {compared}"
            if gain > 2 * error
            else f"another depth may see more: {compared}; and the search over depths, which takes seconds, "
            f"has the last layer among its choices"
        )
        return deep, [Choice(what=each.name, value="left out", why=why) for each in last]
    return [*last, *deep], []


def _shallowest(evidence: Evidence) -> DepthProbe | None:
    """The first single depth that ties with the best of all, by a standard error; None where only the last layer does."""
    best = best_probe(evidence)
    singles = [probe for probe in evidence.depths if len(probe.outputs) == 1]
    found = next((each for each in singles if each.accuracy >= best.accuracy - doubt(each, best)), None)
    return None if found is None or found is output_probe(evidence) else found


def _read_at(candidate: Candidate, probe: DepthProbe, setting: Setting) -> Candidate:
    """The same search over depths, bound to that one."""
    before = candidate.suggestion
    why = (
        f"the shallowest depth that ties with the best: {place_words(probe.name)} {told_probe(probe, setting.evidence)}; "
        "what lies behind it is not saved"
    )
    params = replace(before.params, depths=probe.name)
    kept = tuple(choice for choice in before.choices if choice.what != "depths")
    bound = Suggestion(params=params, choices=(Choice(what="depths", value=probe.name, why=why), *kept))
    return Candidate(candidate.name, bound, expect(METHODS[candidate.name], asdict(params), setting))


def _best_tuned(hopeful: list[Candidate], reached: float, wishes: Wishes) -> list[Candidate]:
    """The tuning rung to climb, after a cheap one that brings a good part of its gain where there is such a one."""
    if not hopeful:
        return []
    most = max(each.expected.accuracy for each in hopeful)
    tied = [each for each in hopeful if each.expected.accuracy >= most - _TIES[wishes.prefer]]
    best = min(
        tied, key=lambda each: each.expected.seconds or math.inf
    )  # of equals the table's first: the cheaper
    gain, takes = best.expected.accuracy - reached, best.expected.seconds
    if takes is None or wishes.prefer == "speed":
        return [best]
    steps = [
        each
        for each in hopeful
        if each is not best
        and (each.expected.seconds or math.inf) <= _STEP_TIME * takes
        and each.expected.accuracy - reached >= _STEP_GAIN * gain
    ]
    return [*sorted(steps, key=lambda each: -each.expected.accuracy)[:1], best]


def _told_hope(candidate: Candidate) -> str:
    found = candidate.expected
    time = "" if found.seconds is None else f" in {told_seconds(found.seconds)}"
    return f"{told_expected(found)} is expected of it{time}"


def as_rungs(chosen: list[Candidate], setting: Setting, wishes: Wishes) -> tuple[Rung, ...]:
    """The rungs, each with the reason for its place."""
    out: list[Rung] = []
    for each in chosen:
        unworthy = _doubt(each, out, setting, wishes, challengers=len(chosen) - 1)
        out.append(
            Rung(
                method=each.name,
                params=asdict(each.suggestion.params),
                why=_why(each, wishes, first=not out, unworthy=unworthy),
                expected=each.expected,
                doubtful=bool(unworthy),
            )
        )
    return tuple(out)


def _doubt(
    candidate: Candidate, before: list[Rung], setting: Setting, wishes: Wishes, *, challengers: int
) -> str:
    """Why the ladder will leave the rung out if those before it end as expected; empty where it will not."""
    reached = max((r.expected.accuracy for r in before if r.expected is not None), default=None)
    if reached is None or wishes.budget_seconds is None:
        return ""
    splits = setting.facts.splits
    return not_worth(
        candidate.expected.accuracy - reached,
        accuracy=reached,
        images=max(1, splits["val"].n if "val" in splits else setting.facts.n_train),
        candidates=challengers,
        seconds=candidate.expected.seconds,
        prefer=wishes.prefer,
    )


def _why(candidate: Candidate, wishes: Wishes, *, first: bool, unworthy: str) -> str:
    if wishes.method != "auto":
        return "asked for"
    found = candidate.expected
    time = "" if found.seconds is None else f", about {told_seconds(found.seconds)}"
    hope = f"expected {told_expected(found)}{time}: {'; '.join(found.because)}"
    if first:
        return f"{hope}. The floor for every costlier method"
    if unworthy:
        return f"{hope}. Climbed only if the rung before ends below its expectation: {unworthy}"
    return f"{hope}. Kept only if the validation images say so"
