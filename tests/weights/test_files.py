"""`file:`: state dicts out of files, and everything that must be refused."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import headstart.weights as weights
from headstart._core.errors import BadInput, BadOption, BadWeights
from headstart.weights.state import read_state
from tests.weights.conftest import network, state

State = dict[str, Tensor]
ARCH = "test_resnet"


def load(path: Path, arch: str = ARCH) -> weights.Backbone:
    return weights.load(f"file:{path}", arch=arch)


def same(backbone: weights.Backbone, content: State) -> bool:
    own = backbone.module.state_dict()
    return all(torch.equal(value, content[name]) for name, value in own.items())


WRAPPED: dict[str, Callable[[State], object]] = {
    "bare": lambda content: content,
    "state_dict": lambda content: {"state_dict": content, "epoch": 90, "arch": "resnet"},
    # the checkpoint of PyTorch's own ImageNet example has a tensor beside the state dict
    "beside a tensor": lambda content: {"epoch": 1, "state_dict": content, "best_acc1": torch.tensor(75.0)},
    "model": lambda content: {"model": content, "optimizer": {"param_groups": []}},
    "two deep": lambda content: {"net": {"state_dict": content}},
    "module.": lambda content: {"state_dict": {f"module.{name}": value for name, value in content.items()}},
    "backbone.": lambda content: (
        {f"backbone.{name}": value for name, value in content.items()} | {"projector.weight": torch.ones(2)}
    ),
}


@pytest.mark.parametrize("kind", list(WRAPPED))
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_the_usual_wrappers_are_opened(kind: str, zipped: bool, tmp_path: Path) -> None:
    content = state(ARCH)
    torch.save(WRAPPED[kind](content), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    found = load(tmp_path / "net.pth")
    assert same(found, content)
    assert found.classifier is not None
    assert torch.equal(found.classifier.get_parameter("weight"), content["fc.weight"])


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    content = state(ARCH)
    save_file(
        {name: v.half() if v.is_floating_point() else v for name, v in content.items()},
        tmp_path / "h.safetensors",
    )
    found = load(tmp_path / "h.safetensors")
    assert {value.dtype for value in found.module.parameters()} == {torch.float32}
    assert torch.equal(found.module.get_parameter("conv1.0.weight"), content["conv1.0.weight"].half().float())


def test_facts_of_a_file_claim_nothing(tmp_path: Path) -> None:
    save_file(state(ARCH), tmp_path / "net.safetensors")
    for arch in (ARCH, "torchvision/resnet18"):
        row = weights.info(f"file:{tmp_path / 'net.safetensors'}", arch=arch)
        assert (row.licence, row.commercial, row.top1, row.data, row.objective, row.paper) == (
            "unknown",
            None,
            None,
            "unknown",
            "unknown",
            "",
        )
        assert (row.arch, row.source) == (arch, str(tmp_path / "net.safetensors"))


def test_a_file_for_a_torchvision_network(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    content = mobilenet_v3_small().state_dict()
    torch.save(content, tmp_path / "net.pth")
    assert same(load(tmp_path / "net.pth", "torchvision/mobilenet_v3_small"), content)


# Only the classifier may differ


HEADS: dict[str, Callable[[State], State]] = {
    "no classifier": lambda content: {n: v for n, v in content.items() if not n.startswith("fc.")},
    "ten classes": lambda content: content | {"fc.weight": torch.ones(10, 96), "fc.bias": torch.ones(10)},
    "no bias": lambda content: {n: v for n, v in content.items() if n != "fc.bias"},
}


@pytest.mark.parametrize("kind", list(HEADS))
def test_another_classifier_is_accepted_and_left_out(kind: str, tmp_path: Path) -> None:
    content = HEADS[kind](state(ARCH))
    save_file(content, tmp_path / "net.safetensors")
    found = load(tmp_path / "net.safetensors")
    assert same(found, content)
    assert found.classifier is None
    assert found.width == 96


def test_a_checkpoint_without_counters_is_whole(tmp_path: Path) -> None:
    """`num_batches_tracked` came with PyTorch 0.4.1; older checkpoints lack it and lose nothing."""
    content = {n: v for n, v in state(ARCH).items() if not n.endswith("num_batches_tracked")}
    save_file(content, tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").classifier is not None


def test_less_than_the_backbone_is_refused_with_every_key(tmp_path: Path) -> None:
    content = state(ARCH)
    gone = [name for name in content if name.startswith("layer4.")]
    for name in gone:
        del content[name]
    content["layer1.0.conv1.weight"] = torch.ones(1)
    content["stranger.weight"] = torch.ones(1)
    save_file(content, tmp_path / "net.safetensors")
    with pytest.raises(BadWeights, match="fits less than the backbone of test_resnet") as caught:
        load(tmp_path / "net.safetensors")
    for name in gone:
        assert (name in str(caught.value)) is not name.endswith("num_batches_tracked")
    assert "of another shape: layer1.0.conv1.weight" in str(caught.value)
    assert "left over: stranger.weight" in str(caught.value)


def test_buffers_belong_to_the_backbone(tmp_path: Path) -> None:
    content = {n: v for n, v in state(ARCH).items() if n != "layer4.0.bn1.running_var"}
    save_file(content, tmp_path / "net.safetensors")
    with pytest.raises(BadWeights, match=r"1 missing: layer4\.0\.bn1\.running_var\."):
        load(tmp_path / "net.safetensors")


def test_the_wrong_architecture_is_refused(tmp_path: Path) -> None:
    save_file(state(ARCH), tmp_path / "net.safetensors")
    with pytest.raises(BadWeights, match="Is --arch right"):
        load(tmp_path / "net.safetensors", "test_vit")


@pytest.mark.parametrize(
    ("arch", "error", "said"),
    [
        ("", BadOption, "--arch resnet50"),
        ("test_resne", BadWeights, "Did you mean 'test_resnet'?"),
        ("torchvision/resnet1", BadWeights, "Did you mean 'resnet1"),
        ("qqqqqqqqqqqqqqqq", BadWeights, "timm knows no architecture"),
    ],
)
def test_an_architecture_is_asked_for(arch: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    save_file(state(ARCH), tmp_path / "net.safetensors")
    with pytest.raises(error) as caught:
        load(tmp_path / "net.safetensors", arch)
    assert said in str(caught.value)


def test_a_misspelt_file_and_a_folder(tmp_path: Path) -> None:
    save_file(state(ARCH), tmp_path / "network.safetensors")
    with pytest.raises(BadInput, match=r"Did you mean 'network\.safetensors'"):
        load(tmp_path / "netwrk.safetensors")
    with pytest.raises(BadWeights, match="is not a file"):
        load(tmp_path)


# Files that run code


class Payload:
    """Unpickled, it makes a file: what a malicious checkpoint could do with anything."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


MALICIOUS: dict[str, Callable[[object, Path], object]] = {
    "torch zip": lambda payload, path: torch.save({"state_dict": payload}, path),
    "beside the tensors": lambda payload, path: torch.save(state(ARCH) | {"x": payload}, path),
    "old torch": lambda payload, path: torch.save(payload, path, _use_new_zipfile_serialization=False),
    "bare pickle": lambda payload, path: path.write_bytes(pickle.dumps(payload)),
    "text pickle": lambda payload, path: path.write_bytes(pickle.dumps(payload, protocol=0)),
}


@pytest.mark.parametrize("kind", list(MALICIOUS))
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_a_malicious_file_is_refused_and_never_run(kind: str, suffix: str, tmp_path: Path) -> None:
    path, trace = tmp_path / f"evil{suffix}", tmp_path / "was-run"
    MALICIOUS[kind](Payload(trace), path)
    with pytest.raises(BadWeights):
        load(path)
    assert not trace.exists()


def test_the_payload_would_have_worked(tmp_path: Path) -> None:
    """Else the test before proves nothing."""
    path, trace = tmp_path / "evil.pth", tmp_path / "was-run"
    torch.save({"state_dict": Payload(trace)}, path)
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_objects_are_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save({"state_dict": state(ARCH), "args": argparse.Namespace(lr=0.1)}, tmp_path / "net.pth")
    with pytest.raises(BadWeights, match="could run code") as caught:
        load(tmp_path / "net.pth")
    assert "save_file" in str(caught.value)
    torch.save(network(ARCH), tmp_path / "whole.pth")
    with pytest.raises(BadWeights, match="could run code"):
        load(tmp_path / "whole.pth")


# Damage


def pth(tmp_path: Path, *, zipped: bool = True) -> bytes:
    torch.save(state(ARCH), tmp_path / "good.pth", _use_new_zipfile_serialization=zipped)
    return (tmp_path / "good.pth").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.002, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "old format", "safetensors"])
def test_a_truncated_file_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    if kind == "safetensors":
        save_file(state(ARCH), tmp_path / "good.safetensors")
        content, name = (tmp_path / "good.safetensors").read_bytes(), "cut.safetensors"
    else:
        content, name = pth(tmp_path, zipped=kind == "zip"), "cut.pth"
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadWeights) as caught:
        load(tmp_path / name)
    assert name in str(caught.value)
    assert "again" in str(caught.value)
    assert ": ." not in str(caught.value)  # a reason is given


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html></html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        bytes(2000),
        b"\x80\x02hello",
        b"PK\x03\x04" + bytes(99),
    ],
    ids=["web page", "git-lfs pointer", "zeros", "broken pickle", "broken zip"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_something_else_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"net{suffix}").write_bytes(content)
    with pytest.raises(BadWeights, match="net"):
        load(tmp_path / f"net{suffix}")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_a_flipped_byte_never_ends_in_a_traceback(zipped: bool, tmp_path: Path) -> None:
    """Where it lies inside a tensor nothing can notice it; everywhere else it is a clear error."""
    torch.save(
        {"a": torch.ones(64), "b": torch.zeros(3)}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped
    )
    whole = (tmp_path / "x.pth").read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "x.pth").write_bytes(damaged)
        with contextlib.suppress(BadWeights):
            read_state(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {}}, {"model": {"a": 1}}])
def test_a_file_without_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(BadWeights, match="holds no state dict"):
        load(tmp_path / "net.pth")
