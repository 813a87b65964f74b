"""The preprocessing contract as an ONNX graph: resize, crop and rounding as `pixels.contract` does them.

Why not the standard's own `Resize`: runtimes differ in its anti-aliasing, and it works out the whole
resized image before a crop, which for a 20000 x 1 image is gigabytes. Here the two passes are matrix
products with weights that the graph works out from the image's size, in integers as far as they go, and
only for the window; only operators that every runtime has are used. A dense product would spend most of its
time on zeros, so the output is cut into blocks of `_BLOCK` columns (or rows), each with the stretch of
input it needs.

A size such as 640 -> 416 gives thousands of sums that end in exactly one half, and one gray level is enough to
turn a detector's choice between two neighbours. So in a letterbox, which shows whole images, weights are what
Pillow makes of them, whole multiples of 2^-22 that are worked out in double precision, in two parts of 11 bits
each: their products with 8-bit pixels add up without rounding in single precision, and so does what is carried
from one to the other. (OpenVINO works the weights out in single precision all the same: some five pixels of
100,000 are off by one there.) Elsewhere one part is enough, in half the time: Pillow itself knows the places of crops to
single precision only, so they differ in one pixel of ten thousand.

Columns come first, then rows, with 8 bits between them. (Pillow >= 13 turns that round for tall images.)

Source: the weights are those of Pillow's resampling, https://github.com/python-pillow/Pillow, Resample.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstart.data.preprocess import Preprocess
from headstart.export.graph import Graph, Value

_PART = 2.0**11  # Pillow's weights have twice as many bits behind the point
_LEAST = 1e-6  # of a sum of weights: beyond the end of a letterbox's image there are none
_BLOCK = 32  # small enough to skip most zeros, large enough to keep a matrix product efficient


@dataclass(frozen=True)
class _Axis:
    """One axis of the resize: its length, its length afterwards, and where in that the window starts."""

    source: Value
    resized: Value
    first: Value
    window: int


@dataclass(frozen=True)
class _Taps:
    """Which input each block of outputs reads, and how much of it counts.

    Attributes:
        blocks: how many.
        indices: (blocks x stretch,) places in the source.
        coarse: (blocks, _BLOCK, stretch) in units of 2^-11; a row sums to about 2^11.
        fine: in units of 2^-22, what the weights are besides where `coarse` holds whole numbers; else None.
    """

    blocks: int
    indices: Value
    coarse: Value
    fine: Value | None

    def read(self, pixels: Value) -> Value:
        """The pixels (…, blocks, stretch, M), whole numbers, under the weights: (…, blocks, _BLOCK, M), 8-bit again.

        The nearest whole numbers in [0, 255], halves upwards, as Pillow rounds after each of its passes.
        """
        sums, graph = self.coarse @ pixels, self.coarse.graph
        if self.fine is not None:
            sums = sums + graph.op("Floor", (self.fine @ pixels) / _PART)
        return graph.op("Floor", sums / _PART + 0.5).at_least(0.0).at_most(255.0)


def window_pixels(graph: Graph, images: Value, preprocess: Preprocess) -> Value:
    """Whole numbers in [0, 255], float (N, 3, height, width), of 8-bit images (N, H, W, 3) of any size."""
    horizontal, vertical = _axes(graph, images, preprocess)
    columns, rows = (_taps(graph, axis, preprocess) for axis in (horizontal, vertical))
    # (N, W, 3, rows), still 8-bit: a column lies whole in memory, so taking columns copies long pieces
    upright = images.take(rows.indices, axis=1).transpose(0, 2, 3, 1)
    stretches = upright.take(columns.indices, axis=1).to(np.float32)
    lines = graph.op("Shape", rows.indices, dtype=np.int64) * 3
    wanted = graph.op("Concat", graph.constant([0, columns.blocks, -1], np.int64), lines, axis=0)
    blocks = graph.op("Reshape", stretches, wanted)  # (N, blocks, stretch, 3 x rows)
    across = columns.read(blocks).reshape(0, columns.blocks * _BLOCK, 3, -1)
    narrow = across.head(preprocess.width, axis=1).transpose(0, 2, 3, 1)  # (N, 3, rows, width)
    down = rows.read(narrow.reshape(0, 0, rows.blocks, -1, preprocess.width))
    whole = down.reshape(0, 0, rows.blocks * _BLOCK, preprocess.width).head(preprocess.height, axis=2)
    if preprocess.fit != "letterbox":
        return whole
    return _filled(graph, whole, (horizontal.resized, vertical.resized), preprocess)


def _filled(graph: Graph, pixels: Value, sizes: tuple[Value, Value], preprocess: Preprocess) -> Value:
    """The pixels (N, 3, height, width), with the mean colour beyond the image's part of (columns, rows)."""
    columns = graph.constant(np.arange(preprocess.width).reshape(1, 1, 1, -1), np.int64) < sizes[0]
    rows = graph.constant(np.arange(preprocess.height).reshape(1, 1, -1, 1), np.int64) < sizes[1]
    fill = graph.constant(np.array(preprocess.fill).reshape(1, 3, 1, 1), np.float32)
    inside = graph.op("And", columns, rows, dtype=np.bool_)
    return graph.op("Where", inside, pixels, fill, dtype=np.float32)


def frame_sizes(graph: Graph, images: Value, preprocess: Preprocess) -> tuple[Value, Value, Value, Value]:
    """Width and height of the images, and of their part of a letterbox, by the rule of `Preprocess.resized`."""
    shape = graph.op("Shape", images, dtype=np.int64)
    height, width = (shape.take(graph.constant(axis, np.int64), axis=0) for axis in (1, 2))
    columns = (width * preprocess.height // height).at_least(1).at_most(preprocess.width)
    rows = (height * preprocess.width // width).at_least(1).at_most(preprocess.height)
    return width, height, columns, rows


def _axes(graph: Graph, images: Value, preprocess: Preprocess) -> tuple[_Axis, _Axis]:
    """The horizontal and the vertical axis, by the rules of `Preprocess` and of `pixels.contract`."""
    shape = graph.op("Shape", images, dtype=np.int64)
    height, width = (shape.take(graph.constant(axis, np.int64), axis=0) for axis in (1, 2))
    if preprocess.fit == "squash":
        zero = graph.constant(0, np.int64)
        return (
            _Axis(width, graph.constant(preprocess.width, np.int64), zero, preprocess.width),
            _Axis(height, graph.constant(preprocess.height, np.int64), zero, preprocess.height),
        )
    if preprocess.fit == "letterbox":
        zero = graph.constant(0, np.int64)
        _, _, columns, rows = frame_sizes(graph, images, preprocess)
        return _Axis(width, columns, zero, preprocess.width), _Axis(height, rows, zero, preprocess.height)
    short = width.at_most(height)
    resized = [size * preprocess.resize // short for size in (width, height)]
    return (
        _Axis(width, resized[0], _half_even(resized[0] - preprocess.width), preprocess.width),
        _Axis(height, resized[1], _half_even(resized[1] - preprocess.height), preprocess.height),
    )


def _half_even(spare: Value) -> Value:
    """Half of a whole number >= 0, rounded to the even neighbour at .5, as Python's `round` does."""
    half = spare // 2
    return half + (spare % 2) * (half % 2)


def _taps(graph: Graph, axis: _Axis, preprocess: Preprocess) -> _Taps:
    """Places and weights for one axis.

    The centre of output k lies at source * (2 (first + k) + 1) / (2 resized): a fraction of whole numbers, so
    its distance to a pixel is exact up to the last conversion to float, however long the image is.
    """
    reach = 2 if preprocess.interpolation == "bicubic" else 1
    blocks = -(-axis.window // _BLOCK)
    wider = axis.source.at_least(axis.resized)  # where the image grows the kernel keeps its own width
    margin = (wider * reach + axis.resized - 1) // axis.resized
    stretch = axis.source * (_BLOCK - 1) // axis.resized + margin * 2 + 2

    outputs = graph.constant(np.arange(blocks * _BLOCK).reshape(blocks, _BLOCK, 1), np.int64)
    centres = ((outputs + axis.first) * 2 + 1) * axis.source  # in units of 1 / (2 resized)
    starts = centres.take(graph.constant([0], np.int64), axis=1) // (axis.resized * 2) - margin
    steps = graph.op("Range", *(graph.constant(0, np.int64), stretch, graph.constant(1, np.int64)))
    places = starts + steps  # (blocks, 1, stretch)

    exact = preprocess.fit == "letterbox"
    kind = np.float64 if exact else np.float32
    distance = ((places * 2 + 1) * axis.resized - centres).to(kind) / (wider * 2).to(kind)
    raw = _kernel(graph, distance, preprocess.interpolation)
    inside = raw.where(graph.constant(-1, np.int64) < places, 0.0).where(places < axis.source, 0.0)
    indices = places.at_least(0).at_most(axis.source - 1).reshape(-1)
    weights = inside / inside.total(axis=2).at_least(_LEAST)
    if not exact:
        return _Taps(blocks, indices, weights * _PART, None)
    whole = graph.op("Floor", weights * _PART**2 + 0.5)
    coarse = graph.op("Floor", whole / _PART + 0.5)
    fine = whole - coarse * _PART
    return _Taps(blocks, indices, coarse.to(np.float32), fine.to(np.float32))


def _kernel(graph: Graph, distance: Value, interpolation: str) -> Value:
    """The kernel's height at a distance in (scaled) pixels: Keys' cubic with a = -0.5, or a triangle.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", equation 15.
    """
    x = graph.op("Abs", distance)
    if interpolation == "bilinear":
        return (x * -1.0 + 1.0).at_least(0.0)
    near = (x * 1.5 - 2.5) * x * x + 1.0
    far = ((x * -0.5 + 2.5) * x - 4.0) * x + 2.0
    outer = far.where(x < 2.0, 0.0)
    return graph.op("Where", x < 1.0, near, outer, dtype=x.dtype)
