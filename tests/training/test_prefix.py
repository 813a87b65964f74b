"""A frozen prefix that runs once: the cut is right or not made, and what is stored is what the network would see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart import weights
from headstart._core.clock import Clock
from headstart.adaptation import settle
from headstart.compute import Stopped
from headstart.data.records import DatasetFacts
from headstart.methods import METHODS, Decline
from headstart.tasks import Classifier
from headstart.training import Pace, TrainingData, fit, gradient, prefix
from headstart.training.checkpoint import Progress
from headstart.training.feed import Pixels
from headstart.weights import Backbone
from tests.training.test_gradient import CPU, backbone, data, prepared, run, same, until

__all__ = ["backbone", "data"]  # fixtures


@pytest.mark.parametrize(
    "arch", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_050"]
)
def test_networks_that_are_chains_can_be_cut_behind_every_stage(arch: str) -> None:
    found = weights.load(f"random:{arch}")
    network = Classifier(found.module, found.width, 3).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = network(images)
    before = sum(p.numel() for p in network.parameters())
    for stage in found.stages[:-1]:
        suffix = prefix.suffix_of(network, f"body.{stage.output}", images)
        assert suffix is not None, stage.name
        torch.testing.assert_close(
            suffix(prefix.run_to(network, f"body.{stage.output}", images)), expected, rtol=1e-4, atol=1e-5
        )
        left = sum(p.numel() for p in suffix.parameters())
        assert left < before
        assert all(p is network.get_parameter(name) for name, p in suffix.named_parameters())
        before = left


def test_a_network_that_is_no_chain_is_not_cut() -> None:
    """A transformer adds positions and its class token between the modules: the cut would repeat that."""
    found = weights.load("random:test_vit")
    contract = found.info.preprocess
    network = Classifier(found.module, found.width, 3).eval()
    images = torch.randn(2, 3, contract.height, contract.width)
    assert prefix.suffix_of(network, f"body.{found.stages[1].output}", images) is None


class _SkipsAhead(nn.Module):
    """The first layer's output is used again behind the boundary."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        early = self.one(images)
        out: Tensor = (self.three(self.two(early)) + early).mean((2, 3))
        return out


def test_a_connection_around_the_boundary_is_noticed() -> None:
    network = Classifier(_SkipsAhead(), 3, 2).eval()
    assert prefix.suffix_of(network, "body.two", torch.randn(2, 3, 8, 8)) is None


def test_uncut_networks_train_the_same_stages_only_slower(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without the cut: the same views in the same order, so nearly the same network."""
    monkeypatch.setattr(gradient, "native_bfloat16", lambda _: False)
    options = {"views": 2, "epochs": 3}
    _, cut = run(prepared(backbone, "partial", **options), data, Pace(clock=Clock(), folder=tmp_path / "cut"))
    monkeypatch.setattr(prefix, "suffix_of", lambda *_: None)
    adapted = prepared(backbone, "partial", **options)
    events, whole = run(adapted, data, Pace(clock=Clock(), folder=tmp_path / "whole"))
    assert cut.facts["stored_prefix"] is True
    assert whole.facts["stored_prefix"] is False
    assert any("cannot be cut" in event.reason for event in events)
    assert settle(adapted, whole.model).frozen_identical
    np.testing.assert_allclose(cut.val_logits, whole.val_logits, atol=0.02 * np.abs(whole.val_logits).max())


def _split(backbone: Backbone, data: TrainingData, folder: Path, clock: Clock) -> Any:
    adapted = prepared(backbone, "partial", views=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "native_bfloat16", lambda _: False)
        pace = Pace(clock=clock, folder=folder)
        return gradient._engine(adapted, data, pace, Progress())


def test_stored_rows_are_the_networks_own_activations(
    backbone: Backbone, data: TrainingData, tmp_path: Path
) -> None:
    _, feed = _split(backbone, data, tmp_path, Clock())
    assert isinstance(feed, prefix.Stored)
    assert feed.rows.dtype == torch.float16
    assert len(feed.rows) == 2 * len(data.train) + len(data.val)
    pixels = Pixels(data=data, augment="medium", flip=True, views=2, device=CPU)
    boundary = f"{backbone.stages[-3].output}"
    for epoch in (0, 1, 5):
        (images,), (stored,) = (list(source.epoch(epoch, [[3, 0, 7]])) for source in (pixels, feed))
        assert stored.positions == (3, 0, 7)
        with torch.no_grad():
            expected = prefix.run_to(backbone.module.eval(), boundary, pixels.inputs(images.pixels))
        torch.testing.assert_close(feed.inputs(stored.pixels), expected, rtol=2e-3, atol=2e-3)
    one, two, again = (next(iter(feed.epoch(epoch, [[0]]))).pixels for epoch in (0, 1, 2))
    assert not torch.equal(one, two)
    assert torch.equal(one, again)


def test_large_activations_go_to_a_file_and_change_nothing(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, memory = run(
        prepared(backbone, "partial"), data, Pace(clock=Clock(), folder=tmp_path / "memory", every=0.0)
    )
    monkeypatch.setattr(prefix, "IN_MEMORY", 0)
    pace = Pace(clock=Clock(), folder=tmp_path / "disk", every=0.0)
    until(fit(prepared(backbone, "partial"), data, pace), 3)
    (file,) = (tmp_path / "disk").glob(prefix.PATTERN)
    written = file.stat().st_mtime_ns
    stream = fit(prepared(backbone, "partial"), data, pace)
    next(stream)
    assert file.stat().st_mtime_ns == written  # a resumed run reads it and does not compute it again
    stream.close()
    _, disk = run(prepared(backbone, "partial"), data, pace)
    assert same(memory.model, disk.model)
    assert not list((tmp_path / "disk").glob(prefix.PATTERN))


def test_a_stop_while_the_prefix_runs_leaves_no_half_file(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "IN_MEMORY", 0)
    clock = Clock()
    clock.stop("Ctrl-C")
    with pytest.raises(Stopped):
        _split(backbone, data, tmp_path, clock)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_ends_while_the_prefix_runs_ends_the_rung(
    backbone: Backbone, data: TrainingData, tmp_path: Path
) -> None:
    pace = Pace(clock=Clock(1e-9), folder=tmp_path)
    _, result = run(prepared(backbone, "partial"), data, pace)
    assert result.ended == "the time budget is used up"
    assert result.facts["steps"] == 0


def test_partial_declines_where_nothing_would_stay_frozen(backbone: Backbone, data: TrainingData) -> None:
    facts = _facts(data)
    answer = METHODS["partial"].suggest(facts, None, backbone, {"unfreeze": len(backbone.stages)})
    assert isinstance(answer, Decline)
    assert f"use {len(backbone.stages) - 1} or less" in answer.reason
    fine = METHODS["partial"].suggest(facts, None, backbone, {"unfreeze": 1})
    assert not isinstance(fine, Decline)
    assert [choice.value for choice in fine.choices if choice.what == "tuned stages"] == ["stage5"]


class _Facts:
    task = "classify"
    """The one fact that fine-tuning asks for."""

    def __init__(self, n_train: int) -> None:
        self.n_train = n_train


def _facts(data: TrainingData) -> DatasetFacts:
    return _Facts(len(data.train))  # type: ignore[return-value]
