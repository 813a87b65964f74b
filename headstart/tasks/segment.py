"""A class for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headstart._core.errors import BadInput
from headstart.data.masks import IGNORED, read_mask
from headstart.data.preprocess import Preprocess
from headstart.data.records import DatasetFacts, Sample
from headstart.metrics import Metric, draw
from headstart.metrics import segmentation as masks
from headstart.metrics.assessment import Assessment
from headstart.pixels import Chances, Example, read_scene, varied_scene
from headstart.tasks.heads import Head
from headstart.tasks.pyramid import fitting
from headstart.tasks.records import Floats, Glance, Places, Rows, Task

_LONG_SIDE = 512  # pixels; what is finer than a quarter of that no map of the network shows
_DICE = 0.5  # share of the Dice loss: it does not let frequent classes hide rare ones


def targets(samples: Sequence[Sample], classes: int) -> NDArray[np.int64]:
    """0 or 1 for each image and class (N, classes): whether it occurs. Rows of counts hold the truth themselves."""
    out = np.zeros((len(samples), classes), np.int64)
    for row, sample in enumerate(samples):
        out[row, list(sample.labels)] = 1
    return out


def example(sample: Sample, preprocess: Preprocess, chances: Chances | None) -> Example:
    """Pixels with the class of each.

    Raises:
        BadInput: for a sample without a mask.
    """
    scene = read_scene(sample, preprocess) if chances is None else varied_scene(sample, preprocess, chances)
    if scene.labels is None:
        raise BadInput(f"{sample.name} has no mask.", hint="Give a mask for each image.")
    return Example(pixels=scene.pixels, truth=torch.from_numpy(scene.labels))


def loss(outputs: Tensor, truth: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy of the pixels and Dice loss of the classes that occur, at the size of the input.

    Source: Milletari et al. 2016, V-Net (Dice loss).
    """
    logits = F.interpolate(outputs, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    flat, label = logits.permute(0, 2, 3, 1).flatten(0, 2), truth.long().flatten()
    known = label != IGNORED
    if not known.all():
        flat, label = flat[known], label[known]
    said = flat.log_softmax(1)
    own = said.gather(1, label[:, None])[:, 0]
    right, any_class = (own, said) if weights is None else (own * weights[label], said * weights)
    mean = -((1 - smoothing) * right.sum() + smoothing * any_class.mean(1).sum()) / max(1, len(label))
    # By the counts of classes and the shares of the true ones: arrays of all pixels and classes would cost as much again.
    count = torch.bincount(label, minlength=flat.shape[1])
    both = torch.zeros_like(said[0]).index_add(0, label, own.exp()) if len(label) else said.sum(0)
    size = said.exp().sum(0) + count
    dice = 1 - (2 * both / size.clamp_min(1e-6))[count > 0]
    overlap = dice.mean() if len(dice) else mean * 0
    return (1 - _DICE) * mean + _DICE * overlap


def answers(
    outputs: Tensor, sizes: Sequence[tuple[int, int]], preprocess: Preprocess
) -> list[NDArray[np.int16]]:
    """Class indices (H, W) of each image at its own size."""
    out = []
    frame = (preprocess.height, preprocess.width)
    for logits, (width, height) in zip(outputs.float(), sizes, strict=True):
        columns, rows_ = preprocess.resized(width, height)
        whole = F.interpolate(logits[None], size=frame, mode="bilinear", align_corners=False)
        own = whole[..., :rows_, :columns]
        if (rows_, columns) != (height, width):
            own = F.interpolate(own, size=(height, width), mode="bilinear", align_corners=False)
        out.append(own[0].argmax(0).cpu().numpy().astype(np.int16))
    return out


def tally(found: Sequence[NDArray[Any]], samples: Sequence[Sample], classes: int) -> Rows:
    """(N, classes, classes + 2) counts of each image against its mask."""
    out = []
    for labels, sample in zip(found, samples, strict=True):
        if sample.mask is None:
            raise BadInput(f"{sample.name} has no mask.", hint="Give a mask for each image.")
        truth = read_mask(sample.mask, (sample.width, sample.height)).labels
        out.append(masks.counts(truth, labels, classes=classes))
    return np.stack(out).astype(np.float64)


def correctness(counted: Rows, truth: Any) -> Floats:
    """Mean IoU of each image alone."""
    del truth  # it is in the counts
    return masks.image_scores(counted)


def judge(counted: Rows, truth: Any) -> float:
    """1 - mean IoU over all pixels of all images."""
    del truth
    value = masks.mean_of(masks.ious(counted))
    return 1.0 if np.isnan(value) else 1.0 - value


def glance(counted: Rows, truth: Any, seed: int) -> Glance:
    """Mean IoU of each image alone, and 1 - mean IoU over all pixels with its interval over images."""
    draws = draw(len(counted), seed=seed).images.astype(np.float64)
    shares = masks.resampled_ious(counted, draws)
    known = np.isfinite(shares)
    means = np.where(known, shares, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    resampled = np.where(known.any(1), 1.0 - means, np.nan)
    return Glance.of(correctness(counted, truth), judge(counted, truth), resampled)


def assess(counted: Rows, truth: Any, classes: Sequence[str], least: float, seed: int) -> Assessment:
    """Mean IoU, Dice, boundary IoU and accuracy of pixels, with intervals over images, and the first two per class."""
    del truth
    draws = draw(len(counted), seed=seed).images.astype(np.float64)
    sums = np.tensordot(draws, counted, 1)  # counts of every resample: (repeats, classes, classes + 2)

    def metric(statistic: Callable[[Rows], float]) -> Metric:
        value = statistic(counted)
        values = np.array([statistic(one[None]) for one in sums])
        low, high = np.nanquantile(values, [0.025, 0.975])
        return Metric(
            value=value,
            low=min(float(low), value),
            high=max(float(high), value),
            interval="bootstrap",
            n=len(counted),
        )

    per_class = {}
    for index, name in enumerate(classes):
        if np.isfinite(masks.ious(counted)[index]):
            per_class[name] = {
                "iou": metric(lambda some, index=index: float(masks.ious(some)[index])),  # type: ignore[misc]
                "dice": metric(lambda some, index=index: float(masks.dices(some)[index])),  # type: ignore[misc]
            }
    table = masks.confusion(counted)
    return Assessment(
        metrics={
            "miou": metric(lambda some: masks.mean_of(masks.ious(some))),
            "dice": metric(lambda some: masks.mean_of(masks.dices(some))),
            "boundary_iou": metric(lambda some: masks.mean_of(masks.boundary_ious(some))),
            "pixel_accuracy": metric(masks.pixel_accuracy),
        },
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in table),
        scores=tuple(float(score) for score in masks.image_scores(counted)),
        threshold=least,
    )


def frame(facts: DatasetFacts) -> tuple[tuple[int, int], str]:
    """The images' own size, up to 512 pixels."""
    wanted = min(facts.long_side or _LONG_SIDE, _LONG_SIDE)
    why = (
        f"images have {facts.long_side:.0f} pixels on their long side; above {_LONG_SIDE} each costs too much"
    )
    return fitting(facts.aspect_quantiles, long_side=round(wanted)), why


def made(head: Head, settings: Any) -> Task:
    """The task with that head."""
    places = Places(frame=frame, answers=answers, tally=tally, assess=assess, glance=glance)
    return Task(
        name="segment",
        head=head.spec(settings),
        build=head.on(settings),
        targets=targets,
        example=example,
        together=lambda labels: torch.stack(list(labels)),
        loss=loss,
        rows=places.rows,
        primary="image_miou",
        correctness=correctness,
        judged_by="1 - mIoU",
        judge=judge,
        temperature=lambda *_: 1.0,
        places=places,
    )
