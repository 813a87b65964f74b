"""What a training step costs on this machine, stage by stage, measured in a moment."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstart import compute
from headstart.compute import FastDepthwise, native_bfloat16
from headstart.data.records import Sample
from headstart.evidence.records import Cost
from headstart.pixels import batches, in_order, read_pixels
from headstart.weights import Backbone

_BATCH = 8  # what training sends through at once on a CPU
_ON_GPU = 32
_REPEATS = 3
_ENOUGH = 3.0  # seconds of timed batches, after which none is repeated: long ones vary little
_WARMING = 2  # images of the step that warms up a CPU
_PARTIAL = 2  # last stages that the method `partial` tunes unless asked for others
_READ = 32  # images by which reading is measured


def measure_cost(backbone: Backbone, samples: tuple[Sample, ...], *, forward: float) -> Cost:
    """The seconds an image of reading, a pass and training steps.

    A step here is plain torch: forward and backward with BatchNorm held, channels-last, bfloat16 where the chip computes in
    it, fast gradients of depthwise convolutions. Training also folds held BatchNorm into the convolutions and has an
    optimiser: with EfficientNet-Lite0 in bfloat16 a step here takes 1.2 times the processor time of one there.

    Args:
        backbone: its parameters stay untouched.
        samples: images of the user's, for reading.
        forward: seconds an image of reading and a frozen pass, as measured.
    """
    stages = step_seconds(backbone)
    return Cost(
        forward=forward,
        step=sum(stages),
        partial_step=sum(stages[-_PARTIAL:]),
        read=_read_seconds(backbone, samples[:_READ]),
        stages=stages,
    )


def step_seconds(backbone: Backbone) -> tuple[float, ...]:
    """Seconds an image of forward and backward for each stage, in forward order; their sum is a step of the whole network.

    The median of three batches after one that warms up; of fewer, where they take long. A stage's forward time lies between
    its output and that of the one before it, its backward time between the moments when the gradients arrive at these
    outputs.
    """
    device = compute.device()
    network = copy.deepcopy(backbone.module).to(device).to(memory_format=torch.channels_last).eval()
    network.requires_grad_(True)
    count = _BATCH if device.type == "cpu" else _ON_GPU
    contract = backbone.info.preprocess
    images = torch.randn(count, 3, contract.height, contract.width, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    ends = [stage.output for stage in backbone.stages[:-1]]
    _one(network, images[:_WARMING] if device.type == "cpu" else images, ends)
    rounds: list[list[float]] = []
    while len(rounds) < _REPEATS and sum(map(sum, rounds)) < _ENOUGH:
        rounds.append(_one(network, images, ends))
    return tuple(statistics.median(column) / count for column in zip(*rounds, strict=True))


@dataclass
class _Marks:
    """The moments at which a stage's output was made and at which its gradient arrived, by the stage's number."""

    device: torch.device
    made: dict[int, float] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)

    def now(self) -> float:
        """Seconds, when everything that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def see(self, number: int, output: Any) -> None:
        """Note the output of a stage, and have the arrival of its gradient noted."""
        tensor = output[0] if isinstance(output, tuple | list) else output
        self.made[number] = self.now()
        tensor.register_hook(lambda _: self.arrived.__setitem__(number, self.now()))


def _one(network: nn.Module, images: Tensor, ends: list[str]) -> list[float]:
    """Seconds of each stage, the last one behind the last of `ends`, in one forward and backward pass."""
    network.zero_grad(set_to_none=True)
    there, back = timed_pass(network, images, ends, loss_of=lambda outputs: outputs.square().mean())
    return [forward + backward for forward, backward in zip(there, back, strict=True)]


def timed_pass(
    network: nn.Module, images: Tensor, ends: list[str], *, loss_of: Callable[[Tensor], Tensor]
) -> tuple[list[float], list[float]]:
    """Seconds forwards and backwards, each for every part of a network between two of `ends`, and last for what is behind.

    Args:
        network: in evaluation mode, its gradients cleared; they are filled.
        images: its input.
        ends: dotted names of modules in forward order.
        loss_of: outputs in float32 -> a scalar.
    """
    device = images.device
    marks = _Marks(device)
    lower = torch.bfloat16 if native_bfloat16(device) else None
    with _watching(network, ends, marks), FastDepthwise():
        started = marks.now()
        with torch.autocast(device.type, lower or torch.bfloat16, enabled=lower is not None):
            outputs = network(images)
        loss = loss_of(outputs.float())
        turned = marks.now()
        loss.backward()  # type: ignore[no-untyped-call]
        ended = marks.now()
    there = _gaps(started, [marks.made.get(number) for number in range(len(ends))], turned)
    back = _gaps(turned, [marks.arrived.get(number) for number in reversed(range(len(ends)))], ended)
    return there, back[::-1]


def _gaps(start: float, marks: list[float | None], end: float) -> list[float]:
    """The times between moments; one that was not noted, or not in order, counts as its predecessor."""
    out, last = [], start
    for mark in marks:
        here = last if mark is None else min(max(mark, last), end)
        out.append(here - last)
        last = here
    return [*out, end - last]


@contextmanager
def _watching(network: nn.Module, ends: list[str], marks: _Marks) -> Iterator[None]:
    handles = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _given, output, number=number: marks.see(number, output)
        )
        for number, name in enumerate(ends)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _read_seconds(backbone: Backbone, samples: tuple[Sample, ...]) -> float:
    """Seconds an image of reading and preparing, on as many threads as there are processors."""
    contract = backbone.info.preprocess
    started = time.perf_counter()
    for _ in batches(
        samples,
        lambda _, sample: read_pixels(sample.source, contract),
        groups=in_order(len(samples), compute.BATCH),
    ):
        pass
    return (time.perf_counter() - started) / len(samples)
