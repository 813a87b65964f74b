"""The quick half of `bench/regret.py`: what the planner decides with what was stored, and what that reaches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bench.regret_run import ABOUT, BUSY, EVIDENCE, FACTS, LABELS, About
from headstart import ladder, weights
from headstart._core import records
from headstart._core.clock import parse_duration
from headstart.adaptation import Ledger
from headstart.data.records import DatasetFacts, Sample
from headstart.evidence import Evidence
from headstart.features import FeatureStore
from headstart.ladder import Climbed, Outcome
from headstart.methods import METHODS
from headstart.planning import Expected, Plan, Wishes, make_plan
from headstart.planning.expect import Setting, expect
from headstart.planning.guide import size_of
from headstart.tasks import TASKS, Classifier
from headstart.training import FitResult, TrainingData
from headstart.weights import Backbone

Floats = NDArray[np.float64]

_FREE = ("epochs",)  # parameters that the budget decides: the loop shortens itself to the same number


@dataclass(frozen=True)
class Result:
    """What a method reached alone.

    Attributes:
        params: that it was asked for.
        seconds: by the wall, from the adaptation of the network to its answers on the validation images.
        processor_seconds: the same, of all threads; much less than `seconds` means that the machine was busy.
        ended: why, in words.
        facts: what it found out on the way.
        val: logits on the validation images.
        test: logits on the test images.
        crossed: cross-validated logits on the training images; None where it has none.
    """

    method: str
    size: int
    params: dict[str, Any]
    seconds: float
    processor_seconds: float
    ended: str
    facts: dict[str, Any]
    val: Floats
    test: Floats
    crossed: Floats | None

    @property
    def taken(self) -> float:
        """Seconds that it takes where nothing else runs: by the wall, or of the processor where others kept it waiting."""
        return min(self.seconds, self.processor_seconds)

    @property
    def name(self) -> str:
        """`full at 96 px`."""
        return f"{self.method} at {self.size} px"


@dataclass(frozen=True)
class Stored:
    """A cell as it was measured.

    Attributes:
        data: what the ladder asks of the images: their labels.
        truth: labels of the test images.
        measuring: seconds that measuring takes where nothing else runs.
    """

    about: About
    facts: DatasetFacts
    evidence: Evidence
    backbone: Backbone
    results: tuple[Result, ...]
    data: TrainingData
    truth: NDArray[np.int64]
    measuring: float

    @property
    def name(self) -> str:
        """Set and number of training images, validation images included."""
        return f"{self.about.cell.images} {self.about.cell.count}"

    @property
    def native(self) -> int:
        """The input size of the pretraining."""
        contract = self.backbone.info.preprocess
        return min(contract.height, contract.width)

    @property
    def wishes(self) -> Wishes:
        """What the user of this cell asks for."""
        settings = self.about.settings
        return Wishes(
            budget_seconds=parse_duration(settings.budget), seed=settings.seed, given=settings.given
        )

    def setting(self, size: int) -> Setting:
        """What predictions at an input size are made for."""
        return Setting(facts=self.facts, evidence=self.evidence, size=size, native=self.native)

    def find(self, method: str, size: int, params: dict[str, Any] | None = None) -> Result | None:
        """The result of a method at a size, preferably with these parameters; None where it was not run."""
        there = [each for each in self.results if (each.method, each.size) == (method, size)]
        if params is None or not there:
            return there[0] if there else None
        told = {key: value for key, value in params.items() if key not in _FREE}
        return next((each for each in there if told.items() <= each.params.items()), there[0])

    def right(self, result: Result) -> Floats:
        """Correctness (N,) on the test images."""
        return np.asarray(result.test.argmax(1) == self.truth, np.float64)

    def unseen(self, result: Result) -> Floats:
        """Correctness on the validation images and, cross-validated, on the training images, where there is such."""
        scores = self._scores(result.val, self.data.val)
        if result.crossed is None:
            return scores
        return np.concatenate([scores, self._scores(result.crossed, self.data.train)])

    def _scores(self, logits: Floats, samples: Sequence[Sample]) -> Floats:
        targets = self.data.task.targets(samples, len(self.data.classes))
        return np.asarray(self.data.task.correctness(logits, targets), np.float64)

    def accuracy(self, result: Result) -> float:
        """On the test images, in [0, 1]."""
        return float(self.right(result).mean())

    def expected(self, result: Result) -> Expected:
        """What the planner expects of the method at that size, with as many passes as were made."""
        return expect(METHODS[result.method], result.params, self.setting(result.size))

    def alone(self, result: Result) -> float:
        """Seconds of `fit --method` alone: the features of training images that the measuring had left, on top."""
        cost, probes = self.evidence.cost, {each.size: each for each in self.evidence.sizes}
        if result.size == self.native:
            known, forward = self.evidence.images, 0.0 if cost is None else cost.forward
        elif result.size in probes:
            known, forward = probes[result.size].images, probes[result.size].seconds_per_image
        else:
            return result.taken
        return result.taken + min(self.facts.n_train, known) * forward


def load(out: Path) -> list[Stored]:
    """Every cell that has results, in the order of its name; of one that was measured in several ways the latest."""
    opened: dict[str, Backbone] = {}
    found = []
    for place in sorted((out / "cells").iterdir()):
        latest = max(place.glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime, default=None)
        if latest is not None and any(latest.parent.glob("*-*.npz")):
            found.append(_load_cell(latest.parent, opened))
    return [each for each in found if each.results]


def _load_cell(folder: Path, opened: dict[str, Backbone]) -> Stored:
    about = records.load(About, folder / ABOUT)
    name = about.cell.weights
    if name not in opened:
        opened[name] = weights.load(name)
    facts = records.load(DatasetFacts, folder / FACTS)
    with np.load(folder / LABELS) as kept:
        labels = {split: kept[split] for split in ("train", "val", "test")}
    samples = {
        split: tuple(
            Sample(name=f"{split}:{place}", source=Path(), labels=(int(label),), split=split)
            for place, label in enumerate(values)
        )
        for split, values in labels.items()
    }
    data = TrainingData(
        train=samples["train"],
        val=samples["val"],
        task=TASKS[facts.task],
        classes=facts.classes,
        preprocess=opened[name].info.preprocess,
        store=FeatureStore(opened[name]),
        seed=about.settings.seed,
        refit=True,
    )
    results = [_load_result(path) for path in sorted(folder.glob("*-*.npz"))]
    evidence = records.load(Evidence, folder / EVIDENCE)
    busy = folder / BUSY
    processor = json.loads(busy.read_text())["processor_seconds"] if busy.exists() else evidence.seconds
    return Stored(
        about=about,
        facts=facts,
        evidence=evidence,
        backbone=opened[name],
        results=tuple(each for each in results if each is not None),
        data=data,
        truth=labels["test"],
        measuring=min(evidence.seconds, processor),
    )


def _load_result(path: Path) -> Result | None:
    """The result in a file; None where the method had none."""
    with np.load(path) as kept:
        meta = json.loads(str(kept["meta"]))
        if "test" not in kept.files:
            return None
        crossed = kept["crossed"] if "crossed" in kept.files else None
        return Result(**meta, val=kept["val"], test=kept["test"], crossed=crossed)


@dataclass(frozen=True)
class Course:
    """What a strategy did in a cell.

    Attributes:
        chosen: whose model is kept.
        climbed: everything that was run, in order.
        seconds: all that it took, measuring included.
        missing: rungs of the plan that no result is stored for; they were passed over.
        plan: None for a fixed strategy.
    """

    chosen: Result
    climbed: tuple[Result, ...]
    seconds: float
    missing: tuple[str, ...] = ()
    plan: Plan | None = None


def auto(stored: Stored) -> Course | None:
    """What `fit --method auto` does in this cell, by its own functions; None where no rung of the plan is stored.

    A tuning rung that comes late in the climb was measured with the whole budget, not with what the rungs before it leave.
    """
    plan = make_plan(stored.facts, stored.evidence, backbone=stored.backbone, wishes=stored.wishes)
    size = plan.input_size or stored.native
    climbed, missing = [], []
    best: Climbed | None = None
    chosen: Result | None = None
    spent = 0.0
    for rung in plan.rungs:
        found = stored.find(rung.method, size, rung.params)
        if found is None:
            missing.append(f"{rung.method} at {size} px")
            continue
        if best is not None:
            over = plan.budget_seconds is not None and spent >= plan.budget_seconds
            if over or ladder.stays_below(plan, rung, best, stored.data):
                continue
        kept, _ = ladder.judge(_fitted(found), best, stored.data, candidates=len(plan.rungs) - 1)
        spent += found.taken
        climbed.append(found)
        if kept:
            best, chosen = _climbed(found), found
    if chosen is None:
        return None
    return Course(chosen, tuple(climbed), stored.measuring + spent, tuple(missing), plan)


_BLANK = Classifier(nn.Identity(), 1, 1)


def _fitted(result: Result) -> FitResult:
    return FitResult(
        method=result.method,
        model=_BLANK,
        val_logits=result.val,
        temperature=1.0,
        seconds=result.seconds,
        ended=result.ended,
        facts=result.facts,
        crossed=result.crossed,
    )


def _climbed(result: Result) -> Climbed:
    outcome = Outcome(
        method=result.method,
        temperature=1.0,
        seconds=result.seconds,
        kept=True,
        reason="",
        ended=result.ended,
        facts=result.facts,
        ledger=Ledger(method=result.method, groups=(), frozen_identical=True),
    )
    return Climbed(outcome=outcome, model=_BLANK, val_logits=result.val, crossed=result.crossed)


def always(stored: Stored, method: str) -> Course | None:
    """What `fit --method METHOD` does: that method alone, at the input size of the pretraining, without measuring.

    Where only the plan's size was measured, that stands in.
    """
    found = stored.find(method, stored.native) or next(
        (each for each in stored.results if each.method == method), None
    )
    return None if found is None else Course(found, (found,), stored.alone(found))


def textbook(stored: Stored) -> Course | None:
    """What the textbook's table says, with the measured distance and nothing else of what was measured."""
    return always(stored, advised(size_of(stored.facts.n_train), stored.setting(stored.native).level))


def advised(size: str, level: str) -> str:
    """The method that the table means: small and far is feature extraction from earlier layers, large is tuning.

    Between small and large it says to extract first, then to tune and to compare, which is no single method: tuning stands
    for it. A moderate distance is not far.

    >>> advised("small", "close"), advised("small", "far"), advised("between", "far")
    ('linear-probe', 'depth-probe', 'full')
    """
    if size != "small":
        return "full"
    return "depth-probe" if level == "far" else "linear-probe"


def oracle(stored: Stored) -> Course:
    """The method with the most right answers on the test split, of equals the quickest: better than anybody can choose.

    The best of several on one test set is also the luckiest, so regret against it is not zero even for a perfect choice.
    """
    found = min(stored.results, key=lambda each: (-stored.accuracy(each), stored.alone(each)))
    return Course(found, (found,), stored.alone(found))
