"""The cases: each measures ways to do one thing in turn, and says what came of it as rows, facts and raw answers."""

from __future__ import annotations

import json
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench import inputs
from bench.measure import Answer, Runs, call, finish, in_turn, numbers, role, row, start
from bench.sizes import Sizes

NAME = "bundled:efficientnet_lite0"
SOUND = 0.998
"""The cosine that is promised of every image."""

PEERS = {"sklearn_features.py": "sklearn", "fastai_learner.py": "fastai"}
"""Scripts of other tools for the same job -> the package that each needs."""

_FIT = "from headstart.cli import main; main()"


@dataclass
class Bench:
    """Where a case works.

    Attributes:
        data: folder with images.
        work: folder of this run, removed at its end.
        sizes: how much is measured.
        peers: folder with other tools' scripts (`PEERS`), if any.
    """

    data: Path
    work: Path
    sizes: Sizes
    peers: Path | None = None

    @cached_property
    def network(self) -> Answer:
        """What the plain way is told of the network: the file `weights` in timm's form, and `arch`."""
        file = str(self.work / "weights.safetensors")
        return {"weights": file, "arch": self.ours("save_weights", name=NAME, out=file)["arch"]}

    def fresh(self, what: str) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{what}-", dir=self.work))

    def ours(self, name: str, /, *, cache: Path | None = None, **arguments: Any) -> Answer:
        """The answer of a role of `bench.ours`, with a cold cache unless one is given."""
        return call(role("ours", name, **arguments), cache=cache or self.fresh("cache"), folder=self.work)

    def plain(self, name: str, /, **arguments: Any) -> Answer:
        """The answer of a role of `bench.plain`."""
        return call(role("plain", name, **arguments), cache=self.work / "unused", folder=self.work)


def features(bench: Bench) -> Answer:
    """Files -> features, beside an eager timm + Pillow loop and the limit of decoding and computing alone."""
    folder = bench.fresh("images")
    count = inputs.replicate(bench.data, folder, copies=bench.sizes.copies, limit=bench.sizes.feature_images)
    runs = _passes(bench, folder, repeats=bench.sizes.repeats)
    ours = runs["ours"]
    rows = [row("files -> features", "images/s", numbers(runs, "rate"), more=True)]
    steady = {
        "ours": [each["compute_rate"] for each in ours],
        "plain": [each["rate"] for each in runs["plain"]],
    }
    rows.append(row("the same without scan and choice of runtime", "images/s", steady, more=True))
    facts = _parity(bench, folder) | {"images": count}
    facts |= {
        f"{name}_per_s": statistics.median(each[f"{name}_rate"] for each in ours)
        for name in ("decode", "forward", "limit")
    }
    facts["share_of_limit"] = statistics.median(each["compute_rate"] / each["limit_rate"] for each in ours)
    facts["share_of_limit_with_scan_and_choice"] = statistics.median(
        each["rate"] / each["limit_rate"] for each in ours
    )
    facts["engine"] = ours[-1]["runtime"]["engine"]
    return {"rows": rows, "facts": facts, "runs": runs}


def _passes(bench: Bench, folder: Path, *, repeats: int) -> Runs:
    """Both ways over a folder in turn; `ours.npz` and `plain.npz` hold the last features."""
    common: Answer = {
        "folder": str(folder),
        "name": NAME,
        "limits": True,
        "out": str(bench.work / "ours.npz"),
    }
    plain = {"folder": str(folder)} | bench.network
    return in_turn(
        {
            "ours": lambda: bench.ours("features", **common),
            "plain": lambda: bench.plain("features", **plain, out=str(bench.work / "plain.npz")),
        },
        repeats,
    )


def _parity(bench: Bench, folder: Path) -> Answer:
    """The lowest cosine over all images, and the difference in right answers of a probe on the first copy."""
    with np.load(bench.work / "ours.npz") as ours, np.load(bench.work / "plain.npz") as plain:
        names = list(ours["names"])
        if names != list(plain["names"]):
            raise ValueError("The two ways did not see the same images in the same order.")
        mine, theirs = ours["features"], plain["features"]
    alike = cosines(mine, theirs)
    first = [number for number, name in enumerate(names) if name.startswith("copy0/")]
    facts: Answer = {"cosine_min": float(alike.min()), "below_promise": int((alike < SOUND).sum())}
    if first:
        found = inputs.labelled([folder / names[number] for number in first], folder / "copy0")
        truth, tested = np.array(found.labels), np.array(found.tested)
        right = {
            name: _right(values[first], truth, tested) for name, values in (("ours", mine), ("plain", theirs))
        }
        facts |= {"probe_right": right, "probe_tested": int(tested.sum())}
        facts["probe_difference_images"] = right["ours"] - right["plain"]
    return facts


def _right(values: Any, truth: Any, tested: Any) -> int:
    from sklearn.linear_model import LogisticRegression

    head = LogisticRegression(C=1.0, max_iter=1000).fit(values[~tested], truth[~tested])
    return int((head.predict(values[tested]) == truth[tested]).sum())


def cosines(a: Any, b: Any) -> Any:
    """The cosine (N,) of each row of `a` with that of `b`."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return (wide_a * wide_b).sum(1) / (np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1))


def probe(bench: Bench) -> Answer:
    """The whole process of `headstart fit --method linear-probe`, cold and warm, beside the plain script."""
    folder, network = bench.data, bench.network
    if bench.sizes.feature_images:
        folder = bench.fresh("images")
        inputs.replicate(bench.data, folder, copies=1, limit=bench.sizes.feature_images)
        folder /= "copy0"
    caches: list[Path] = []

    def cold() -> Answer:
        caches.append(bench.fresh("cache"))
        return _fit(bench, folder, caches[-1])

    ways: dict[str, Callable[[], Answer]] = {
        "ours, cold cache": cold,
        "ours, warm cache": lambda: _fit(bench, folder, caches[-1]),
        "plain": lambda: bench.plain("probe", folder=str(folder), **network),
    }
    runs = in_turn(ways | _peers(bench, folder), bench.sizes.repeats)
    cold_way, warm_way, *others = runs
    rows = [
        row(f"folder -> fitted probe, {way.split(', ')[1]}", "s", numbers(runs, "wall_s", (way, *others)))
        for way in (cold_way, warm_way)
    ]
    facts = {
        way: {
            name: statistics.median(each["stages"][name] for each in runs[way])
            for name in runs[way][0]["stages"]
        }
        for way in (cold_way, warm_way)
    }
    facts["accuracy"] = {way: f"{runs[way][-1]['correct']} of {runs[way][-1]['tested']}" for way in runs}
    return {"rows": rows, "facts": facts, "runs": runs}


def _peers(bench: Bench, folder: Path) -> dict[str, Callable[[], Answer]]:
    """The scripts that can run here: they ask for a folder for training and one for testing."""
    train, test = folder / "train", folder / "val"
    if bench.peers is None or not (train.is_dir() and test.is_dir()):
        return {}

    def way(script: Path) -> Callable[[], Answer]:
        network = bench.network
        told = {"train": train, "test": test, "weights": network["weights"], "arch": network["arch"]}
        command = [str(script), *(word for name, value in told.items() for word in (f"--{name}", str(value)))]

        def ran() -> Answer:
            answer = call(command, cache=bench.work / "unused", folder=bench.work)
            return answer | {"correct": answer["top1_correct"], "tested": answer["test_images"]}

        return ran

    return {
        name: way(bench.peers / name)
        for name, package in PEERS.items()
        if (bench.peers / name).is_file() and find_spec(package)
    }


def _fit(bench: Bench, folder: Path, cache: Path) -> Answer:
    """The whole command, its stages by the run folder's own records and the times at which they were written."""
    out = bench.fresh("run") / "run"
    command = ["-c", _FIT, "fit", str(folder), "--method", "linear-probe", "--json", "--out", str(out)]
    began = time.time()
    answer = call(command, cache=cache, folder=bench.work)
    ended = time.time()
    told = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    spent, test = told["seconds"], told["splits"]["test"]
    planned = (out / "plan.json").stat().st_mtime
    evaluated = (out / "evaluation.json").stat().st_mtime
    stages = {
        "import, weights, plan": planned - began - spent["scan"] - spent.get("measure", 0.0),
        "scan": spent["scan"],
        "measure": spent.get("measure", 0.0),
        "climb": spent["climb"],
        "evaluate": evaluated - planned - spent["climb"],
        "report": ended - evaluated,
    }
    accuracy = test["metrics"]["accuracy"]["value"]
    return {
        "wall_s": answer["wall_s"],
        "peak_mb": answer["peak_mb"],
        "stages": stages,
        "accuracy": accuracy,
        "tested": test["n"],
        "correct": round(accuracy * test["n"]),
    }


def training(bench: Bench) -> Answer:
    """Steps of full fine-tuning beside timm's, and epochs of partial beside full fine-tuning."""
    sizes, arch = bench.sizes, bench.network["arch"]
    common: Answer = {"batch": sizes.batch, "seconds": sizes.step_seconds}
    runs = in_turn(
        {
            "ours": lambda: bench.ours("step", name=NAME, **common),
            "plain": lambda: bench.plain("step", arch=arch, **common),
            "plain at its best": lambda: bench.plain("step", arch=arch, best=True, **common),
        },
        sizes.repeats,
    )
    folder = bench.fresh("images")
    inputs.replicate(bench.data, folder, copies=1, limit=sizes.epoch_images)

    def ran(method: str) -> Answer:
        return bench.ours(
            "epochs",
            folder=str(folder / "copy0"),
            name=NAME,
            method=method,
            count=sizes.epochs,
            work=str(bench.fresh("checkpoint")),
        )

    passes = in_turn({"partial": lambda: ran("partial"), "full": lambda: ran("full")}, sizes.repeats)
    rows = [
        row(f"step of full fine-tuning, batch {sizes.batch}", "images/s", numbers(runs, "rate"), more=True),
        row("epoch with validation, partial beside full", "s", numbers(passes, "epoch_median_s")),
        row("preparation before the first step's end", "s", numbers(passes, "prepare_s")),
    ]
    last = {name: answers[-1] for name, answers in passes.items()}
    facts = {
        "images": {"train": last["full"]["train"], "val": last["full"]["val"]},
        "precision": runs["ours"][-1]["precision"],
        "val_accuracy": {name: answer["val_accuracy"] for name, answer in last.items()},
    }
    return {"rows": rows, "facts": facts, "runs": runs | passes}


def heads(bench: Bench) -> Answer:
    """Whole regularisation paths with their folds: logistic beside one point of scikit-learn's, ridge beside its path."""
    sizes = bench.sizes
    common: Answer = {
        "rows": sizes.head_rows,
        "width": sizes.head_width,
        "classes": sizes.head_classes,
        "folds": 5,
        "seed": 0,
    }
    runs = in_turn(
        {
            "ours": lambda: bench.ours("heads", **common, strengths=10),
            "scikit-learn, one strength and fold": lambda: bench.plain("logistic", **common),
            "ours, ridge": lambda: bench.ours("ridge", **common, strengths=10),
            "scikit-learn ridge, 10 strengths": lambda: bench.plain("ridge", **common, strengths=10),
        },
        sizes.repeats,
    )
    ours, one, ridge, path = runs
    walked = runs[ours][-1]["strengths"]
    many = f"scikit-learn, extrapolated to {walked} strengths x 5 folds"
    whole = {ours: numbers(runs, "seconds")[ours], many: [each["seconds"] * walked * 5 for each in runs[one]]}
    rows = [
        row("path with 5 folds", "s", whole),
        row(
            "ridge path with 5 folds, beside one by leave-one-out",
            "s",
            numbers(runs, "seconds", (ridge, path)),
        ),
    ]
    facts = {
        "accuracy": {name: answers[-1]["accuracy"] for name, answers in runs.items()},
        "strengths_walked": walked,
    }
    return {"rows": rows, "facts": facts, "runs": runs}


def scale(bench: Bench) -> Answer:
    """Time and memory against the number of images."""
    counts = bench.sizes.scale
    share = counts[0]
    folder = bench.fresh("many") / "images"
    inputs.small(bench.data, folder, count=counts[-1], share=share)
    runs: Runs = {}
    for count in counts:
        common: Answer = {"folder": str(folder), "name": NAME, "parts": count // share}
        runs[str(count)] = [bench.ours("features", **common)]
    shutil.rmtree(folder.parent)
    each = {name: answers[0] for name, answers in runs.items()}
    per_image = {name: 1000 * (a["scan_s"] + a["compute_s"]) / a["images"] for name, a in each.items()}
    rows = [
        _size_row("files -> features", "s", {name: [a["seconds"]] for name, a in each.items()}),
        _size_row("scan and passes an image", "ms", {name: [value] for name, value in per_image.items()}),
        _size_row("peak resident memory", "MB", {name: [a["peak_mb"]] for name, a in each.items()}),
    ]
    *_, before, last = map(str, counts)
    facts = {
        f"time_per_image_{last}_over_{before}": per_image[last] / per_image[before],
        f"memory_{last}_minus_{before}_mb": each[last]["peak_mb"] - each[before]["peak_mb"],
        "engines": {name: a["runtime"]["engine"] for name, a in each.items()},
    }
    return {"rows": rows, "facts": facts, "runs": runs}


def _size_row(what: str, unit: str, values: dict[str, list[float]]) -> Answer:
    """A row whose ways are numbers of images: none is ahead of another."""
    return row(what, unit, values) | {"ratios": {}}


def large(bench: Bench) -> Answer:
    """Phone-sized photos -> features, beside the plain loop."""
    sizes = bench.sizes
    folder = bench.fresh("large") / "images"
    inputs.enlarge(bench.data, folder, count=sizes.large_images, size=sizes.large_size)
    runs = _passes(bench, folder, repeats=sizes.repeats)
    width, height = sizes.large_size
    rows = [
        row(
            f"files of {width * height / 1e6:.0f} MP -> features",
            "images/s",
            numbers(runs, "rate"),
            more=True,
        )
    ]
    return {"rows": rows, "facts": _parity(bench, folder) | {"images": sizes.large_images}, "runs": runs}


def cache(bench: Bench) -> Answer:
    """Processes that share a cache, some of them killed: nothing corrupt, nothing lost that a finished one had."""
    sizes = bench.sizes
    folder = bench.fresh("images")
    count = inputs.replicate(bench.data, folder, copies=sizes.copies, limit=sizes.feature_images)
    common: Answer = {"folder": str(folder), "name": NAME}
    reference, found = str(bench.work / "reference.npy"), str(bench.work / "found.npy")
    bench.ours("share", **common, first=0, count=count, out=reference)
    shared, part = bench.fresh("shared"), count // 2
    firsts = [turn * count // sizes.processes for turn in range(sizes.processes)]
    running = [
        start(role("ours", "share", **common, first=first, count=part), cache=shared, folder=bench.work)
        for first in firsts
    ]
    try:
        killed = _kill_some(running, sizes, random.Random(0))
        finished = {turn: finish(process) for turn, process in enumerate(running) if turn not in killed}
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
    afterwards = {
        turn: bench.ours("share", cache=shared, **common, first=firsts[turn], count=part) for turn in finished
    }
    again = bench.ours("share", cache=shared, **common, first=0, count=count, out=found)
    alike = cosines(np.load(reference), np.load(found))
    answers = (*finished.values(), *afterwards.values(), again)
    facts = {
        "images": count,
        "processes": sizes.processes,
        "killed": len(killed),
        "corrupt_rows": int((alike < SOUND).sum()),
        "damaged_files": sum(answer["damaged"] for answer in answers),
        "lost_rows_of_finished_processes": sum(answer["computed"] for answer in afterwards.values()),
        "computed_by_finished": sum(answer["computed"] for answer in finished.values()),
        "left_to_compute_afterwards": again["computed"],
        "cosine_min": float(alike.min()),
    }
    return {"rows": [], "facts": facts, "runs": {"finished": list(finished.values())}}


def _kill_some(running: list[subprocess.Popen[str]], sizes: Sizes, dice: random.Random) -> set[int]:
    """Which processes were killed, at random moments while they computed; those that had ended before are not among them."""
    killed = set()
    for victim in dice.sample(range(len(running)), sizes.killed):
        _wait_for(running[victim], "computing")
        time.sleep(dice.uniform(0, sizes.kill_within))
        if running[victim].poll() is None:
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            killed.add(victim)
    return killed


def _wait_for(process: Any, word: str) -> None:
    """Return when the process has said the word or has ended."""
    file = Path(process.stdout.name)
    while process.poll() is None and word not in file.read_text(encoding="utf-8"):
        time.sleep(0.02)


CASES: dict[str, Callable[[Bench], Answer]] = {
    each.__name__: each for each in (features, probe, training, heads, scale, large, cache)
}
