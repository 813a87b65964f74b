"""The solver `features`: the backbone runs once over the images, the head is a convex problem."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch

from headstart._core.records import to_plain
from headstart.adaptation import Adapted
from headstart.features import View, views
from headstart.heads.logistic import LinearHead
from headstart.heads.probe import STRENGTHS, Path, Problem, group_numbers, walk
from headstart.methods.depth_probe import DepthProbeParams
from headstart.tasks import Network
from headstart.training.calibrating import calibrate
from headstart.training.class_weights import class_weights, label_counts
from headstart.training.depths import Scaling, choose_depths
from headstart.training.judged import judged
from headstart.training.records import Event, FitResult, Pace, TrainingData
from headstart.training.rows import rows_of


def probe_problem(
    data: TrainingData,
    weights: str,
    pace: Pace,
    *,
    pooled: bool = False,
    seen: tuple[View | None, ...] = (None,),
    model: Network | None = None,
) -> Problem:
    """The training features (with the validation features, where `pooled`) as a problem for `walk`.

    Args:
        data: images and labels.
        weights: the wish for class weights.
        pace: says when to end.
        pooled: whether the validation images belong to it.
        seen: the views of each image, the image itself first.
        model: whose head will read the features; None: one on the network's own output.
    """
    samples = data.train + (data.val if pooled else ())
    targets = data.task.targets(samples, len(data.classes))
    rows = [rows_of(model, data.store, samples, clock=pace.clock, view=view) for view in seen]
    return Problem(
        features=rows[0] if len(rows) == 1 else np.concatenate(rows),
        targets=targets,
        groups=group_numbers(samples),
        classes=len(data.classes),
        weights=class_weights(weights, data.classes, label_counts(data, targets)),
    )


def set_head(model: Network, head: LinearHead) -> None:
    """Copy a closed-form head into the network."""
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(head.weight))
        model.head.bias.copy_(torch.from_numpy(head.bias))


def solve(adapted: Adapted, data: TrainingData, pace: Pace) -> Generator[Event, None, FitResult]:
    """Events while the head is found, then the result.

    The strength is chosen inside the training split. The answers on the validation images come from a head that did not
    see them; after that, where they were taken out of the training images here, the final head is fitted on both, and the
    calibration on cross-fitted answers to both.
    """
    started, params, name = time.monotonic(), adapted.params, adapted.method.name
    seen = views(params.views, flip=params.flip)
    read = choose_depths(adapted, data, pace) if isinstance(params, DepthProbeParams) else None
    if read is not None:
        yield Event(event="note", rung=name, seconds=time.monotonic() - started, reason=read.told)
    model = adapted.model if read is None else read.model
    problem = probe_problem(data, params.class_weights, pace, seen=seen, model=model)
    scaling = None if read is None else Scaling.of(problem.first(1).features)
    problem = _scaled(problem, scaling)
    val_features = rows_of(model, data.store, data.val, clock=pace.clock)
    val_features = val_features if scaling is None else scaling(val_features)
    val_targets = data.task.targets(data.val, len(data.classes))
    paths = _walks(problem, params.views, folds=params.folds, seed=data.seed)
    copies = min(paths, key=lambda count: min(paths[count].losses))
    path = paths[copies]
    head = honest = path.heads[path.chosen]
    val_logits = head(val_features)
    told = judged(data, val_logits, val_targets)
    yield Event(
        event="validation",
        rung=name,
        metrics=told.metrics,
        intervals=told.intervals,
        seconds=time.monotonic() - started,
        reason=f"strength C = {path.best:g} with {copies} of {params.views} views of each image has the lowest "
        "cross-validated log-loss",
    )
    crossed, places = path.logits[path.chosen], np.arange(len(data.val))
    if data.refit:
        pooled = probe_problem(data, params.class_weights, pace, pooled=True, seen=seen[:copies], model=model)
        pooled = _scaled(pooled, scaling)
        again = walk(pooled, strengths=(path.best,), count=params.folds, seed=data.seed)
        found = calibrate(data, again.logits[0], pooled.targets, model=model)
        head, places = again.heads[0], places + len(data.train)
        crossed = found.apart(crossed, np.arange(len(data.train)))
    else:
        found = calibrate(data, val_logits, val_targets, model=model)
        crossed = crossed if found.classwise is None else found.classwise(crossed)
    head, honest = (each if scaling is None else scaling.folded(each) for each in (head, honest))
    head, honest = found.folded(head), found.folded(honest)
    set_head(model, head)
    return FitResult(
        method=name,
        model=model.eval(),
        val_logits=found.apart(val_logits, places),
        temperature=found.temperature,
        classwise=found.classwise,
        seconds=time.monotonic() - started,
        ended="solved",
        facts=_facts(paths, copies, data) | ({} if read is None else read.facts),
        crossed=crossed,
        head=honest if data.refit else None,
    )


def _scaled(problem: Problem, scaling: Scaling | None) -> Problem:
    """The problem on standardised features, where they are to be."""
    return problem if scaling is None else replace(problem, features=scaling(problem.features))


def _walks(problem: Problem, most: int, *, folds: int, seed: int) -> dict[int, Path]:
    """The regularisation paths with one view of each image, with two, and with all: number of views -> path."""
    return {
        count: walk(problem.first(count), strengths=STRENGTHS, count=folds, seed=seed)
        for count in sorted({1, min(2, most), most})
    }


def _runtime(data: TrainingData) -> dict[str, object]:
    """Which runtime computed the features, how closely it agreed with eager float32, and why it was chosen."""
    found = data.store.runtime
    return {} if found is None else to_plain(found)


def _facts(paths: dict[int, Path], copies: int, data: TrainingData) -> dict[str, object]:
    path = paths[copies]
    return {
        "runtime": _runtime(data),
        "strength": path.best,
        "views": copies,
        "log_loss_by_views": {str(count): min(each.losses) for count, each in paths.items()},
        "path": [
            {"strength": s, "log_loss": loss, "standard_error": error}
            for s, loss, error in zip(path.strengths, path.losses, path.errors, strict=True)
        ],
        "refitted_on_validation_images": data.refit,
    }
