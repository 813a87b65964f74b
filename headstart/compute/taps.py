"""Several depths out of one pass: a network that takes 8-bit pixels and also gives summaries of inner outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headstart._core.errors import BadOption
from headstart.data.preprocess import Preprocess
from headstart.pixels import normalise

_FLAT = 1e-20  # variance of a channel that is the same everywhere


@dataclass(frozen=True)
class Reading:
    """How to read a module's output.

    Attributes:
        layout: `map` (N, C, h, w), `map-last` (N, h, w, C), `tokens` (N, T, C) or `vector` (N, C).
        skip: leading tokens that are no place in the image (class token, registers).
    """

    layout: str
    skip: int = 0


class Tapped(nn.Module):
    """Maps (N, H, W, 3) 8-bit pixels to the network's own output and, for each depth, its summary (N, 2 * C).

    The hooks sit on a copy that shares its tensors, so that the caller's network, which may be trained and copied
    later, knows nothing of them.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, readings: Mapping[str, Reading]) -> None:
        super().__init__()
        self.network = _with_same_tensors(network) if readings else network
        self._preprocess = preprocess
        self._readings = dict(readings)
        self._seen: dict[str, Tensor] = {}
        for name in readings:
            self.network.get_submodule(name).register_forward_hook(self._keeper(name))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The network's output, then the depths' summaries in their order."""
        out = self.network(normalise(pixels.permute(0, 3, 1, 2), self._preprocess))
        found = tuple(summary(self._seen[name], reading) for name, reading in self._readings.items())
        self._seen.clear()  # activations must not outlive the pass
        return (out, *found)

    def _keeper(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._seen[name] = _tensor(output)

        return keep


def summary(output: Tensor, reading: Reading) -> Tensor:
    """Mean and standard deviation (population's) over all places, side by side: (N, 2 * C)."""
    if reading.layout == "vector":
        return torch.cat([output, torch.zeros_like(output)], 1)
    if reading.layout == "map":
        places = output.flatten(2)
        axis = 2
    else:
        places = output.flatten(1, 2) if reading.layout == "map-last" else output[:, reading.skip :]
        axis = 1
    mean = places.mean(axis, keepdim=True)
    # The root's slope at 0 is infinite: a channel that is the same everywhere would make every gradient NaN.
    deviation = (places - mean).square().mean(axis).clamp_min(_FLAT).sqrt()
    return torch.cat([mean.squeeze(axis), deviation], 1)


def read_depths(network: nn.Module, preprocess: Preprocess, depths: tuple[str, ...]) -> dict[str, Reading]:
    """Depth -> how its output is laid out, found by one pass of a blank image.

    Args:
        network: in evaluation mode.
        preprocess: whose input size is used.
        depths: dotted names of modules.

    Raises:
        BadOption: for a module that the network lacks or does not pass, or whose output is not understood.
    """
    names = dict(network.named_modules())
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[name] = tuple(_tensor(output).shape)

        return look

    for depth in depths:
        if depth not in names:
            raise BadOption(f"The network has no module {depth!r}.", hint="Use the outputs of its stages.")
    handles = [names[depth].register_forward_hook(watch(depth)) for depth in depths]
    try:
        where = next(network.parameters()).device
        with torch.no_grad():
            network(torch.zeros(1, 3, preprocess.height, preprocess.width, device=where))
    finally:
        for handle in handles:
            handle.remove()
    prefix = getattr(network, "num_prefix_tokens", None)  # timm's name
    if prefix is None:
        prefix = int(hasattr(network, "class_token"))  # torchvision's
    return {depth: _reading(depth, shapes.get(depth), preprocess, prefix=prefix) for depth in depths}


def on_device(network: nn.Module, where: torch.device) -> nn.Module:
    """The network itself where it already is on that device, else a copy there: its owner still needs it."""
    at = next(network.parameters(), torch.empty(0)).device
    return network if at.type == where.type else copy.deepcopy(network).to(where)


def _reading(depth: str, shape: tuple[int, ...] | None, preprocess: Preprocess, *, prefix: int) -> Reading:
    if shape is not None and len(shape) == 2:
        return Reading("vector")
    if shape is not None and len(shape) == 3:
        tokens = shape[1]
        whole = any(
            _fits(rows, tokens // rows, preprocess) for rows in range(1, tokens + 1) if tokens % rows == 0
        )
        return Reading("tokens", skip=0 if whole or tokens <= prefix else prefix)
    if shape is not None and len(shape) == 4:
        _, first, second, third = shape
        last = _fits(first, second, preprocess) and not _fits(second, third, preprocess)
        return Reading("map-last" if last else "map")
    what = "is not passed" if shape is None else f"gives an output of shape {shape}"
    raise BadOption(f"Module {depth!r} {what}.", hint="Use the outputs of the network's stages.")


def _fits(rows: int, columns: int, preprocess: Preprocess) -> bool:
    """Whether a grid has the input's shape: the same stride along both sides, but for rounding."""
    stride = max(preprocess.height / rows, preprocess.width / columns)
    near = abs(preprocess.height / stride - rows) < 1 and abs(preprocess.width / stride - columns) < 1
    return near and rows <= preprocess.height and columns <= preprocess.width


def _tensor(output: Any) -> Tensor:
    """The tensor, or the first one of a tuple or list."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise BadOption(
            f"A module gives {type(output).__name__}, not a tensor.",
            hint="Use the outputs of the network's stages.",
        )
    return output


def _with_same_tensors(network: nn.Module) -> nn.Module:
    """A copy of the modules; parameters and buffers are the network's own, not copies."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)
