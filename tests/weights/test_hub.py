"""`timm:` and `hf:` against a hub on the loopback interface, with networks of random weights."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch

import headstart.weights as weights
from headstart._core.errors import BadInput, BadWeights
from headstart.data.preprocess import Preprocess
from tests.weights.conftest import Server, state, tensors

ARCHS = ("test_efficientnet", "test_resnet", "test_vit")
REPOSITORY = "someone/tiny-net"
CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "own",
        "input_size": [3, 96, 128],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "license": "cc-by-nc-4.0",
    },
}
CONTRACT = Preprocess(
    height=96,
    width=128,
    resize=106,  # floor(96 / 0.9)
    interpolation="bilinear",
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
)


def repository_of(arch: str) -> str:
    config = timm.get_pretrained_cfg(arch)
    assert config is not None
    return str(config.hf_hub_id)


def publish(hub: Server, config: object = CONFIG, **files: bytes) -> None:
    hub.put(REPOSITORY, "config.json", json.dumps(config).encode())
    for name, content in files.items():
        hub.put(REPOSITORY, name.replace("__", "."), content)


def bin_file(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


# timm:


@pytest.mark.parametrize("arch", ARCHS)
def test_timm_weights_come_from_the_hub_whole(arch: str, hub: Server) -> None:
    content = state(arch)
    hub.put(repository_of(arch), "model.safetensors", tensors(content))
    found = weights.load(f"timm:{arch}")
    own = found.module.state_dict()
    assert all(torch.equal(value, content[name]) for name, value in own.items())
    assert found.classifier is not None
    head = {name: value for name, value in content.items() if name not in own}
    assert torch.equal(found.classifier.state_dict()["weight"], next(v for v in head.values() if v.ndim == 2))
    assert (found.info.name, found.info.arch, found.info.licence) == (f"timm:{arch}", arch, "apache-2.0")
    assert found.info.source == repository_of(arch)
    assert len(found.info.sha256) == 64


def test_a_second_load_needs_no_network(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.put(repository_of("test_resnet"), "model.safetensors", tensors(state()))
    first = weights.load("timm:test_resnet")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    second = weights.load("timm:test_resnet")
    assert first.info == second.info


def test_no_network_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(BadWeights) as caught:
        weights.load("timm:test_resnet")
    place = tmp_path / "cache" / "weights" / "timm--test_resnet.r160_in1k" / "model.safetensors"
    address = "http://127.0.0.1:9/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    assert "timm:test_resnet is not on this machine" in str(caught.value)
    assert f"{address} cannot be reached" in str(caught.value)
    assert f"put it at {place}" in str(caught.value)
    assert "bundled:efficientnet_lite0" in str(caught.value)
    content = state()
    place.parent.mkdir(parents=True)
    place.write_bytes(tensors(content))
    found = weights.load("timm:test_resnet")
    assert torch.equal(found.module.get_parameter("conv1.0.weight"), content["conv1.0.weight"])


def test_a_checkpoint_of_another_network_is_refused(hub: Server) -> None:
    hub.put(repository_of("test_resnet"), "model.safetensors", tensors(state("test_vit")))
    with pytest.raises(BadWeights, match="fits less than the backbone"):
        weights.load("timm:test_resnet")


def test_a_download_that_breaks_off_leaves_nothing(hub: Server) -> None:
    hub.put(repository_of("test_resnet"), "model.safetensors", tensors(state()))
    hub.cut.update(hub.files)
    with pytest.raises(BadWeights, match="cannot be reached"):
        weights.load("timm:test_resnet")
    hub.cut.clear()
    assert weights.load("timm:test_resnet").classifier is not None


# hf:


def test_facts_come_out_of_config_json(hub: Server) -> None:
    publish(hub)
    row = weights.info(f"hf:{REPOSITORY}")
    assert (row.arch, row.licence, row.commercial) == ("test_resnet", "cc-by-nc-4.0", False)
    assert row.preprocess == CONTRACT
    assert row.source == f"hub repository {REPOSITORY}"
    assert ("GET", f"/{REPOSITORY}/resolve/main/model.safetensors") not in hub.asked


def test_an_old_flat_config_is_read_too(hub: Server) -> None:
    publish(hub, {"architecture": "test_resnet", **CONFIG["pretrained_cfg"]})  # type: ignore[dict-item]
    row = weights.info(f"hf:{REPOSITORY}")
    assert row.preprocess == CONTRACT
    assert row.licence == "cc-by-nc-4.0"


def test_a_hub_repository_loads(hub: Server) -> None:
    content = state()
    publish(hub, model__safetensors=tensors(content))
    found = weights.load(f"hf:{REPOSITORY}")
    assert all(torch.equal(value, content[name]) for name, value in found.module.state_dict().items())
    assert found.width == 96
    assert found.info.preprocess == CONTRACT


def test_a_bin_file_serves_where_there_is_no_safetensors(
    hub: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = state()
    publish(hub, pytorch_model__bin=bin_file(content))
    first = weights.load(f"hf:{REPOSITORY}")
    assert torch.equal(first.module.get_parameter("conv1.0.weight"), content["conv1.0.weight"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # and offline, out of the hub's own cache
    assert weights.load(f"hf:{REPOSITORY}").info == first.info


def test_a_malicious_bin_file_is_never_run(hub: Server, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was-run"),)

    for content in (bin_file({"state_dict": Payload()}), pickle.dumps(Payload())):
        publish(hub, pytorch_model__bin=content)
        with pytest.raises(BadWeights):
            weights.load(f"hf:{REPOSITORY}")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "config", [None, {"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}, [1, 2]]
)
def test_a_repository_in_another_form_wants_an_architecture(config: object, hub: Server) -> None:
    content = state()
    publish(hub, config, model__safetensors=tensors(content))
    if config is None:
        del hub.files[f"/{REPOSITORY}/resolve/main/config.json"]
    with pytest.raises(BadWeights, match="Name it: --arch NAME"):
        weights.load(f"hf:{REPOSITORY}")
    found = weights.load(f"hf:{REPOSITORY}", arch="test_resnet")
    assert torch.equal(found.module.get_parameter("conv1.0.weight"), content["conv1.0.weight"])
    assert (found.info.licence, found.info.commercial) == ("unknown", None)
    assert found.info.objective == "unknown"


def test_no_network_for_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "weights" / "someone--tiny-net"
    with pytest.raises(BadWeights) as caught:
        weights.info(f"hf:{REPOSITORY}")
    assert f"put it at {folder / 'config.json'}" in str(caught.value)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(BadWeights) as caught:
        weights.load(f"hf:{REPOSITORY}")
    assert f"put it at {folder / 'model.safetensors'}" in str(caught.value)
    (folder / "model.safetensors").write_bytes(tensors(state()))
    assert weights.load(f"hf:{REPOSITORY}").info.licence == "cc-by-nc-4.0"


def test_a_bin_file_can_be_put_there_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "weights" / "someone--tiny-net"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "pytorch_model.bin").write_bytes(bin_file(state()))
    assert weights.load(f"hf:{REPOSITORY}").width == 96


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:someone/tiny-nte", "no repository 'someone/tiny-nte'"),
        ("hf:a/b/c", "is no name of a hub repository"),
        ("hf:has space/x", "is no name of a hub repository"),
    ],
)
def test_a_wrong_repository_is_not_called_a_broken_network(name: str, said: str, hub: Server) -> None:
    publish(hub)
    with pytest.raises(BadWeights, match=said) as caught:
        weights.info(name)
    assert "cannot be reached" not in str(caught.value)


def test_a_repository_without_a_checkpoint(hub: Server) -> None:
    publish(hub)
    with pytest.raises(BadWeights, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        weights.load(f"hf:{REPOSITORY}")


def test_a_config_that_is_not_json(hub: Server) -> None:
    hub.put(REPOSITORY, "config.json", b"<html>")
    with pytest.raises(BadWeights, match="is not JSON"):
        weights.info(f"hf:{REPOSITORY}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_hub_cache_that_cannot_be_written_to(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(locked / "hub"))
    with pytest.raises(BadInput, match="cannot be written"):
        weights.info(f"hf:{REPOSITORY}")
