"""Networks compiled for training, where the run is long enough to pay for compiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstart.training.engine import out_of_memory

WORTH_COMPILING = 1.5e15
"""Floating-point operations of all forward passes of a run from which compiling pays on a GPU.

An estimate, not measured here: compiled training of 163 open networks was 1.43 times as fast as eager on an A100 (PyTorch
2.0's announcement), so a minute or two of compiling is saved in some 180,000 passes of ResNet-50. On a CPU it never
pays: two cores with AVX512-BF16 take 47 images/s through a step of EfficientNet-Lite0, compiled 18, and 25 with the
depthwise gradients of `compute.depthwise`; whatever Inductor fuses, its gradients of convolutions are oneDNN's own."""

Call = Callable[[Tensor], Any]


def pays(choice: str, device: torch.device, *, operations: Callable[[], float]) -> bool:
    """Whether a run compiles its network; a rule without a clock, so that a resumed run decides the same.

    Args:
        choice: `auto`, `yes` or `no`.
        device: where the run computes.
        operations: counts those of all its forward passes, as planned; asked only where they decide.
    """
    if choice != "auto":
        return choice == "yes"
    return device.type == "cuda" and operations() >= WORTH_COMPILING


@dataclass
class Compiled:
    """A network's forward pass, compiled at the first call; eager where the compiler fails at it.

    Attributes:
        network: what is compiled; its parameters stay its own.
        notes: takes a sentence when compiling failed.
        compiler: makes a faster function of a module.
    """

    network: nn.Module
    notes: list[str]
    compiler: Callable[[nn.Module], Call] = torch.compile
    _fast: Call | None = None
    _proven: bool = field(default=False)

    def __call__(self, images: Tensor) -> Any:
        """The network's outputs."""
        if self._fast is None and not self._proven:
            self._fast = self.compiler(self.network)
        if self._fast is None:
            return self.network(images)
        try:
            outputs = self._fast(images)
        except Exception as error:  # compilers raise anything; the reason is told, and the network runs
            if self._proven or out_of_memory(error):  # the engine knows what to do then
                raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self.notes.append(f"the network could not be compiled and runs as it is: {first}")
            self._fast, self._proven = None, True
            return self.network(images)
        self._proven = True
        return outputs
