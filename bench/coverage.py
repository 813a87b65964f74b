"""Do the intervals hold? Simulated classifiers whose true figures are known, and sets of classes on real features.

python bench/coverage.py                    # about two minutes, writes bench/results/coverage.json
python bench/coverage.py --quick            # does everything run? No figures
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.measure import machine  # noqa: E402
from headstart import evaluation  # noqa: E402
from headstart.evaluation import About, Answers  # noqa: E402
from headstart.metrics import mcnemar, wilson  # noqa: E402
from headstart.metrics.claims import BETTER, UNSHOWN, verdict  # noqa: E402
from headstart.metrics.conformal import calibrate, sets  # noqa: E402
from headstart.metrics.intervals import paired_shares  # noqa: E402
from headstart.tasks import TASKS  # noqa: E402

SIZES = (50, 200, 1000, 5000)
COVERAGES = (0.8, 0.9, 0.95)
_POPULATION = 400_000
_WATCHED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "calibration_error", "aurc")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Classifier:
    """A simulated one: logits are the truth times `skill` plus unit noise; times `sharpness` they are what it states.

    With a sharpness of 1 it states true probabilities (of equal class shares), above it is too sure.
    """

    name: str
    shares: tuple[float, ...]
    skill: float
    sharpness: float

    def truth(self, n: int) -> NDArray[np.int64]:
        """Class indices (n,), in the shares of the classes: as a stratified split has them, at least two of each."""
        counts = np.maximum(2, np.round(np.array(self.shares) * n).astype(int))
        counts[int(counts.argmax())] += n - int(counts.sum())
        return np.repeat(np.arange(len(counts)), counts)

    def answers(self, truth: NDArray[np.int64], rng: np.random.Generator) -> Answers:
        """What it says to images with that truth."""
        classes = len(self.shares)
        noise = rng.normal(size=(len(truth), classes))
        logits = (noise + self.skill * np.eye(classes)[truth]) * self.skill * self.sharpness
        return Answers(names=tuple(map(str, range(len(truth)))), truth=truth, logits=logits)

    @property
    def about(self) -> About:
        """What an evaluation has to know."""
        return About(
            task="classify",
            classes=tuple(f"c{k}" for k in range(len(self.shares))),
            method="",
            weights="",
            temperature=1.0,
            seed=0,
            seconds={},
        )


CLASSIFIERS = (
    Classifier("2 classes, balanced", (0.5, 0.5), 2.0, 1.4),
    Classifier("2 classes, 1:20", (20 / 21, 1 / 21), 2.0, 1.4),
    Classifier("10 classes, balanced", (0.1,) * 10, 2.5, 1.0),
)


def coverage(classifier: Classifier, n: int, repeats: int, *, population: int) -> dict[str, Any]:
    """How often each metric's interval holds the true value, over fresh test sets of n images."""
    rng = np.random.default_rng(n)
    truth = classifier.truth(n)
    many = np.repeat(truth, max(1, population // n))  # the same shares of classes
    whole = _values(classifier.answers(many, rng), classifier.about)
    held = dict.fromkeys(_WATCHED, 0)
    width = dict.fromkeys(_WATCHED, 0.0)
    for turn in range(repeats):
        about = replace(classifier.about, seed=turn)
        found = evaluation.score(classifier.answers(truth, rng), about).metrics
        for name in _WATCHED:
            held[name] += found[name].low <= whole[name] <= found[name].high
            width[name] += (found[name].high - found[name].low) / repeats
    return {
        name: {
            "true": whole[name],
            "coverage": held[name] / repeats,
            "coverage_95": wilson(held[name], repeats),
            "mean_width": width[name],
            "repeats": repeats,
        }
        for name in _WATCHED
    }


def _values(answers: Answers, about: About) -> dict[str, float]:
    """The true figures: of so many images that their own error does not matter."""
    probability = TASKS["classify"].probabilities(answers.logits)
    chosen, confidence = probability.argmax(1), probability.max(1)
    right = (chosen == answers.truth).astype(np.float64)
    classes = len(about.classes)
    recalls = [right[answers.truth == k].mean() for k in range(classes)]
    f1 = [
        2 * ((chosen == k) & (answers.truth == k)).sum() / ((chosen == k).sum() + (answers.truth == k).sum())
        for k in range(classes)
    ]
    order = np.argsort(-confidence)
    wrong = np.cumsum(1 - right[order]) / np.arange(1, len(right) + 1)
    gaps = [abs((right - confidence)[part].mean()) for part in np.array_split(order, 15)]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean(f1)),
        "log_loss": float(-np.log(probability[np.arange(len(right)), answers.truth]).mean()),
        "calibration_error": float(np.mean(gaps)),
        "aurc": float(wrong.mean()),
    }


def accuracy_alone(n: int, repeats: int) -> dict[str, Any]:
    """Coverage of Wilson's interval over classifiers of every accuracy from 55 to 99 %."""
    rng = np.random.default_rng(n)
    true = rng.uniform(0.55, 0.99, repeats)
    right = rng.binomial(n, true)
    ends = np.array([wilson(int(count), n) for count in right])
    held = int(((ends[:, 0] <= true) & (true <= ends[:, 1])).sum())
    return {"coverage": held / repeats, "coverage_95": wilson(held, repeats), "repeats": repeats}


def claims(n: int, repeats: int) -> dict[str, Any]:
    """How often two equally good classifiers are said to differ, and how often the paired interval holds the truth (0)."""
    rng = np.random.default_rng(n)
    said, held = [], 0
    for _ in range(repeats):
        accuracy, shared = rng.uniform(0.6, 0.97), rng.uniform(0.3, 0.95)
        common, own = rng.random(n) < shared, rng.random((2, n)) < accuracy
        a, b = own[0], np.where(common, own[0], own[1])
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        low, high = paired_shares(only_a, only_b, n)
        held += low <= 0 <= high
        said.append(verdict(low, high, p=mcnemar(only_a, only_b)))
    false = sum(word != UNSHOWN for word in said)
    return {
        "claims": false / repeats,
        "claims_95": wilson(false, repeats),
        "better": said.count(BETTER) / repeats,
        "interval_coverage": held / repeats,
        "repeats": repeats,
    }


def conformal(features: NDArray[np.float32], truth: NDArray[np.int64], splits: int) -> dict[str, Any]:
    """Coverage and size of sets of classes over random splits: a probe on 30 %, calibrated on 20 %, tested on the rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(truth))
        first, second = int(0.3 * len(order)), int(0.5 * len(order))
        seen, held, test = order[:first], order[first:second], order[second:]
        scale = StandardScaler().fit(features[seen])
        head = LogisticRegression(C=0.003, max_iter=60).fit(scale.transform(features[seen]), truth[seen])
        known = calibrate(head.predict_proba(scale.transform(features[held])), truth[held])
        probability = head.predict_proba(scale.transform(features[test]))
        for asked in COVERAGES:
            plain = sets(probability, known.threshold(asked), keep_best=False)
            used = sets(probability, known.threshold(asked))
            own = np.arange(len(test)), truth[test]
            rows.append(
                (asked, plain[own].mean(), used[own].mean(), used.sum(1).mean(), len(held), len(test))
            )
    table = np.array(rows)
    out = {}
    for asked in COVERAGES:
        part = table[table[:, 0] == asked]
        out[f"{asked:g}"] = {
            "coverage": float(part[:, 1].mean()),
            "lowest": float(part[:, 1].min()),
            "highest": float(part[:, 1].max()),
            "with_the_best_class_kept": float(part[:, 2].mean()),
            "classes_in_a_set": float(part[:, 3].mean()),
        }
    return {"splits": splits, "calibration": int(table[0, 4]), "test": int(table[0, 5]), "asked": out}


def real_features(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of the bundled EfficientNet-Lite0 of every image in the class folders, and their classes."""
    from headstart import data, weights
    from headstart.data.records import LoadOptions
    from headstart.features import FeatureStore

    dataset = data.load(str(folder), LoadOptions())
    samples = (*dataset.samples, *dataset.test.open())
    backbone = weights.load("bundled:efficientnet_lite0")
    features = FeatureStore(backbone, among=samples).get(samples)
    return features, np.array([sample.labels[0] for sample in samples], np.int64)


def main() -> None:
    """Measure, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data_home = os.environ.get("HEADSTART_TEST_DATA")
    default = Path(data_home) / "rsscn7-satellite" if data_home else None
    parser.add_argument("--data", type=Path, default=default, help="class folders for the conformal sets")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "coverage.json")
    parser.add_argument("--quick", action="store_true", help="few repeats: does everything run?")
    given = parser.parse_args()
    started = time.perf_counter()
    repeats = {n: 20 if given.quick else {50: 600, 200: 400, 1000: 200, 5000: 60}[n] for n in SIZES}
    many = 200 if given.quick else 4000
    result: dict[str, Any] = {
        "quick": given.quick,
        "machine": machine(),
        "metrics": {
            each.name: {
                str(n): coverage(each, n, repeats[n], population=20_000 if given.quick else _POPULATION)
                for n in SIZES
            }
            for each in CLASSIFIERS
        },
        "accuracy": {str(n): accuracy_alone(n, many) for n in SIZES},
        "paired": {str(n): claims(n, many if n < 5000 else many // 4) for n in SIZES},
    }
    if given.data is not None and given.data.is_dir():
        features, truth = real_features(given.data)
        result["conformal"] = {
            "data": given.data.name,
            "images": len(truth),
            **conformal(features, truth, 2 if given.quick else 20),
        }
    result["seconds"] = round(time.perf_counter() - started, 1)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, sizes in result["metrics"].items():
        for n, found in sizes.items():
            print(name, n, " ".join(f"{key} {value['coverage']:.3f}" for key, value in found.items()))
    print({n: found["coverage"] for n, found in result["accuracy"].items()})
    print({n: (found["claims"], found["interval_coverage"]) for n, found in result["paired"].items()})
    print(result.get("conformal"), result["seconds"])


if __name__ == "__main__":
    main()
