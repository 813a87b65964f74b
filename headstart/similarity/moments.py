"""Mean and variance of every channel in every image, at chosen places of a network, from one forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart._core.progress import track
from headstart.compute import Stopped
from headstart.compute.taps import Reading, Tapped
from headstart.compute.with_torch import ON_CPU
from headstart.data.records import Sample
from headstart.pixels import batches, in_order, normalise, read_pixels
from headstart.weights import Backbone

BATCH = ON_CPU  # as the engine has them: what is given beside must be the same to the last bit


@dataclass(frozen=True)
class Place:
    """Where to look: what goes into a module, or what comes out of it.

    Attributes:
        module: dotted name.
        side: `input` or `output`.
        channels: size of the channel axis where it is known, else 0.
    """

    module: str
    side: str
    channels: int = 0


@dataclass(frozen=True)
class Moments:
    """Moments at each place; with these alone, images can be weighed and drawn again without another pass.

    Attributes:
        places: where.
        means: for each place (N, channels), the mean over an image's positions.
        variances: for each place (N, channels), the variance over an image's positions.
    """

    places: tuple[Place, ...]
    means: tuple[NDArray[np.float64], ...]
    variances: tuple[NDArray[np.float64], ...]

    def __len__(self) -> int:
        """How many images."""
        return len(self.means[0])


def image_moments(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    places: Sequence[Place],
    beside: Beside | None = None,
    clock: Clock | None = None,
) -> Moments:
    """The moments of these images under the weights' own preprocessing, where the network's parameters lie.

    The network is put into evaluation mode for the pass (its statistics do not move) and back into its modes after it.
    A place that the pass does not reach is left out. Only a network in float32 can give anything beside.

    Raises:
        BadInput: without images, or when nothing asked for was reached.
        Stopped: when somebody asked for an end.
    """
    if not samples:
        raise BadInput("There are no images to measure.", hint="Give two or more.")
    preprocess, parameter = backbone.info.preprocess, next(backbone.module.parameters())
    stream = batches(
        samples,
        lambda _, sample: read_pixels(sample.source, preprocess),
        groups=in_order(len(samples), BATCH),
    )
    taps = [_Tap(place) for place in places]
    tapped = Tapped(backbone.module, preprocess, beside.readings) if beside is not None else None
    body = backbone.module if tapped is None else tapped.network
    with _watching(body, taps), torch.inference_mode():
        for batch in track(stream, label="measuring the images", total=len(samples), weight=BATCH):
            if clock is not None and clock.stop_reason:
                raise Stopped(clock.stop_reason)
            pixels = batch.pixels.to(parameter.device)
            if beside is not None and tapped is not None:
                found = tapped(pixels.permute(0, 2, 3, 1))
                # A short batch has other last digits than one that is filled up, as the engine has it.
                if len(batch.positions) == BATCH:
                    beside.take(batch.positions, tuple(each.float().cpu().numpy() for each in found))
            else:
                images = normalise(pixels, preprocess).to(parameter.dtype)
                body(images.contiguous(memory_format=torch.channels_last))
            for tap in taps:
                tap.close()
    taps = [tap for tap in taps if tap.rows]
    if not taps:
        raise BadInput(
            f"A pass through {backbone.info.arch} reached none of {len(places)} places.",
            hint="Were the places named for another network?",
        )
    both = [np.concatenate(tap.rows, axis=1).astype(np.float64) for tap in taps]
    centres = [tap.centre.double().cpu().numpy() for tap in taps if tap.centre is not None]
    return Moments(
        places=tuple(tap.place for tap in taps),
        means=tuple(rows[0] + centre for rows, centre in zip(both, centres, strict=True)),
        variances=tuple(np.maximum(rows[1] - rows[0] ** 2, 0.0) for rows in both),
    )


@dataclass(frozen=True)
class Beside:
    """What a pass that measures moments gives besides, so that nobody has to compute it again.

    Attributes:
        readings: depth -> how its output is read.
        take: is given the positions of each full batch, and its outputs as an engine of `compute` has them: the network's
            own, then each depth's.
    """

    readings: Mapping[str, Reading]
    take: Callable[[tuple[int, ...], tuple[NDArray[np.float32], ...]], None]


@dataclass
class _Tap:
    """What one place has shown. A module that runs twice in a pass counts as the mean of its runs.

    Sums are taken around the first batch's mean: in float32 the mean of squares minus the square of the mean is noise
    wherever a channel's mean is large against its spread.
    """

    place: Place
    centre: Tensor | None = None
    runs: list[Tensor] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    def see(self, value: Any) -> None:
        tensor = value[0] if isinstance(value, tuple | list) else value
        axis = _channel_axis(tuple(tensor.shape), self.place.channels)
        flat = tensor.movedim(axis, -1).reshape(tensor.shape[0], -1, tensor.shape[axis]).float()
        if self.centre is None:
            self.centre = flat.mean((0, 1))
        moved = flat - self.centre
        # a product with ones is the fastest sum over positions: mean() and var() of channels-last memory take 3x as long
        share = moved.new_full((1, 1, 1), 1 / moved.shape[1]).expand(len(moved), 1, moved.shape[1])
        mean = torch.bmm(share, moved)[:, 0]
        self.runs.append(torch.stack([mean, torch.bmm(share, moved.square_())[:, 0]]))

    def close(self) -> None:
        """The end of a batch."""
        if self.runs:
            self.rows.append(torch.stack(self.runs).mean(0).cpu().numpy())
            self.runs.clear()


def _channel_axis(shape: tuple[int, ...], channels: int) -> int:
    """The axis of the channels: the second of (N, C, H, W), the last of (N, tokens, C) and of (N, H, W, C)."""
    if len(shape) == 3:
        return 1 if channels and shape[1] == channels != shape[2] else 2
    return len(shape) - 1 if len(shape) == 4 and channels and shape[-1] == channels != shape[1] else 1


@contextlib.contextmanager
def _watching(network: nn.Module, taps: Sequence[_Tap]) -> Iterator[None]:
    """The network in evaluation mode with a hook at each place; afterwards as it was."""
    modes = {module: module.training for module in network.modules()}
    hooks = []
    try:
        network.eval()
        for tap in taps:
            module = network.get_submodule(tap.place.module)
            if tap.place.side == "input":
                hooks.append(module.register_forward_pre_hook(lambda _, given, tap=tap: tap.see(given)))
            else:
                hooks.append(module.register_forward_hook(lambda _, __, made, tap=tap: tap.see(made)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
