"""What a study is, what it is asked, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headstart._core.records import record
from headstart.metrics import Comparison, Metric

SEARCHES = ("shortest", "every")


@record
class StudyOptions:
    """Options of a study beside those of reading data.

    Attributes:
        fractions: shares of the training images, with commas between, each in (0, 1].
        schedules: lengths of training as multiples of `epochs`, with commas between.
        epochs: passes over an arm's own images at 1x; 0: as many as the pretrained method usually takes.
        rates: learning rates that each arm tries, as multiples of its method's usual one, with commas between.
        widen: how many rates beyond an end of the list are tried as long as the best one lies there.
        search: `shortest`: the rate is searched at the shortest schedule of each fraction, and the longer ones take it
            over; `every`: it is searched anew for each schedule.
        seeds: of training and of the draw of a fraction, with commas between; a cell is the mean over them.
        weights: a name from `headstart weights list`.
        arch: architecture of the network, for weights that do not say (`file:`, some `hf:`).
        head: what stands on the network, for boxes and masks: a name from docs/places.md; empty: the task's usual one.
        budget: time for the whole study: `30s`, `30m`, `2h`, `none`. The schedules are made to fit it.
        batch_size: images a step, the same for all arms; 0: 32, for boxes and masks 16.
        augment: `none`, `light`, `medium` or `strong`, the same for all arms; empty: what the pretrained method would take.
        flip: whether left and right may be exchanged, the same for all arms.
        input_size: pixels of the network's input, of its long side for boxes and masks; 0: as in a fit.
        out: folder of the study; by default `headstart-runs/study-NAME-DATA`. The same command goes on in it.
        checkpoint_every: seconds between two checkpoints of a training loop.
    """

    fractions: str = "0.5,1"
    schedules: str = "1,2,3"
    epochs: int = 0
    rates: str = "0.3,1,3"
    widen: int = 0
    search: str = "shortest"
    seeds: str = "0"
    weights: str = "bundled:efficientnet_lite0"
    arch: str = ""
    head: str = ""
    budget: str = "30m"
    batch_size: int = 0
    augment: str = ""
    flip: bool = True
    input_size: int = 0
    out: str = ""
    checkpoint_every: float = 20.0


@record
class Grid:
    """What is crossed with what.

    Attributes:
        fractions: of the training images, rising.
        schedules: multiples of the 1x schedule, rising.
        rates: multiples of each arm's usual learning rate, rising.
        seeds: the first one searches the rates.
        search: of `SEARCHES`.
        widen: steps beyond an end of `rates` that a search may go.
    """

    fractions: tuple[float, ...]
    schedules: tuple[int, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    search: str
    widen: int = 0


@dataclass(frozen=True)
class Arm:
    """One way of training that a study compares.

    Attributes:
        name: in files and tables.
        words: in sentences.
        method: a name of `METHODS`.
        given: parameters that this arm has for itself; all others are the same for all arms, or the method's own.
        tone: colour of its lines.
    """

    name: str
    words: str
    method: str
    given: dict[str, Any]
    tone: str = "accent"


@dataclass(frozen=True)
class Study:
    """A row of `STUDIES`.

    Attributes:
        name: what the user types.
        summary: one line for help.
        question: for the page's headline.
        arms: the first one is what the others are measured against.
        finding: what the measured cells say, in one sentence.
        known: what was found before, by whom, with figures, in one sentence.
        source: the paper.
    """

    name: str
    summary: str
    question: str
    arms: tuple[Arm, ...]
    finding: Callable[[tuple[Cell, ...], tuple[Reach, ...], str], str]
    known: str
    source: str


@record
class Speed:
    """What was timed before the plan was made, in seconds an image.

    Attributes:
        train: of a training step, by arm.
        forward: of a pass over validation or test images, with what is kept of the answers.
    """

    train: dict[str, float]
    forward: float


@record
class Settings:
    """`settings.json`: what all trainings of a study have in common, so that a second call goes on with the same.

    Attributes:
        asked: `epochs` as the user asked for them; 0: not at all.
        epochs: of the 1x schedule, after the budget has shortened it.
        wished: before.
        data: digest of images, labels and splits.
        head: that stands on the network.
        head_settings: what was fitted to the data for it.
        frame: (width, height) of the network's input.
        usual: each arm's usual learning rate, which the rates are multiples of.
        shared: other parameters that all arms have alike, in words.
        own: arm -> parameters in which it differs from the others.
    """

    study: str
    source: str
    data: str
    task: str
    weights: str
    asked: int
    epochs: int
    wished: int
    batch_size: int
    augment: str
    flip: bool
    head: str
    head_settings: dict[str, Any]
    frame: tuple[int, int]
    usual: dict[str, float]
    shared: dict[str, str]
    own: dict[str, dict[str, str]]
    speed: Speed


@record
class Job:
    """One training.

    Attributes:
        factor: multiple of the arm's usual learning rate.
        images: it trains on.
        epochs: passes over them.
    """

    arm: str
    fraction: float
    schedule: int
    factor: float
    seed: int
    images: int
    epochs: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm}-{self.fraction:g}-{self.schedule}x-rate{self.factor:g}-seed{self.seed}"


@record
class Point:
    """An epoch: the primary metric and what epochs are judged by on the validation images, and the training loss."""

    epoch: float
    primary: float
    judged: float
    loss: float | None = None


@record
class Trained:
    """`outcome.json` of a training.

    Attributes:
        steps: optimiser steps.
        curve: by epoch.
        validation: primary metric of the kept epoch's network on the validation images; None where the loss was no number.
        judged: what it was chosen by.
        best_epoch: the kept one.
        ended: why, in words.
    """

    job: Job
    steps: int
    curve: tuple[Point, ...]
    validation: float | None
    judged: float | None
    best_epoch: float
    seconds: float
    ended: str


@record
class Tried:
    """A learning rate and what the validation images said of it; None where the loss was no number."""

    rate: float
    validation: float | None


@record
class ArmScore:
    """An arm in a cell.

    Attributes:
        rate: the learning rate that the validation images chose.
        edge: `lowest` or `highest` where that is the end of what was tried, so that a wider search might find more.
        tried: all rates, where they were searched.
        value: primary metric on the test images, the mean over the seeds.
        metrics: others of the task on the test images, of the first seed.
        seeds: the primary metric of each seed.
        curves: of each seed, on the validation images.
        seconds: of training, over all seeds, without the search.
    """

    arm: str
    rate: float
    edge: str
    tried: tuple[Tried, ...]
    value: Metric
    metrics: dict[str, Metric]
    seeds: tuple[float, ...]
    curves: tuple[tuple[Point, ...], ...]
    seconds: float


@record
class Cell:
    """A size of training set and a length of training.

    Attributes:
        pairs: the first arm against each other one, on the same test images.
    """

    fraction: float
    images: int
    schedule: int
    epochs: int
    arms: tuple[ArmScore, ...]
    pairs: tuple[Comparison, ...]


@record
class Reach:
    """How far an arm has to go to where the first one is after the shortest schedule, at one size of training set.

    Attributes:
        level: the first arm's value there.
        base: the shortest schedule.
        against: the arm at each of its schedules less the first arm at the shortest.
        schedules: of these.
        at: the first schedule whose figure is as high; None: none is.
    """

    arm: str
    fraction: float
    images: int
    level: float
    base: int
    schedules: tuple[int, ...]
    against: tuple[Comparison, ...]
    at: int | None


@record
class Result:
    """`study.json`.

    Attributes:
        primary: the metric that arms are compared by, a mean over images.
        train: training images in all.
        val: validation images, by which rates and epochs are chosen, the same for all arms.
        test: test images, the same for all arms.
        cells: those whose trainings are all done.
        left: trainings that were not begun, and why; empty where all are done.
        seconds: of all trainings.
    """

    settings: Settings
    grid: Grid
    primary: str
    train: int
    val: int
    test: int
    cells: tuple[Cell, ...]
    reaches: tuple[Reach, ...]
    finding: str
    known: str
    source: str
    left: str = ""
    seconds: float = 0.0
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
