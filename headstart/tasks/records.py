"""What a task is: how labels become targets, what is minimised, and how logits become answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.records import Sample

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """A row of `TASKS`.

    Attributes:
        name: what the user types after `--task` and what `evaluation.json` says.
        targets: labels of samples as an array: (N,) class indices, or (N, classes) of 0 and 1.
        loss: mean loss of logits (N, classes) against targets; per-class weights (classes,); label smoothing in [0, 1).
        probabilities: logits (N, classes) -> probabilities (N, classes).
        decode: probabilities (N, classes) -> for each image the indices of the classes it is given.
        primary: the metric by which rungs are compared, the mean of `correctness` over images; higher is better.
        correctness: (logits, targets) -> per-image score in [0, 1] whose mean orders rungs; the paired comparison uses it.
        activation: `softmax` or `sigmoid`: what the exported graph ends with.
    """

    name: str
    targets: Callable[[Sequence[Sample], int], Labels]
    loss: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    probabilities: Callable[[Floats], Floats]
    decode: Callable[[Floats], list[tuple[int, ...]]]
    primary: str
    correctness: Callable[[Floats, Labels], Floats]
    activation: str
