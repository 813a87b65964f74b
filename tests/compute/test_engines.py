"""Every engine of the table that this machine has gives what eager float32 gives, at every depth."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from headstart import compute, weights
from headstart._core.errors import BadInput, BadOption
from headstart.compute import gate
from headstart.compute.taps import Reading, _reading, summary
from headstart.compute.with_openvino import EXACT, OpenVINORunner
from headstart.data.preprocess import Preprocess
from tests.compute.conftest import picture

FAST = [name for name, row in compute.ENGINES.items() if name != compute.REFERENCE]
NETWORKS = ("test_resnet", "test_vit", "test_convnext")
LEAST = {"float32": 0.99999, "float16": 0.999, "mixed": 0.999, "bfloat16": 0.998}


def test_reference_is_last_and_always_there() -> None:
    assert list(compute.ENGINES)[-1] == compute.REFERENCE
    assert compute.ENGINES[compute.REFERENCE].available() == ""


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("arch", NETWORKS)
def test_agrees_with_the_reference_at_every_depth(engine: str, arch: str) -> None:
    row = compute.ENGINES[engine]
    if reason := row.available():
        pytest.skip(reason)
    backbone = weights.blank(arch)
    contract = backbone.info.preprocess
    pixels = np.stack([picture(seed, contract.height, contract.width) for seed in range(3)])
    depths = [stage.output for stage in backbone.stages]
    wanted = compute.open_network(backbone, contract, depths=depths)(pixels)
    network = compute.open_network(backbone, contract, depths=depths, engine=engine)
    found = network(pixels)
    assert network.runner.precision == network.precision == row.precision
    assert network.outputs == ("output", *depths)
    assert found[0].shape == (3, backbone.width)
    for name, a, b in zip(network.outputs, wanted, found, strict=True):
        assert b.dtype == np.float32
        assert a.shape == b.shape, name
        assert gate.cosines(a, b).min() > LEAST[row.precision], name
    alone = network(pixels[:1])  # any number of images goes through
    assert gate.cosines(alone[0], found[0][:1]).min() > LEAST[row.precision]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's threads: with one it begins to take other kernels at another size of batch than with two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("engine", [name for name in compute.ENGINES if not name.startswith(("cuda", "mps"))])
def test_an_image_is_answered_alike_in_any_company(engine: str) -> None:
    """To the last bit: rows are kept, and a run that finds them must come out as one that computes them."""
    row = compute.ENGINES[engine]
    if reason := row.available():
        pytest.skip(reason)
    backbone = weights.blank("efficientnet_lite0")
    contract = backbone.info.preprocess.at(96)
    pixels = np.stack([picture(seed, 96, 96) for seed in range(9)])
    network = compute.open_network(backbone, contract, depths=[backbone.stages[3].output], engine=engine)
    together = network(pixels)
    for few in (slice(0, 1), slice(2), slice(5), slice(3, 8)):
        for whole, part in zip(together, network(pixels[few]), strict=True):
            np.testing.assert_array_equal(whole[few], part)


@pytest.mark.skipif(bool(compute.ENGINES["openvino-mixed"].available()), reason="needs bfloat16 arithmetic")
def test_mixed_keeps_its_first_layers_exact() -> None:
    """The layers that OpenVINO says it computes: float32 from the pixels on, then bfloat16, and nothing between them."""
    backbone = weights.blank("efficientnet_lite0")
    runner = compute.open_network(backbone, backbone.info.preprocess, engine="openvino-mixed").runner
    assert isinstance(runner, OpenVINORunner)
    told = [each.get_rt_info() for each in runner._compiled.get_runtime_model().get_ordered_ops()]
    kinds = [
        each["runtimePrecision"].astype(str)
        for each in told
        if each["layerType"].astype(str) == "Convolution"
    ]
    exact = kinds.count("f32")
    assert set(kinds) == {"f32", "bf16"}
    assert kinds == ["f32"] * exact + ["bf16"] * (len(kinds) - exact)
    assert exact / len(kinds) == pytest.approx(EXACT, abs=0.1)


@pytest.mark.parametrize("arch", NETWORKS)
def test_depths_against_plain_hooks(arch: str) -> None:
    """Mean and deviation by numpy on what a hook of the test's own caught; the network is left without hooks."""
    backbone = weights.blank(arch)
    contract = backbone.info.preprocess
    pixels = np.stack([picture(seed, contract.height, contract.width) for seed in range(2)])
    depths = [stage.output for stage in backbone.stages[1:]]
    found = compute.open_network(backbone, contract, depths=depths)(pixels)
    assert not any(module._forward_hooks for module in backbone.module.modules())
    caught: dict[str, torch.Tensor] = {}
    for depth in depths:
        backbone.module.get_submodule(depth).register_forward_hook(
            lambda _m, _i, output, depth=depth: caught.__setitem__(depth, output)
        )
    scaled = (
        torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(contract.mean).view(3, 1, 1)
    ) / (torch.tensor(contract.std).view(3, 1, 1))
    with torch.no_grad():
        output = backbone.features(scaled).numpy()
    np.testing.assert_allclose(found[0], output, rtol=1e-3, atol=1e-4)
    for depth, row in zip(depths, found[1:], strict=True):
        values = caught[depth].double().numpy()
        if values.ndim == 3:  # tokens: the class token is no place in the image
            values = values[:, 1:].transpose(0, 2, 1)
        flat = values.reshape(*values.shape[:2], -1)
        np.testing.assert_allclose(row, np.concatenate([flat.mean(2), flat.std(2)], 1), rtol=1e-3, atol=1e-4)


def test_layouts_give_one_summary() -> None:
    """The same values as a map, a map with channels last and tokens behind a class token."""
    values = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    last = values.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((2, 1, 5), 100.0), last.flatten(1, 2)], 1)
    wanted = summary(values, Reading("map"))
    assert wanted.shape == (2, 10)
    torch.testing.assert_close(summary(last, Reading("map-last")), wanted)
    torch.testing.assert_close(summary(tokens, Reading("tokens", skip=1)), wanted)
    assert summary(values[:, :, 0, 0], Reading("vector"))[:, 5:].abs().max() == 0


@pytest.mark.parametrize(
    ("shape", "prefix", "wanted"),
    [
        ((1, 96, 56, 56), 0, Reading("map")),
        ((1, 56, 56, 96), 0, Reading("map-last")),  # Swin
        ((1, 7, 7, 7), 0, Reading("map")),
        ((1, 768, 1, 1), 0, Reading("map")),
        ((1, 197, 192), 1, Reading("tokens", skip=1)),
        ((1, 196, 192), 1, Reading("tokens", skip=0)),  # a patch embedding, before the class token joins
        ((1, 261, 384), 5, Reading("tokens", skip=5)),  # class token and four registers
        ((1, 1280), 0, Reading("vector")),
    ],
    ids=str,
)
def test_layouts_by_shape(shape: tuple[int, ...], prefix: int, wanted: Reading) -> None:
    half = (0.5, 0.5, 0.5)
    contract = Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=half, std=half)
    assert _reading("place", shape, contract, prefix=prefix) == wanted
    wide = Preprocess(height=64, width=128, resize=128, interpolation="bicubic", mean=half, std=half)
    assert _reading("place", (1, 8, 16, 24), wide, prefix=0) == Reading("map-last")
    with pytest.raises(BadOption, match="'place' is not passed"):
        _reading("place", None, contract, prefix=prefix)


def test_wrong_names() -> None:
    backbone = weights.blank("test_resnet")
    with pytest.raises(BadOption, match="no module 'nowhere'"):
        compute.open_network(backbone, backbone.info.preprocess, depths=["nowhere"])
    with pytest.raises(BadOption, match="openvino"):
        compute.open_network(backbone, backbone.info.preprocess, engine="openvin")
    missing = [name for name, row in compute.ENGINES.items() if row.available()]
    for name in missing:
        with pytest.raises(BadInput, match=name):
            compute.open_network(backbone, backbone.info.preprocess, engine=name)


@pytest.mark.skipif(bool(compute.ENGINES["openvino"].available()), reason="needs openvino")
def test_nothing_is_sent_to_anybody() -> None:
    """OpenVINO's telemetry is never loaded, and can still be imported by somebody who wants it."""
    code = (
        "import sys; from headstart.compute.engines import ENGINES; ENGINES['openvino-bf16'].available();"
        "assert 'openvino' in sys.modules; assert 'openvino_telemetry' not in sys.modules;"
        "from openvino.tools.ovc import telemetry_utils; assert 'stub' in telemetry_utils.tm.__name__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_the_owner_keeps_its_network_where_it_was() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    backbone = weights.blank("test_resnet")
    contract = backbone.info.preprocess
    pixels = np.stack([picture(0, contract.height, contract.width)])
    compute.open_network(backbone, contract, engine="torch-cuda")(pixels)
    assert next(backbone.module.parameters()).device.type == "cpu"


AFTER_OPENING = """
import ctypes
from headstart import compute, weights
from headstart.compute.signal_stack import _Stack
def stack():
    found = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.start, found.flags
backbone = weights.blank("test_resnet")
before = stack()
network = compute.open_network(backbone, backbone.info.preprocess, engine="openvino")
runner = network.runner
print(before == stack())
"""


@pytest.mark.skipif(bool(compute.ENGINES["openvino"].available()), reason="needs openvino")
@pytest.mark.skipif(sys.platform != "linux", reason="the stack of signals is looked after on Linux")
def test_openvino_leaves_no_stack_for_signals_behind() -> None:
    """Its memory may be given back by another thread: the next Ctrl-C was a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", AFTER_OPENING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
