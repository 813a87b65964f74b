"""The exam: the test split is opened once, after every choice has been made."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart import compute, evaluation
from headstart._core import records
from headstart.data.records import Dataset, Sample
from headstart.evaluation import About, Answers, Aside, Evaluation
from headstart.ladder import Climb, Climbed
from headstart.methods import METHODS
from headstart.runs.answers import save_answers, save_images
from headstart.runs.audit import audit_run, with_and_without
from headstart.runs.gallery import add_pictures, add_slice_pictures
from headstart.runs.places import examine_places
from headstart.runs.trust import conformal_of
from headstart.tasks import Mirrored, unmirrored
from headstart.training.rows import rows_of


def answers_of(logits: NDArray[np.floating], samples: tuple[Sample, ...], task: Climb) -> Answers:
    """The answers to these samples with their truth."""
    truth = task.data.task.targets(samples, len(task.data.classes))
    return Answers(
        names=tuple(sample.name for sample in samples),
        truth=truth,
        logits=logits.astype(np.float64),
        groups=tuple(sample.group for sample in samples),
    )


def examine(
    folder: Path, task: Climb, dataset: Dataset, climbed: tuple[Climbed, ...], *, seconds: dict[str, float]
) -> Evaluation:
    """The evaluation of the best rung against the majority and every other rung, also written to `evaluation.json`.

    Args:
        folder: the run folder.
        task: what was climbed.
        dataset: whose test split is opened here.
        climbed: all rungs, the best first.
        seconds: time spent so far, by stage.
    """
    started = time.perf_counter()
    best, others = climbed[0], climbed[1:]
    samples = dataset.test.open()
    if task.data.task.places is not None:
        about = _about(task, best, seconds=seconds, started=started)
        result = examine_places(folder, task, samples, climbed, about=about)
        return _saved(replace(result, test_opened=dataset.test.opened), folder, dataset, samples)
    test = answers_of(_logits(best, samples, task), samples, task)
    train_targets = task.data.task.targets(task.data.train, len(task.data.classes))
    rivals = {
        other.outcome.method: answers_of(_logits(other, samples, task), samples, task) for other in others
    }
    majority = evaluation.majority(train_targets, len(samples), task.data.classes)
    baselines = {"majority": replace(test, logits=majority)} | rivals
    about = _about(task, best, seconds=seconds, started=started)
    val = answers_of(best.val_logits, task.data.val, task)
    aside = _aside(samples, task, climbed)
    result = evaluation.evaluate(test, val=val, baselines=baselines, about=about, aside=aside)
    result = replace(result, test_opened=dataset.test.opened)
    result = add_pictures(result, folder, samples, unmirrored(best.model), task.backbone)
    result = add_slice_pictures(result, folder, samples)
    tested = {best.outcome.method: test} | rivals
    audit = audit_run(folder, task, dataset=dataset, climbed=climbed, tested=tested, samples=samples)
    result = with_and_without(result, audit, test=test, about=about)
    save_answers(folder, test, samples, classes=dataset.classes, temperature=about.temperature)
    return _saved(result, folder, dataset, samples)


def _saved(result: Evaluation, folder: Path, dataset: Dataset, samples: tuple[Sample, ...]) -> Evaluation:
    """The evaluation, written last of all that the exam leaves behind."""
    save_images(folder, (*dataset.samples, *samples), dataset.classes)
    records.save(folder / "evaluation.json", result)
    return result


def _about(task: Climb, best: Climbed, *, seconds: dict[str, float], started: float) -> About:
    spent = seconds | {"evaluate": time.perf_counter() - started}
    return About(
        task=task.data.task.name,
        classes=task.data.classes,
        method=best.outcome.method,
        weights=task.backbone.info.name,
        temperature=best.outcome.temperature,
        classwise=best.outcome.classwise,
        seed=task.data.seed,
        seconds=spent | {"total": sum(spent.values())},
    )


def _aside(samples: tuple[Sample, ...], task: Climb, climbed: tuple[Climbed, ...]) -> Aside:
    """What else is known about the test images and the choices that were made."""
    methods = [each.outcome.method for each in climbed]
    frozen = any(name in METHODS and METHODS[name].solver == "features" for name in methods)
    truth = task.data.task.targets(task.data.val, len(task.data.classes))
    return Aside(
        conformal=conformal_of(climbed[0], task.data),
        looks=evaluation.look_at(samples),
        features=task.data.store.get(samples) if frozen else None,  # else it would take a pass of its own
        candidates=np.stack([task.data.task.correctness(each.val_logits, truth) for each in climbed]),
    )


def _logits(climbed: Climbed, samples: tuple[Sample, ...], task: Climb) -> NDArray[np.float32]:
    label = f"testing {climbed.outcome.method}"
    method = climbed.outcome.method
    closed = method in METHODS and METHODS[method].solver == "features"
    if closed and not isinstance(climbed.model, Mirrored):
        # the body is the backbone: one pass serves every head on these depths
        features = rows_of(climbed.model, task.data.store, samples)
        head = climbed.model.head
        weight, bias = head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy()
        out: NDArray[np.float32] = features @ weight.T + bias
        return out
    return compute.forward(climbed.model, samples, task.backbone.info.preprocess, label=label)
