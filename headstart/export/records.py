"""What a file format is, and what comes back from an export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record

Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""An exported file at work: images (N, H, W, 3) of one size -> calibrated probabilities (N, classes)."""


@dataclass(frozen=True)
class Format:
    """A row of `FORMATS`.

    Attributes:
        name: what the user types after `--format`.
        suffix: of the file's name, with its dot.
        summary: what it is for, in one line.
        needs: import names of the optional packages.
        extra: the extra of this package that installs them.
        write: dotted path of `(bundle, path) -> None`, which writes one self-contained file.
        open: dotted path of `(path) -> Runner`, which runs that file in the runtime it was made for.
        places: dotted path of a module with `write`, `open_runner` and `check` for answers with places; empty: the format
            has none.
    """

    name: str
    suffix: str
    summary: str
    needs: tuple[str, ...]
    extra: str
    write: str
    open: str
    places: str = ""


@record
class Parity:
    """How far an exported file's answers are from the bundle's, on the same images from file to probability.

    Attributes:
        n: images compared.
        top1_agreement: share of images with the same answer (multi-label: set of classes), of sure boxes with a partner of
            their class in their place, or of pixels with the same class, in [0, 1].
        largest_gap: largest absolute difference of any probability.
        mean_gap: mean absolute difference over images and classes.
        least_agreement: the export fails below it.
        greatest_gap: the export fails above it.
        novelty_gap: largest absolute difference of the novelty score, in its standard deviations over images like the
            training images; None where there is none, or the format does not carry it.
        passed: whether it is good enough to be handed out.
        compared: boxes of the bundle and of the file that were looked for in the other, or pixels; 0: whole images.
    """

    n: int
    top1_agreement: float
    largest_gap: float
    mean_gap: float
    least_agreement: float
    greatest_gap: float
    passed: bool
    novelty_gap: float | None = None
    compared: int = 0


@record
class Exported:
    """A file that was written and checked: path, parity, size in bytes, seconds for writing and checking."""

    path: Path
    format: str
    parity: Parity
    bytes: int
    seconds: float
