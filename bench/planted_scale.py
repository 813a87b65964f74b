"""Time and memory of the audit: of its search alone, of a small set, and of many files; parts of `planted.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bench.measure import environment, peak_mb
from bench.planted_inputs import Answer, features_of, half, opened, saved, share
from headstart import auditing, data
from headstart._core.seed import generator
from headstart.auditing.duplicates import near_duplicates
from headstart.auditing.looks import look_at
from headstart.data.records import LoadOptions
from headstart.runs.audit import crossed


def search(root: Path, work: Path, images: int) -> Answer:
    """Processor seconds and recall of the search alone, for an eighth, a quarter, half and all of so many pictures."""
    del work
    files = sorted((root / "imagenet-sample").glob("*.JPEG"))[:200]
    pool = np.stack(
        [np.asarray(opened(path).convert("L").resize((64, 64), Image.Resampling.BILINEAR)) for path in files]
    )
    out: Answer = {}
    for count in (images // 8, images // 4, images // 2, images):
        rng, copies = generator(0, "search", count), count // 100
        quarter = rng.integers(0, 48, (count, 4, 2))
        which = rng.integers(0, len(pool), (count, 4))
        thumbs = np.empty((count + copies, 32, 32), np.uint8)
        for corner, (down, across) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
            rows = quarter[:, corner, 0][:, None, None] + np.arange(16)[None, :, None]
            columns = quarter[:, corner, 1][:, None, None] + np.arange(16)[None, None, :]
            thumbs[:count, down : down + 16, across : across + 16] = pool[
                which[:, corner][:, None, None], rows, columns
            ]
        thumbs[count:] = thumbs[:copies, :, ::-1]
        features = rng.standard_normal((count + copies, 1280), np.float32)
        features[count:] = features[:copies] + 0.3 * rng.standard_normal((copies, 1280), np.float32)
        started = time.process_time()
        found = near_duplicates(thumbs, features)
        seconds = time.process_time() - started
        told = {tuple(pair) for pair in found.pairs.tolist()}
        hits = sum((number, count + number) in told for number in range(copies))
        out[str(count + copies)] = {
            "cpu_s": seconds,
            "candidates": found.looked,
            "recall": share(hits, copies),
            "pairs_not_planted": len(told) - hits,
            "peak_mb": peak_mb(),
        }
    return out


def scale(root: Path, work: Path, images: int) -> Answer:
    """Minutes and memory of the audit of many pictures, in a process of its own; and the same for a tenth of them."""
    out: Answer = {}
    for count in (images // 10, images):
        folder = work / f"scale-{count}"
        planted = mosaics(sorted((root / "imagenet-sample").glob("*.JPEG")), folder, count)
        answer = _own_process(folder, work)
        hits = {tuple(pair) for pair in answer.pop("pairs")}
        found = sum(tuple(sorted(pair)) in hits for pair in planted)
        out[str(count)] = answer | {
            "recall": share(found, len(planted)),
            "pairs_not_planted": len(hits) - found,
        }
    return out


def cost(root: Path, work: Path, quick: bool) -> Answer:
    """What the audit of a small set costs, stage by stage, in a process of its own with an empty cache."""
    del quick
    answer = _own_process(root / "hymenoptera", work)
    return {key: value for key, value in answer.items() if key != "pairs"}


def _own_process(folder: Path, work: Path) -> Answer:
    command = [sys.executable, str(Path(__file__).resolve().with_name("planted.py")), "--role", str(folder)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as cache:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment(Path(cache))
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: Answer = json.loads(done.stdout)
    return answer | {"wall_s": time.perf_counter() - started}


def mosaics(photos: Sequence[Path], folder: Path, count: int) -> list[tuple[str, str]]:
    """Pairs of names that show the same picture, after writing `count` pictures: mosaics of four pieces of four photos."""
    pool = [np.asarray(opened(path).resize((160, 160))) for path in photos]
    copies = count // 100
    planted = []
    for number in range(count - copies):
        place = folder / f"{number % 2}" / f"{number}.jpg"
        twin = folder / f"{number % 2}" / f"{number}-copy.jpg"
        if number < copies:
            planted.append((str(place), str(twin)))
        if place.exists():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        rng = generator(0, "mosaic", number)
        parts = []
        for photo in rng.integers(0, len(pool), 4):
            left, top = rng.integers(0, 160 - 64, 2)
            parts.append(pool[photo][top : top + 64, left : left + 64])
        whole = Image.fromarray(np.block([[[parts[0]], [parts[1]]], [[parts[2]], [parts[3]]]]))
        if number < copies:
            twin.write_bytes(half(whole))
        place.write_bytes(saved(whole, 85))
    return planted


def audited(folder: Path) -> Answer:
    """The audit of a folder, timed by stage: the role of the process that `scale` starts."""
    told: Answer = {}

    def stage(name: str, began: tuple[float, float]) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        told[name] = {"wall_s": now[0] - began[0], "cpu_s": now[1] - began[1]}
        return now

    now = time.perf_counter(), time.process_time()
    dataset = data.load(str(folder), LoadOptions())
    samples = (*dataset.samples, *dataset.test.open())
    now = stage("scan", now)
    features = features_of(samples)
    now = stage("features", now)
    told["peak_mb_before_the_audit"] = peak_mb()
    look_at(samples)
    now = stage("looks", now)
    probability = crossed(features, samples, dataset, seed=0)
    now = stage("labels", now)
    found = auditing.audit(
        auditing.Material(
            samples=samples,
            classes=dataset.classes,
            task=dataset.task,
            duplicates=dataset.duplicates,
            features=features,
            probability=probability,
        )
    )
    stage("audit", now)
    return told | {
        "images": len(samples),
        "peak_mb": peak_mb(),
        "pairs": [sorted(pair.names) for pair in found.pairs],
    }
