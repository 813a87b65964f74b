"""Checkpoints of a training loop: what is saved comes back, and damage is told."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from headstart._core.errors import BadInput
from headstart.training import checkpoint_of
from headstart.training.checkpoint import CHECKPOINT, Progress, load, save


def trained() -> tuple[Progress, nn.Module, torch.optim.Optimizer]:
    """A network after a few steps of AdamW, which keeps moments and counters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW([{"params": network.parameters(), "lr": 0.01, "peak": 0.02}])
    step(network, optimizer, 3)
    best = {name: value.clone() for name, value in network.state_dict().items()}
    progress = Progress(
        step=17, steps=40, best=best, best_loss=0.25, best_step=9, stale=2, losses=[0.5, 1 / 3], seconds=1.25
    )
    return progress, network, optimizer


def step(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for number in range(count):
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(number))
        loss = network(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def write(folder: Path) -> Path:
    progress, network, optimizer = trained()
    save(folder / CHECKPOINT, progress, network.state_dict(), optimizer.state_dict())
    return folder / CHECKPOINT


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_everything_comes_back(tmp_path: Path) -> None:
    progress, network, optimizer = trained()
    save(tmp_path / CHECKPOINT, progress, network.state_dict(), optimizer.state_dict())
    found = load(tmp_path / CHECKPOINT)
    assert found is not None
    assert equal(vars(found[0]), vars(progress))
    assert equal(found[1], dict(network.state_dict()))
    assert equal(found[2], optimizer.state_dict())


def test_going_on_gives_the_same_bits(tmp_path: Path) -> None:
    progress, network, optimizer = trained()
    save(tmp_path / CHECKPOINT, progress, network.state_dict(), optimizer.state_dict())
    step(network, optimizer, 4)
    other = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    resumed = torch.optim.AdamW([{"params": other.parameters(), "lr": 1.0, "peak": 1.0}])
    found = load(tmp_path / CHECKPOINT)
    assert found is not None
    other.load_state_dict(found[1])
    resumed.load_state_dict(found[2])
    step(other, resumed, 4)
    assert equal(dict(other.state_dict()), dict(network.state_dict()))
    assert resumed.param_groups[0]["peak"] == 0.02


def test_a_fresh_progress_comes_back(tmp_path: Path) -> None:
    """Infinity included: no validation yet."""
    save(tmp_path / CHECKPOINT, Progress(), {}, {})
    found = load(tmp_path / CHECKPOINT)
    assert found is not None
    assert math.isinf(found[0].best_loss)
    assert vars(found[0]) == vars(Progress())


def test_nothing_was_written(tmp_path: Path) -> None:
    assert load(tmp_path / CHECKPOINT) is None
    assert checkpoint_of(tmp_path) is None


def test_the_step_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    found = checkpoint_of(tmp_path)
    assert found is not None
    assert (found.step, found.steps) == (17, 40)


def test_a_failed_save_keeps_the_old_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    with pytest.raises(TypeError):
        save(path, Progress(step=99), {"x": (n for n in range(3))}, {})  # type: ignore[dict-item]
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_a_cut_file_is_damaged(share: float, tmp_path: Path) -> None:
    path = write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match="is damaged") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "starts anew" in str(caught.value)


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    """torch.load would not: it hands on whatever number the bit made of a weight."""
    path = write(tmp_path)
    found = load(path)
    assert found is not None
    content = bytearray(path.read_bytes())
    place = content.find(found[1]["0.weight"].numpy().tobytes())
    assert place > 0
    content[place + 5] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["progress"]["step"] == 17
    with pytest.raises(BadInput, match="checksum"):
        load(path)


@pytest.mark.parametrize("content", [b"hello", b"<html></html>", b"\x80\x02nonsense", b"PK\x03\x04nonsense"])
def test_something_else_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        load(tmp_path / CHECKPOINT)


@pytest.mark.parametrize(
    "content", [{}, {"progress": {"unheard_of": 1}, "model": {}, "optimizer": {}}, {"progress": {}}, [1, 2]]
)
def test_a_checkpoint_of_another_kind(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(BadInput):
        load(tmp_path / CHECKPOINT)


def test_code_is_never_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"progress": Payload(), "model": {}, "optimizer": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(BadInput):
        load(tmp_path / CHECKPOINT)
    assert not (tmp_path / "was-run").exists()
