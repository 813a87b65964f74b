"""What a training step for boxes or masks costs on this machine: the network stage by stage, and what is put on it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart import compute
from headstart._core.seed import generator
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.evidence.cost import timed_pass
from headstart.evidence.records import Cost
from headstart.pixels import PRESETS, Chances, Example, batches, decoded_scene, in_order, normalise
from headstart.tasks import Network, Task
from headstart.weights import Backbone

_BATCH = 4  # a step's share an image is that of eight, and takes half as long to measure
_ON_GPU = 8
_REPEATS = 2
_READ = 24  # images by which reading is measured
_WARMING = 2
_PARTIAL = 2  # last stages that the method `partial` tunes unless asked for others
_AUGMENT = "medium"  # what training changes images by, unless there are thousands


def measure_cost(boxed: Backbone, samples: Sequence[Sample], *, task: Task, classes: int, seed: int) -> Cost:
    """The seconds an image of reading, of a pass, and of a training step with the task's own head and loss.

    Steps are plain torch on the user's own images and their truth: BatchNorm held, channels-last, bfloat16 where the chip
    computes in it. Training also folds held BatchNorm away.

    Args:
        boxed: with the contract of the letterbox; its parameters stay untouched.
        samples: with boxes or masks.
        task: with places.
        classes: of the task.
        seed: of the augmentation whose time is part of reading.
    """
    contract, device = boxed.info.preprocess, compute.device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = task.build(replace(boxed, module=copy.deepcopy(boxed.module)), classes)
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    network.requires_grad_(True)
    few = list(samples[: _BATCH if device.type == "cpu" else _ON_GPU])
    given = _given(few, contract, task, device)
    ends = _ends(network, boxed)
    rounds = [_round(network, given, ends, task) for _ in range(1 + _REPEATS)][1:]  # the first one warms up
    there, back = (
        [statistics.median(column) / len(few) for column in zip(*part, strict=True)]
        for part in zip(*rounds, strict=True)
    )
    own = dict(zip(ends, (one + other for one, other in zip(there, back, strict=True)), strict=False))
    stages = tuple(own.get(f"body.{stage.output}", 0.0) for stage in boxed.stages)
    head = there[-1] + back[-1]
    read, prepare = _read_seconds(samples[:_READ], contract, task=task, seed=seed)
    return Cost(
        forward=read + sum(there[:-1]),
        step=sum(stages) + head,
        partial_step=sum(stages[-_PARTIAL:]) + head,
        read=read,
        stages=stages,
        head=head,
        prepare=min(read, prepare),
        answer=_answer_seconds(network, given, few, task=task, what=(contract, classes)),
    )


@dataclass(frozen=True)
class _Given:
    """A batch: normalised images (N, 3, H, W) and what is true of them."""

    images: Tensor
    truth: Any


def _given(samples: Sequence[Sample], contract: Preprocess, task: Task, device: torch.device) -> _Given:
    examples = [task.example(sample, contract, None) for sample in samples]
    pairs = [(each.pixels, each.truth) for each in examples if isinstance(each, Example)]
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in pairs])).permute(0, 3, 1, 2).to(device)
    truth = task.together([truth for _, truth in pairs])
    return _Given(
        images=normalise(pixels, contract).contiguous(memory_format=torch.channels_last),
        truth=truth.to(device) if isinstance(truth, Tensor) else truth,
    )


def _ends(network: Network, boxed: Backbone) -> list[str]:
    """Dotted names of the stages' outputs that the heads wait for, in forward order; what runs behind them was cut away."""
    modules = dict(network.named_modules())
    names = dict.fromkeys(f"body.{stage.output}" for stage in boxed.stages)
    return [name for name in names if not isinstance(modules[name], nn.Identity)]


def _round(network: Network, given: _Given, ends: list[str], task: Task) -> tuple[list[float], list[float]]:
    """Seconds of each stage, and last of the head with its loss: forwards, and backwards."""
    network.zero_grad(set_to_none=True)
    return timed_pass(
        network, given.images, ends, loss_of=lambda outputs: task.loss(outputs, given.truth, None, 0.0)
    )


def _read_seconds(
    samples: Sequence[Sample], contract: Preprocess, *, task: Task, seed: int
) -> tuple[float, float]:
    """Seconds an image of reading, changing and preparing with its truth, and of all but the reading, on all processors."""

    def load(position: int, sample: Sample) -> Any:
        chances = Chances(augment=PRESETS[_AUGMENT], flip=True, rng=generator(seed, "cost", position))
        return task.example(sample, contract, chances)

    def seconds(some: Sequence[Sample]) -> float:
        started = time.perf_counter()
        with closing(batches(some, load, groups=in_order(len(some), _BATCH))) as stream:
            for _ in stream:
                pass
        return (time.perf_counter() - started) / len(some)

    seconds(
        samples[:_WARMING]
    )  # augmentation imports its package at the first image: seconds that no other one takes
    decoded = [decoded_scene(sample) for sample in samples]
    return seconds(samples), seconds(decoded)


def _answer_seconds(
    network: Network,
    given: _Given,
    samples: Sequence[Sample],
    *,
    task: Task,
    what: tuple[Preprocess, int],
) -> float:
    """Seconds an image of turning outputs into what is judged."""
    contract, classes = what
    with torch.inference_mode():
        outputs = network(given.images).float()
        started = time.perf_counter()
        task.rows(outputs, samples, contract, classes)
    return (time.perf_counter() - started) / len(samples)
