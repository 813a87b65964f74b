"""Engines that are torch itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.compute.records import Job, Outputs, Pixels
from headstart.compute.taps import Tapped, on_device

BATCH = 32
ON_CPU = 8
"""Images a call on a processor, always exactly so many: with fewer torch takes other kernels, whose sums differ in the last
digits, and what an image is answered must not depend on the company in which it was computed and then kept. Eight are as
fast as 32."""

COMPILE_FROM = 20_000
"""Images from which compiling for a GPU pays: it costs up to a minute, eager 16-bit does a thousand or more a second.

An estimate from torch's published compile times; not measured here."""


@dataclass(frozen=True)
class TorchRunner:
    """A `Runner` by torch.

    Attributes:
        network: maps (N, H, W, 3) 8-bit pixels to a tuple of tensors.
        where: the device that the network is on.
        dtype: of automatic mixed precision; float32 for none.
        lanes: one: torch's own threads share the processors already.
        batch: images a call.
    """

    network: nn.Module | Any
    where: torch.device
    dtype: torch.dtype = torch.float32
    lanes: int = 1
    batch: int = BATCH

    @property
    def precision(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self.dtype).removeprefix("torch.")

    def __call__(self, pixels: Pixels) -> Outputs:
        """Outputs of (N, H, W, 3) 8-bit pixels; they cross to the device as bytes, a quarter of the traffic of floats.

        On a processor a short batch is filled up with its last image.
        """
        missing = self.batch - len(pixels)
        if missing > 0 and self.where.type == "cpu":
            filled = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
            return tuple(each[: len(pixels)] for each in self(filled))
        images = torch.from_numpy(pixels)
        if self.where.type == "cuda":
            images = images.pin_memory()
        mixed = torch.autocast(self.where.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), mixed:
            found = self.network(images.to(self.where, non_blocking=True))
        return tuple(each.float().cpu().numpy() for each in found)


def why_not_torch() -> str:
    """Never a reason: the reference is always there."""
    return ""


def why_not_cuda() -> str:
    """Why no NVIDIA GPU can be used."""
    return "" if torch.cuda.is_available() else "no CUDA device"


def why_not_cuda_bf16() -> str:
    """Why no NVIDIA GPU with bfloat16 arithmetic can be used."""
    reason = why_not_cuda()
    if not reason and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16 arithmetic"
    return reason


def why_not_mps() -> str:
    """Why no Apple GPU can be used."""
    return "" if torch.backends.mps.is_available() else "no Apple GPU"


def open_reference(job: Job) -> TorchRunner:
    """Eager float32 on the CPU, channels-last."""
    return TorchRunner(_ready(job, torch.device("cpu")), torch.device("cpu"), batch=ON_CPU)


def open_mps(job: Job) -> TorchRunner:
    """Eager float32 on Apple's GPU."""
    return TorchRunner(_ready(job, torch.device("mps")), torch.device("mps"))


def open_cuda_fp16(job: Job) -> TorchRunner:
    """Mixed precision in float16 on an NVIDIA GPU."""
    return _open_cuda(job, torch.float16)


def open_cuda_bf16(job: Job) -> TorchRunner:
    """Mixed precision in bfloat16 on an NVIDIA GPU."""
    return _open_cuda(job, torch.bfloat16)


def open_cuda_f32(job: Job) -> TorchRunner:
    """Float32 on an NVIDIA GPU."""
    return _open_cuda(job, torch.float32)


def _open_cuda(job: Job, dtype: torch.dtype) -> TorchRunner:
    where = torch.device("cuda")
    network: Any = _ready(job, where)
    if job.count >= COMPILE_FROM:
        network = torch.compile(network, dynamic=True)
    return TorchRunner(network, where, dtype, batch=4 * BATCH)


def _ready(job: Job, where: torch.device) -> Tapped:
    laid_out = on_device(job.network, where).to(memory_format=torch.channels_last)
    return Tapped(laid_out, job.preprocess, job.readings).eval()
