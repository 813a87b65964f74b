"""The audit of data on its own, and of the data of a run, from what the run has computed anyway."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart import auditing, data, evaluation, weights
from headstart._core import files, records
from headstart._core.errors import BadInput
from headstart.auditing import Audit, Material
from headstart.data.records import Dataset, DatasetFacts, LoadOptions, Sample
from headstart.evaluation import About, Answers, Evaluation
from headstart.features import FeatureStore
from headstart.heads.probe import STRENGTHS, Problem, group_numbers, walk
from headstart.ladder import Climb, Climbed
from headstart.methods import METHODS
from headstart.runs.gallery import FOLDER, small_square
from headstart.runs.options import DEFAULT_WEIGHTS
from headstart.tasks import TASKS

AUDIT = "audit.json"
WITHOUT_LEAKS = "test_without_leaks"
"""Beside `test` in `evaluation.json`: the test images that no earlier split shows."""

_FOLDS = 5
_PICTURES, _QUALITY = 12, 80  # suspects shown in the report
_COLUMNS = ("path", "label", "given", "suggested", "confidence", "against", "split")


class Audited(NamedTuple):
    """The facts of a dataset and what its audit found."""

    facts: DatasetFacts
    audit: Audit


def audit_data(
    source: str,
    options: LoadOptions,
    *,
    weights_name: str = "",
    arch: str = "",
    quick: bool = False,
) -> Audited:
    """The facts and the audit of the data at `source`, test images included: nothing is chosen by them.

    Args:
        source: class folders, a CSV or Parquet file, or a built-in name.
        options: how it is read.
        weights_name: of the network whose frozen features are used; empty: the one that `fit` starts with.
        arch: its architecture, for weights that do not say.
        quick: look at the pictures alone; no network: no check of labels, no shift.

    Raises:
        BadInput: for data or weights that cannot be used.
    """
    dataset = data.load(source, options)
    facts = data.describe(dataset, source)
    samples = (*dataset.samples, *dataset.test.open())
    material = _material(dataset, samples)
    if quick:
        return Audited(facts, auditing.audit(material, seed=options.seed))
    backbone = weights.load(weights_name or DEFAULT_WEIGHTS, arch=arch)
    features = FeatureStore(backbone, among=samples).get(samples)
    told = crossed(features, samples, dataset, seed=options.seed)
    return Audited(
        facts,
        auditing.audit(replace(material, features=features, probability=told), seed=options.seed),
    )


def audit_run(
    folder: Path,
    task: Climb,
    *,
    dataset: Dataset,
    climbed: Sequence[Climbed],
    tested: Mapping[str, Answers],
    samples: tuple[Sample, ...],
) -> Audit:
    """The audit of a run's data, also written to `audit.json`, with pictures of the least believable labels.

    It adds no pass through a network: features come from the first rung that computed them, the answers that labels are
    held against from a rung that cross-validated; without such rungs that part is left away, and the audit says so.

    Args:
        folder: the run folder.
        task: what was climbed.
        dataset: whose training and validation images were used.
        climbed: all rungs.
        tested: method -> its answers to the test images.
        samples: the test images.
    """
    everyone = (*task.data.train, *task.data.val, *samples)
    methods = [each.outcome.method for each in climbed]
    frozen = any(name in METHODS and METHODS[name].solver == "features" for name in methods)
    features = task.data.store.get(everyone) if frozen else None
    material = replace(
        _material(dataset, everyone), features=features, probability=_told(task, climbed, tested)
    )
    found = _with_pictures(auditing.audit(material, seed=task.data.seed), everyone, folder)
    records.save(folder / AUDIT, found)
    return found


def with_and_without(result: Evaluation, audit: Audit, *, test: Answers, about: About) -> Evaluation:
    """The evaluation, with the numbers on the test images that do not leak beside those on all, where some leak."""
    leaked = audit.leaked()
    if not leaked or len(leaked) == len(test.names):
        return result
    scores = evaluation.score(_without(test, leaked), about)
    return replace(result, splits=result.splits | {WITHOUT_LEAKS: scores})


def _without(answers: Answers, names: frozenset[str]) -> Answers:
    """The answers to the images that are not among those names."""
    kept = [place for place, name in enumerate(answers.names) if name not in names]
    groups = answers.groups
    return replace(
        answers,
        names=tuple(answers.names[place] for place in kept),
        truth=answers.truth[kept],
        logits=answers.logits[kept],
        groups=None if groups is None else tuple(groups[place] for place in kept),
    )


def write_labels(path: str | Path, audit: Audit) -> int:
    """How many suspects were written to a CSV file to be reviewed; `--labels` reads it back.

    The column `label` holds what the data says and is the one to edit; emptied, it leaves the image out.

    Raises:
        BadInput: where the file cannot be written.
    """
    with files.atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for each in audit.suspects:
            numbers = (f"{each.confidence:.4f}", f"{each.against:.4f}")
            writer.writerow((each.name, each.given, each.given, each.suggested, *numbers, each.split))
    return len(audit.suspects)


def write_groups(path: str | Path, audit: Audit) -> int:
    """How many images were written, with the group that the first proposal gives them, to a CSV file for `--labels`.

    Raises:
        BadInput: where no group was proposed, its rule is one that `--group` knows, or the file cannot be written.
    """
    if not audit.groups:
        raise BadInput("No group column is proposed for this data.", hint="Leave --export-groups out.")
    first = audit.groups[0]
    if not first.members:
        raise BadInput(
            f"The proposed groups follow from the file names (rule {first.rule}).",
            hint=f"No file is needed: headstart fit DATA --group {first.rule}",
        )
    with files.atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "group"))
        for number, names in enumerate(first.members, 1):
            writer.writerows((name, f"{first.rule}-{number}") for name in names)
    return sum(map(len, first.members))


def _material(dataset: Dataset, samples: tuple[Sample, ...]) -> Material:
    return Material(
        samples=samples, classes=dataset.classes, task=dataset.task, duplicates=dataset.duplicates
    )


def crossed(
    features: NDArray[np.float32], samples: Sequence[Sample], dataset: Dataset, *, seed: int
) -> NDArray[np.float64] | None:
    """Probabilities (N, classes) by a probe fitted without the image; None for boxes and masks."""
    task = TASKS[dataset.task]
    if task.places is not None:
        return None
    problem = Problem(
        features=features,
        targets=task.targets(samples, len(dataset.classes)),
        groups=group_numbers(samples),
        classes=len(dataset.classes),
        weights=None,
    )
    path = walk(problem, strengths=STRENGTHS, count=_FOLDS, seed=seed, repeats=1)
    return np.asarray(task.probabilities(path.logits[path.chosen]), np.float64)


def _told(
    task: Climb, climbed: Sequence[Climbed], tested: Mapping[str, Answers]
) -> NDArray[np.float64] | None:
    """Probabilities of training, validation and test images by networks that had not seen them; None where none has them."""
    probe = next((each for each in climbed if each.crossed is not None), None)
    if probe is None or probe.crossed is None or task.data.task.places is not None:
        return None
    logits = [probe.crossed, probe.val_logits, tested[probe.outcome.method].logits]
    return np.asarray(task.data.task.probabilities(np.concatenate(logits).astype(np.float64)), np.float64)


def _with_pictures(audit: Audit, samples: Sequence[Sample], folder: Path) -> Audit:
    """The audit, with small pictures of its first suspects in the run folder."""
    named = {sample.name: sample for sample in samples}
    shown = []
    for number, suspect in enumerate(audit.suspects[:_PICTURES]):
        place = f"{FOLDER}/suspect-{number}.jpg"
        try:
            picture = small_square(named[suspect.name].source)
        except BadInput:  # the file went away: the label is told without its picture
            shown.append(suspect)
            continue
        with files.atomic(folder / place, sync=False) as temporary:
            picture.save(temporary, format="JPEG", quality=_QUALITY)
        shown.append(replace(suspect, picture=place))
    return replace(audit, suspects=(*shown, *audit.suspects[_PICTURES:]))
