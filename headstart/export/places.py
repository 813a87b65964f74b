"""ONNX for answers with places: raw images in; boxes in their own pixels, or masks at their own size, out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, helper
from PIL import Image
from torch import Tensor, nn

from headstart._core.errors import BadInput
from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.export.bundle import Bundle
from headstart.export.graph import Graph, Value
from headstart.export.onnx import INPUT, IR_VERSION, OPSET, network_model, save_model
from headstart.export.records import Parity
from headstart.export.resample import frame_sizes, window_pixels
from headstart.metrics.detection import PLAIN, overlaps
from headstart.pixels import contract_pixels, normalise
from headstart.tasks.boxes import LEAST_SCORE, MOST, NMS
from headstart.tasks.heads import Decode

BOXES, SCORES, LABELS, IMAGE, MASKS = "boxes", "scores", "labels", "image", "masks"
"""Outputs: (K, 4) left, top, right, bottom; (K,); (K,) class indices; (K,) which image of the batch; (N, H, W) indices."""

LEAST_AGREEMENT, GREATEST_GAP = 0.995, 0.02
SURE, SAME = 0.3, 0.95
"""Boxes of this score or more are compared; they are the same from this overlap on."""

PlaceRunner = Callable[[NDArray[np.uint8]], list[NDArray[Any]]]
"""An exported file at work: images (N, H, W, 3) of one size -> for each its boxes (K, 6) or class indices (H, W)."""


class _Boxes(nn.Module):
    """Scores (N, classes, places) and boxes (N, places, 4) in the letterbox, of its pixels (N, 3, height, width)."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model = _plain(bundle)
        self.preprocess = bundle.preprocess
        self.decode = _decode(bundle)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        assert self.decode is not None
        scores, boxes = self.decode(self.model(normalise(pixels, self.preprocess)), self.preprocess)
        return scores.transpose(1, 2), boxes


class _Maps(nn.Module):
    """Logits (N, classes, h, w) of the pixels of a letterbox."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model = _plain(bundle)
        self.preprocess = bundle.preprocess

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(normalise(pixels, self.preprocess))
        return logits


def _decode(bundle: Bundle) -> Decode | None:
    """How boxes are read from the network's outputs; None for masks."""
    places = bundle.made.places
    return places.decode if places is not None else None


def _plain(bundle: Bundle) -> nn.Module:
    return copy.deepcopy(bundle.model).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def write(bundle: Bundle, path: Path) -> None:
    """Write a graph from `images`, 8-bit (N, H, W, 3), upright RGB, to `boxes`, `scores`, `labels`, `image`, or to `masks`.

    Letterbox, normalisation, network, decoding and non-maximum suppression are inside; N, H and W may differ from call to
    call. Boxes come with a score of 0.05 or more, made a probability; the metadata hold the one (`threshold`) from which
    they are worth it, and what that was chosen for (`threshold_for`).

    Raises:
        BadPlan: when the network cannot be written.
    """
    boxes = _decode(bundle) is not None
    outputs = ["all_scores", "all_boxes"] if boxes else ["logits"]
    network = network_model(bundle, _Boxes(bundle) if boxes else _Maps(bundle), outputs=outputs)
    first = compose.merge_models(_frame_model(bundle.preprocess), network, io_map=[("window", "pixels")])
    first.ir_version = IR_VERSION
    last = _box_model(bundle) if boxes else _mask_model(bundle)
    shared = [*outputs, "frame"]
    model = compose.merge_models(
        first,
        last,
        io_map=[(name, f"{name}_in") for name in shared],
        name="headstart",
        producer_name="headstart",
    )
    model.ir_version = IR_VERSION
    more = {"threshold": repr(bundle.manifest.threshold)}
    if boxes:
        more |= {"threshold_for": chosen_for(bundle.manifest.precision)}
    save_model(model, bundle, path, more=more)


def chosen_for(precision: float) -> str:
    """What the threshold was chosen for, in words."""
    aim = f"a precision of {precision:.1%}" if precision else "the best F1"
    return f"{aim} on the validation images"


def _model(graph: Graph, name: str, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _info(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _named(graph: Graph, value: Value, name: str) -> None:
    graph.nodes.append(helper.make_node("Identity", [value.name], [name]))


def _frame_model(preprocess: Preprocess) -> onnx.ModelProto:
    """From images to the letterbox, and `frame`: width, height of the image, and of its part of the letterbox."""
    graph = Graph("window_")
    images = Value(graph, INPUT, np.dtype(np.uint8))
    _named(graph, window_pixels(graph, images, preprocess), "window")
    sizes = [
        graph.op("Reshape", size, graph.constant([1], np.int64))
        for size in frame_sizes(graph, images, preprocess)
    ]
    _named(graph, graph.op("Concat", *sizes, axis=0), "frame")
    window = ["N", 3, preprocess.height, preprocess.width]
    return _model(
        graph,
        "window",
        [_info(INPUT, onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [_info("window", onnx.TensorProto.FLOAT, window), _info("frame", onnx.TensorProto.INT64, [4])],
    )


def _box_model(bundle: Bundle) -> onnx.ModelProto:
    """From scores and boxes of all places to the boxes that are left, in the image's own pixels."""
    graph = Graph("boxes_")
    scores = Value(graph, "all_scores_in", np.dtype(np.float32))
    boxes = Value(graph, "all_boxes_in", np.dtype(np.float32))
    frame = Value(graph, "frame_in", np.dtype(np.int64)).to(np.float32)
    first, second = (
        frame.take(graph.constant(which, np.int64), axis=0) for which in ([0, 1, 0, 1], [2, 3, 2, 3])
    )
    inside = boxes.at_least(0.0).at_most(second) * (first // second)
    found = graph.op(
        "NonMaxSuppression",
        inside,
        scores,
        graph.constant([MOST], np.int64),
        graph.constant([NMS], np.float32),
        graph.constant([LEAST_SCORE], np.float32),
        dtype=np.int64,
    )
    image, label = (found.take(graph.constant(column, np.int64), axis=1) for column in (0, 1))
    place = found.take(graph.constant([0, 2], np.int64), axis=1)
    _named(graph, graph.op("GatherND", inside, place), BOXES)
    _named(graph, _probability(graph, graph.op("GatherND", scores, found), bundle), SCORES)
    _named(graph, label, LABELS)
    _named(graph, image, IMAGE)
    number, classes = onnx.TensorProto, len(bundle.classes)
    return _model(
        graph,
        "boxes",
        [
            _info("all_scores_in", number.FLOAT, ["N", classes, "P"]),
            _info("all_boxes_in", number.FLOAT, ["N", "P", 4]),
            _info("frame_in", number.INT64, [4]),
        ],
        [
            _info(BOXES, number.FLOAT, ["K", 4]),
            _info(SCORES, number.FLOAT, ["K"]),
            _info(LABELS, number.INT64, ["K"]),
            _info(IMAGE, number.INT64, ["K"]),
        ],
    )


def _probability(graph: Graph, scores: Value, bundle: Bundle) -> Value:
    """The scores as `metrics.detection.calibrated` makes them: sigmoid(slope * logit(score) + offset)."""
    slope, offset = bundle.manifest.calibration
    if (slope, offset) == PLAIN:
        return scores
    inside = scores.at_least(1e-7).at_most(1 - 1e-7)
    odds = inside / (inside * -1.0 + 1.0)
    return graph.op("Sigmoid", graph.op("Log", odds) * slope + offset)


def _mask_model(bundle: Bundle) -> onnx.ModelProto:
    """From logits of the letterbox, at whatever size, to the class of each pixel of the image."""
    graph, contract, classes = Graph("masks_"), bundle.preprocess, len(bundle.classes)
    logits = Value(graph, "logits_in", np.dtype(np.float32))
    frame = Value(graph, "frame_in", np.dtype(np.int64))
    batch = graph.op("Shape", logits, dtype=np.int64).take(graph.constant([0, 1], np.int64), axis=0)
    whole = _resized(graph, logits, batch, graph.constant([contract.height, contract.width], np.int64))
    inner = frame.take(graph.constant([3, 2], np.int64), axis=0)
    zeros, axes = graph.constant([0, 0], np.int64), graph.constant([2, 3], np.int64)
    own = graph.op("Slice", whole, zeros, inner, axes)
    full = _resized(graph, own, batch, frame.take(graph.constant([1, 0], np.int64), axis=0))
    chosen = graph.op("ArgMax", full, dtype=np.int64, axis=1, keepdims=0)
    _named(graph, chosen.to(np.uint8 if classes <= 256 else np.int16), MASKS)
    kind = onnx.TensorProto.UINT8 if classes <= 256 else onnx.TensorProto.INT16
    return _model(
        graph,
        "masks",
        [
            _info("logits_in", onnx.TensorProto.FLOAT, ["N", classes, "h", "w"]),
            _info("frame_in", onnx.TensorProto.INT64, [4]),
        ],
        [_info(MASKS, kind, ["N", "H", "W"])],
    )


def _resized(graph: Graph, maps: Value, batch: Value, size: Value) -> Value:
    """Maps (N, C, h, w) at another (height, width), as torch interpolates without anti-aliasing."""
    shape = graph.op("Concat", batch, size, axis=0)
    empty = graph.constant([], np.float32)
    return graph.op(
        "Resize",
        maps,
        empty,
        empty,
        shape,
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    )


def open_runner(path: Path) -> PlaceRunner:
    """The file at work in ONNX Runtime on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    boxes = {output.name for output in session.get_outputs()} >= {BOXES, SCORES}

    def run(images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        if not boxes:
            (masks,) = session.run([MASKS], {INPUT: images})
            return [mask.astype(np.int16) for mask in masks]
        place, score, label, image = session.run([BOXES, SCORES, LABELS, IMAGE], {INPUT: images})
        rows = np.concatenate([place, score[:, None], label[:, None]], 1).astype(np.float64)
        out = [rows[image == number] for number in range(len(images))]
        return [one[np.argsort(-one[:, 4], kind="stable")][:MOST] for one in out]

    return run


def check(bundle: Bundle, runner: PlaceRunner, samples: Sequence[Sample]) -> Parity:
    """How far the exported file is from the bundle on these images: boxes that are matched, or pixels that agree.

    Raises:
        BadInput: when there is no image to compare on, or one cannot be read.
    """
    if not samples:
        raise BadInput(
            "There is no image to check the exported file on.", hint="Give the validation images of the run."
        )
    agreed, total, gaps = 0, 0, [0.0]
    for sample in samples:
        image = open_rgb(sample.source)
        pixels = contract_pixels(Image.fromarray(np.asarray(image)), bundle.preprocess)
        (ours,) = bundle.answers(pixels[None], [image.size], threshold=0.0)
        (theirs,) = runner(np.asarray(image)[None])
        if ours.dtype != np.float64:
            agreed, total = agreed + int((ours == theirs).sum()), total + ours.size
            continue
        for one, other in ((ours, theirs), (theirs, ours)):
            same, differences = _matched(one, other)
            agreed, total = agreed + same, total + int((one[:, 4] >= SURE).sum())
            gaps += differences
    agreement = agreed / total if total else 1.0
    return Parity(
        n=len(samples),
        top1_agreement=agreement,
        compared=total,
        largest_gap=max(gaps),
        mean_gap=float(np.mean(gaps)),
        least_agreement=LEAST_AGREEMENT,
        greatest_gap=GREATEST_GAP,
        passed=bool(agreement >= LEAST_AGREEMENT and max(gaps) <= GREATEST_GAP),
    )


def _matched(boxes: NDArray[Any], others: NDArray[Any]) -> tuple[int, list[float]]:
    """How many sure boxes have a partner of their class in their place, and the differences of their scores."""
    same, gaps = 0, []
    for box in boxes[boxes[:, 4] >= SURE]:
        alike = others[others[:, 5] == box[5]]
        place = overlaps(box[None, :4], alike[:, :4])[0]
        if len(place) and place.max() >= SAME:
            same += 1
            gaps.append(float(np.abs(alike[place >= SAME, 4] - box[4]).min()))
    return same, gaps
