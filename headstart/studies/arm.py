"""One training of a study: an ordinary fit of one method, kept on disk, and its answers to the test images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart import compute, training
from headstart._core import files, log, records
from headstart._core.clock import Clock
from headstart._core.errors import BadPlan
from headstart.adaptation import Adapted, adapt, settle
from headstart.data.records import Dataset, DatasetFacts, Sample
from headstart.features import FeatureStore
from headstart.methods import METHODS, Decline
from headstart.planning import Rung
from headstart.runs.folder import History
from headstart.studies.grid import part_of
from headstart.studies.records import Arm, Job, Point, Settings, Speed, Study, Trained
from headstart.tasks import Task
from headstart.training import Event, FitResult, Pace, TrainingData
from headstart.weights import Backbone

OUTCOME, MODEL, ANSWERS = "outcome.json", "model.pt", "test.npz"

_TIMED_STEPS = 3
_TIMED_VALIDATION = 32  # images
_QUIET = 30.0  # seconds between two lines about a training that goes on
_NO_NUMBER = "The training loss is"  # how training's complaint about a loss that is no number begins


@dataclass(frozen=True)
class Ground:
    """What all trainings of a study stand on.

    Attributes:
        backbone: with the contract for the study's frame.
        task: with the head that all networks get.
        folder: of the study.
        every: seconds between two checkpoints.
    """

    study: Study
    dataset: Dataset
    facts: DatasetFacts
    backbone: Backbone
    task: Task
    folder: Path
    every: float = 20.0

    def arm(self, name: str) -> Arm:
        """The study's arm of that name."""
        return next(arm for arm in self.study.arms if arm.name == name)

    def place(self, job: Job) -> Path:
        """The folder of a training."""
        return self.folder / "arms" / job.name


def shared_of(settings: Settings) -> dict[str, Any]:
    """Parameters that all arms have alike, but for epochs."""
    return {
        "batch_size": settings.batch_size,
        "augment": settings.augment,
        "flip": settings.flip,
        "ema": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    }


def params_of(arm: Arm, facts: DatasetFacts, backbone: Backbone, given: Mapping[str, Any]) -> Any:
    """The method's parameters with these values, and the arm's own.

    Raises:
        BadPlan: when the method declines.
        BadOption: for a value outside its range.
    """
    row = METHODS[arm.method]
    answer = row.suggest(facts, None, backbone, {**given, **arm.given})
    if isinstance(answer, Decline):
        raise BadPlan(f"{arm.method} declines: {answer.reason}.", hint="Change the value named.")
    row.check(answer.params)
    return answer.params


def is_done(ground: Ground, job: Job) -> bool:
    """Whether a training is finished."""
    return (ground.place(job) / OUTCOME).exists()


def train(ground: Ground, settings: Settings, job: Job, clock: Clock) -> Trained | None:
    """How the training ended, now or in an earlier call; None when somebody asked to stop before its end.

    The schedule is the same whatever the clock says: a study's budget is planned beforehand.
    """
    place = ground.place(job)
    if is_done(ground, job):
        return records.load(Trained, place / OUTCOME)
    adapted, data = _ready(ground, settings, job)
    history, method = History(place), ground.arm(job.arm).method
    found = training.checkpoint_of(place)
    history.mend((), {method: found.step if found else 0})
    pace = Pace(clock=clock.without_budget(), folder=place, every=ground.every)
    try:
        result = _followed(training.fit(adapted, data, pace), history, job, primary=data.task.primary)
    except BadPlan as error:
        if not error.message.startswith(_NO_NUMBER):
            raise
        return _keep(place, job, history, None, why=error.message, data=data)
    if clock.stop_reason:
        return None
    settle(adapted, result.model)  # what is called frozen is proved to be
    state = {name: value.contiguous() for name, value in result.model.state_dict().items()}
    with files.atomic(place / MODEL) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)
    return _keep(place, job, history, result, why=result.ended, data=data)


def _ready(ground: Ground, settings: Settings, job: Job) -> tuple[Adapted, TrainingData]:
    """The network of a training, and its data."""
    arm = ground.arm(job.arm)
    given = shared_of(settings) | {
        "epochs": job.epochs,
        "patience": job.epochs,  # every schedule runs to its end
        "learning_rate": settings.usual[job.arm] * job.factor,
    }
    params = params_of(arm, ground.facts, ground.backbone, given)
    rung = Rung(method=arm.method, params=asdict(params), why=f"an arm of the study {ground.study.name}")
    classes = ground.dataset.classes
    adapted = adapt(rung, ground.backbone, classes=len(classes), seed=job.seed, task=ground.task)
    data = TrainingData(
        train=part_of(ground.dataset.train, job.fraction, seed=job.seed),
        val=ground.dataset.val,
        task=ground.task,
        classes=classes,
        preprocess=ground.backbone.info.preprocess,
        store=FeatureStore(ground.backbone, among=ground.dataset.samples),
        seed=job.seed,
        refit=False,
    )
    return adapted, data


def _followed(steps: Any, history: History, job: Job, *, primary: str) -> FitResult:
    """What the training returns at its end; validations go into the history, and now and then to the user."""
    said = time.monotonic()
    while True:
        try:
            event: Event = next(steps)
        except StopIteration as end:
            result: FitResult = end.value
            return result
        if event.event != "validation":
            continue
        history.add(event)
        if time.monotonic() - said > _QUIET:
            said = time.monotonic()
            low, high = event.intervals[primary]
            value = f"{event.metrics[primary]:.1%} ({low:.1%} to {high:.1%})"
            log.say(f"  epoch {event.epoch:.0f} of {job.epochs}: validation {value}")


def _keep(
    place: Path, job: Job, history: History, result: FitResult | None, *, why: str, data: TrainingData
) -> Trained:
    """The outcome, written last, so that its presence means that all is there."""
    lines = [line for line in history.read() if line["event"] == "validation"]
    task = data.task
    validation = judged = None
    if result is not None:
        targets = task.targets(data.val, len(data.classes))
        validation = float(np.mean(task.correctness(result.val_logits, targets)))
        judged = float(task.judge(result.val_logits, targets))
    facts = {} if result is None else result.facts
    outcome = Trained(
        job=job,
        steps=int(facts.get("steps", 0)),
        curve=tuple(
            Point(
                epoch=line["epoch"],
                primary=line["metrics"][task.primary],
                judged=line["metrics"][task.judged_by],
                loss=line["loss"],
            )
            for line in lines
        ),
        validation=validation,
        judged=judged,
        best_epoch=float(facts.get("best_epoch", 0.0)),
        seconds=0.0 if result is None else result.seconds,
        ended=why,
    )
    records.save(place / OUTCOME, outcome)
    (place / training.CHECKPOINT).unlink(missing_ok=True)
    return outcome


def can_answer(ground: Ground, job: Job) -> bool:
    """Whether the training's answers to the test images are there, or its network, which can give them."""
    return any((ground.place(job) / name).exists() for name in (ANSWERS, MODEL))


def forget(ground: Ground, job: Job) -> None:
    """Have the training done anew."""
    (ground.place(job) / OUTCOME).unlink(missing_ok=True)


def drop_network(ground: Ground, job: Job) -> None:
    """Remove the trained network; the outcome stays."""
    (ground.place(job) / MODEL).unlink(missing_ok=True)


def answers(ground: Ground, settings: Settings, job: Job, samples: tuple[Sample, ...]) -> NDArray[np.float64]:
    """What is kept of the trained network's answers to the test images (N, …), computed once."""
    place = ground.place(job)
    if not (place / ANSWERS).exists():
        adapted, _ = _ready(ground, settings, job)
        adapted.model.load_state_dict(torch.load(place / MODEL, weights_only=True))
        rows = _rows(ground, adapted, samples)
        with files.atomic(place / ANSWERS) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, rows=rows)
    with np.load(place / ANSWERS, allow_pickle=False) as file:
        out: NDArray[np.float64] = file["rows"]
    return out


def _rows(ground: Ground, adapted: Adapted, samples: tuple[Sample, ...]) -> NDArray[np.float64]:
    task, contract, classes = ground.task, ground.backbone.info.preprocess, len(ground.dataset.classes)
    return compute.forward(
        adapted.model,
        samples,
        contract,
        label="testing",
        keep=lambda outputs, own: task.rows(outputs, own, contract, classes),
    )


def measure_speed(ground: Ground, settings: Settings) -> Speed:
    """The seconds an image of a step of each arm, and of a validation pass, from a few steps of each."""
    train, forward = {}, []
    for arm in ground.study.arms:
        step, validation = _timed(ground, settings, arm)
        train[arm.name] = step
        forward.append(validation)
    return Speed(train=train, forward=max(forward))


def _timed(ground: Ground, settings: Settings, arm: Arm) -> tuple[float, float]:
    """Seconds an image of a step, and of validation. The first step, which is slow, is left out where there are others."""
    most = _TIMED_STEPS * settings.batch_size
    job = Job(arm=arm.name, fraction=1.0, schedule=1, factor=1.0, seed=0, images=most, epochs=_TIMED_STEPS)
    adapted, data = _ready(ground, settings, job)
    data = replace(data, train=data.train[:most], val=data.val[:_TIMED_VALIDATION])
    steps: list[float] = []
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        events = training.fit(adapted, data, Pace(clock=Clock(), folder=Path(folder), every=3600.0))
        before, number = time.perf_counter(), 0
        for event in events:
            now = time.perf_counter()
            if event.event == "step":
                steps.append((now - before) / max(1, event.step - number))
                number = event.step
            if event.event in ("step", "validation"):
                before, took = now, now - before
            if event.event == "validation" and number >= _TIMED_STEPS:
                events.close()
                usual = float(np.mean(steps[1:] or steps))
                return usual / min(settings.batch_size, len(data.train)), took / max(1, len(data.val))
    raise BadPlan(
        f"{arm.method} ended after {number} steps, too early to be timed.",
        hint="This is a defect of headstart: please report it.",
    )
