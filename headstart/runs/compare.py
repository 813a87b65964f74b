"""Runs side by side: on the same test images, with paired intervals, what each costs, and where they disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from headstart import evaluation
from headstart._core import records
from headstart._core.check import existing
from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.evaluation import About, Answers, SplitScores
from headstart.export.bundle import find_bundle
from headstart.metrics import Comparison
from headstart.metrics.claims import verdict
from headstart.metrics.intervals import holm, student
from headstart.runs.answers import Kept, load_answers
from headstart.runs.folder import REQUEST, Request
from headstart.tasks import TASKS

_SHOWN = 24  # images that the runs disagree on


@record
class Contender:
    """One run.

    Attributes:
        name: of its folder.
        scores: on the common test images.
        seconds: of the whole run.
        megabytes: of the saved model's tensors.
    """

    name: str
    method: str
    weights: str
    seed: int
    scores: SplitScores
    seconds: float
    megabytes: float


@record
class Spread:
    """Runs that differ in nothing but their seed.

    Attributes:
        runs: their names.
        mean: of the primary metric.
        deviation: standard deviation between the seeds.
        low: lower end of the 95 % interval (Student's t) of the mean over seeds, on these test images.
        high: upper end.
    """

    runs: tuple[str, ...]
    mean: float
    deviation: float
    low: float
    high: float


@record
class Disagreement:
    """A test image that not all runs answer alike: each run's answer with its probability, in the order of the runs."""

    name: str
    truth: str
    answers: tuple[str, ...]
    probabilities: tuple[float, ...]


@record
class Compared:
    """Runs side by side.

    Attributes:
        pairs: each run with each later one; p-values are corrected (Holm) for the number of pairs.
        spreads: of runs that differ in their seed alone.
        disagreements: how many test images the runs answer differently.
        shown: those where being wrong is surest first, a few of them.
    """

    task: str
    n: int
    runs: tuple[Contender, ...]
    pairs: tuple[Comparison, ...]
    spreads: tuple[Spread, ...]
    disagreements: int
    shown: tuple[Disagreement, ...]


@dataclass(frozen=True)
class _Run:
    name: str
    folder: Path
    request: Request
    kept: Kept
    plain: dict[str, Any] = field(repr=False)


def compare(runs: Sequence[str | Path]) -> Compared:
    """The finished runs side by side, on the test images that all of them were examined on.

    Raises:
        BadInput: for fewer than two runs, unfinished ones, and runs that were not tested on the same images with the
            same labels.
    """
    if len(runs) < 2:
        raise BadInput("There is only one run to compare.", hint="Give two run folders or more.")
    opened = _aligned([_open(path) for path in runs])
    first = opened[0]
    about = About(
        task=first.plain["task"],
        classes=first.kept.classes,
        method="",
        weights="",
        temperature=1.0,  # kept answers are calibrated
        seed=0,
        seconds={},
    )
    contenders = tuple(_contender(run, about) for run in opened)
    differing, shown = _disagreements(opened, about)
    return Compared(
        task=about.task,
        n=len(first.kept.digests),
        runs=contenders,
        pairs=_pairs(opened, about),
        spreads=_spreads(opened, contenders, primary=TASKS[about.task].primary),
        disagreements=differing,
        shown=shown,
    )


def _open(path: str | Path) -> _Run:
    folder = existing(path, what="The run folder")
    kept, plain = load_answers(folder), records.read_json(folder / "evaluation.json")
    return _Run(folder.resolve().name, folder, records.load(Request, folder / REQUEST), kept, plain)


def _aligned(runs: list[_Run]) -> list[_Run]:
    """The runs with their images and classes in the order of the first one's."""
    first = runs[0]
    names = [run.name for run in runs]
    out = []
    for number, run in enumerate(runs):
        if run.plain["task"] != first.plain["task"] or set(run.kept.classes) != set(first.kept.classes):
            raise BadInput(
                f"{run.name} answers another question than {first.name}: its task or its classes are different.",
                hint="Compare runs on the same labels.",
            )
        if sorted(run.kept.digests) != sorted(first.kept.digests):
            common = len(set(run.kept.digests) & set(first.kept.digests))
            raise BadInput(
                f"{run.name} was not tested on the images of {first.name}: {common} of its {len(run.kept.digests)} test "
                f"images are among the {len(first.kept.digests)}.",
                hint="Fit both on the same data with the same --seed, or with the same --test folder.",
            )
        name = run.name if names.count(run.name) == 1 else f"{run.name} ({number + 1})"
        out.append(replace(run, name=name, kept=_reordered(run.kept, first.kept)))
    for run in out:
        other = (
            (run.kept.answers.truth != first.kept.answers.truth).reshape(len(first.kept.digests), -1).any(1)
        )
        if other.any():
            image = first.kept.answers.names[int(other.argmax())]
            raise BadInput(
                f"{run.name} and {first.name} have other labels for {int(other.sum())} test images, {image} among them.",
                hint="Compare runs on the same labels.",
            )
    return out


def _reordered(kept: Kept, like: Kept) -> Kept:
    """The answers in the order of `like`, whose images and classes are the same ones."""
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(kept.digests)), key=lambda at: kept.answers.names[at]):
        places.setdefault(kept.digests[place], []).append(place)
    rows = np.empty(len(like.digests), np.int64)
    for row in sorted(range(len(rows)), key=lambda at: like.answers.names[at]):
        rows[row] = places[like.digests[row]].pop(0)
    columns = np.array([kept.classes.index(name) for name in like.classes])
    truth = kept.answers.truth
    truth = np.argsort(columns)[truth[rows]] if truth.ndim == 1 else truth[rows][:, columns]
    answers = replace(
        like.answers, truth=truth, logits=kept.answers.logits[rows][:, columns], groups=like.answers.groups
    )
    return Kept(classes=like.classes, digests=like.digests, answers=answers)


def _contender(run: _Run, about: About) -> Contender:
    bundle = find_bundle(run.folder)
    tensors = bundle / records.read_json(bundle / "manifest.json")["file"]
    return Contender(
        name=run.name,
        method=run.plain["method"],
        weights=run.plain["weights"],
        seed=run.request.options.seed,
        scores=evaluation.score(run.kept.answers, about),
        seconds=float((run.plain.get("seconds") or {}).get("total", 0.0)),
        megabytes=tensors.stat().st_size / 1e6,
    )


def _pairs(runs: list[_Run], about: About) -> tuple[Comparison, ...]:
    found = [
        evaluation.compare(a.kept.answers, b.kept.answers, names=(a.name, b.name), about=about)
        for a, b in combinations(runs, 2)
    ]
    known = [each.p for each in found if each.p is not None]
    if len(known) < len(found):
        return tuple(found)
    return tuple(
        replace(each, p=float(p), verdict=verdict(each.low, each.high, p=float(p)))
        for each, p in zip(found, holm(np.array(known)), strict=True)
    )


def _spreads(runs: list[_Run], contenders: Sequence[Contender], *, primary: str) -> tuple[Spread, ...]:
    """Mean and spread of the runs that were asked for with the same words but for the seed."""
    alike: dict[str, list[Contender]] = {}
    for run, contender in zip(runs, contenders, strict=True):
        options = run.request.options
        neutral = replace(options, seed=0, out="", data=replace(options.data, seed=0))
        alike.setdefault(records.dumps(replace(run.request, options=neutral)), []).append(contender)
    out = []
    for group in alike.values():
        if len({each.seed for each in group}) < 2:
            continue
        metric = primary if primary in group[0].scores.metrics else next(iter(group[0].scores.metrics))
        values = np.array([each.scores.metrics[metric].value for each in group])
        deviation = float(values.std(ddof=1))
        half = student(len(values) - 1) * deviation / math.sqrt(len(values))
        middle = float(values.mean())
        out.append(
            Spread(
                runs=tuple(each.name for each in group),
                mean=middle,
                deviation=deviation,
                low=middle - half,
                high=middle + half,
            )
        )
    return tuple(out)


def _disagreements(runs: list[_Run], about: About) -> tuple[int, tuple[Disagreement, ...]]:
    task, first = TASKS[about.task], runs[0].kept.answers
    probability = [task.probabilities(run.kept.answers.logits) for run in runs]
    decoded = [task.decode(each) for each in probability]
    differ = [row for row in range(len(first.names)) if len({tuple(each[row]) for each in decoded}) > 1]
    surest = sorted(differ, key=lambda row: -max(_wrong(each[row], first, row) for each in probability))
    shown = []
    for row in surest[:_SHOWN]:
        truth = first.truth[row]
        true = [int(truth)] if first.truth.ndim == 1 else np.flatnonzero(truth).tolist()
        shown.append(
            Disagreement(
                name=first.names[row],
                truth="|".join(about.classes[index] for index in true),
                answers=tuple("|".join(about.classes[index] for index in each[row]) for each in decoded),
                probabilities=tuple(float(each[row].max()) for each in probability),
            )
        )
    return len(differ), tuple(shown)


def _wrong(probability: np.ndarray, answers: Answers, row: int) -> float:
    """How sure a run is of a wrong answer to that image; 0 where it is right."""
    truth = answers.truth[row]
    if answers.truth.ndim == 1:
        return 0.0 if probability.argmax() == truth else float(probability.max())
    return float(
        np.where((probability > 0.5) == (truth > 0), 0.0, np.maximum(probability, 1 - probability)).max()
    )
