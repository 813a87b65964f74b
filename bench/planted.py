"""Trouble planted into open datasets, and how much of it `headstart audit` finds, as JSON.

    python bench/planted.py --data DATA --out bench/results/planted.json            # everything but the last two
    python bench/planted.py --data DATA --only scale --images 60000
    python bench/planted.py --data DATA --quick                                      # does everything run? No figures

Parts, each kept in the JSON as soon as it is done (`--again` measures anew):

- `choose`: copies of ImageNet photos against their nearest other photos: what the thresholds rest on. No other part has any.
- `leaks`: a tenth of the test images copied into training in each of six ways, in sets that no threshold was chosen on.
- `labels`: 5 % of the labels changed.
- `confound`: one class saved with another JPEG quality; and what is named in the sets as they are.
- `cost`: what the audit of a small set costs.
- `search`: processor time of the search for near duplicates alone, on small pictures and features drawn at random.
- `scale`: many files that are all different, and known copies of a few, audited by a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import environment, machine, peak_mb  # from wherever it is started
from headstart import auditing, data, weights
from headstart._core.files import write_text
from headstart._core.seed import generator
from headstart.auditing.alignment import matches
from headstart.auditing.duplicates import SAME, hashes, near_duplicates
from headstart.auditing.labels import doubts, softmax
from headstart.auditing.looks import look_at
from headstart.data.records import LoadOptions, Sample
from headstart.data.scan import scan
from headstart.features import FeatureStore
from headstart.heads.probe import STRENGTHS, Problem, group_numbers, walk
from headstart.metrics import wilson
from headstart.runs.audit import audit_data
from headstart.weights import Backbone

Answer = dict[str, Any]

WEIGHTS = "bundled:efficientnet_lite0"
LEAK_SETS = ("hymenoptera", "rsscn7-satellite")
LABEL_SETS = ("hymenoptera", "cifar10-5k", "rsscn7-satellite")
SHARE, NOISE = 0.1, 0.05
ROUNDS = 3  # of every random choice of images
COPIED = 300  # photos of which `choose` makes copies
SAVED = 92  # JPEG quality of copies but for the re-compressed ones


def saved(image: Image.Image, quality: int = SAVED) -> bytes:
    """The bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def half(image: Image.Image) -> bytes:
    """At half its width and height."""
    return saved(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def crop(image: Image.Image, share: float, across: float = 0.5, down: float = 0.5) -> bytes:
    """Without that share of its width and height, taken off around the place (0 to 1) that stays."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    return saved(image.crop((left, top, left + width, top + height)))


Way = Callable[[Path], bytes]
COPIES: dict[str, Way] = {
    "exact": lambda path: path.read_bytes(),
    "JPEG quality 50": lambda path: saved(_open(path), 50),
    "half size": lambda path: half(_open(path)),
    "5 % crop": lambda path: crop(_open(path), 0.05),
    "mirrored": lambda path: saved(ImageOps.mirror(_open(path))),
    "+20 % brightness": lambda path: saved(ImageEnhance.Brightness(_open(path)).enhance(1.2)),
}
HARDER: dict[str, Way] = {
    "10 % crop": lambda path: crop(_open(path), 0.1),
    "10 % crop from a corner": lambda path: crop(_open(path), 0.1, 0, 0),
    "20 % crop": lambda path: crop(_open(path), 0.2),
    "5 % crop, mirrored, quality 50, +20 %": lambda path: saved(
        ImageEnhance.Brightness(ImageOps.mirror(Image.open(io.BytesIO(crop(_open(path), 0.05))))).enhance(
            1.2
        ),
        50,
    ),
}


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def share(found: float, n: int) -> Answer:
    """A proportion with its Wilson interval."""
    low, high = wilson(found, n)
    return {"value": found / n if n else None, "low": low, "high": high, "n": n}


def choose(root: Path, work: Path, quick: bool) -> Answer:
    """Correlation of copies, and of photos with their nearest others, on ImageNet's thousand."""
    files = sorted((root / "imagenet-sample").glob("*.JPEG"))[: 40 if quick else 1000]
    originals = scan([Sample(name=path.name, source=path) for path in files]).samples
    thumbs = look_at(originals).thumbs
    others = near_duplicates(thumbs, _features(originals), same=-1.0)
    out: Answer = {"images": len(files), "copied": min(COPIED, len(files)), "threshold": SAME, "copies": {}}
    files, thumbs = files[:COPIED], thumbs[:COPIED]
    plain, turned = hashes(thumbs)
    for name, way in (COPIES | HARDER).items():
        if name == "exact":
            continue
        copies = look_at(_written(work / "choose" / _slug(name), files, way)).thumbs
        both = np.concatenate([thumbs, copies])
        pairs = np.stack([np.arange(len(files)), len(files) + np.arange(len(files))], 1)
        score = matches(both, pairs).score
        waves, _ = hashes(both)
        near = np.maximum(
            (waves[len(files) :] * plain).sum(1), (waves[len(files) :] * turned).sum(1)
        )  # of the hash
        out["copies"][name] = {
            "recall_at_threshold": share(int((score >= SAME).sum()), len(score)),
            "score_quantiles_1_5_50": np.quantile(score, [0.01, 0.05, 0.5]).tolist(),
            "hash_cosine_quantiles_1_5_50": np.quantile(near, [0.01, 0.05, 0.5]).tolist(),
        }
    order = np.argsort(-others.score)[:10]
    out["other_photos"] = {
        "candidates": others.looked,
        "score_quantiles_99_999_max": np.quantile(others.score, [0.99, 0.999, 1]).tolist(),
        "at_threshold": int((others.score >= SAME).sum()),
        "highest": [
            [float(others.score[k]), *(originals[place].name for place in others.pairs[k])] for k in order
        ],
    }
    return out


def _written(folder: Path, files: Sequence[Path], way: Way) -> tuple[Sample, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for path in files:
        copy = folder / f"{path.stem}.jpg"
        if not copy.exists():
            copy.write_bytes(way(path))
        samples.append(Sample(name=copy.name, source=copy))
    return scan(samples).samples


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _backbone() -> Backbone:
    return weights.load(WEIGHTS)


def _features(samples: Sequence[Sample]) -> NDArray[np.float32]:
    return FeatureStore(_backbone(), among=samples).get(samples)


def leaks(root: Path, work: Path, quick: bool) -> Answer:
    """Recall of each kind of copy, pairs found that nobody planted, and what leaks did to accuracy."""
    out: Answer = {}
    for name in LEAK_SETS[: 1 if quick else None]:
        rounds = [
            _planted_round(root / name, work / f"{name}-{seed}", seed)
            for seed in range(1 if quick else ROUNDS)
        ]
        kinds: Answer = {}
        for kind in COPIES:
            counts = [each["found"][kind] for each in rounds]
            kinds[kind] = share(sum(got for got, _ in counts), sum(n for _, n in counts))
        pairs, strange = (sum(each[key] for each in rounds) for key in ("pairs", "strange"))
        out[name] = {
            "rounds": len(rounds),
            "recall": kinds,
            "pairs_found": pairs,
            "pairs_not_planted": strange,
            "share_not_planted": strange / max(1, pairs),
            "which": sorted({tuple(pair) for each in rounds for pair in each["which"]}),
            "as_it_is": [
                [pair.score, *(Path(each).name for each in pair.names), *pair.splits]
                for pair in audit_data(str(root / name), LoadOptions()).audit.pairs
            ],
            "accuracy": _accuracies(root / name, work, seeds=1 if quick else ROUNDS),
        }
    return out


def _planted_round(base: Path, folder: Path, seed: int) -> Answer:
    """An audit of the set with all six kinds planted, each on its own tenth of the test images."""
    if not folder.exists():
        copytree(base, folder)
    tests = sorted(path for path in (folder / "val").rglob("*.jpg"))
    order = generator(seed, "planted", base.name).permutation(len(tests))
    each = max(1, round(SHARE * len(tests)))
    source: dict[str, str] = {}
    for number, (kind, way) in enumerate(COPIES.items()):
        for place in order[number * each : (number + 1) * each]:
            original = tests[place]
            copy = folder / "train" / original.parent.name / f"planted-{_slug(kind)}-{original.name}"
            copy.write_bytes(way(original))
            source[str(copy)] = str(original)
    facts, found = audit_data(str(folder), LoadOptions())
    leaked = {leak.name: leak.twin for leak in found.leaks}
    removed = {name for same in facts.duplicates for name in same.names if f"removed {name}" in same.action}
    counts = {}
    for kind in COPIES:
        mine = [copy for copy in source if f"planted-{_slug(kind)}-" in copy]
        hits = [copy in removed or leaked.get(source[copy]) == copy for copy in mine]
        counts[kind] = (sum(hits), len(mine))
    strange = [
        pair
        for pair in found.pairs
        if source.get(pair.names[0]) != pair.names[1] and source.get(pair.names[1]) != pair.names[0]
    ]
    strange = [pair for pair in strange if len({source.get(name, name) for name in pair.names}) > 1]
    told = [sorted(Path(source.get(name, name)).name for name in pair.names) for pair in strange]
    return {
        "found": counts,
        "pairs": len(found.pairs) + len(removed),
        "strange": len(strange),
        "which": told,
    }


def _accuracies(base: Path, work: Path, *, seeds: int) -> Answer:
    """Test accuracy of a probe trained on the set, with a tenth of the test images copied into training and without."""
    dataset = data.load(str(base), LoadOptions())
    train, test = dataset.samples, dataset.test.open()
    clean_train, clean_test = _features(train), _features(test)
    truth = np.array([sample.labels[0] for sample in test])
    labels = np.array([sample.labels[0] for sample in train])
    files = [path for path in (sample.source for sample in test) if isinstance(path, Path)]
    honest = _right(clean_train, labels, clean_test, truth, train)
    out: Answer = {"without_leaks_in_training": share(int(honest.sum()), len(honest))}
    for kind, way in COPIES.items():
        rows = defaultdict(list)
        for seed in range(seeds):
            picked = generator(seed, "accuracy", base.name).permutation(len(test))[: round(SHARE * len(test))]
            copies = _written(
                work / "accuracy" / base.name / _slug(kind), [files[place] for place in picked], way
            )
            joined = np.concatenate([clean_train, _features(copies)])
            right = _right(joined, np.append(labels, truth[picked]), clean_test, truth, (*train, *copies))
            left = np.setdiff1d(np.arange(len(test)), picked)
            rows["measured"].append(float(right.mean()))
            rows["without_the_leaked_images"].append(float(right[left].mean()))
            rows["leaked_images"].append(float(right[picked].mean()))
            rows["the_same_images_before"].append(float(honest[picked].mean()))
        out[kind] = {key: {"mean": float(np.mean(values)), "values": values} for key, values in rows.items()}
    return out


def _right(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    truth: NDArray[np.int64],
    samples: Sequence[Sample],
) -> NDArray[np.bool_]:
    problem = Problem(
        features=features,
        targets=labels,
        groups=group_numbers(samples),
        classes=int(labels.max()) + 1,
        weights=None,
    )
    path = walk(problem, strengths=STRENGTHS, count=5, seed=0, repeats=1)
    return np.asarray(path.heads[path.chosen](test).argmax(1) == truth)


def labels(root: Path, work: Path, quick: bool) -> Answer:
    """How many of the changed labels stand among as many first suspects, and average precision."""
    del work
    out: Answer = {}
    for name in LABEL_SETS[: 1 if quick else None]:
        dataset = data.load(str(root / name), LoadOptions())
        samples = (*dataset.samples, *dataset.test.open())
        features = _features(samples)
        given = np.array([sample.labels[0] for sample in samples])
        rounds = []
        for seed in range(1 if quick else ROUNDS):
            noisy, wrong = _noisy(given, len(dataset.classes), seed)
            rounds.append(_label_round(features, noisy, wrong, group_numbers(samples)))
        means = {key: float(np.mean([each[key] for each in rounds])) for key in rounds[0]}
        found = _suspects(features, given, group_numbers(samples))
        suspects = [
            [
                samples[place].name.removeprefix(str(root)),
                dataset.classes[given[place]],
                dataset.classes[found.suggested[place]],
            ]
            for place in found.order[:10]
        ]
        out[name] = {
            "images": len(samples),
            "planted": int(wrong.sum()),
            "mean": means,
            "rounds": rounds,
            "as_it_is": suspects,
        }
    return out


def _noisy(given: NDArray[np.int64], classes: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    rng = generator(seed, "noise", len(given))
    wrong = np.zeros(len(given), bool)
    wrong[rng.choice(len(given), round(NOISE * len(given)), replace=False)] = True
    shift = rng.integers(1, classes, len(given))
    return np.where(wrong, (given + shift) % classes, given), wrong


def _suspects(
    features: NDArray[np.float32], given: NDArray[np.int64], groups: NDArray[np.int64]
) -> auditing.labels.Doubts:
    problem = Problem(
        features=features, targets=given, groups=groups, classes=int(given.max()) + 1, weights=None
    )
    path = walk(problem, strengths=STRENGTHS, count=5, seed=0, repeats=1)
    return doubts(softmax(path.logits[path.chosen]), given)


def _label_round(
    features: NDArray[np.float32],
    noisy: NDArray[np.int64],
    wrong: NDArray[np.bool_],
    groups: NDArray[np.int64],
) -> Answer:
    from sklearn.metrics import average_precision_score

    found = _suspects(features, noisy, groups)
    told = np.flatnonzero(found.confident)
    return {
        "precision_at_planted": float(wrong[found.order[: wrong.sum()]].mean()),
        "average_precision": float(average_precision_score(wrong, -found.confidence)),
        "named": len(told),
        "precision_of_named": float(wrong[told].mean()) if len(told) else 0.0,
        "recall_of_named": float(wrong[told].sum() / wrong.sum()),
    }


def confound(root: Path, work: Path, quick: bool) -> Answer:
    """What is named where one class has another JPEG quality, and in the sets as they are."""
    out: Answer = {}
    for name in LEAK_SETS[: 1 if quick else None]:
        base, folder = root / name, work / f"{name}-quality"
        if not folder.exists():
            copytree(base, folder)
            label = sorted(path.name for path in (folder / "train").iterdir())[-1]
            for path in folder.rglob("*.jpg"):
                path.write_bytes(saved(_open(path), 60 if path.parent.name == label else 85))
        out[name] = {"planted": _named(folder), "as_it_is": _named(base)}
    out["cifar10-5k"] = {"as_it_is": _named(root / "cifar10-5k")}
    return out


def _named(folder: Path) -> list[Answer]:
    _, found = audit_data(str(folder), LoadOptions(), quick=True)
    keys = ("trait", "accuracy", "low", "high", "majority", "technical", "told")
    return [{key: getattr(each, key) for key in keys} for each in found.confounds]


def search(root: Path, work: Path, images: int) -> Answer:
    """Processor seconds and recall of the search alone, for an eighth, a quarter, half and all of so many pictures."""
    del work
    files = sorted((root / "imagenet-sample").glob("*.JPEG"))[:200]
    pool = np.stack(
        [np.asarray(_open(path).convert("L").resize((64, 64), Image.Resampling.BILINEAR)) for path in files]
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
    command = [sys.executable, str(Path(__file__).resolve()), "--role", str(folder)]
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
    pool = [np.asarray(_open(path).resize((160, 160))) for path in photos]
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
    features = _features(samples)
    now = stage("features", now)
    told["peak_mb_before_the_audit"] = peak_mb()
    look_at(samples)
    now = stage("looks", now)
    found = auditing.audit(
        auditing.Material(samples=samples, classes=dataset.classes, task=dataset.task, features=features)
    )
    stage("audit", now)
    return told | {
        "images": len(samples),
        "peak_mb": peak_mb(),
        "pairs": [sorted(pair.names) for pair in found.pairs],
    }


SIZED = {"search": search, "scale": scale}
PARTS = {"choose": choose, "leaks": leaks, "labels": labels, "confound": confound, "cost": cost}


def main(words: Sequence[str] | None = None) -> None:
    """Measure the parts and write the JSON after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the open datasets")
    parser.add_argument("--out", type=Path, default=Path("bench/results/planted.json"))
    parser.add_argument(
        "--only", default="choose,leaks,labels,confound,cost", help="parts, with commas between"
    )
    parser.add_argument("--images", type=int, default=60_000, help="of the parts `search` and `scale`")
    parser.add_argument("--work", type=Path, help="where copies are kept; a temporary folder without it")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--role", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.role:
        sys.stdout.write(json.dumps(audited(asked.role)))
        return
    told: Answer = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        for part in asked.only.split(","):
            settings = {"quick": asked.quick} | ({"images": asked.images} if part in SIZED else {})
            if not asked.again and told.get(part, {}).get("settings") == settings:
                continue
            before, started = machine(), time.perf_counter()
            if part in SIZED:
                found = SIZED[part](asked.data, work, 2000 if asked.quick else asked.images)
            else:
                found = PARTS[part](asked.data, work, asked.quick)
            seconds = time.perf_counter() - started
            told[part] = {"settings": settings, "machine": before, "seconds": seconds, "found": found}
            write_text(asked.out, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
