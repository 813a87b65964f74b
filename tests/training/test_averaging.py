"""The running average of the weights: by hand, inside the loop, and across an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart._core.clock import Clock
from headstart.adaptation import settle
from headstart.compute import forward
from headstart.training import Pace, TrainingData, fit
from headstart.training.averaging import Average
from headstart.training.gradient import Loop
from headstart.weights import Backbone
from tests.training.test_gradient import backbone, data, prepared, run, same, until

__all__ = ["backbone", "data"]  # fixtures


def test_by_hand() -> None:
    """Decays 1/10, 2/11, 3/12 in the first steps, then 0.3: the average of 0 and the weights 1, 2, 3, 4."""
    layer = nn.Linear(1, 1, bias=False)
    average = Average.of(layer, {"weight": torch.zeros(1, 1), "counter": torch.tensor(3)}, 0.3)
    value, found = 0.0, []
    for step, weight in enumerate((1.0, 2.0, 3.0, 4.0)):
        with torch.no_grad():
            layer.weight.fill_(weight)
        average.update(layer, step)
        decay = (1 / 10, 2 / 11, 3 / 12, 0.3)[step]
        value = decay * value + (1 - decay) * weight
        found.append(float(average.values["weight"]))
        assert found[-1] == pytest.approx(value, rel=1e-6)
    assert found[0] == pytest.approx(0.9)
    state = average.over({"weight": layer.weight, "counter": torch.tensor(7), "frozen": torch.tensor([5.0])})
    assert float(state["weight"]) == found[-1]
    assert state["counter"] == 7  # a whole number is that of the network
    assert state["frozen"] == 5


def liked(monkeypatch: pytest.MonkeyPatch, *, averaged: bool) -> None:
    """Validation images that prefer the averaged weights, or that never do."""
    honest, calls = Loop.validate, []

    def validate(self: Loop) -> Any:
        calls.append(1)
        second = len(calls) % 2 == 0
        logits = honest(self)
        targets = self.data.task.targets(self.data.val, len(self.data.classes))
        return np.eye(logits.shape[1])[targets] * 5 if second is averaged else np.zeros_like(logits)

    monkeypatch.setattr(Loop, "validate", validate)


@pytest.mark.parametrize("method", ["full", "partial"])
@pytest.mark.parametrize("batchnorm", ["frozen", "tuned"])
def test_what_is_kept_is_the_average_over_the_steps(
    method: str,
    batchnorm: str,
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the first epoch: recomputed from the weights after every step, frozen tensors and counters those of the network."""
    told: list[dict[str, Tensor]] = []
    update = Average.update

    def spy(self: Average, model: nn.Module, step: int) -> None:
        told.append({name: value.detach().cpu().clone() for name, value in model.state_dict().items()})
        update(self, model, step)

    monkeypatch.setattr(Average, "update", spy)
    liked(monkeypatch, averaged=True)
    adapted = prepared(backbone, method, batchnorm=batchnorm, ema=0.5, epochs=2)
    before = {name: value.clone() for name, value in adapted.model.state_dict().items()}
    events, result = run(adapted, data, Pace(clock=Clock(), folder=tmp_path))
    assert result.facts["averaged"] is True
    assert settle(adapted, result.model).frozen_identical
    assert next(event.reason for event in events if event.event == "validation") == "of the averaged weights"
    steps = int(result.facts["best_step"])
    moving = {name for group in adapted.applied.groups if group.trains for name in group.parameters}
    moving |= {name for group in adapted.applied.groups if group.buffers_may_move for name in group.buffers}
    for name, value in result.model.state_dict().items():
        if name not in moving or not value.is_floating_point():
            assert torch.equal(value, told[steps - 1][name]), name
            continue
        expected = before[name].double()
        for step in range(steps):
            decay = min(0.5, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * told[step][name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    moved = [name for name in moving if name.endswith("running_mean")]
    assert bool(moved) is (batchnorm == "tuned")
    np.testing.assert_allclose(
        forward(result.model, data.val, data.preprocess, label="testing"), result.val_logits, atol=1e-5
    )


def test_where_validation_prefers_the_network_nothing_changes(
    backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at the average disturbs nothing: the same bits as without one."""
    _, plain = run(prepared(backbone, "full"), data, Pace(clock=Clock(), folder=tmp_path / "plain"))
    honest = Loop.validate
    _, both = run(prepared(backbone, "full", ema=0.9), data, Pace(clock=Clock(), folder=tmp_path / "both"))
    assert isinstance(both.facts["averaged"], bool)
    liked(monkeypatch, averaged=False)
    _, own = run(
        prepared(backbone, "full", ema=0.9, epochs=1), data, Pace(clock=Clock(), folder=tmp_path / "own")
    )
    assert own.facts["averaged"] is False
    monkeypatch.setattr(Loop, "validate", honest)
    _, short = run(prepared(backbone, "full", epochs=1), data, Pace(clock=Clock(), folder=tmp_path / "short"))
    assert same(own.model, short.model)
    assert "averaged" not in plain.facts


@pytest.mark.parametrize("method", ["full", "partial"])
def test_a_resumed_average_has_the_same_bits(
    method: str, backbone: Backbone, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"ema": 0.9, "cutmix": 1.0, "mixup": 0.2}
    liked(monkeypatch, averaged=True)
    _, whole = run(
        prepared(backbone, method, **options), data, Pace(clock=Clock(), folder=tmp_path / "whole")
    )
    pace = Pace(clock=Clock(), folder=tmp_path / "cut", every=0.0)
    until(fit(prepared(backbone, method, **options), data, pace), 2)
    _, resumed = run(prepared(backbone, method, **options), data, pace)
    assert whole.facts["averaged"] is resumed.facts["averaged"] is True
    assert same(whole.model, resumed.model)
    np.testing.assert_array_equal(whole.val_logits, resumed.val_logits)
