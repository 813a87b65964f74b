"""What the test images say of a study's trainings: each arm's value with its interval, each cell's paired difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart import evaluation
from headstart.data.records import Sample
from headstart.evaluation import About, Answers
from headstart.evaluation.scoring import mean, proportion
from headstart.metrics import Comparison, Metric, draw, mean_interval
from headstart.metrics.claims import verdict
from headstart.studies.arm import Ground, answers
from headstart.studies.grid import Slot, searched
from headstart.studies.progress import Finals, Running
from headstart.studies.records import ArmScore, Cell, Reach, Tried

_LEFT_OUT = (
    "log_loss",
    "calibration_error",
    "calibration_error_before",
    "aurc",
)  # of probabilities, left as they are
_LEAST_SCORE = 0.5  # of boxes in the counts of errors, which a study does not report


@dataclass(frozen=True)
class Judge:
    """The test images with their truth.

    Attributes:
        ground: of the study.
        samples: the opened test split.
        seed: of the bootstrap.
    """

    ground: Ground
    samples: tuple[Sample, ...]
    seed: int

    def answers(self, rows: NDArray[np.float64]) -> Answers:
        """Rows (N, …) with what is true."""
        return Answers(
            names=tuple(sample.name for sample in self.samples),
            truth=self.ground.task.targets(self.samples, len(self.ground.dataset.classes)),
            logits=rows,
            groups=tuple(sample.group for sample in self.samples),
        )

    @property
    def about(self) -> About:
        """What is evaluated; no temperature, because no probability is reported."""
        dataset = self.ground.dataset
        return About(
            task=dataset.task,
            classes=dataset.classes,
            method="",
            weights=self.ground.backbone.info.name,
            temperature=1.0,
            seed=self.seed,
            seconds={},
        )

    def scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """How right each answer is (N,), in [0, 1]."""
        given = self.answers(rows)
        return np.asarray(self.ground.task.correctness(given.logits, given.truth), np.float64)

    def value(self, seeds: Sequence[NDArray[np.float64]]) -> Metric:
        """The primary metric of an arm, the mean over its seeds, with the interval over images."""
        units = self.answers(seeds[0]).units
        each = np.mean([self.scores(rows) for rows in seeds], axis=0)
        if len(seeds) == 1 and self.ground.task.name == "classify":
            return proportion(each, units)
        return mean(each, draw(len(each), seed=self.seed, groups=units), most=1.0)

    def metrics(self, rows: NDArray[np.float64]) -> dict[str, Metric]:
        """All metrics of the task."""
        given, places = self.answers(rows), self.ground.task.places
        if places is None:
            found = evaluation.score(given, self.about).metrics
            return {name: metric for name, metric in found.items() if name not in _LEFT_OUT}
        assessed = places.assess(
            given.logits, given.truth, self.ground.dataset.classes, _LEAST_SCORE, self.seed
        )
        return dict(assessed.metrics)

    def compare(
        self,
        a: Sequence[NDArray[np.float64]],
        b: Sequence[NDArray[np.float64]],
        *,
        names: tuple[str, str],
    ) -> Comparison:
        """The paired difference a - b; with several seeds, of the mean over them."""
        if len(a) == len(b) == 1:
            return evaluation.compare(self.answers(a[0]), self.answers(b[0]), names=names, about=self.about)
        first, second = (np.mean([self.scores(rows) for rows in seeds], axis=0) for seeds in (a, b))
        difference = first - second
        units = self.answers(a[0]).units
        low, high = mean_interval(difference, draw(len(difference), seed=self.seed, groups=units))
        return Comparison(
            a=names[0],
            b=names[1],
            metric=self.ground.task.primary,
            difference=float(difference.mean()),
            low=low,
            high=high,
            p=None,
            n=len(difference),
            verdict=verdict(low, high),
        )


Rows = list[NDArray[np.float64]]
"""Of each seed, what is kept of the answers to the test images (N, …)."""


def judged(
    running: Running, judge: Judge, complete: Sequence[Finals]
) -> tuple[tuple[Cell, ...], tuple[Reach, ...]]:
    """The complete cells, and how far the other arms have to go to where the first one is after the shortest schedule."""
    rows = {
        (cell.fraction, cell.schedule, arm): [
            answers(running.ground, running.settings, running.trained[slot].job, judge.samples)
            for slot in own
        ]
        for cell in complete
        for arm, own in cell.slots.items()
    }
    cells = tuple(_cell(running, judge, cell, rows) for cell in complete)
    reaches = []
    for fraction in running.grid.fractions:
        mine = [cell for cell in cells if cell.fraction == fraction]
        if mine and mine[0].schedule == running.grid.schedules[0]:
            reaches += [_reach(judge, mine, rows, arm.name) for arm in running.ground.study.arms[1:]]
    return cells, tuple(reaches)


def _cell(running: Running, judge: Judge, cell: Finals, rows: Mapping[tuple[float, int, str], Rows]) -> Cell:
    own = {arm: rows[cell.fraction, cell.schedule, arm] for arm in cell.slots}
    first, *others = own
    return Cell(
        fraction=cell.fraction,
        images=running.work.images[cell.fraction],
        schedule=cell.schedule,
        epochs=running.settings.epochs * cell.schedule,
        arms=tuple(_score(running, judge, cell.slots[arm], own[arm]) for arm in own),
        pairs=tuple(judge.compare(own[first], own[other], names=(first, other)) for other in others),
    )


def _score(running: Running, judge: Judge, finals: Sequence[Slot], rows: Rows) -> ArmScore:
    """An arm in a cell."""
    found = [running.trained[slot] for slot in finals]
    job = found[0].job
    usual = running.settings.usual[job.arm]
    searching = searched(running.grid, job.schedule)
    search = running.tried(job.arm, job.fraction, job.schedule if searching else running.grid.schedules[0])
    tried = search if searching else []
    rates = [each.job.factor for each in search]
    ends = {min(rates): "lowest", max(rates): "highest"} if len(rates) > 1 else {}
    return ArmScore(
        arm=job.arm,
        rate=usual * job.factor,
        edge=ends.get(job.factor, ""),
        tried=tuple(Tried(rate=usual * each.job.factor, validation=each.validation) for each in tried),
        value=judge.value(rows),
        metrics=judge.metrics(rows[0]),
        seeds=tuple(float(judge.scores(each).mean()) for each in rows),
        curves=tuple(each.curve for each in found),
        seconds=sum(each.seconds for each in found),
    )


def _reach(
    judge: Judge, cells: Sequence[Cell], rows: Mapping[tuple[float, int, str], Rows], arm: str
) -> Reach:
    """How far an arm has to go, from the cells of one size of training set by rising schedule."""
    first, fraction, base = cells[0].arms[0], cells[0].fraction, cells[0].schedule
    against = tuple(
        judge.compare(
            rows[fraction, cell.schedule, arm],
            rows[fraction, base, first.arm],
            names=(f"{arm} {cell.schedule}x", f"{first.arm} {base}x"),
        )
        for cell in cells
    )
    schedules = tuple(cell.schedule for cell in cells)
    at = next((each for each, found in zip(schedules, against, strict=True) if found.difference >= 0), None)
    return Reach(
        arm=arm,
        fraction=fraction,
        images=cells[0].images,
        level=first.value.value,
        base=base,
        schedules=schedules,
        against=against,
        at=at,
    )
