"""What trusting `headstart rank` costs: the best candidate's test accuracy minus that of the one it puts first, as JSON.

    python bench/rank_regret.py DATA/hymenoptera DATA/rsscn7-satellite DATA/cifar10-5k --out rank_regret.json
    python bench/rank_regret.py --made WORK --sets DATA --fashion FOLDER --train 100 --train 300 --out rank_regret.json

The candidates are the three bundled networks, their twins with random weights, and two damaged copies of the first: one with
noise on every weight, one with the weights of a stage shuffled. The ranking sees the training images alone. What is true of
a candidate ("reached") is what `fit` would reach with it at its first rung: a logistic head on the last features of all
training images, at the network's own input size, its strength cross-validated, tested on the sealed test split, which is
opened once for each set. Tuning is not part of it. `--train 300 --train 0` repeats it with fewer training images (0: all).
Folders and tables are given as they are; with `--made`, the nine sets of `bench/regret.py` go by their names (all of them
where none is named), those that are made are written there, once, and a set whose source is not there is left out. Cells
that the file holds already are kept, so that an interrupted bench goes on. Every number of the answer is in [0, 1].

The best of eight accuracies on a few hundred test images is partly luck: of equals one always comes first, and whoever chose
another "loses" half a point. `regret_fair` is free of that luck: the best is chosen on one half of the test images and
compared on the other, over many halvings; it may be negative. `regret_shown` counts only what a paired interval over test
images shows; `noise` is the standard error of the difference. `share_of_regret_inside_noise` is the part of all regret that
no paired interval shows, and the means over cells have their standard errors.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in the place of bench/ itself

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from bench.regret_sets import SETS, TEST, Where, as_csv, read_set
from headstart import data, ranking, scores, weights
from headstart._core.files import write_text
from headstart._core.seed import generator
from headstart.data.records import Dataset, Sample
from headstart.features import FeatureStore
from headstart.heads.probe import STRENGTHS, Problem, group_numbers, walk
from headstart.ranking import Ranking, RankOptions
from headstart.weights.catalog import BUNDLED

ARCH = "tf_efficientnet_lite0"
NOISE = 0.5  # standard deviation of the noise, in those of the tensor it is added to
FOLDS = 5
HALVINGS = 200


def damaged(folder: Path) -> list[str]:
    """Names of the two damaged copies of the first bundled network, written to that folder."""
    backbone = weights.load(f"bundled:{next(iter(BUNDLED))}")
    state = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    draws = torch.Generator().manual_seed(0)
    noisy, shuffled = dict(state), dict(state)
    for name, value in state.items():
        if value.ndim == 4:
            noisy[name] = value + NOISE * value.std() * torch.randn(value.shape, generator=draws)
    stage = backbone.stages[len(backbone.stages) // 2]
    for name in stage.parameters:
        flat = state[name].flatten()
        shuffled[name] = flat[torch.randperm(len(flat), generator=draws)].reshape(state[name].shape)
    out = []
    for title, content in (("noisy", noisy), ("shuffled", shuffled)):
        path = folder / f"{title}.safetensors"
        save_file({name: value.contiguous() for name, value in content.items()}, path)
        out.append(f"file:{path}")
    return out


def everyone(folder: Path) -> list[str]:
    """The eight candidates."""
    return [
        *(f"bundled:{name}" for name in BUNDLED),
        *(f"random:tf_{name}" for name in BUNDLED),
        *damaged(folder),
    ]


def with_train(dataset: Dataset, count: int) -> Dataset:
    """The dataset with only so many training images, each class by its share; 0: all of them."""
    train = dataset.train
    if not 0 < count < len(train):
        return dataset
    order = generator(0, "rank regret", count).permutation(len(train))
    labels = np.array([train[place].labels[0] for place in order])
    order = order[np.argsort(labels, kind="stable")]
    kept = order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]
    return replace(dataset, samples=tuple(train[place] for place in np.sort(kept)))


def reached(name: str, dataset: Dataset, test: Sequence[Sample]) -> NDArray[np.float64]:
    """Correctness (N,) on the test images of a logistic head on all training images."""
    backbone = weights.load(name, arch=ARCH if name.startswith("file:") else "")
    store = FeatureStore(backbone)
    train = dataset.train
    targets = np.array([each.labels[0] for each in train], np.int64)
    problem = Problem(
        features=store.get(train),
        targets=targets,
        groups=group_numbers(train),
        classes=len(dataset.classes),
        weights=None,
    )
    path = walk(problem, strengths=STRENGTHS, count=FOLDS, seed=0)
    logits = path.heads[path.chosen](store.get(test))
    truth = np.array([each.labels[0] for each in test])
    out: NDArray[np.float64] = (logits.argmax(1) == truth).astype(np.float64)
    return out


def fair_regret(correct: dict[str, NDArray[np.float64]], chosen: str) -> float:
    """How much better than the chosen one the best is, on images that did not make it the best."""
    names = [chosen, *(name for name in correct if name != chosen)]
    rows = np.stack([correct[name] for name in names], 1)
    found = []
    for turn in range(HALVINGS):
        order = generator(0, "halves", turn).permutation(len(rows))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for seen, other in (halves, halves[::-1]):
            best = int(rows[seen].mean(0).argmax())
            found.append(rows[other, best].mean() - rows[other, 0].mean())
    return float(np.mean(found))


def cell(
    source: str, found: Ranking, correct: dict[str, NDArray[np.float64]], titles: dict[str, str]
) -> dict[str, Any]:
    """One set at one size: who was put first, what that costs, and whether the ties were ties."""
    accuracy = {name: float(each.mean()) for name, each in correct.items()}
    best_name = max(accuracy, key=lambda name: accuracy[name])
    best = accuracy[best_name]
    both = np.stack([correct[best_name], correct[found.chosen]], 1)
    behind = both[:, 0] - both[:, 1]
    first, *others = found.rows
    pairs = [
        {
            "weights": titles[row.weights],
            "called_tied": row.tied,
            "true_tie": bool(scores.tied(np.stack([correct[first.weights], correct[row.weights]], 1)).all()),
            "difference": accuracy[first.weights] - accuracy[row.weights],
        }
        for row in others
    ]
    strongest = max(found.rows, key=lambda row: row.top1 or 0.0).weights
    inside = [row.low <= accuracy[row.weights] <= row.high for row in found.rows]
    return {
        "data": Path(source).name,
        "train": found.of,
        "measured": found.images,
        "test": len(correct[first.weights]),
        "chosen": titles[found.chosen],
        "best": titles[best_name],
        "regret": best - accuracy[found.chosen],
        "regret_fair": fair_regret(correct, found.chosen),
        "regret_shown": 0.0 if scores.tied(both).all() else best - accuracy[found.chosen],
        "noise": float(behind.std(ddof=1) / np.sqrt(len(behind))),
        "regret_by_imagenet_alone": best - accuracy[strongest],
        "expected": first.expected,
        "interval": [first.low, first.high],
        "intervals_that_hold": sum(inside) / len(inside),
        "accuracies": {titles[name]: value for name, value in accuracy.items()},
        "probabilities": {titles[row.weights]: row.best for row in found.rows},
        "pairs": pairs,
        "seconds": found.seconds,
    }


def summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the cells, with standard errors, and how much of the regret the test images show."""
    regret, fair, shown_regret = (
        np.array([each[name] for each in cells]) for name in ("regret", "regret_fair", "regret_shown")
    )
    pairs = [pair for each in cells for pair in each["pairs"]]
    shown = [pair for pair in pairs if not pair["called_tied"]]
    even = [pair for pair in pairs if pair["true_tie"]]
    return {
        "cells": len(cells),
        "mean_regret": float(regret.mean()),
        "mean_regret_error": _error(regret),
        "mean_regret_fair": float(fair.mean()),
        "mean_regret_fair_error": _error(fair),
        "mean_regret_shown": float(shown_regret.mean()),
        "cells_with_regret_shown": int((shown_regret > 0).sum()),
        "share_of_regret_inside_noise": float(1 - shown_regret.sum() / regret.sum())
        if regret.any()
        else None,
        "worst_regret": float(regret.max()),
        "mean_regret_by_imagenet_alone": float(np.mean([each["regret_by_imagenet_alone"] for each in cells])),
        "wins_called": len(shown),
        "wins_that_the_test_split_contradicts": sum(
            pair["difference"] < 0 and not pair["true_tie"] for pair in shown
        ),
        "test_ties": len(even),
        "test_ties_called_ties": sum(pair["called_tied"] for pair in even),
    }


def _error(values: NDArray[np.float64]) -> float | None:
    """Standard error of the mean over cells; None for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def opened(source: str, options: argparse.Namespace) -> Dataset | None:
    """The set of that name, folder or table; None for a named set whose source is not there."""
    if not options.made or source not in SETS:
        return data.load(source)
    work = Path(options.made)
    where = Where(
        data=Path(options.sets) if options.sets else None,
        fashion=Path(options.fashion) if options.fashion else None,
        work=work,
    )
    found = read_set(source, where)
    if found is None:
        return None
    table = work / f"{source}.csv"
    write_text(table, as_csv(found, len(found.train), tested=options.test or TEST))
    return data.load(str(table))


def measure(
    source: str, names: Sequence[str], options: argparse.Namespace, *, kept: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The cells of one set but those that are kept."""
    known = [each["asked"] for each in kept]
    asked = [
        {"data": Path(source).name, "train": count, "test": options.test, "images": options.images}
        for count in options.train or [0]
    ]
    missing = [each for each in asked if each not in known]
    if not missing:
        return
    dataset = opened(source, options)
    if dataset is None:
        print(f"{source} is left out: its source is not there.", file=sys.stderr)
        return
    test = dataset.test.open()
    if options.test:
        order = generator(0, "test", len(test)).permutation(len(test))
        test = tuple(test[place] for place in order[: options.test])
    titles = {name: f"{Path(name).stem} {ARCH}" if name.startswith("file:") else name for name in names}
    for each in missing:
        part = with_train(dataset, each["train"])
        wanted = RankOptions(weights=",".join(names), arch=ARCH, images=options.images, non_commercial=True)
        found = ranking.rank(part, wanted)
        correct = {row.weights: reached(row.weights, part, test) for row in found.rows}
        yield {"asked": each} | cell(source, found, correct, titles)


def answer(cells: Sequence[dict[str, Any]]) -> str:
    """The file's content."""
    versions = {name: version(name) for name in ("headstart", "torch", "timm")}
    whole = {
        "summary": summary(cells),
        "cells": cells,
        "noise": NOISE,
        "seed": 0,
        "machine": {"platform": platform.platform(), "processor": platform.machine()},
        "versions": {"python": platform.python_version()} | versions,
    }
    return json.dumps(whole, indent=1) + "\n"


def main() -> None:
    """Measure every set that was asked for and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", help="class folders; with --made also names of sets")
    parser.add_argument(
        "--made", default="", help="folder for sets that are made: then sets go by their names"
    )
    parser.add_argument("--sets", default="", help="folder with the public sets, each in a folder of its own")
    parser.add_argument("--fashion", default="", help="folder with the four files of Fashion-MNIST")
    parser.add_argument("--train", type=int, action="append", help="training images; may be repeated; 0: all")
    parser.add_argument("--test", type=int, default=0, help="test images, at most; 0: all")
    parser.add_argument("--images", type=int, default=1000, help="that the ranking measures, at most")
    parser.add_argument("--out", default="", help="file to add cells to; by default standard output")
    options = parser.parse_args()
    if not options.data and not options.made:
        parser.error("name class folders, or give --made for the nine sets")
    out = Path(options.out) if options.out else None
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"] if out and out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        names = everyone(Path(folder))
        for source in options.data or SETS:
            for found in measure(source, names, options, kept=tuple(cells)):
                cells.append(found)
                if out:
                    write_text(out, answer(cells))
    if out is None:
        print(answer(cells), end="")


if __name__ == "__main__":
    main()
