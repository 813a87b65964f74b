"""What travels inside `compute`: a job, an engine's runner, and the verdict that chose it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from headstart._core.records import record
from headstart.compute.taps import Reading
from headstart.data.preprocess import Preprocess

Pixels = NDArray[np.uint8]
Outputs = tuple[NDArray[np.float32], ...]


class Runner(Protocol):
    """A network ready to answer, safe to call from `lanes` threads at once."""

    @property
    def lanes(self) -> int:
        """How many batches it works on at the same time."""

    @property
    def batch(self) -> int:
        """How many images a call should bring; any other number works too."""

    @property
    def precision(self) -> str:
        """What it computes in: `float32`, `bfloat16`, `float16`, or `mixed`: first layers in float32."""

    def __call__(self, pixels: Pixels) -> Outputs:
        """The network's output (N, outputs) and the depths' summaries (N, 2 * C) of (N, H, W, 3) 8-bit pixels."""


@dataclass(frozen=True)
class Job:
    """What an engine is asked to open.

    Attributes:
        network: in evaluation mode, float32.
        preprocess: its contract; engines normalise inside.
        readings: depth -> how to read it.
        count: images that will be computed, as far as known: whether compiling pays.
        folder: where compiled forms are kept; None to keep nothing.
        shared: what one engine made and the next can use (the traced network).
    """

    network: nn.Module
    preprocess: Preprocess
    readings: dict[str, Reading] = field(default_factory=dict)
    count: int = 0
    folder: Path | None = None
    shared: dict[str, Any] = field(default_factory=dict)


@record
class Tried:
    """One engine that the gate looked at, and what became of it."""

    engine: str
    outcome: str


@record
class Chosen:
    """The runtime that was chosen, and why.

    Attributes:
        engine: a name of `ENGINES`.
        precision: what it computes in: `float32`, `bfloat16`, `float16`, `mixed`; part of a cached feature's address.
        reason: in words.
        cosine_min: lowest cosine between its outputs and eager float32's over the trial batch; 1 for the reference itself.
        top1_agreement: share of the trial images with the same pretraining class; None without a classifier.
        images: how many images the trial used; 0 where there was none.
        tried: faster engines that were passed over, and the chosen one, in order.
        decoder: what decodes JPEGs: `cpu`, or `gpu` where its pixels are the same within rounding and it is faster.
        decoder_reason: in words; empty where there was no choice.
    """

    engine: str
    precision: str
    reason: str
    cosine_min: float = 1.0
    top1_agreement: float | None = None
    images: int = 0
    tried: tuple[Tried, ...] = ()
    decoder: str = "cpu"
    decoder_reason: str = ""
