"""Going back towards the start: only as far as the validation images want, and never with what is frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headstart._core.clock import Clock
from headstart.adaptation import Adapted, settle
from headstart.compute import forward
from headstart.training import Pace, TrainingData, fit, gradient
from headstart.training.blend import SHARES, best_share, between, calibrated_losses, start_of
from headstart.weights import Backbone
from tests.training.test_gradient import backbone, data, prepared, run, same, until

__all__ = ["backbone", "data"]  # fixtures


def test_between_by_hand() -> None:
    start = {"a": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    end = {"a": torch.tensor([4.0, 2.0]), "n": torch.tensor(9), "frozen": torch.tensor([7.0])}
    found = between(start, end, 0.25)
    assert found["a"].tolist() == [1.0, 2.0]
    assert found["n"] == 9  # a counter is not averaged
    assert found["frozen"] is end["frozen"]
    assert between(start, end, 1.0)["a"] is end["a"]  # to the last bit


@pytest.mark.parametrize(
    ("losses", "share"),
    [
        ({1.0: [1.0, 1.0, 1.0], 0.6: [0.5, 0.5, 0.5]}, 0.6),
        ({1.0: [1.0, 1.0, 1.0], 0.6: [1.5, 1.5, 1.5]}, 1.0),
        ({1.0: [1.0, 1.0, 1.0], 0.6: [1.0, 1.0, 1.0]}, 1.0),  # a tie keeps the end
        ({1.0: [1.0, 1.0, 1.0, 1.0], 0.4: [0.0, 1.9, 0.1, 1.9]}, 1.0),  # a gain of 0.025 +- 0.46 is none
        ({1.0: [1.0, 1.0], 0.2: [0.8, 0.8], 0.4: [0.7, 0.7]}, 0.4),
    ],
)
def test_the_choice_by_hand(losses: dict[float, list[float]], share: float) -> None:
    assert best_share({key: np.array(each) for key, each in losses.items()}) == share


def test_a_network_that_is_too_sure_is_not_punished() -> None:
    logits = np.random.default_rng(0).normal(size=(60, 3))
    targets = np.random.default_rng(1).integers(0, 3, 60)
    logits[np.arange(60), targets] += 1
    assert calibrated_losses(logits, targets).mean() == pytest.approx(
        calibrated_losses(5 * logits, targets).mean(), abs=1e-3
    )


@pytest.mark.parametrize("method", ["full", "partial"])
def test_what_comes_back_lies_on_the_way(
    method: str,
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: dict[float, dict[str, torch.Tensor]] = {}
    for share in (1.0, 0.4):
        monkeypatch.setattr(gradient, "best_share", lambda _losses, share=share: share)
        adapted = prepared(backbone, method, head_start="probe")
        events, result = run(adapted, data, Pace(clock=Clock(), folder=tmp_path / str(share)))
        assert result.facts["blend"] == share
        assert set(result.facts["blend_losses"]) == {f"{each:g}" for each in SHARES}
        assert f"{share:.0%} of the way" in events[-1].reason
        ledger = settle(adapted, result.model)  # refuses a frozen tensor that has moved
        assert ledger.frozen_identical
        ends[share] = result.model.state_dict()
        direct = forward(result.model, data.val, data.preprocess, label="testing")
        assert np.allclose(direct, result.val_logits, atol=1e-5)
    first = prepared(backbone, method, head_start="probe")
    moving = set(start_of(first)) - {"head.weight", "head.bias"}
    assert moving
    for name, end in ends[1.0].items():
        if name in moving and end.is_floating_point():
            start = first.model.state_dict()[name]
            assert torch.allclose(ends[0.4][name], 0.6 * start + 0.4 * end, atol=1e-6), name
        elif not name.startswith("head"):
            assert torch.equal(ends[0.4][name], end), name
    assert not torch.equal(ends[0.4]["head.weight"], ends[1.0]["head.weight"])


def test_resumed_goes_the_same_way(
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
) -> None:
    def pace(name: str) -> Pace:
        return Pace(clock=Clock(), folder=tmp_path / name, every=0.0)

    def made() -> Adapted:
        return prepared(backbone, "full", head_start="probe", learning_rate=5e-3)

    _, whole = run(made(), data, pace("whole"))
    until(iter(fit(made(), data, pace("cut"))), 4)
    _, resumed = run(made(), data, pace("cut"))
    assert same(whole.model, resumed.model)
    for fact in ("blend", "blend_losses"):
        assert whole.facts[fact] == resumed.facts[fact]


def test_random_beginnings_are_no_place_to_go_back_to(
    backbone: Backbone,
    data: TrainingData,
    tmp_path: Path,
) -> None:
    _, result = run(prepared(backbone, "full"), data, Pace(clock=Clock(), folder=tmp_path))
    assert "blend" not in result.facts
