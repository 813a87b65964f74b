"""From images and candidates to a ranking, and to the weights to use."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart._core.clock import Clock
from headstart._core.errors import BadInput, BadOption, BadWeights
from headstart._core.log import say
from headstart.compute import Stopped
from headstart.data.annotations import DENSE
from headstart.data.records import Dataset
from headstart.metrics import told_share
from headstart.metrics.claims import alone_at_the_top
from headstart.ranking.candidates import Field, arch_for, candidates
from headstart.ranking.judge import Verdict, judge
from headstart.ranking.measure import Sampled, latency, measure, sample
from headstart.ranking.records import Choice, Ranked, Ranking, RankOptions, Scores, Skipped
from headstart.weights import WeightsInfo, hub_reachable, load, on_this_machine

_DEFAULTS = RankOptions()
_ALIKE = 0.002  # accuracies that nobody would tell apart: then the quicker one goes first
_OTHERS = {"knn": "k-NN", "log_me": "LogME", "leep": "LEEP", "h_score": "H-score"}


@dataclass(frozen=True)
class _Measured:
    row: WeightsInfo
    latency: float
    scores: Scores
    correct: NDArray[np.float64]


def rank(dataset: Dataset, options: RankOptions = _DEFAULTS, *, clock: Clock | None = None) -> Ranking:
    """The candidates, the best guess first, measured on training images only; nothing else of the dataset is looked at.

    Args:
        dataset: scanned.
        options: who takes part, and within which limits.
        clock: says when to end; those measured by then are ranked.

    Raises:
        BadOption: for unknown names, where no candidate is left, and for boxes and masks.
        BadWeights: for weights that their source does not have.
        Stopped: when somebody asked for an end before anything was measured.
    """
    begun = time.monotonic()
    if dataset.task in DENSE:
        raise BadOption(
            f"Weights are ranked by whole images, which {dataset.task} data has not.",
            hint="Name weights for fit: --weights bundled:efficientnet_lite0",
        )
    field = candidates(options)
    images = sample(dataset, count=options.images, seed=options.seed)
    measured, dropped = _measure_all(field, images, options, clock)
    skipped = (*field.skipped, *dropped)
    if not measured:
        reasons = "; ".join(f"{each.weights}: {each.why}" for each in skipped) or "none was named"
        raise BadOption(f"No weights are left to rank: {reasons}.", hint="Widen the limits, or name others.")
    verdict = judge(
        np.stack([each.correct for each in measured], 1), [each.row for each in measured], seed=options.seed
    )
    rows = _in_order(measured, verdict, len(images.samples))
    chosen, reason = _choose(rows, options.prefer, len(images.samples))
    return Ranking(
        task=dataset.task,
        images=len(images.samples),
        of=len(dataset.train),
        rows=rows,
        skipped=skipped,
        offers=field.offers,
        chosen=chosen,
        reason=reason,
        seconds=time.monotonic() - begun,
    )


def choose_weights(
    dataset: Dataset, options: RankOptions = _DEFAULTS, *, clock: Clock | None = None
) -> Choice:
    """The weights to use for these images, and why; a single candidate is taken without measuring it.

    Raises:
        BadOption: for unknown names, and where no candidate is left.
        BadWeights: for weights that their source does not have.
        Stopped: when somebody asked for an end before anything was measured.
    """
    field = candidates(options)
    if len(field.candidates) == 1 and not options.max_latency:
        (row,) = field.candidates
        return Choice(weights=row, reason=f"There is no other candidate than {row.name}.", ranking=None)
    found = rank(dataset, options, clock=clock)
    row = next(each for each in field.candidates if each.name == found.chosen)
    return Choice(weights=row, reason=found.reason, ranking=found)


def _measure_all(
    field: Field, images: Sampled, options: RankOptions, clock: Clock | None
) -> tuple[list[_Measured], list[Skipped]]:
    """Every candidate's measurements, one network in memory at a time, and those that gave none."""
    out: list[_Measured] = []
    dropped: list[Skipped] = []
    for row in field.candidates:
        if clock is not None and out and clock.left <= 0:
            dropped.append(Skipped(weights=row.name, why="the time was up before it was measured"))
            continue
        say(f"measuring {row.name}")
        try:
            found = _one(row, images, options, clock)
        except Stopped:
            if not out:
                raise
            dropped.append(Skipped(weights=row.name, why="stopped before it was measured"))
            break
        except (BadWeights, BadInput) as error:
            found = Skipped(weights=row.name, why=str(error).splitlines()[0])
        if isinstance(found, Skipped):
            dropped.append(found)
        else:
            out.append(found)
    return out, dropped


def _one(row: WeightsInfo, images: Sampled, options: RankOptions, clock: Clock | None) -> _Measured | Skipped:
    if row.name.startswith(("timm:", "hf:")) and not on_this_machine(row.name) and not hub_reachable():
        return Skipped(weights=row.name, why="not on this machine, and the hub cannot be reached")
    backbone = load(row.name, arch=arch_for(row.name, options.arch))
    took = latency(backbone)
    if options.max_latency and took > options.max_latency:
        why = f"{took:.0f} ms an image, more than the {options.max_latency:g} ms allowed"
        return Skipped(weights=row.name, why=why)
    found, correct = measure(backbone, images, clock=clock)
    # what loading taught (hash, the repository's own record) belongs to the answer
    return _Measured(backbone.info, took, found, correct)


def _in_order(measured: Sequence[_Measured], verdict: Verdict, n: int) -> tuple[Ranked, ...]:
    leaders = _leaders(measured)
    order = sorted(
        range(len(measured)),
        key=lambda k: (
            -round(float(verdict.expected[k]) / _ALIKE),
            measured[k].row.objective == "none",
            measured[k].latency,
        ),
    )
    return tuple(
        Ranked(
            weights=measured[k].row.name,
            parameters=measured[k].row.parameters,
            licence=measured[k].row.licence,
            commercial=measured[k].row.commercial,
            pretraining=f"{measured[k].row.data}, {measured[k].row.objective}",
            objective=measured[k].row.objective,
            top1=measured[k].row.top1,
            latency=measured[k].latency,
            scores=measured[k].scores,
            expected=float(verdict.expected[k]),
            low=float(verdict.low[k]),
            high=float(verdict.high[k]),
            best=float(verdict.best[k]),
            tied=bool(verdict.tied[k]),
            why=_why(measured[k], float(verdict.trust[k]), leaders[k], n),
        )
        for k in order
    )


def _leaders(measured: Sequence[_Measured]) -> list[list[str]]:
    """For each candidate the other scores by which it is first; k-NN does not judge masked-image weights."""
    out: list[list[str]] = [[] for _ in measured]
    for name, title in _OTHERS.items():
        values = [
            None if name == "knn" and each.row.objective == "masked image" else getattr(each.scores, name)
            for each in measured
        ]
        known = [(value, k) for k, value in enumerate(values) if value is not None]
        if len(known) > 1:
            out[max(known)[1]].append(title)
    return out


def _why(one: _Measured, trust: float, leads: Sequence[str], n: int) -> str:
    row, parts = one.row, [f"probe {told_share(one.scores.probe, n)} on {n} images"]
    if row.objective == "masked image":
        shown = f" ({row.top1:.1%} to {row.tuned:.1%} on ImageNet)" if row.top1 and row.tuned else ""
        parts.append(
            "pretrained on masked images: k-NN does not count, and the probe is a lower bound "
            f"of what fine-tuning reaches{shown}"
        )
    if row.objective == "none":
        parts.append("random weights: no head start")
    elif row.top1 is None:
        parts.append("no ImageNet accuracy is known, so the measurement alone counts")
    else:
        parts.append(f"ImageNet {row.top1:.1%} ({row.top1_by}) counts for {1 - trust:.0%}")
    if leads:
        parts.append(f"first by {', '.join(leads)}")
    return "; ".join(parts)


def _choose(rows: Sequence[Ranked], prefer: str, n: int) -> tuple[str, str]:
    """The weights to use and the sentence that says why: of those that are tied, what the user prefers."""
    first = rows[0]
    tied = [row for row in rows if row.tied and row.objective != "none"] or [first]
    chosen = first
    if prefer == "speed":
        chosen = min(tied, key=lambda row: row.latency)
    if prefer == "size":
        chosen = min(tied, key=lambda row: row.parameters)
    head = f"The first of {len(rows)} is" if chosen is first else f"As good as the first, {first.weights}, is"
    if len(rows) == 1:
        head = "The only one that was measured is"
    said = f"{head} {chosen.weights}: {chosen.expected:.1%} expected ({chosen.low:.1%} to {chosen.high:.1%})"
    said += f", the best with probability {chosen.best:.0%}." if len(rows) > 1 else "."
    others = [row for row in rows if row.tied and row is not chosen]
    if not others:
        shown = f" {alone_at_the_top(len(tied))}" if len(rows) > 1 else ""
        return chosen.weights, said + shown
    names = ", ".join(row.weights for row in others)
    said += f" A tie with {names}: {n} images cannot tell them apart."
    quick = min(tied, key=lambda row: row.latency)
    if prefer == "accuracy" and quick is not chosen and quick.latency < 0.8 * chosen.latency:
        said += (
            f" {quick.weights} is the quickest of them ({quick.latency:.0f} ms against {chosen.latency:.0f})."
        )
    if prefer != "accuracy":
        said += f" It is the {'quickest' if prefer == 'speed' else 'smallest'} of them."
    return chosen.weights, said
