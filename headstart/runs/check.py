"""The pretraining classifier on photos of its own classes: do weights, key mapping and preprocessing fit together?"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from torch import nn

from headstart import compute, weights
from headstart._core.check import existing
from headstart._core.errors import BadInput, BadWeights
from headstart.data.records import Sample
from headstart.metrics import Metric, wilson


def check_weights(name: str, folder: str | Path) -> Metric:
    """Top-1 accuracy, with its Wilson interval, of the checkpoint's own classifier.

    Args:
        name: of the weights.
        folder: images with `classes.csv`, whose columns `index` (of the class, in the usual order) and `file` are read.

    Raises:
        BadWeights: when the checkpoint has no classifier.
        BadInput: when `classes.csv` is missing or lacks a column.
    """
    root = existing(folder, what="The folder")
    table = existing(root / "classes.csv", what="The list of classes")
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"index", "file"} <= set(rows[0]):
        raise BadInput(f"{table} lacks the columns index and file.", hint="One line an image: index,file")
    backbone = weights.load(name)
    if backbone.classifier is None:
        raise BadWeights(
            f"{name} has no classifier to check.", hint="Choose supervised weights: headstart weights list"
        )
    samples = tuple(
        Sample(name=row["file"], source=root / row["file"], labels=(int(row["index"]),)) for row in rows
    )
    network = nn.Sequential(backbone.module, backbone.classifier)
    logits = compute.forward(network, samples, backbone.info.preprocess, label=name)
    right = int((logits.argmax(1) == np.array([sample.labels[0] for sample in samples])).sum())
    low, high = wilson(right, len(samples))
    return Metric(value=right / len(samples), low=low, high=high, interval="wilson", n=len(samples))
