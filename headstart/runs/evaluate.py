"""A saved model measured on labelled images that it was not fitted on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart import data, evaluation, export
from headstart._core.errors import BadInput
from headstart._core.progress import track
from headstart.data.records import LoadOptions, Sample
from headstart.evaluation import About, Answers, Aside, Evaluation
from headstart.pixels import batches, in_order, read_pixels
from headstart.predict import BATCH, accelerated
from headstart.runs.places import evaluate_bundle
from headstart.tasks import TASKS


def evaluate(run: str | Path, source: str | Path, *, options: LoadOptions | None = None) -> Evaluation:
    """The evaluation of a run's saved model on other labelled images.

    The classes are matched by name; images of a class that the model does not know are an error, since they could only
    be wrong.

    Raises:
        BadInput: for unknown classes, or data of another task.
    """
    started = time.perf_counter()
    bundle = export.open_bundle(run)
    samples = data.load_labelled(
        str(source), options or LoadOptions(), classes=bundle.classes, task=bundle.task
    )
    if not samples:
        raise BadInput(
            f"{source} holds no labelled image.", hint="Give class folders named like the model's classes."
        )
    if TASKS[bundle.task].places is not None:
        return evaluate_bundle(bundle, samples)
    truth = TASKS[bundle.task].targets(samples, len(bundle.classes))
    answers = Answers(
        names=tuple(sample.name for sample in samples),
        truth=truth,
        logits=bundle_logits(bundle, samples).astype(np.float64),
        groups=tuple(sample.group for sample in samples),
    )
    about = About(
        task=bundle.task,
        classes=bundle.classes,
        method=bundle.manifest.method,
        weights=bundle.manifest.weights.name,
        temperature=1.0,  # a bundle's logits are calibrated already
        seed=0,
        seconds={"total": time.perf_counter() - started},
    )
    aside = Aside(looks=evaluation.look_at(samples))
    return evaluation.evaluate(answers, val=None, baselines={}, about=about, aside=aside)


def bundle_logits(bundle: export.Bundle, samples: Sequence[Sample]) -> np.ndarray:
    """Calibrated logits (N, classes) of the samples, decoded ahead by threads, in the fastest runtime that agrees."""
    predictor = accelerated(
        bundle, bundle.watched or bundle.model, temperature=bundle.manifest.temperature, samples=samples
    )
    stream = batches(
        samples,
        lambda _, sample: read_pixels(sample.source, bundle.preprocess),
        groups=in_order(len(samples), BATCH),
    )
    rows = [
        predictor.logits(batch.rows)
        for batch in track(stream, label="evaluating", total=len(samples), weight=BATCH)
    ]
    return np.concatenate(rows)
