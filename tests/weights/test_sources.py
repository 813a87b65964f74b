"""The table of sources and the catalog: every row keeps its promises without a network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import headstart.weights as weights
from headstart._core.errors import BadInput, BadOption, BadWeights
from headstart.data.preprocess import Preprocess
from headstart.weights import sources
from headstart.weights.catalog import BUNDLED, KNOWN, bundled_info

NAMES = [row.name for row in weights.catalog_rows()]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def backbone_parameters(name: str) -> int:
    """Counted on a network of the library itself, its classifier left out."""
    with torch.device("meta"):
        if name.startswith("torchvision:"):
            from torchvision import models

            whole: nn.Module = models.get_model(name.partition(":")[2], weights=None)
            last = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
            return count(whole) - count(last)
        arch = name.partition(":")[2].partition(".")[0]
        arch = f"tf_{arch}" if name.startswith("bundled:") else arch
        arch = KNOWN[name].arch if name.startswith("hf:") else arch
        body: nn.Module = timm.create_model(arch, num_classes=0)
    return count(body)


def test_the_catalog_is_whole() -> None:
    assert [*(f"bundled:{name}" for name in BUNDLED), *KNOWN] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_catalog_row_says_everything_offline(name: str) -> None:
    row = weights.info(name)
    assert row.name == name
    assert row.licence
    assert row.licence != "unknown"
    assert row.source
    assert row.source != "unknown"
    assert row.paper
    assert row.data != "unknown"
    assert row.objective != "unknown"
    assert row.commercial in (True, False) or row.licence == "see its card"
    assert row.top1 is None or 0.5 < row.top1 < 1
    assert row.parameters == backbone_parameters(name)
    contract = row.preprocess
    assert min(contract.height, contract.width) >= 160
    assert contract.fit == "squash" or contract.resize >= max(contract.height, contract.width)
    assert all(0 <= value <= 1 for value in contract.mean)
    assert all(0 < value <= 1 for value in contract.std)


@pytest.mark.parametrize(
    ("arch", "n"), [("resnet18", 11_176_512), ("mobilenet_v3_small", 1_517_856), ("vit_b_32", 87_455_232)]
)
def test_parameters_leave_the_classifier_out(arch: str, n: int) -> None:
    """torchvision's own totals (11,689,512; 2,542,856; 88,224,232), minus width x 1000 + 1000 of the last layer."""
    assert weights.info(f"torchvision:{arch}").parameters == n


def test_resnet50_is_read_as_timm_records_it() -> None:
    row = weights.info("timm:resnet50.a1_in1k")
    assert (row.arch, row.licence, row.source) == ("resnet50", "apache-2.0", "timm/resnet50.a1_in1k")
    assert row.preprocess == Preprocess(
        height=224,
        width=224,
        resize=235,  # floor(224 / 0.95)
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def test_resnet50_is_read_as_torchvision_records_it() -> None:
    row = weights.info("torchvision:resnet50")
    assert row.source.endswith("resnet50-11ad3fa6.pth")
    assert row.top1 == pytest.approx(0.80858)
    assert row.preprocess == Preprocess(
        height=224,
        width=224,
        resize=232,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


@pytest.mark.parametrize(
    ("name", "commercial"),
    [
        ("timm:resnet18.a1_in1k", True),
        ("timm:convnextv2_atto.fcmae_ft_in1k", False),  # CC-BY-NC
        ("timm:resnet50.fb_swsl_ig1b_ft_in1k", False),
    ],
)
def test_a_non_commercial_licence_is_noticed(name: str, commercial: bool) -> None:
    assert weights.info(name).commercial is commercial


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("efficientnet_lite0", BadOption, "Did you mean 'bundled:efficientnet_lite0'?"),
        ("resnet50.a1_in1k", BadOption, "Did you mean 'timm:resnet50.a1_in1k'?"),
        ("something_else", BadOption, "Write it like bundled:efficientnet_lite0. Sources: bundled:, timm:"),
        ("tim:resnet50", BadOption, "Did you mean 'timm'?"),
        ("bundled:", BadOption, "no weights after the colon"),
        ("", BadOption, "does not say where the weights come from"),
        ("bundled:efficientnet_lite9", BadOption, "Did you mean 'efficientnet_lite"),
        ("timm:resnet5o", BadWeights, "Did you mean 'resnet50"),
        ("timm:resnet50.no_such_tag", BadWeights, "Did you mean 'resnet50"),
        ("torchvision:resnet5O", BadWeights, "Did you mean 'resnet50'?"),
        ("torchvision:alexnet", BadWeights, "try --weights timm:alexnet"),
        ("random:test_resne", BadWeights, "Did you mean 'test_resnet'?"),
        ("file:no/such/file.pth", BadInput, "does not exist"),
    ],
)
def test_a_wrong_name_is_answered(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        weights.info(name)
    assert said in str(caught.value)
    with pytest.raises(error):
        weights.load(name)


@pytest.mark.parametrize(
    "name", ["bundled:efficientnet_lite0", "timm:test_resnet", "torchvision:resnet18", "random:test_resnet"]
)
def test_an_architecture_without_effect_is_an_error(name: str) -> None:
    for ask in (weights.info, weights.load):
        with pytest.raises(BadOption, match="has no effect"):
            ask(name, arch="test_vit")


def test_weights_that_the_contract_cannot_express_are_refused() -> None:
    """Some of timm's checkpoints were trained with a `border` crop; reproducing it nearly would be a silent loss."""
    odd = next(
        name
        for name in timm.list_models(pretrained=True)
        if (config := timm.get_pretrained_cfg(name)) and config.crop_mode == "border"
    )
    with pytest.raises(BadWeights, match="border"):
        weights.info(f"timm:{odd}")


# Bundled weights


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_file_has_the_hash_of_the_catalog(name: str) -> None:
    path = sources.SOURCES["bundled"].fetch(name, "")
    assert path is not None
    assert hashlib.sha256(path.read_bytes()).hexdigest() == BUNDLED[name].sha256


def test_bundled_weights_are_mapped_by_order() -> None:
    """Tensor by tensor the values of the file, and timm's names."""
    backbone = weights.load("bundled:efficientnet_lite0")
    path = sources.SOURCES["bundled"].fetch("efficientnet_lite0", "")
    assert path is not None
    stored = list(torch.load(path, weights_only=True).values())
    assert backbone.classifier is not None
    loaded = [*backbone.module.state_dict().values(), *backbone.classifier.state_dict().values()]
    assert len(stored) == len(loaded)
    assert all(torch.equal(a, b) for a, b in zip(stored, loaded, strict=True))
    assert backbone.info == weights.info("bundled:efficientnet_lite0")
    assert not backbone.module.training


def serve_bundled(monkeypatch: pytest.MonkeyPatch, path: Path, digest: str) -> None:
    """Let the package's file be that one, and the catalog promise that hash."""
    row = replace(sources.SOURCES["bundled"], fetch=lambda *_: path)
    row = replace(row, info=lambda name, _: replace(bundled_info(name), sha256=digest))
    monkeypatch.setitem(sources.SOURCES._rows, "bundled", row)


def test_a_bundled_file_with_another_hash_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = sources.SOURCES["bundled"].fetch("efficientnet_lite0", "")
    assert path is not None
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1  # one bit of one weight
    (tmp_path / "lite0.pth").write_bytes(changed)
    serve_bundled(monkeypatch, tmp_path / "lite0.pth", BUNDLED["efficientnet_lite0"].sha256)
    with pytest.raises(BadWeights, match="not the file it should be"):
        weights.load("bundled:efficientnet_lite0")


def test_a_bundled_file_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = sources.SOURCES["bundled"].fetch("efficientnet_lite0", "")
    assert path is not None
    state = torch.load(path, weights_only=True)
    first = next(iter(state))
    state[first] = state[first][:-1].contiguous()
    torch.save(state, tmp_path / "lite0.pth")
    digest = hashlib.sha256((tmp_path / "lite0.pth").read_bytes()).hexdigest()
    serve_bundled(monkeypatch, tmp_path / "lite0.pth", digest)
    with pytest.raises(BadWeights, match="tensor by tensor"):
        weights.load("bundled:efficientnet_lite0")


# Random weights


def test_random_weights_are_always_the_same_and_disturb_nobody() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = weights.load("random:test_resnet")
    assert torch.equal(torch.rand(3), expected)
    second = weights.load("random:test_resnet")
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name])
    assert (first.info.licence, first.info.data, first.info.objective) == ("none", "none", "none")
    assert first.info.top1 is None
    assert first.info.paper == ""


def test_random_weights_of_torchvision() -> None:
    row = weights.info("random:torchvision/resnet18")
    assert (row.arch, row.source, row.top1, row.parameters) == (
        "torchvision/resnet18",
        "none",
        None,
        11_176_512,
    )


@pytest.mark.parametrize("prefix", list(weights.SOURCES))
def test_every_source_says_what_it_is(prefix: str) -> None:
    row = weights.SOURCES[prefix]
    assert row.summary
    assert row.summary == row.summary.strip()
    assert sources.parse(f"{prefix}:x") == (row, "x")


def test_a_file_of_safetensors_round_trips(tmp_path: Path) -> None:
    """What `random:` made, saved by hand and read by `file:`, is the same network."""
    made = weights.load("random:test_resnet")
    assert made.classifier is not None
    head = {f"fc.{name}": value for name, value in made.classifier.state_dict().items()}
    save_file(made.module.state_dict() | head, tmp_path / "net.safetensors")
    again = weights.load(f"file:{tmp_path / 'net.safetensors'}", arch="test_resnet")
    stored = load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in again.module.state_dict().items())
    assert again.classifier is not None
    assert torch.equal(again.classifier.state_dict()["weight"], stored["fc.weight"])
    assert again.info.sha256 == hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
