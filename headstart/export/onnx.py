"""ONNX: one graph from raw images of any size to calibrated probabilities."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, helper
from torch import Tensor, nn

from headstart._core.errors import BadPlan
from headstart.data.preprocess import Preprocess
from headstart.export.bundle import Bundle
from headstart.export.graph import Graph, Value
from headstart.export.records import Runner
from headstart.export.resample import window_pixels
from headstart.pixels import normalise
from headstart.tasks import TASKS

OPSET = 18
IR_VERSION = 10  # read by ONNX Runtime >= 1.20, the oldest we ask for
INPUT, OUTPUT, NOVELTY = "images", "probabilities", "ood"

_LIMIT = 2 << 30  # a protocol buffer cannot be larger
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
}


class _Answer(nn.Module):
    """Calibrated probabilities (N, classes) of window pixels (N, 3, height, width) in [0, 255].

    Where the bundle has a novelty score, also that score less its threshold (N,).
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        novelty = bundle.manifest.novelty
        self.watched, self.threshold = bundle.watched is not None, novelty.threshold if novelty else 0.0
        network = bundle.watched or bundle.model
        self.model = copy.deepcopy(network).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.preprocess = bundle.preprocess
        self.temperature = bundle.manifest.temperature
        self.activation = _ACTIVATIONS[TASKS[bundle.task].activation]

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        found = self.model(normalise(pixels, self.preprocess))
        logits = (found[:, :-1] if self.watched else found) / self.temperature
        out: Tensor = self.activation(logits)
        return (out, found[:, -1] - self.threshold) if self.watched else out


def write(bundle: Bundle, path: Path) -> None:
    """Write a graph from `images`, 8-bit (N, H, W, 3), upright RGB, to `probabilities` (N, classes), and `ood` (N,).

    `ood` is there where the bundle has a novelty score: above zero the image is unlike anything it was trained on.

    N, H and W may differ from call to call. Resize, crop, scaling, normalisation, network, temperature and
    activation are inside, and so is the mirror image where the bundle's answers are averaged over it. The metadata
    hold the class names (`classes`: a JSON list in output order), the task, the weights and their licence, the
    preprocessing, the temperature (and `classwise`, what is part of the head) and the version of headstart.

    Raises:
        BadPlan: when the network is too large for one file.
    """
    model = compose.merge_models(
        _resize_model(bundle.preprocess),
        network_model(
            bundle,
            _Answer(bundle),
            outputs=[OUTPUT, NOVELTY] if bundle.watched is not None else [OUTPUT],
        ),
        io_map=[("window", "pixels")],
        name="headstart",
        producer_name="headstart",
    )
    save_model(model, bundle, path, more={})


def save_model(model: onnx.ModelProto, bundle: Bundle, path: Path, *, more: dict[str, str]) -> None:
    """Write a whole graph with what is to be known about it in its metadata; `more` is added there."""
    del model.metadata_props[:]  # the exporter's notes about its own steps
    helper.set_model_props(model, _metadata(bundle) | more)
    onnx.checker.check_model(model)
    onnx.save(model, str(path), format="protobuf")


def open_runner(path: Path) -> Runner:
    """The file at work in ONNX Runtime on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    return _File(session)


class _File:
    """An opened file: probabilities, and what it says of novelty."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.watched = NOVELTY in {output.name for output in session.get_outputs()}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities (N, classes)."""
        (out,) = self._session.run([OUTPUT], {INPUT: images})
        return np.asarray(out, np.float32)

    def novelty(self, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The novelty score less its threshold (N,); None where the file has none."""
        if not self.watched:
            return None
        (out,) = self._session.run([NOVELTY], {INPUT: images})
        return np.asarray(out, np.float32)


def _resize_model(preprocess: Preprocess) -> onnx.ModelProto:
    """From images to the pixels that the network sees."""
    graph = Graph("window_")
    images = Value(graph, INPUT, np.dtype(np.uint8))
    graph.nodes.append(
        helper.make_node("Identity", [window_pixels(graph, images, preprocess).name], ["window"])
    )
    proto = helper.make_graph(
        graph.nodes,
        "window",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [
            helper.make_tensor_value_info(
                "window", onnx.TensorProto.FLOAT, ["N", 3, preprocess.height, preprocess.width]
            )
        ],
        graph.constants,
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def network_model(bundle: Bundle, module: nn.Module, *, outputs: list[str]) -> onnx.ModelProto:
    """From those pixels to the module's outputs, by PyTorch's own exporter.

    Raises:
        BadPlan: when the network is too large for one file, or has a part that ONNX cannot hold.
    """
    size = sum(tensor.nbytes for tensor in bundle.model.state_dict().values())
    if size >= _LIMIT:
        raise BadPlan(
            f"The network has {size / 2**30:.1f} GB of weights; an ONNX file holds less than 2 GB.",
            hint="Deploy the bundle itself, or fit with smaller weights.",
        )
    # two images, because the exporter takes a size of 1 for a constant
    example = torch.zeros(2, 3, bundle.preprocess.height, bundle.preprocess.width)
    try:
        with _hushed():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=["pixels"],
                output_names=outputs,
                dynamic_shapes={"pixels": {0: torch.export.Dim("N", min=1)}},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise BadPlan(
            f"PyTorch cannot write the network {bundle.manifest.arch!r} as ONNX: {reason}",
            hint="Deploy the bundle itself, or fit with other weights: headstart weights list",
        ) from error
    assert program is not None  # with dynamo=True there always is one
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    return model


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporter's chatter about its own workings: parity is what shows whether it worked."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _metadata(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        "classes": json.dumps(list(manifest.classes), ensure_ascii=False),
        "task": manifest.task,
        "head": manifest.head.name,
        "weights": manifest.weights.name,
        "licence": manifest.weights.licence,
        "preprocess": json.dumps(asdict(manifest.preprocess)),
        "temperature": repr(manifest.temperature),
        "classwise": json.dumps(None if manifest.classwise is None else asdict(manifest.classwise)),
        "mirrored": json.dumps(manifest.mirrored),
        "headstart": manifest.versions.get("headstart", "unknown"),
        "bundle_sha256": manifest.sha256,
    }
