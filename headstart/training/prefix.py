"""A frozen prefix runs once: its output for a few views of each image is stored, and only the suffix trains."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from headstart import compute
from headstart._core.clock import Clock
from headstart._core.files import atomic
from headstart._core.places import told_size
from headstart._core.progress import track
from headstart.adaptation import tensor_hash
from headstart.data.records import Sample
from headstart.pixels import Batch, in_order
from headstart.tasks import Network
from headstart.tasks.pyramid import MapNetwork
from headstart.training.engine import Engine
from headstart.training.feed import Pixels
from headstart.training.folding import Folded, same_tensors
from headstart.training.packed import Truth, maps_up_to, packed, truth_of, unpacking

IN_MEMORY = 2**30
"""Bytes of stored activations above which they go to a file that is mapped into memory."""

PATTERN = "prefix-*.bin"
"""Names of those files in a rung's checkpoint folder."""

_TOLERANCE = 1e-4  # of the suffix's answers against the whole network's, in float32


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


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


def stored_of(network: Network, boundary: str, images: Tensor) -> Tensor:
    """What the suffix needs of images: the boundary's output, or, where heads read maps, all maps up to it in rows."""
    last = run_to(network, boundary, images)
    return packed(maps_up_to(network, boundary, last)) if isinstance(network, MapNetwork) else last


def suffix_of(network: Network, boundary: str, images: Tensor) -> Network | None:
    """The network without what runs up to the boundary, sharing its tensors; None where that does not give its answers.

    Every module that has returned when the boundary returns, and does not run again, is replaced by one that passes its
    input on: right for networks that are a chain of modules at that level (timm's and torchvision's convolutional ones),
    and found wrong by comparing the answers for the others. Where heads read maps, what it takes in the place of images is
    what `stored_of` gives.
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
            expected, rows = network(images), run_to(network, boundary, images)
            if isinstance(network, MapNetwork) and isinstance(suffix, MapNetwork):
                maps = maps_up_to(network, boundary, rows)
                unpacking(suffix, maps)
                rows = packed(maps)
            try:
                found = suffix.eval()(rows)
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
        truth: how what is true of an image is packed at the end of its row; None: it is not in there.
    """

    rows: Tensor
    train: int
    views: int
    val: int
    device: torch.device
    truth: Truth | None = None

    def epoch(self, epoch: int, groups: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The batches of an epoch: activations in the place of pixels."""
        first = epoch % self.views * self.train
        for group in groups:
            rows = self._take([first + position for position in group])
            if self.truth is None:
                yield Batch(pixels=rows, positions=tuple(group))
                continue
            told = rows[:, -self.truth.width :].contiguous().view(torch.int16)
            truth = tuple(self.truth.unpack(row) for row in told)
            yield Batch(pixels=rows[:, : -self.truth.width], positions=tuple(group), truth=truth)

    def validation(self) -> Iterator[Batch]:
        """The validation images in order."""
        first, end = self.views * self.train, None if self.truth is None else -self.truth.width
        for group in in_order(self.val, compute.BATCH):
            rows = self._take([first + position for position in group])
            yield Batch(rows if end is None else rows[:, :end], tuple(group))

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
    truth, packable = truth_of(pixels.data)
    if suffix is None or not packable:
        engine.notes.append(
            "this network cannot be cut at the boundary: its frozen part runs at each step, which is slower"
        )
        return None
    with torch.inference_mode(), engine.precision():
        shape = tuple(stored_of(network, boundary.name, images).shape[1:])
    if len(shape) == 3:
        shape = (shape[1], shape[2], shape[0])
    store, started = _Store(engine, pixels, boundary, truth, shape), time.monotonic()
    rows = store.rows(clock)
    if rows is None:
        return None
    engine.notes.append(
        f"the frozen part is stored for {boundary.views} views of {len(pixels.data.train)} training images and for "
        f"{len(pixels.data.val)} to validate by: {told_size(rows.nbytes)} in {time.monotonic() - started:.0f} s"
    )
    left = {name for name, module in suffix.named_modules() if isinstance(module, nn.Conv2d)}
    pairs = tuple(pair for pair in engine.twin.pairs if pair[0] in left)
    twin = Folded(source=engine.twin.source, network=suffix, pairs=pairs)
    data = pixels.data
    feed = Stored(
        rows=rows,
        train=len(data.train),
        views=boundary.views,
        val=len(data.val),
        device=engine.device,
        truth=store.truth,
    )
    return replace(engine, twin=twin), feed


@dataclass(frozen=True)
class _Store:
    """What is stored, and everything it depends on.

    Attributes:
        truth: how what is true of an image is packed behind its activations; None: it is not.
        shape: of an image's activations.
    """

    engine: Engine
    pixels: Pixels
    boundary: Boundary
    truth: Truth | None
    shape: tuple[int, ...]

    @property
    def whole(self) -> tuple[int, ...]:
        """Rows, and the shape of each."""
        count = self.boundary.views * len(self.pixels.data.train) + len(self.pixels.data.val)
        return (count, *self.shape) if self.truth is None else (count, self.shape[0] + self.truth.width)

    @property
    def dtype(self) -> torch.dtype:
        """The 16 bits of training's own precision."""
        return self.engine.lower or torch.float16

    def rows(self, clock: Clock) -> Tensor | None:
        """The stored activations: from an interrupted run's file, or computed; None when time or the disk ends first."""
        size = math.prod(self.whole) * self.dtype.itemsize
        if size <= IN_MEMORY:
            rows = torch.empty(self.whole, dtype=self.dtype)
            return rows if self._fill(rows, clock) else None
        file = self.boundary.folder / f"prefix-{self._address()}.bin"
        if not file.exists() and not self._room(size):
            return None
        if file.exists() or self._write(file, clock):
            return self._map(file)
        return None

    def _room(self, size: int) -> bool:
        """Whether the disk has room for so many bytes, and as much again; if not, that is noted."""
        folder = self.boundary.folder
        while not folder.exists():
            folder = folder.parent
        free = free_bytes(folder)
        if size <= free / 2:
            return True
        self.engine.notes.append(
            f"the frozen part runs at each step: its output for all images takes {told_size(size)}, and the disk has "
            f"{told_size(free)} free"
        )
        return False

    def _write(self, file: Path, clock: Clock) -> bool:
        """Whether the file was written, whole, before the budget ended."""
        for old in self.boundary.folder.glob(PATTERN):
            old.unlink()
        try:
            with atomic(file) as temporary:
                rows = self._map(temporary)
                if not self._fill(rows, clock):
                    raise compute.Stopped(clock.over)
        except compute.Stopped:
            if clock.stop_reason:
                raise
            return False
        return True

    def _map(self, file: Path) -> Tensor:
        size = math.prod(self.whole)
        return torch.from_file(str(file), shared=True, size=size, dtype=self.dtype).view(self.whole)

    def _fill(self, rows: Tensor, clock: Clock) -> bool:
        """Whether all rows were computed before the budget ended."""
        engine, pixels, name = self.engine, self.pixels, self.boundary.name
        count, place = len(pixels.data.train), 0
        streams = [pixels.epoch(view, in_order(count, compute.BATCH)) for view in range(self.boundary.views)]
        stream = (batch for part in (*streams, pixels.validation()) for batch in part)
        for batch in track(
            stream, label="running the frozen part once", total=len(rows), weight=compute.BATCH
        ):
            if clock.stop_reason:
                raise compute.Stopped(clock.stop_reason)
            if clock.over:
                return False
            start = place
            with torch.inference_mode(), engine.precision():
                for part in torch.split(batch.pixels, engine.micro):
                    out = stored_of(engine.network, name, pixels.inputs(part))
                    out = out.permute(0, 2, 3, 1) if out.ndim == 4 else out
                    rows[place : place + len(out), : self.shape[0]] = out.to(rows.dtype).cpu()
                    place += len(out)
            for number, truth in enumerate(batch.truth if self.truth is not None else ()):
                told = self.truth.pack(truth).view(rows.dtype)  # type: ignore[union-attr]  # there is truth only then
                rows[start + number, self.shape[0] :] = told
        return True

    def _address(self) -> str:
        """A name that changes with everything the rows depend on."""
        source, data, pixels = self.engine.twin.source, self.pixels.data, self.pixels
        tensors = dict((*source.named_parameters(), *source.named_buffers()))
        boundary, lower = self.boundary, self.engine.lower
        digests = [sample.digest for sample in (*data.train, *data.val)]
        told: tuple[object, ...] = (
            boundary.name,
            boundary.views,
            self.shape,
            str(lower),
            pixels.augment,
            pixels.flip,
            data.seed,
        )
        if self.truth is not None:
            told = (*told, self.truth, [(sample.boxes, _mask_facts(sample)) for sample in data.train])
        digest = hashlib.sha256(repr((told, data.preprocess, digests)).encode())
        digest.update(tensor_hash(tensors, boundary.frozen).encode())
        return digest.hexdigest()[:16]


def _mask_facts(sample: Sample) -> object:
    return None if sample.mask is None else (sample.mask.digest, sample.mask.meaning)
