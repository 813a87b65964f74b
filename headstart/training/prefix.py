"""A frozen prefix runs once: its output for a few views of each image is stored, and only the suffix trains."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from headstart import compute
from headstart._core.clock import Clock
from headstart._core.files import atomic
from headstart._core.progress import track
from headstart.adaptation import tensor_hash
from headstart.pixels import Batch, in_order
from headstart.tasks import Network
from headstart.training.engine import Engine
from headstart.training.feed import Pixels
from headstart.training.folding import Folded, same_tensors

IN_MEMORY = 2**30
"""Bytes of stored activations above which they go to a file that is mapped into memory."""

PATTERN = "prefix-*.bin"
"""Names of those files in a rung's checkpoint folder."""

_TOLERANCE = 1e-4  # of the suffix's answers against the whole network's, in float32


class _ReachedError(Exception):
    """Ends a forward pass at the boundary, whose output it carries."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def run_to(network: nn.Module, boundary: str, images: Tensor) -> Tensor:
    """The output of the module named `boundary`; nothing behind it runs."""

    def stop(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        raise _ReachedError(output)

    handle = network.get_submodule(boundary).register_forward_hook(stop)
    try:
        network(images)
    except _ReachedError as reached:
        return reached.output
    finally:
        handle.remove()
    raise ValueError(f"{boundary} did not run")


def suffix_of(network: Network, boundary: str, images: Tensor) -> Network | None:
    """The network without what runs up to the boundary, sharing its tensors; None where that does not give its answers.

    Every module that has returned when the boundary returns, and does not run again, is replaced by one that passes its
    input on: right for networks that are a chain of modules at that level (timm's and torchvision's convolutional ones),
    and found wrong by comparing the answers for the others.
    """
    mode = network.training
    network.eval()
    try:
        with torch.no_grad():
            before = _done_before(network, boundary, images)
            suffix = same_tensors(network)
            for name in before:
                suffix.set_submodule(name, nn.Identity())
            suffix.held = tuple(
                name for name in network.held if not any(f"{name}.".startswith(f"{gone}.") for gone in before)
            )
            expected = network(images)
            try:
                found = suffix.eval()(run_to(network, boundary, images))
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
                return None  # the activation is no input for this network: not a chain
    finally:
        network.train(mode)
    scale = expected.abs().max().clamp_min(1e-12)
    same = found.shape == expected.shape and float((found - expected).abs().max() / scale) < _TOLERANCE
    return suffix if same else None


def _done_before(network: nn.Module, boundary: str, images: Tensor) -> list[str]:
    """The largest modules that have returned when the boundary returns, and do not run again."""
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, _o, name=name: order.append(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    end = order.index(boundary) + 1
    done = set(order[:end]) - set(order[end:])
    return [
        name for name in dict.fromkeys(order[:end]) if name in done and name.rpartition(".")[0] not in done
    ]


@dataclass
class Stored:
    """A feed of stored activations; rows are view 0 of all training images, view 1 …, then the validation images.

    Attributes:
        rows: (views * N + validation images, …) in 16 bits, 4-D ones channels-last: (…, H, W, C).
        train: number of training images.
        views: how many of each there are.
        val: number of validation images.
        device: where batches go.
    """

    rows: Tensor
    train: int
    views: int
    val: int
    device: torch.device

    def epoch(self, epoch: int, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The batches of an epoch: activations in the place of pixels."""
        first = epoch % self.views * self.train
        for group in groups:
            yield Batch(pixels=self._take([first + position for position in group]), positions=tuple(group))

    def validation(self) -> Iterator[Batch]:
        """The validation images in order."""
        first = self.views * self.train
        for group in in_order(self.val, compute.BATCH):
            yield Batch(self._take([first + position for position in group]), tuple(group))

    def inputs(self, values: Tensor) -> Tensor:
        """What the suffix takes."""
        return values.to(self.device, torch.float32)

    def _take(self, places: list[int]) -> Tensor:
        rows = self.rows[torch.tensor(places)]
        return rows.permute(0, 3, 1, 2) if rows.ndim == 4 else rows


@dataclass(frozen=True)
class Boundary:
    """Where a network is cut and what the stored activations depend on.

    Attributes:
        name: the module whose output is stored.
        frozen: names of the tensors before it.
        views: augmented views of each training image.
        folder: where they go when they are large.
    """

    name: str
    frozen: tuple[str, ...]
    views: int
    folder: Path


def split(engine: Engine, pixels: Pixels, boundary: Boundary, clock: Clock) -> tuple[Engine, Stored] | None:
    """The engine for the suffix alone and its feed, or None where the network cannot be cut there or time is up.

    Raises:
        Stopped: when somebody asked for an end while activations were computed.
    """
    network = engine.network.eval()
    engine.twin.push()
    first = next(pixels.validation())
    images = pixels.inputs(first.pixels[:2])
    suffix = suffix_of(network, boundary.name, images)
    if suffix is None:
        engine.notes.append(
            "this network cannot be cut at the boundary: its frozen part runs at each step, which is slower"
        )
        return None
    with torch.inference_mode(), engine.precision():
        shape = run_to(network, boundary.name, images).shape[1:]
    rows = _rows(engine, pixels, boundary, shape=tuple(shape), clock=clock)
    if rows is None:
        return None
    left = {name for name, module in suffix.named_modules() if isinstance(module, nn.Conv2d)}
    pairs = tuple(pair for pair in engine.twin.pairs if pair[0] in left)
    twin = Folded(source=engine.twin.source, network=suffix, pairs=pairs)
    data = pixels.data
    feed = Stored(
        rows=rows, train=len(data.train), views=boundary.views, val=len(data.val), device=engine.device
    )
    return replace(engine, twin=twin), feed


def _rows(
    engine: Engine, pixels: Pixels, boundary: Boundary, *, shape: tuple[int, ...], clock: Clock
) -> Tensor | None:
    """The stored activations: from an interrupted run's file, or computed; None when the budget ends first."""
    dtype = engine.lower or torch.float16
    if len(shape) == 3:
        shape = (shape[1], shape[2], shape[0])
    count = boundary.views * len(pixels.data.train) + len(pixels.data.val)
    if count * math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        rows = torch.empty((count, *shape), dtype=dtype)
        return rows if _fill(rows, engine, pixels, boundary, clock) else None
    file = boundary.folder / f"prefix-{_address(engine, pixels, boundary, shape)}.bin"
    if file.exists() or _write(file, engine, pixels, boundary, (count, *shape), clock):
        return _map(file, (count, *shape), dtype)
    return None


def _write(  # everything the activations depend on, and where they go
    file: Path, engine: Engine, pixels: Pixels, boundary: Boundary, shape: tuple[int, ...], clock: Clock
) -> bool:
    """Whether the file was written, whole, before the budget ended."""
    for old in boundary.folder.glob(PATTERN):
        old.unlink()
    try:
        with atomic(file) as temporary:
            rows = _map(temporary, shape, engine.lower or torch.float16)
            if not _fill(rows, engine, pixels, boundary, clock):
                raise compute.Stopped(clock.over)
    except compute.Stopped:
        if clock.stop_reason:
            raise
        return False
    return True


def _map(file: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype).view(shape)


def _fill(rows: Tensor, engine: Engine, pixels: Pixels, boundary: Boundary, clock: Clock) -> bool:
    """Whether all rows were computed before the budget ended."""
    count, place = len(pixels.data.train), 0
    streams = [pixels.epoch(view, in_order(count, compute.BATCH)) for view in range(boundary.views)]
    total = len(rows)
    stream = (batch for part in (*streams, pixels.validation()) for batch in part)
    for batch in track(stream, label="running the frozen part once", total=total, weight=compute.BATCH):
        if clock.stop_reason:
            raise compute.Stopped(clock.stop_reason)
        if clock.over:
            return False
        with torch.inference_mode(), engine.precision():
            for part in torch.split(batch.pixels, engine.micro):
                out = run_to(engine.network, boundary.name, pixels.inputs(part))
                out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
                rows[place : place + len(out)] = out.to(rows.dtype).cpu()
                place += len(out)
    return True


def _address(engine: Engine, pixels: Pixels, boundary: Boundary, shape: tuple[int, ...]) -> str:
    """A name that changes with everything the activations depend on."""
    source, data = engine.twin.source, pixels.data
    tensors = dict((*source.named_parameters(), *source.named_buffers()))
    digests = [sample.digest for sample in (*data.train, *data.val)]
    told = (boundary.name, boundary.views, shape, str(engine.lower), pixels.augment, pixels.flip, data.seed)
    digest = hashlib.sha256(repr((told, data.preprocess, digests)).encode())
    digest.update(tensor_hash(tensors, boundary.frozen).encode())
    return digest.hexdigest()[:16]
