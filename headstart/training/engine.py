"""One optimiser step's forward and backward pass, as fast as the machine allows and within its memory.

What is done, and what it was worth (EfficientNet-Lite0, 224 px, batch 32, processor seconds an image on one core of an
AVX512-BF16 machine, against the same pass without it): BatchNorm folded into the convolutions 82 -> 71 ms, gradients of
depthwise convolutions 71 -> 32 ms. bfloat16 is used only where the chip computes in it: 55 ms in float32, 32 in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from headstart._core.errors import BadPlan
from headstart.compute import FastDepthwise
from headstart.tasks import Network
from headstart.training.folding import Folded

LEAST_FOR_TUNED_NORM = 16
"""Images in a micro-batch whose BatchNorm statistics are trained on (Wu & He 2018, figure 1)."""

_ON_CPU = 8  # as fast as 32 at a time, in a quarter of the memory; one at a time is slower
_WORDS = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")

Loss = Callable[[Tensor, Any], Tensor]
"""(outputs, truth) -> mean loss."""

Part = Callable[[slice], Tensor]
"""Network input of some of the batch's images."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


@dataclass
class Engine:
    """Runs batches through the twin of a network in micro-batches and leaves the gradients in the network's parameters.

    Attributes:
        twin: the network that is computed, and the way back from it.
        device: where.
        lower: precision of convolutions and products, None for float32 throughout.
        micro: images that pass at once; halved when memory runs out.
        moving: whether BatchNorm follows the batches, which bounds `micro` from below.
        notes: what happened that the user should know, until somebody takes it.
        call: a faster way through the twin's network in training; None for the network itself.
    """

    twin: Folded
    device: torch.device
    lower: torch.dtype | None
    micro: int
    moving: bool
    notes: list[str] = field(default_factory=list)
    call: Callable[[Tensor], Any] | None = None

    @property
    def network(self) -> Network:
        """The twin's network."""
        return self.twin.network

    def backward(self, part: Part, targets: Any, *, loss: Loss, seed: int) -> Tensor:
        """The batch's mean loss (a scalar without gradient); gradients are in the parameters afterwards.

        When memory runs out, the micro-batch is halved and the same batch computed again from the same state, so that
        the step does not change beyond rounding.

        Raises:
            BadPlan: when not even the smallest micro-batch fits.
        """
        kept = self._buffers()
        while True:
            failed = ""
            try:
                return self._attempt(part, targets, loss, seed)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                failed = str(error).partition("\n")[0] or type(error).__name__
            # Outside the handler: the exception holds the frames, and those the activations.
            self._undo(kept)
            self._halve(failed, len(targets))

    def _attempt(self, part: Part, targets: Any, loss: Loss, seed: int) -> Tensor:
        torch.manual_seed(seed)  # dropout and drop-path
        self.twin.push()
        total = torch.zeros((), device=self.device)
        for rows in self._slices(len(targets)):
            inputs = part(rows)
            with self.precision(), FastDepthwise():
                logits = (self.call or self.network)(inputs)
            value = loss(logits.float(), targets[rows])
            with FastDepthwise():
                value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        self.twin.pull()
        return total

    def _slices(self, count: int) -> list[slice]:
        """Parts of nearly equal size, none above `micro`."""
        parts = -(-count // self.micro)
        bounds = [round(number * count / parts) for number in range(parts + 1)]
        return [slice(first, last) for first, last in pairwise(bounds)]

    def precision(self) -> Any:
        """The context in which the network is called."""
        return torch.autocast(self.device.type, self.lower or torch.bfloat16, enabled=self.lower is not None)

    def logits(self, inputs: Tensor) -> Tensor:
        """The outputs (N, …), float32, of network input in evaluation mode."""
        with torch.no_grad(), self.precision():
            return torch.cat([self.network(part).float() for part in torch.split(inputs, self.micro)])

    def _buffers(self) -> list[tuple[Tensor, Tensor]]:
        """BatchNorm's moving statistics and their values before the step, where they move."""
        return [(buffer, buffer.clone()) for buffer in self.network.buffers()] if self.moving else []

    def _undo(self, kept: list[tuple[Tensor, Tensor]]) -> None:
        self.twin.clear()
        for parameter in self.twin.source.parameters():
            parameter.grad = None
        for buffer, value in kept:
            buffer.copy_(value)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _halve(self, failed: str, count: int) -> None:
        now = min(self.micro, count)
        half = now // 2
        least = LEAST_FOR_TUNED_NORM if self.moving else 1
        if half < least:
            hint = (
                "Freeze BatchNorm with --batchnorm frozen: then smaller parts of a batch will do."
                if self.moving
                else "Close other programs, or choose a smaller network."
            )
            why = " and tuned BatchNorm needs at least 16 images at a time" if self.moving else ""
            raise BadPlan(f"Memory ran out with {now} images at a time{why}: {failed}.", hint=hint)
        self.micro = half
        self.notes.append(
            f"memory ran out: {half} images at a time from here on, still {count} for each step"
        )


def default_micro(device: torch.device, batch_size: int, *, moving: bool, stored: bool) -> int:
    """Images that pass through the network at once.

    The whole batch where BatchNorm follows it, on a GPU, which is the faster the more it has to do, and behind a stored
    prefix, where activations are small. On a CPU a few: their activations stay in its caches.
    """
    if moving or stored or device.type != "cpu":
        return batch_size
    return min(_ON_CPU, batch_size)
