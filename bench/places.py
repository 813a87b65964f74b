"""The exported file beside its bundle, and COCO's numbers beside pycocotools', on the test images of finished runs.

python bench/places.py RUN … [--out bench/results/places.json]

Each RUN is a folder that `headstart fit` left of boxes or masks, with its data where it was. The file is written anew and
compared on all test images, as `headstart export` does on the validation images. Found boxes go to pycocotools by its own
way in (`loadRes`): with all their digits, and once more out of the file that
`headstart predict RUN IMAGES --threshold 0 --out found.json` writes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.measure import machine  # noqa: E402
from headstart import data, export  # noqa: E402
from headstart._core import records  # noqa: E402
from headstart.data.records import Sample  # noqa: E402
from headstart.export import places  # noqa: E402
from headstart.metrics import detection  # noqa: E402
from headstart.predict import predict_places  # noqa: E402
from headstart.runs.folder import REQUEST, Request  # noqa: E402
from headstart.runs.places import evaluate_bundle, rows_for, write_boxes  # noqa: E402

Floats = NDArray[np.float64]

PRECISIONS = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")
TWELVE = (*PRECISIONS, "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
"""COCO's numbers in pycocotools' order; those of recall headstart does not report, so they are made of its matching here."""


def recall(matches: detection.Matches, *, size: str = "all", most: int = 100) -> float:
    """COCO's average recall over classes with objects and `OVERLAPS`, of the surest `most` boxes of an image and class."""
    found = []
    for part in matches.parts[detection.SIZES.index(size)]:
        if not part.objects.sum():
            continue
        kept = np.zeros(len(part.scores), np.bool_)
        for image in np.unique(part.images):
            kept[np.flatnonzero(part.images == image)[:most]] = True
        found.append((part.right & part.counted)[:, kept].sum(1) / part.objects.sum())
    return float(np.mean(found)) if found else float("nan")


def recalls(matches: detection.Matches) -> list[float]:
    """The last six of `TWELVE`."""
    by_count = [recall(matches, most=most) for most in (1, 10, 100)]
    return by_count + [recall(matches, size=size) for size in detection.SIZES[1:]]


def coco_truth(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, Any]:
    """The samples' boxes as a COCO annotation file holds them; images are numbered in order, from 1."""
    told = [(number, box) for number, sample in enumerate(samples) for box in sample.boxes]
    return {
        "images": [
            {"id": number + 1, "file_name": sample.name, "width": sample.width, "height": sample.height}
            for number, sample in enumerate(samples)
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(classes)],
        "annotations": [
            {
                "id": place + 1,
                "image_id": number + 1,
                "category_id": box.label + 1,
                "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
                "area": (box.right - box.left) * (box.bottom - box.top),
                "iscrowd": int(box.crowd),
            }
            for place, (number, box) in enumerate(told)
        ],
    }


def coco_numbers(truth: dict[str, Any], found: Any) -> list[float]:
    """The twelve numbers of pycocotools for results as its `loadRes` takes them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "truth.json"
        file.write_text(json.dumps(truth), encoding="utf-8")
        known = COCO(str(file))
        evaluator = COCOeval(known, known.loadRes(found), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) if value >= 0 else float("nan") for value in evaluator.stats]


def apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference; infinite where one side alone has a number."""
    if [np.isnan(value) for value in ours] != [np.isnan(value) for value in theirs]:
        return float("inf")
    return float(np.nanmax(np.abs(np.array(ours) - np.array(theirs))))


def beside_pycocotools(bundle: export.Bundle, samples: Sequence[Sample]) -> dict[str, Any]:
    """The twelve numbers as headstart and as pycocotools have them, and how far they are apart."""
    told = evaluate_bundle(bundle, samples).splits["test"].metrics
    task, classes = bundle.made, len(bundle.classes)
    rows = rows_for(bundle.model, samples, task, preprocess=bundle.preprocess, classes=classes)
    matches = detection.match(list(rows), task.targets(samples, classes), classes=classes)
    ours = [told[name].value if name in told else float("nan") for name in PRECISIONS] + recalls(matches)
    truth = coco_truth(samples, bundle.classes)
    lines = [
        [number + 1, left, top, right - left, bottom - top, score, label + 1]
        for number, boxes in enumerate(rows)
        for left, top, right, bottom, score, label in boxes.tolist()
        if score >= 0
    ]
    theirs = coco_numbers(truth, np.array(lines))
    every = replace(bundle, manifest=replace(bundle.manifest, threshold=0.0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        write_boxes(file, predict_places(every, samples), bundle.classes)
        written = json.loads(file.read_text(encoding="utf-8"))["annotations"]
    from_file = coco_numbers(truth, written)
    return {
        "found": len(lines),
        "objects": len(truth["annotations"]),
        "headstart": dict(zip(TWELVE, ours, strict=True)),
        "pycocotools": dict(zip(TWELVE, theirs, strict=True)),
        "largest_difference": apart(ours, theirs),
        "largest_difference_from_file": apart(ours, from_file),
    }


def measured(run: Path) -> dict[str, Any]:
    """What the test images say of a run's exported file, and of the evaluator where the run is of boxes."""
    request = records.load(Request, run / REQUEST)
    samples = data.load(request.source, request.options.data).test.open()
    bundle = export.open_bundle(run)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        places.write(bundle, file)
        parity = places.check(bundle, places.open_runner(file), samples)
    out: dict[str, Any] = {
        "data": Path(request.source).name,
        "head": bundle.made.head.name,
        "images": len(samples),
        "parity": asdict(parity),
    }
    return out | ({"coco": beside_pycocotools(bundle, samples)} if bundle.task == "detect" else {})


def main(words: Sequence[str] | None = None) -> None:
    """Measure every run, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "places.json")
    asked = parser.parse_args(words)
    rows = []
    for run in asked.runs:
        rows.append(measured(run))
        print(json.dumps(rows[-1]))
    records.save(asked.out, {"machine": machine(), "runs": rows})


if __name__ == "__main__":
    main()
