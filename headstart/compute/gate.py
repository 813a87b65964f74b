"""The parity gate: the fastest engine that agrees with eager float32 on the user's own images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.compute.engines import ENGINES, REFERENCE, Engine
from headstart.compute.records import Chosen, Job, Outputs, Pixels, Runner, Tried
from headstart.pixels import ahead

COSINE = 0.998
"""What is promised of every image: the cosine between its output and that of eager float32."""

TRIAL_COSINE = 0.999
"""What the images of the trial must reach: half the promised distance, because the worst of 32 images is not the worst
of ten thousand. EfficientNet-Lite0 in bfloat16: 97 of 100 photos reach 0.998, so that a trial of 32 would often pass,
but the worst of 132 has 0.993."""

NEAR_TIE = 0.5
"""Logits between the reference's two best classes below which a change of the best one is no disagreement: odds of less
than 1.65 to 1. bfloat16 moves a logit by up to 0.3
(measured on EfficientNet-Lite0), hence the distance of two by up to 0.6."""

Judge = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Logits (N, classes) of the network's own output (N, outputs)."""


@dataclass(frozen=True)
class Agreement:
    """How well two engines' outputs agree.

    Attributes:
        cosine_min: over all images and outputs.
        top1: share of images with the same best class; None without a classifier.
        disagreements: images with another best class although the reference was not near a tie.
    """

    cosine_min: float
    top1: float | None
    disagreements: int

    @property
    def fault(self) -> str:
        """What speaks against the engine, or an empty string."""
        if not self.cosine_min >= TRIAL_COSINE:  # also true of NaN
            return f"cosine {self.cosine_min:.5f} to eager float32, at least {TRIAL_COSINE} asked"
        if self.disagreements:
            return f"another best class for {self.disagreements} of the trial images"
        return ""


def agreement(reference: Outputs, given: Outputs, judge: Judge | None) -> Agreement:
    """How well `given` agrees with `reference`: output by output, image by image."""
    lowest = 1.0
    for wanted, found in zip(reference, given, strict=True):
        if wanted.shape != found.shape:
            return Agreement(cosine_min=float("nan"), top1=None, disagreements=0)
        lowest = float(np.minimum(lowest, cosines(wanted, found).min()))
    if judge is None:
        return Agreement(cosine_min=lowest, top1=None, disagreements=0)
    wanted, found = judge(reference[0]), judge(given[0])
    other = wanted.argmax(1) != found.argmax(1)
    best = np.sort(wanted, axis=1)
    clear = best[:, -1] - best[:, -2] > NEAR_TIE if wanted.shape[1] > 1 else np.zeros(len(wanted), bool)
    return Agreement(
        cosine_min=lowest, top1=float(1 - other.mean()), disagreements=int((other & clear).sum())
    )


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cosine (N,) of each row of `a` with that of `b`; two rows of zeros agree."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1)
    same = np.all(a == b, axis=1)
    out: NDArray[np.float64] = np.where(
        same, 1.0, (wide_a * wide_b).sum(1) / np.where(lengths == 0, np.nan, lengths)
    )
    return out


def contest(job: Job, pixels: Pixels, judge: Judge | None) -> tuple[Chosen, Runner]:
    """The verdict on the user's first images (N, H, W, 3), and the runner that won.

    The engines are tried from the fastest to the reference, which wins if nobody else does.
    """
    reference = ENGINES[REFERENCE].open(job)
    wanted = run_in_pieces(reference, pixels)
    tried: list[Tried] = []
    for engine in ENGINES.values():
        if engine.name == REFERENCE:
            break
        missing = engine.available()
        if missing:
            tried.append(Tried(engine=engine.name, outcome=missing))
            continue
        found, runner, failure = _trial(engine, job, pixels)
        if runner is None:
            tried.append(Tried(engine=engine.name, outcome=failure))
            continue
        agreed = agreement(wanted, found, judge)
        tried.append(Tried(engine=engine.name, outcome=agreed.fault or "agrees with eager float32"))
        if not agreed.fault:
            chosen = Chosen(
                engine=engine.name,
                precision=runner.precision,
                reason=f"the fastest that agrees with eager float32 on {len(pixels)} trial images",
                cosine_min=agreed.cosine_min,
                top1_agreement=agreed.top1,
                images=len(pixels),
                tried=tuple(tried),
            )
            return chosen, runner
    chosen = Chosen(
        engine=REFERENCE,
        precision=ENGINES[REFERENCE].precision,
        reason="no faster runtime is here or agrees",
        images=len(pixels),
        tried=tuple(tried),
    )
    return chosen, ENGINES[REFERENCE].open(job)


def run_in_pieces(runner: Runner, pixels: Pixels) -> Outputs:
    """Outputs of all pixels, by calls of the runner's own batch size, in all its lanes."""
    pieces = [pixels[start : start + runner.batch] for start in range(0, len(pixels), runner.batch)]
    if len(pieces) == 1:
        return runner(pieces[0])
    parts = list(ahead(runner, pieces, workers=runner.lanes, waiting=2 * runner.lanes))
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _trial(engine: Engine, job: Job, pixels: Pixels) -> tuple[Outputs, Runner | None, str]:
    """The engine's answers and its runner; or no runner and why."""
    try:
        runner = engine.open(job)
        return run_in_pieces(runner, pixels), runner, ""
    except Exception as error:  # noqa: BLE001  # compilers raise anything; the reason is kept, the next engine tried
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return (), None, f"failed: {type(error).__name__}: {first}"
