"""`torchvision:` from a local server; the file's name carries the first digits of its hash, as torchvision's do."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models

import headstart.weights as weights
from headstart._core.errors import BadWeights
from tests.weights.conftest import Server

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def content() -> dict[str, Tensor]:
    torch.manual_seed(5)
    found: dict[str, Tensor] = models.get_model(NAME, weights=None).state_dict()
    return found


@pytest.fixture
def file(content: dict[str, Tensor], server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path on the server of the weights, to which torchvision's own record points."""
    stream = io.BytesIO()
    torch.save(content, stream)
    path = f"/models/{NAME}-{hashlib.sha256(stream.getvalue()).hexdigest()[:8]}.pth"
    server.files[path] = stream.getvalue()
    point_to(server.address + path, monkeypatch)
    return path


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = models.get_model_weights(NAME).DEFAULT.value
    monkeypatch.setattr(record, "url", address)


def test_weights_are_downloaded_once(
    file: str, server: Server, content: dict[str, Tensor], tmp_path: Path
) -> None:
    found = weights.load(f"torchvision:{NAME}")
    assert all(torch.equal(value, content[name]) for name, value in found.module.state_dict().items())
    assert found.classifier is not None
    assert torch.equal(found.classifier.get_parameter("weight"), content["classifier.3.weight"])
    stored = tmp_path / "cache" / "weights" / Path(file).name
    assert stored.read_bytes() == server.files[file]
    assert found.info.sha256 == hashlib.sha256(server.files[file]).hexdigest()
    assert found.info.source == server.address + file
    weights.load(f"torchvision:{NAME}")
    assert server.asked.count(("GET", file)) == 1


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_download_is_refused_and_not_kept(
    damage: str, file: str, server: Server, tmp_path: Path
) -> None:
    good = server.files[file]
    if damage == "flipped":
        server.files[file] = good[:-1] + bytes([good[-1] ^ 1])
    else:
        server.cut.add(file)
    with pytest.raises(BadWeights, match="damaged"):
        weights.load(f"torchvision:{NAME}")
    assert not list((tmp_path / "cache" / "weights").iterdir())
    server.files[file] = good
    server.cut.clear()
    assert weights.load(f"torchvision:{NAME}").width == 1024


def test_a_file_damaged_later_is_refused(file: str, tmp_path: Path) -> None:
    weights.load(f"torchvision:{NAME}")
    stored = tmp_path / "cache" / "weights" / Path(file).name
    stored.write_bytes(stored.read_bytes()[:-5])
    with pytest.raises(BadWeights, match="Delete it and run again") as caught:
        weights.load(f"torchvision:{NAME}")
    assert str(stored) in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/models", "SERVER/nothing/here"])
def test_no_network_says_which_file_to_put_where(
    address: str, file: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"{address.replace('SERVER', server.address)}/{Path(file).name}"
    point_to(away, monkeypatch)
    with pytest.raises(BadWeights) as caught:
        weights.load(f"torchvision:{NAME}")
    place = tmp_path / "cache" / "weights" / Path(file).name
    assert f"{away} cannot be reached" in str(caught.value)
    assert f"put it at {place}" in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(server.files[file])
    assert weights.load(f"torchvision:{NAME}").classifier is not None


def test_weights_under_another_licence_say_so() -> None:
    """RegNetY-128GF has SWAG weights only, which torchvision marks: CC-BY-NC."""
    row = weights.info("torchvision:regnet_y_128gf")
    assert (row.licence, row.commercial) == ("CC-BY-NC-4.0", False)
    assert row.data.startswith("Instagram")
