"""The solver `features`: the backbone runs once over the images, the head is a convex problem."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.adaptation import Adapted
from headstart.features import View, views
from headstart.heads.logistic import LinearHead
from headstart.heads.probe import STRENGTHS, Path, Problem, group_numbers, row_losses, walk
from headstart.metrics import fit_temperature
from headstart.tasks import Classifier
from headstart.training.class_weights import class_weights
from headstart.training.records import Event, FitResult, Pace, TrainingData


def label_counts(data: TrainingData, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Training images of each class (classes,)."""
    if targets.ndim == 2:
        return np.asarray(targets.sum(0), np.int64)
    return np.bincount(targets, minlength=len(data.classes))


def probe_problem(
    data: TrainingData,
    weights: str,
    pace: Pace,
    *,
    pooled: bool = False,
    seen: tuple[View | None, ...] = (None,),
) -> Problem:
    """The training features (with the validation features, where `pooled`) as a problem for `walk`.

    Args:
        data: images and labels.
        weights: the wish for class weights.
        pace: says when to end.
        pooled: whether the validation images belong to it.
        seen: the views of each image, the image itself first.
    """
    samples = data.train + (data.val if pooled else ())
    targets = data.task.targets(samples, len(data.classes))
    rows = [data.store.get(samples, clock=pace.clock, view=view) for view in seen]
    return Problem(
        features=rows[0] if len(rows) == 1 else np.concatenate(rows),
        targets=targets,
        groups=group_numbers(samples),
        classes=len(data.classes),
        weights=class_weights(weights, data.classes, label_counts(data, targets)),
    )


def set_head(model: Classifier, head: LinearHead) -> None:
    """Copy a closed-form head into the network."""
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(head.weight))
        model.head.bias.copy_(torch.from_numpy(head.bias))


def solve(adapted: Adapted, data: TrainingData, pace: Pace) -> Generator[Event, None, FitResult]:
    """Events while the head is found, then the result.

    The strength is chosen inside the training split. The answers on the validation images come from a head that did not
    see them; after that, where they were taken out of the training images here, the final head is fitted on both, and the
    temperature on cross-fitted answers to both.
    """
    started, params, name = time.monotonic(), adapted.params, adapted.method.name
    seen = views(params.views, flip=params.flip)
    problem = probe_problem(data, params.class_weights, pace, seen=seen)
    val_features = data.store.get(data.val, clock=pace.clock)
    val_targets = data.task.targets(data.val, len(data.classes))
    paths = {
        count: walk(problem.first(count), strengths=STRENGTHS, count=params.folds, seed=data.seed)
        for count in sorted({1, min(2, params.views), params.views})
    }
    copies = min(paths, key=lambda count: min(paths[count].losses))
    path = paths[copies]
    head = path.heads[path.chosen]
    val_logits = head(val_features)
    score = float(data.task.correctness(val_logits, val_targets).mean())
    loss = float(row_losses(val_logits, val_targets).mean())
    yield Event(
        event="validation",
        rung=name,
        metrics={data.task.primary: score, "log_loss": loss},
        seconds=time.monotonic() - started,
        reason=f"strength C = {path.best:g} with {copies} of {params.views} views of each image has the lowest "
        "cross-validated log-loss",
    )
    if data.refit:
        pooled = probe_problem(data, params.class_weights, pace, pooled=True, seen=seen[:copies])
        again = walk(pooled, strengths=(path.best,), count=params.folds, seed=data.seed)
        temperature = fit_temperature(again.logits[0], pooled.targets)
        head = again.heads[0]
    else:
        temperature = fit_temperature(val_logits, val_targets)
    set_head(adapted.model, head)
    return FitResult(
        method=name,
        model=adapted.model.eval(),
        val_logits=val_logits,
        temperature=temperature,
        seconds=time.monotonic() - started,
        ended="solved",
        facts=_facts(paths, copies, refit=data.refit),
    )


def _facts(paths: dict[int, Path], copies: int, *, refit: bool) -> dict[str, object]:
    path = paths[copies]
    return {
        "strength": path.best,
        "views": copies,
        "log_loss_by_views": {str(count): min(each.losses) for count, each in paths.items()},
        "path": [
            {"strength": s, "log_loss": loss, "standard_error": error}
            for s, loss, error in zip(path.strengths, path.losses, path.errors, strict=True)
        ],
        "refitted_on_validation_images": refit,
    }
