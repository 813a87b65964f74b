"""Forward passes of frozen networks over many images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart._core.clock import Clock
from headstart._core.progress import track
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import batches, in_order, normalise, read_pixels

BATCH = 32

_AMPERE = 8  # first generation of NVIDIA's chips with bfloat16 arithmetic


Keep = Callable[[Tensor, Sequence[Sample]], NDArray[Any]]
"""(outputs of a batch, its samples) -> what is kept of them, one row each."""


class Stopped(Exception):
    """Raised between two batches when the clock says so; what was computed is of no use alone."""


def device() -> torch.device:
    """Where networks run: CUDA, Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def native_bfloat16(device: torch.device) -> bool:
    """Whether the chip computes in bfloat16 itself; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= _AMPERE
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def forward(
    network: nn.Module,
    samples: Sequence[Sample],
    preprocess: Preprocess,
    *,
    label: str,
    clock: Clock | None = None,
    keep: Keep | None = None,
) -> NDArray[Any]:
    """The network's output (N, outputs), or what `keep` makes of it, for every sample in order; eager float32 on `device()`.

    For a network in training, which changes too often to be compiled; frozen ones go through `choose` and `run`.

    Raises:
        Stopped: when somebody asked for an end; the time budget alone does not end a pass.
    """
    where = device()
    network = network.to(where).to(memory_format=torch.channels_last).eval()
    stream = batches(
        samples,
        lambda _, sample: read_pixels(sample.source, preprocess),
        groups=in_order(len(samples), BATCH),
    )
    out: list[NDArray[Any]] = []
    with torch.inference_mode():
        for batch in track(stream, label=label, total=len(samples), weight=BATCH):
            if clock is not None and clock.stop_reason:
                raise Stopped(clock.stop_reason)
            images = normalise(batch.pixels.to(where), preprocess).contiguous(
                memory_format=torch.channels_last
            )
            outputs = network(images).float()
            own = [samples[place] for place in batch.positions]
            out.append(outputs.cpu().numpy() if keep is None else keep(outputs, own))
    return np.concatenate(out)
