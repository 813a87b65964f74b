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
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import machine  # from wherever it is started
from bench.planted_inputs import COPIES, HARDER, Answer, Way, features_of, opened, saved, share
from bench.planted_scale import audited, cost, scale, search
from headstart import auditing, data
from headstart._core.files import write_text
from headstart._core.seed import generator
from headstart.auditing.alignment import matches
from headstart.auditing.duplicates import SAME, hashes, near_duplicates
from headstart.auditing.labels import doubts, softmax
from headstart.auditing.looks import look_at
from headstart.data.records import LoadOptions, Sample
from headstart.data.scan import scan
from headstart.heads.probe import STRENGTHS, Problem, group_numbers, walk
from headstart.runs.audit import audit_data

LEAK_SETS = ("hymenoptera", "rsscn7-satellite")
LABEL_SETS = ("hymenoptera", "cifar10-5k", "rsscn7-satellite")
SHARE, NOISE = 0.1, 0.05
ROUNDS = 3  # of every random choice of images
COPIED = 300  # photos of which `choose` makes copies


def choose(root: Path, work: Path, quick: bool) -> Answer:
    """Correlation of copies, and of photos with their nearest others, on ImageNet's thousand."""
    files = sorted((root / "imagenet-sample").glob("*.JPEG"))[: 40 if quick else 1000]
    originals = scan([Sample(name=path.name, source=path) for path in files]).samples
    thumbs = look_at(originals).thumbs
    others = near_duplicates(thumbs, features_of(originals), same=-1.0)
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
    clean_train, clean_test = features_of(train), features_of(test)
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
            joined = np.concatenate([clean_train, features_of(copies)])
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
        features = features_of(samples)
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
                path.write_bytes(saved(opened(path), 60 if path.parent.name == label else 85))
        out[name] = {"planted": _named(folder), "as_it_is": _named(base)}
    out["cifar10-5k"] = {"as_it_is": _named(root / "cifar10-5k")}
    return out


def _named(folder: Path) -> list[Answer]:
    _, found = audit_data(str(folder), LoadOptions(), quick=True)
    keys = ("trait", "accuracy", "low", "high", "majority", "technical", "told")
    return [{key: getattr(each, key) for key in keys} for each in found.confounds]


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
