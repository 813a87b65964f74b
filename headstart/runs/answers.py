"""What a run leaves for others to check: every image with its hash and split, and the answers to the test images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart._core.errors import BadInput
from headstart._core.files import atomic, write_text
from headstart.data.records import Sample
from headstart.evaluation import Answers

IMAGES = "data.jsonl"
ANSWERS = "answers.npz"


@dataclass(frozen=True)
class Kept:
    """The answers of a finished run to its test images.

    Attributes:
        classes: in output order.
        digests: SHA-256 of each image's bytes.
        answers: with calibrated logits.
    """

    classes: tuple[str, ...]
    digests: tuple[str, ...]
    answers: Answers


def save_images(folder: Path, samples: Sequence[Sample], classes: tuple[str, ...]) -> None:
    """Write `data.jsonl`: path, SHA-256, labels, split and group of every image of the run, one a line."""
    lines = [
        json.dumps(
            {
                "path": sample.name,
                "sha256": sample.digest,
                "labels": [classes[label] for label in sample.labels],
                "split": sample.split,
                "group": sample.group,
            },
            ensure_ascii=False,
        )
        for sample in samples
    ]
    write_text(folder / IMAGES, "".join(line + "\n" for line in lines))


def save_answers(
    folder: Path, answers: Answers, samples: Sequence[Sample], *, classes: tuple[str, ...], temperature: float
) -> None:
    """Write `answers.npz`: what the model said about each test image (calibrated logits), and what is true."""
    with atomic(folder / ANSWERS) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            classes=np.array(classes, np.str_),
            names=np.array(answers.names, np.str_),
            digests=np.array([sample.digest for sample in samples], np.str_),
            groups=np.array([sample.group for sample in samples], np.str_),
            truth=answers.truth,
            logits=(answers.logits / temperature).astype(np.float32),
        )


def load_answers(folder: Path) -> Kept:
    """The answers of a finished run.

    Raises:
        BadInput: when the run has none (it is unfinished or older), or the file is damaged.
    """
    path = folder / ANSWERS
    if not path.is_file():
        raise BadInput(
            f"{folder} holds no answers to compare: there is no {ANSWERS} in it.",
            hint="The run is unfinished or older (fit again), or for boxes or masks, whose answers are not kept.",
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            found: dict[str, NDArray[np.generic]] = {name: file[name] for name in file.files}
        return Kept(
            classes=tuple(map(str, found["classes"])),
            digests=tuple(map(str, found["digests"])),
            answers=Answers(
                names=tuple(map(str, found["names"])),
                truth=found["truth"].astype(np.int64),
                logits=found["logits"].astype(np.float64),
                groups=tuple(map(str, found["groups"])),
            ),
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise BadInput(f"{path} is damaged: {error}.", hint="Fit again, or leave that run out.") from error
