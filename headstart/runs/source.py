"""Which pretrained weights a run uses: those that were named, or those that the images choose."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from headstart import ranking, weights
from headstart._core import log, records
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadOption
from headstart.data.annotations import DENSE
from headstart.data.records import Dataset, DatasetFacts
from headstart.methods import METHODS, Choice
from headstart.planning import Plan
from headstart.ranking import Limits, Ranking, RankOptions
from headstart.ranking.candidates import arch_for, candidates
from headstart.runs.options import AUTO, FitOptions
from headstart.weights import SOURCES, Backbone

PLAN, RANKING = "plan.json", "ranking.json"

_SHARE, _LEAST = 0.2, 10.0  # of the budget for the ranking, and seconds that it may have in any case
_FETCHES = 600.0  # seconds of budget from which weights may be fetched only to be measured
_NAMED = 3  # better weights that a plan and the console name; ranking.json has all
_PILOT_SHARE, _PILOT_MOST = 0.1, 180.0  # of a budget above that for pilots, and seconds that they may have


@dataclass(frozen=True)
class Source:
    """The network of a run.

    Attributes:
        backbone: with its pretrained weights.
        ranking: of the weights that it was chosen among; None where there was no choice, or no need to measure.
        because: why these; empty where they were named.
    """

    backbone: Backbone
    ranking: Ranking | None = None
    because: str = ""

    def told(self) -> tuple[Choice, ...]:
        """The choice as lines of a plan: the weights, those that were left out, and those that a download would allow."""
        if not self.because:
            return ()
        lines = [Choice(what="weights", value=self.backbone.info.name, why=self.because)]
        if self.ranking is None:
            return tuple(lines)
        lines += [
            Choice(what=f"weights {each.weights}", value="left out", why=each.why)
            for each in self.ranking.skipped
        ]
        if offers := self.ranking.offers:
            names = ", ".join(each.weights for each in offers[:_NAMED])
            why = f"not on this machine; a download would allow them, the first for one: {offers[0].why}"
            lines.append(Choice(what="other weights", value=names, why=why))
        return tuple(lines)


def names_of(text: str) -> list[str]:
    """The names that `--weights` holds; none for `auto`. A comma in a path is part of the path.

    >>> names_of("auto"), names_of("file:a,b.pth"), names_of("bundled:a, timm:b")
    ([], ['file:a,b.pth'], ['bundled:a', 'timm:b'])
    """
    if text == AUTO:
        return []
    parts = [part.strip() for part in text.split(",")]
    known = all(part.partition(":")[0] in SOURCES for part in parts)
    return parts if known or not text.startswith("file:") else [text]


def check_weights(options: FitOptions) -> None:
    """Nothing, if the weights can be meant and every option beside them has an effect.

    Raises:
        BadOption: for a name that cannot be meant, and for an option without effect.
        BadWeights: for weights that their source does not have.
    """
    names = names_of(options.weights)
    if not names and options.arch:
        raise BadOption(
            f"--arch {options.arch!r} has no effect with --weights auto.",
            hint="Name the weights it belongs to.",
        )
    if len(names) > 1:
        candidates(_asked(options))
    if len(names) != 1:
        return
    weights.info(options.weights, arch=options.arch)
    if idle := changed(options.limits):
        raise BadOption(
            f"{', '.join(idle)} has no effect: --weights {options.weights} leaves nothing to choose.",
            hint="Use --weights auto, or name several with commas between.",
        )


def changed(limits: Limits) -> list[str]:
    """Flags of the limits that the user has set."""
    usual = Limits()
    return [
        f"--{each.name.replace('_', '-')}"
        for each in fields(Limits)
        if getattr(limits, each.name) != getattr(usual, each.name)
    ]


def choose_source(dataset: Dataset, facts: DatasetFacts, options: FitOptions, folder: Path | None) -> Source:
    """The weights of the interrupted run in the folder, those that were named, or those that suit the images best.

    Raises:
        BadOption: where the limits leave no candidate.
        BadWeights: for weights that cannot be had.
    """
    if folder is not None and (folder / PLAN).exists():
        name = records.load(Plan, folder / PLAN).weights
        before = records.load(Ranking, folder / RANKING) if (folder / RANKING).exists() else None
        return Source(weights.load(name, arch=arch_for(name, options.arch)), before)
    if facts.task in DENSE and len(names_of(options.weights)) != 1:
        raise BadOption(
            f"--weights {options.weights} ranks weights by whole images, which {facts.task} data has not.",
            hint="Name one: --weights bundled:efficientnet_lite0",
        )
    if len(names_of(options.weights)) == 1:
        return Source(weights.load(options.weights, arch=options.arch))
    found, name, because = _choose(dataset, facts, options)
    for left in found.skipped if found is not None else ():
        log.say(f"weights left out: {left.weights}: {left.why}")
    log.say(f"weights: {because}")
    if found is not None and found.offers:
        others = ", ".join(each.weights for each in found.offers[:_NAMED])
        log.say(f"a download would allow more: {others} (headstart rank DATA tells why)")
    return Source(weights.load(name, arch=arch_for(name, options.arch)), found, because)


def _choose(dataset: Dataset, facts: DatasetFacts, options: FitOptions) -> tuple[Ranking | None, str, str]:
    """The ranking, the name of the weights, and why; with pilots where the budget is ample and tuning may follow."""
    budget, asked = parse_duration(options.budget), _asked(options)
    limit = None if budget is None else max(_LEAST, _SHARE * budget)
    choice = ranking.choose_weights(dataset, asked, clock=Clock(limit))
    found = choice.ranking
    if found is None:
        return None, choice.weights.name, choice.reason
    if asked.weights:  # who names the candidates has made up a list already
        found = replace(found, offers=())
    ample = budget is None or budget > _FETCHES
    if ample and _may_tune(options):
        from headstart.runs.pilot import with_pilots  # a run with named weights need not read it

        seconds = _PILOT_MOST if budget is None else min(_PILOT_MOST, _PILOT_SHARE * budget)
        found = with_pilots(found, dataset, facts, options=asked, seconds=seconds)
    return found, found.chosen, found.reason


def _may_tune(options: FitOptions) -> bool:
    """Whether a network may be tuned at all; a probe alone has no use for pilots."""
    return options.method == "auto" or METHODS[options.method].solver == "gradient"


def _asked(options: FitOptions) -> RankOptions:
    names, budget = names_of(options.weights), parse_duration(options.budget)
    return RankOptions(
        **asdict(options.limits),
        weights=",".join(names),
        arch=options.arch,
        download=not names and (budget is None or budget >= _FETCHES),
        prefer=options.prefer,
        seed=options.seed,
    )
