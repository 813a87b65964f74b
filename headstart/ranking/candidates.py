"""Who takes part: what the user named, or what is here; and what a download would allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart._core.errors import BadOption
from headstart.compute import device
from headstart.ranking.records import Limits, Offer, RankOptions, Skipped
from headstart.weights import SOURCES, WeightsInfo, catalog_rows, hub_reachable, info, on_this_machine

_MODEST = {"cpu": 30e6}
"""Parameters up to which weights are offered where the user names no limit, by the device that has to run them."""

_LARGE = 100e6  # the same on a GPU

_HANDFUL, _OFFERS = 3, 5  # weights that are fetched, and that are named
_WORTH_IT = 0.01  # ImageNet accuracy by which weights must be better to be worth a download


@dataclass(frozen=True)
class Field:
    """Who takes part, who does not, and who could."""

    candidates: tuple[WeightsInfo, ...]
    skipped: tuple[Skipped, ...]
    offers: tuple[Offer, ...]


def candidates(options: RankOptions) -> Field:
    """The facts of everyone who takes part; nothing is loaded and nothing downloaded.

    Raises:
        BadOption: for names that nobody knows, a name given twice, or an architecture that has no effect.
        BadWeights: for weights that their source does not have.
    """
    named = [name.strip() for name in options.weights.split(",") if name.strip()]
    twice = {name for name in named if named.count(name) > 1}
    if twice:
        raise BadOption(f"--weights names {', '.join(sorted(twice))} twice.", hint="Name each once.")
    rows = catalog_rows()
    if named:
        asked = [info(name, arch=arch_for(name, options.arch)) for name in named]
        _check_arch(named, options)
    else:
        if options.arch:
            raise BadOption(
                f"--arch {options.arch!r} has no effect without --weights.", hint="Leave it away."
            )
        asked = [row for row in rows if on_this_machine(row.name)]
    judged = [(row, objection(row, options)) for row in asked]
    fit = tuple(row for row, why in judged if not why)
    skipped = tuple(Skipped(weights=row.name, why=why) for row, why in judged if why)
    absent = [
        row for row in rows if row.name not in {each.name for each in asked} and not objection(row, options)
    ]
    offered = _better(fit, [row for row in absent if not on_this_machine(row.name)], options)
    if options.download and not named:
        fetched, problem = _fetchable(offered)
        fit, skipped = (*fit, *fetched), (*skipped, *problem)
        offered = [row for row in offered if row not in fetched]
    shown = [row for row in offered if row.domain == "photos"][:_OFFERS]
    shown += [row for row in offered if row.domain != "photos"]
    offers = tuple(_offer(row, fit) for row in shown)
    return Field(candidates=fit, skipped=skipped, offers=offers)


def arch_for(name: str, arch: str) -> str:
    """The architecture that the user gave, if these weights' source takes one, else none."""
    prefix = name.partition(":")[0]
    return arch if prefix in SOURCES and SOURCES[prefix].takes_arch else ""


def _check_arch(named: Sequence[str], options: RankOptions) -> None:
    if options.arch and not any(arch_for(name, options.arch) for name in named):
        raise BadOption(
            f"--arch {options.arch!r} has no effect: these weights say their architecture themselves.",
            hint="Leave it away; it belongs to file: and to hf: repositories that do not say theirs.",
        )


def objection(row: WeightsInfo, options: Limits) -> str:
    """What speaks against these weights under the user's limits, but for the latency; empty: nothing."""
    if row.commercial is False and not options.non_commercial:
        return f"its licence ({row.licence}) forbids commercial use; --non-commercial allows it"
    if options.commercial and row.commercial is None and row.objective != "none":
        return f"its licence ({row.licence}) is not known to allow commercial use"
    if options.max_parameters and row.parameters > options.max_parameters * 1e6:
        return f"{row.parameters / 1e6:.1f} million parameters, more than the {options.max_parameters:g} million allowed"
    return ""


def _better(
    here: Sequence[WeightsInfo], absent: Sequence[WeightsInfo], options: RankOptions
) -> list[WeightsInfo]:
    """Absent weights that promise more than the best present ones: photos' by ImageNet, then those for other domains."""
    reached = max((row.top1 for row in here if row.top1 is not None), default=0.0)
    ceiling = options.max_parameters * 1e6 or _MODEST.get(device().type, _LARGE)
    fitting = [row for row in absent if row.parameters <= ceiling]
    general = [
        row
        for row in fitting
        if row.domain == "photos" and (row.tuned or row.top1 or 0.0) > reached + _WORTH_IT
    ]
    general.sort(key=lambda row: -(row.tuned or row.top1 or 0.0))
    special = [row for row in absent if row.domain != "photos"]
    return [*general, *special]


def _fetchable(offered: Sequence[WeightsInfo]) -> tuple[list[WeightsInfo], tuple[Skipped, ...]]:
    """A handful of the general ones, to fetch, the best of each objective first; or why nothing can be fetched."""
    general = [row for row in offered if row.domain == "photos"]
    firsts = {row.objective: row for row in reversed(general)}
    general.sort(key=lambda row: firsts[row.objective] is not row)  # stable: otherwise best first
    general = general[:_HANDFUL]
    if not general or hub_reachable():
        return general, ()
    why = "the hub cannot be reached, so it was not fetched"
    return [], tuple(Skipped(weights=row.name, why=why) for row in general)


def _offer(row: WeightsInfo, here: Sequence[WeightsInfo]) -> Offer:
    best = max((each for each in here if each.top1), key=lambda each: each.top1 or 0.0, default=None)
    if row.domain != "photos":
        why = f"made for {row.domain}: worth a download if that is what your images are"
    else:
        shown, how = (row.tuned, "fine-tuned") if row.tuned else (row.top1, row.top1_by)
        against = f" against {best.top1:.1%} of {best.name}" if best and best.top1 else ""
        why = f"{shown:.1%} on ImageNet ({how}){against}; {row.data}, {row.objective}"
    return Offer(weights=row.name, parameters=row.parameters, licence=row.licence, why=why)
