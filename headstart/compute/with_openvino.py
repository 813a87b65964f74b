"""Engines by OpenVINO: the network traced once, compiled for this processor, and kept on disk."""

from __future__ import annotations

import io
import sys
import tempfile
import threading
import warnings
import xml.etree.ElementTree as ET
from collections import deque
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart._core import files
from headstart._core.errors import BadInput
from headstart.compute.records import Job, Outputs, Pixels
from headstart.compute.signal_stack import own_signal_stack
from headstart.compute.taps import Tapped, on_device

BATCH = 8
"""Images a call: a call's activations then fit the processor's caches, and the two lanes hold a quarter of the memory."""

EXACT = 0.25
"""Share of the multiplying layers, from the pixels on, that the mixed engine leaves in float32.

The first layers spread their rounding over everything behind them. EfficientNet-Lite0 on 199 photos: all in bfloat16,
the worst image has a cosine of 0.9927 to float32 at 2.0 times its speed; with the first quarter exact 0.9994 at 1.5
times; with the first half exact 0.9995 at 1.3 times; with the *last* three quarters exact 0.9939. With satellite
images beside them: 0.983, 0.9988 and 0.9990."""

_MULTIPLYING = ("Convolution", "GroupConvolution", "MatMul")
_HASH = 64  # hexadecimal digits of a SHA-256, in front of a kept network
_CPU = "CPU"
_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


class OpenVINORunner:
    """A `Runner` by OpenVINO; calls at the same time use requests of their own."""

    def __init__(self, compiled: Any, precision: str) -> None:
        self._compiled = compiled
        self.precision = precision
        self._idle: deque[Any] = deque()
        self.lanes = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.batch = BATCH

    def __call__(self, pixels: Pixels) -> Outputs:
        """Outputs of (N, H, W, 3) 8-bit pixels; the interpreter's lock is free meanwhile."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True)
        count = len(self._compiled.outputs)
        # Copied: the request writes its next answer into the same memory.
        out = tuple(np.array(request.get_output_tensor(i).data, dtype=np.float32) for i in range(count))
        self._idle.append(request)
        return out


def why_not() -> str:
    """Why OpenVINO cannot be used here."""
    return "" if find_spec("openvino") else "the package openvino is not installed"


def why_not_bf16() -> str:
    """Why OpenVINO cannot be used in bfloat16 here."""
    reason = why_not()
    if reason:
        return reason
    able = _core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")
    return "" if "BF16" in able else "this processor has no bfloat16 arithmetic"


def open_f32(job: Job) -> OpenVINORunner:
    """The network in float32."""
    return _open(job, "f32", "float32")


def open_bf16(job: Job) -> OpenVINORunner:
    """The network in bfloat16 where OpenVINO thinks it right."""
    return _open(job, "bf16", "bfloat16")


def open_mixed(job: Job) -> OpenVINORunner:
    """The network in bfloat16 behind its first layers, which stay in float32."""
    return _open(job, "bf16", "mixed")


def _openvino() -> Any:
    """OpenVINO without its telemetry.

    Merely importing it sends usage data to its makers unless the user has found the switch; no user of ours was asked.
    Its own stub takes over where the telemetry package cannot be imported.
    """
    with _importing:
        hide = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
        if hide:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # makes its import fail, as Python documents
        try:
            import openvino
        finally:
            if hide:
                sys.modules.pop(_TELEMETRY, None)
    return openvino


def _core() -> Any:
    return _openvino().Core()


@own_signal_stack()
def _open(job: Job, hint: str, precision: str) -> OpenVINORunner:
    core = _core()
    # One independent lane a core: with decoders on the same cores, a lane that waits for a core holds up no other.
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "THROUGHPUT",
        "ENABLE_CPU_PINNING": False,
    }
    name = "mixed" if precision == "mixed" else hint
    kept = None if job.folder is None else job.folder / f"openvino-{name}.blob"
    if kept is not None:
        content = _read(kept)
        if content is not None:
            with suppress(
                RuntimeError
            ):  # written by an OpenVINO that differs in something the key does not see
                return OpenVINORunner(core.import_model(io.BytesIO(content), _CPU, settings), precision)
    model = _exact_first(core, _converted(job)) if precision == "mixed" else _converted(job)
    compiled = core.compile_model(model, _CPU, settings)
    if kept is not None:
        _write(kept, bytes(compiled.export_model().getbuffer()))
    return OpenVINORunner(compiled, precision)


def _converted(job: Job) -> Any:
    """OpenVINO's form of the network with any number of images a call; made once for both precisions."""
    if "openvino" in job.shared:
        return job.shared["openvino"]
    openvino = _openvino()

    preprocess = job.preprocess
    network = on_device(job.network, torch.device("cpu"))
    tapped = Tapped(network, preprocess, job.readings).eval()
    one = torch.zeros(1, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of constants (mean, std) and of its own future
        traced = torch.jit.trace(tapped, one, check_trace=False)  # type: ignore[no-untyped-call]
        shape = openvino.PartialShape([-1, preprocess.height, preprocess.width, 3])
        model = openvino.convert_model(traced, input=[shape], example_input=one)
    job.shared["openvino"] = model
    return model


def _exact_first(core: Any, model: Any) -> Any:
    """The same network whose first layers ask to keep their precision.

    OpenVINO takes that wish from a network's file (its IR format, attribute `precise`), and from Python in no other way.
    """
    openvino = _openvino()
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        path = Path(folder) / "network.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        tree = ET.parse(path)  # noqa: S314  # written by OpenVINO a moment ago
        blobs = np.fromfile(path.with_suffix(".bin"), dtype=np.uint8)
    layers = list(tree.getroot().iter("layer"))  # in the order in which they are computed
    multiplying = [place for place, layer in enumerate(layers) if layer.get("type") in _MULTIPLYING]
    first_lower = multiplying[round(EXACT * len(multiplying))] if multiplying else len(layers)
    for layer in layers[:first_lower]:
        facts = layer.find("rt_info")
        ET.SubElement(
            ET.SubElement(layer, "rt_info") if facts is None else facts,
            "attribute",
            name="precise",
            version="0",
        )
    return core.read_model(ET.tostring(tree.getroot()), openvino.Tensor(blobs))


def _read(path: Path) -> bytes | None:
    """A kept network whose hash is right; a damaged one is deleted."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, body = content[:_HASH], content[_HASH:]
    if files.sha256_bytes(body).encode() == digest:
        return body
    with suppress(OSError):
        path.unlink()
    return None


def _write(path: Path, body: bytes) -> None:
    # A cache that cannot be written costs time, not the run.
    with suppress(BadInput), files.atomic(path) as temporary:
        temporary.write_bytes(files.sha256_bytes(body).encode() + body)
