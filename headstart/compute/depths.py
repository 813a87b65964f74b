"""A classifier whose head reads earlier depths of its network; what lies behind the deepest can be cut off."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from headstart._core.records import record
from headstart.compute.taps import Reading, summary
from headstart.data.preprocess import Preprocess
from headstart.tasks import Classifier, Network

OUTPUT = "output"
"""The name of the network's own pooled output among the depths."""

_TOLERANCE = (
    1e-5  # of the cut network's answers against the whole one's: the same operations in the same order
)


@record
class Tap:
    """One thing that a head reads.

    Attributes:
        module: dotted name of the module whose output is read, or `output`.
        layout: `map`, `map-last`, `tokens` or `vector`; see `taps.Reading`.
        skip: leading tokens that are no place in the image.
        deviation: whether the standard deviation over all places is read beside the mean.
    """

    module: str
    layout: str = "vector"
    skip: int = 0
    deviation: bool = False


@record
class Depths:
    """What a head reads, in the order of its columns, and which modules of the network are gone.

    Attributes:
        taps: in forward order.
        cut: dotted names of modules in the body that nobody reads any more.
    """

    taps: tuple[Tap, ...]
    cut: tuple[str, ...] = ()


class DepthClassifier(Classifier):
    """A `Classifier` whose head reads pooled outputs of inner modules, side by side, instead of the body's own output.

    Parameters are named as in any `Classifier`: `body.` + the backbone's own names, `head.weight`, `head.bias`.

    Args:
        body: the backbone's network, whole; it is changed: it gets hooks, and loses what `depths.cut` names.
        depths: what is read.
        width: columns of all taps together.
        classes: outputs of the head.
    """

    def __init__(self, body: nn.Module, depths: Depths, *, width: int, classes: int) -> None:
        super().__init__(body, width, classes)
        self.depths = depths
        self._seen: dict[tuple[int, str], Tensor] = {}
        for place in depths.cut:
            body.set_submodule(place, nn.Identity())
        for tap in depths.taps:
            if tap.module != OUTPUT:
                body.get_submodule(tap.module).register_forward_hook(_Keeper(self._seen, tap.module))

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the head reads (N, width), and logits (N, classes), of normalised images (N, 3, H, W)."""
        out = self.body(images)
        me = threading.get_ident()
        parts = [
            out
            if tap.module == OUTPUT
            else columns(summary(self._seen.pop((me, tap.module)), _reading(tap)), tap)
            for tap in self.depths.taps
        ]
        features = torch.cat(parts, 1)
        return features, self.head(features)

    def extra_repr(self) -> str:
        """What is read: two networks that read different depths are not the same network."""
        return repr(self.depths)


class _Keeper:
    """A hook that keeps a module's output for the thread that computes it; copied together with its network."""

    def __init__(self, seen: dict[tuple[int, str], Tensor], name: str) -> None:
        self.seen, self.name = seen, name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        while isinstance(output, tuple | list):
            output = output[0]
        self.seen[threading.get_ident(), self.name] = output


def columns(both: Any, tap: Tap) -> Any:
    """The columns of a summary (N, 2 * C), tensor or array, that the tap reads: (N, C) or all."""
    return both if tap.deviation else both[:, : both.shape[1] // 2]


def at_depths(model: Network, depths: Depths, *, width: int) -> DepthClassifier:
    """The same body, changed to be read at these depths, under a new head for as many classes; what was held still is."""
    new = DepthClassifier(model.body, depths, width=width, classes=model.head.out_features)
    new.held = model.held
    new.train(model.training)
    return new


def trimmed(model: DepthClassifier, preprocess: Preprocess) -> DepthClassifier:
    """A copy without the modules that only run behind the deepest tap; whole where the network cannot do without them.

    Args:
        model: in evaluation mode, whole.
        preprocess: whose input size is used.
    """
    taps = model.depths.taps
    if any(tap.module == OUTPUT for tap in taps):
        return model
    where = model.head.weight.device
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, preprocess.height, preprocess.width, generator=generator).to(where)
    with torch.no_grad():
        expected = model(images)
        gone = _behind(model.body, {tap.module for tap in taps}, images)
        small = copy.deepcopy(model)
        for place in gone:
            small.body.set_submodule(place, nn.Identity())
        small.depths = replace(model.depths, cut=gone)
        try:
            found = small(images)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return model  # what is left between the modules does not get along with an earlier output
    scale = expected.abs().max().clamp_min(1e-12)
    return small if float((found - expected).abs().max() / scale) < _TOLERANCE else model


def _behind(body: nn.Module, taps: set[str], images: Tensor) -> tuple[str, ...]:
    """The largest modules that begin to run only after the last tap has returned."""
    began: list[str] = []
    first: list[int] = []

    def begin(name: str) -> Any:
        return lambda _module, _inputs: began.append(name)

    def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        first.append(len(began))

    handles = [m.register_forward_pre_hook(begin(name)) for name, m in body.named_modules() if name]
    handles += [body.get_submodule(tap).register_forward_hook(end) for tap in taps]
    try:
        body(images)
    finally:
        for handle in handles:
            handle.remove()
    late = set(began[first[-1] :]) - set(began[: first[-1]])
    inside = {name for name in late if any(name.startswith(f"{other}.") for other in late)}
    return tuple(name for name in dict.fromkeys(began) if name in late - inside)


def _reading(tap: Tap) -> Reading:
    return Reading(layout=tap.layout, skip=tap.skip)
