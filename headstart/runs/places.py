"""Boxes and masks in whole runs: the exam, pictures of it, a saved model on other data, and prediction files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart import compute, data, evaluation, export
from headstart._core import files
from headstart._core.errors import BadInput
from headstart.data.images import open_rgb
from headstart.data.masks import read_mask
from headstart.data.preprocess import Preprocess
from headstart.data.records import LoadOptions, Sample
from headstart.evaluation import About, Answers, Evaluation, Shown, calibrated_rows
from headstart.ladder import Climb, Climbed
from headstart.metrics import detection
from headstart.pixels import beside, index_png, truth_boxes, with_boxes, with_mask
from headstart.predict import Found
from headstart.tasks import TASKS, Network, Task

_SHOWN = 420  # pixels of a picture's long side in the report
_QUALITY = 80


def rows_for(
    model: Network, samples: Sequence[Sample], task: Task, *, preprocess: Preprocess, classes: int
) -> NDArray[np.float64]:
    """What is kept of a network's answers to these samples."""
    return compute.forward(
        model,
        samples,
        preprocess,
        label="testing",
        keep=lambda outputs, own: task.rows(outputs, own, preprocess, classes),
    )


def answers_for(rows: NDArray[np.float64], samples: Sequence[Sample], task: Task, classes: int) -> Answers:
    """The answers with their truth."""
    names = tuple(sample.name for sample in samples)
    truth = task.targets(samples, classes)
    return Answers(names=names, truth=truth, logits=rows, groups=tuple(sample.group for sample in samples))


def examine_places(
    folder: Path, task: Climb, samples: tuple[Sample, ...], climbed: tuple[Climbed, ...], *, about: About
) -> Evaluation:
    """The evaluation of the best rung against every other on the test samples, with pictures of the worst."""
    own, classes, contract = task.data.task, len(about.classes), task.data.preprocess
    best, others = climbed[0], climbed[1:]
    asked = {
        each.outcome.method: answers_for(
            rows_for(each.model, samples, own, preprocess=contract, classes=classes), samples, own, classes
        )
        for each in climbed
    }
    val = answers_for(best.val_logits, task.data.val, own, classes)
    result = evaluation.evaluate_places(
        asked[best.outcome.method],
        val=val,
        rivals={each.outcome.method: asked[each.outcome.method] for each in others},
        about=about,
        shown=shown_of(task, best),
    )
    return add_places(result, folder, samples, best.model, task=own, preprocess=contract)


def shown_of(task: Climb, climbed: Climbed) -> Shown:
    """Which boxes are shown and what their scores mean, chosen on the validation images; nothing for other tasks."""
    if task.data.task.name != "detect":
        return Shown()
    classes = len(task.data.classes)
    truth = task.data.task.targets(task.data.val, classes)
    matches = detection.match(list(climbed.val_logits), truth, classes=classes, by_size=False)
    calibration = detection.fit_calibration(matches)
    least = detection.best_threshold(matches, precision=task.precision or None)
    (threshold,) = detection.calibrated(np.array([least]), calibration)
    # A little lower, for the box that the threshold is made of.
    return Shown(threshold=float(threshold) - 1e-9, calibration=calibration, precision=task.precision)


def evaluate_bundle(bundle: export.Bundle, samples: Sequence[Sample]) -> Evaluation:
    """The evaluation of a saved model on labelled samples."""
    started = time.perf_counter()
    task, classes = bundle.made, len(bundle.classes)
    rows = rows_for(bundle.model, samples, task, preprocess=bundle.preprocess, classes=classes)
    about = About(
        task=bundle.task,
        classes=bundle.classes,
        method=bundle.manifest.method,
        weights=bundle.manifest.weights.name,
        temperature=1.0,
        seed=0,
        seconds={"total": time.perf_counter() - started},
    )
    answers = answers_for(rows, samples, task, classes)
    made = bundle.manifest
    shown = Shown(threshold=made.threshold, calibration=made.calibration, precision=made.precision)
    return evaluation.evaluate_places(answers, val=None, rivals={}, about=about, shown=shown)


def add_places(
    result: Evaluation,
    folder: Path,
    samples: Sequence[Sample],
    model: Network,
    *,
    task: Task,
    preprocess: Preprocess,
) -> Evaluation:
    """The evaluation with, for each of the worst images, its truth and the answer side by side."""
    named = {sample.name: sample for sample in samples}
    places = task.places
    assert places is not None
    chosen = [named[mistake.name] for mistake in result.mistakes]
    if not chosen:
        return result
    answers: list[NDArray[Any]] = []

    def keep(outputs: Any, own: Sequence[Sample]) -> NDArray[Any]:
        answers.extend(places.answers(outputs, [(s.width, s.height) for s in own], preprocess))
        return np.zeros(len(own))

    compute.forward(model, chosen, preprocess, label="drawing", keep=keep)
    least = result.places.threshold if result.places else 0.0
    if result.places is not None and result.places.trust is not None:
        calibration = (result.places.trust.slope, result.places.trust.offset)
        answers = [calibrated_rows(answer, calibration) for answer in answers]
    told = []
    for number, (mistake, sample, answer) in enumerate(zip(result.mistakes, chosen, answers, strict=True)):
        thumbnail = f"gallery/worst-{number}.jpg"
        _save(side_by_side(sample, answer, result.classes, least=least), folder / thumbnail)
        truth = described(truth_of(sample), result.classes, scores=False)
        predicted = described(shown(answer, least), result.classes, scores=True)
        told.append(replace(mistake, truth=truth, predicted=predicted, thumbnail=thumbnail))
    return replace(result, mistakes=tuple(told))


def truth_of(sample: Sample) -> NDArray[Any]:
    """True boxes (M, 6), or class indices (H, W)."""
    if sample.mask is None:
        return truth_boxes(sample)
    return read_mask(sample.mask, (sample.width, sample.height)).labels


def shown(answer: NDArray[Any], least: float) -> NDArray[Any]:
    """The boxes of at least that score; a mask as it is."""
    return answer[answer[:, 4] >= least] if answer.dtype == np.float64 else answer


def described(answer: NDArray[Any], classes: Sequence[str], *, scores: bool) -> str:
    """Boxes as `3 RBC, 1 WBC`; a mask as its three largest classes with their shares."""
    if answer.dtype == np.float64:
        labels = answer[:, 5 if scores else 4].astype(int)
        counts = np.bincount(labels, minlength=len(classes))
        return ", ".join(f"{n} {name}" for name, n in zip(classes, counts, strict=True) if n) or "nothing"
    counts = np.bincount(answer[answer >= 0].ravel(), minlength=len(classes))
    largest = [index for index in np.argsort(-counts, kind="stable")[:3] if counts[index]]
    return ", ".join(f"{classes[index]} {counts[index] / counts.sum():.0%}" for index in largest) or "nothing"


def side_by_side(
    sample: Sample, answer: NDArray[Any], classes: Sequence[str], *, least: float
) -> Image.Image:
    """The image with its truth and with the answer, reduced to what a page can carry."""
    image = open_rgb(sample.source)
    pictures = [
        _drawn(image, truth_of(sample), classes, scores=False),
        _drawn(image, shown(answer, least), classes, scores=True),
    ]
    factor = min(1.0, _SHOWN / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return beside([picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures])


def _drawn(image: Image.Image, answer: NDArray[Any], classes: Sequence[str], *, scores: bool) -> Image.Image:
    if answer.dtype == np.float64:
        return with_boxes(image, answer, classes, scores=scores)
    return with_mask(image, answer)


def _save(image: Image.Image, path: Path) -> None:
    with files.atomic(path, sync=False) as temporary:
        image.save(temporary, format="JPEG", quality=_QUALITY)


_SHEET, _CELL = 12, 320  # pictures, and pixels of the long side of each


def write_sheet(path: str | Path, source: str, options: LoadOptions) -> None:
    """Write a picture of training images, evenly spread, with what is said to be true of them.

    Raises:
        BadInput: for data of whole images, and where the file cannot be written.
    """
    dataset = data.load(source, options)
    if TASKS[dataset.task].places is None:
        raise BadInput(f"{source} has neither boxes nor masks.", hint="Leave --sheet away.")
    train = dataset.train
    chosen = [train[n * len(train) // min(_SHEET, len(train))] for n in range(min(_SHEET, len(train)))]
    pictures = [
        _drawn(open_rgb(sample.source), truth_of(sample), dataset.classes, scores=False) for sample in chosen
    ]
    for picture in pictures:
        picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    size = (max(picture.width for picture in pictures), max(picture.height for picture in pictures))
    cells = [Image.new("RGB", size, (255, 255, 255)) for _ in pictures]
    for cell, picture in zip(cells, pictures, strict=True):
        cell.paste(picture)
    rows = [beside(cells[start : start + 4]) for start in range(0, len(cells), 4)]
    out = Image.new("RGB", (rows[0].width, sum(row.height + 6 for row in rows)), (255, 255, 255))
    for number, row in enumerate(rows):
        out.paste(row, (0, number * (size[1] + 6)))
    target = Path(path)
    with files.atomic(target) as temporary:
        out.save(temporary, format="PNG" if target.suffix.lower() == ".png" else "JPEG", quality=_QUALITY)


# Predictions in files


def drawn_into(folder: Path, found: Iterable[Found], classes: Sequence[str]) -> Iterator[Found]:
    """The same answers, each drawn on its image and written as `NAME.jpg` on the way."""
    for number, each in enumerate(found):
        if each.answer is not None:
            picture = _drawn(open_rgb(each.source), each.answer, classes, scores=True)
            _save(picture, folder / f"{number:05d}-{_stem(each.path)}.jpg")
        yield each


def _stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(name).stem)[:80]


def as_row(found: Found, classes: Sequence[str]) -> dict[str, Any]:
    """An answer as plain values: `path, width, height, boxes, error`, or for masks `classes` with their shares."""
    row: dict[str, Any] = {"path": found.path, "width": found.size[0], "height": found.size[1]}
    if found.answer is None:
        return row | {"error": found.error}
    if found.answer.dtype == np.float64:
        row["boxes"] = [
            {"class": classes[int(label)], "score": score, "box": [left, top, right, bottom]}
            for left, top, right, bottom, score, label in found.answer.tolist()
        ]
    else:
        counts = np.bincount(found.answer.ravel(), minlength=len(classes)) / found.answer.size
        row["classes"] = {name: float(share) for name, share in zip(classes, counts, strict=True) if share}
    return row | {"error": None}


def write_boxes(path: Path, found: Iterable[Found], classes: Sequence[str]) -> tuple[int, int]:
    """(images, those that could not be read), written as COCO JSON (.json) or as a line a box (.csv)."""
    answers = list(found)
    text = _as_coco(answers, classes) if path.suffix.lower() == ".json" else _as_csv(answers, classes)
    files.write_text(path, text)
    return len(answers), sum(each.answer is None for each in answers)


def told_score(score: float) -> str:
    """A score as files have it: by its leading digits, for of unlikely boxes only these tell one from the other.

    Places have three decimals: with two, overlaps that are just enough for a match fell short (0.3 points of mAP75 on 72
    images of blood cells).
    """
    return f"{score:.6g}"


def _as_coco(found: Sequence[Found], classes: Sequence[str]) -> str:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(found):
        images.append(
            {"id": number + 1, "file_name": each.path, "width": each.size[0], "height": each.size[1]}
        )
        for left, top, right, bottom, score, label in [] if each.answer is None else each.answer.tolist():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": int(label) + 1,
                    "bbox": [round(v, 3) for v in (left, top, right - left, bottom - top)],
                    "area": round((right - left) * (bottom - top), 3),
                    "iscrowd": 0,
                    "score": float(told_score(score)),
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(content, ensure_ascii=False) + "\n"


def _as_csv(found: Sequence[Found], classes: Sequence[str]) -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "label", "score", "left", "top", "right", "bottom", "error"])
    for each in found:
        if each.answer is None:
            writer.writerow([each.path, "", "", "", "", "", "", each.error])
            continue
        for left, top, right, bottom, score, label in each.answer.tolist():
            sides = [f"{value:.3f}" for value in (left, top, right, bottom)]
            writer.writerow([each.path, classes[int(label)], told_score(score), *sides, ""])
    return stream.getvalue()


def write_masks(folder: Path, found: Iterable[Found], classes: Sequence[str]) -> tuple[int, int]:
    """(images, those that could not be read); masks as palette PNGs of class indices, with classes.txt and masks.csv.

    Raises:
        BadInput: for more classes than an 8-bit mask can tell apart.
    """
    if len(classes) > 256:
        raise BadInput(
            f"{len(classes)} classes do not fit an 8-bit mask.", hint="Use bundle.places in Python."
        )
    files.writable_folder(folder)
    lines, failed = ["path,mask,error"], 0
    for number, each in enumerate(found):
        name = f"{number:05d}-{_stem(each.path)}.png"
        if each.answer is None:
            failed += 1
            lines.append(f"{json.dumps(each.path, ensure_ascii=False)},,{json.dumps(each.error)}")
            continue
        with files.atomic(folder / name, sync=False) as temporary:
            index_png(each.answer).save(temporary, format="PNG")
        lines.append(f"{json.dumps(each.path, ensure_ascii=False)},{name},")
    files.write_text(folder / "classes.txt", "\n".join(classes) + "\n")
    files.write_text(folder / "masks.csv", "\n".join(lines) + "\n")
    return len(lines) - 1, failed
