"""Averages of tuned networks: the arithmetic and the greedy choice by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headstart.training.blend import calibrated_losses
from headstart.training.soup import Logits, State, average, greedy


def test_the_average_by_hand() -> None:
    frozen = torch.tensor([0.1, 0.2, 0.3])
    states = [
        {"w": torch.tensor([float(k), 1.0]), "n": torch.tensor(k), "frozen": frozen.clone()}
        for k in (1, 2, 6)
    ]
    mixed = average(states)
    assert mixed["w"].tolist() == [3.0, 1.0]
    assert mixed["w"].dtype == torch.float32
    assert mixed["n"] == 1  # a counter is the best one's
    assert torch.equal(mixed["frozen"], frozen), "a third of three times 0.1 is not 0.1 in float32"
    assert states[0]["w"].tolist() == [1.0, 1.0]


TRUTH = np.array([0, 1] * 30)
DRAW = np.random.default_rng(0)
SIGN = np.where(TRUTH == 1, 1.0, -1.0)


def logits_of(state: State) -> Logits:
    """A network of two numbers, which answers with noise that depends on where it is; the truth lies at (1, 1)."""
    a, b = (float(value) for value in state["w"])
    off = abs(a - 1) + abs(b - 1)
    noise = np.random.default_rng(7).normal(size=60)
    margin = 3 * SIGN * (1 - 0.3 * off) + off * noise
    return np.stack([np.zeros(60), margin], 1)


def loss_of(*states: State) -> float:
    return float(calibrated_losses(logits_of(average(states)), TRUTH).mean())


def network(a: float, b: float) -> State:
    return {"w": torch.tensor([a, b], dtype=torch.float64)}


def test_what_helps_is_taken_and_what_does_not_is_left() -> None:
    """Two networks on both sides of the truth meet there; the third pulls the average away and is left."""
    states = [network(4.0, 4.0), network(1.6, 1.0), network(0.3, 1.0)]
    found = greedy(states, [logits_of(each) for each in states], targets=TRUTH, answer=logits_of)
    assert loss_of(states[1]) < loss_of(states[2]) < loss_of(states[0])
    assert found.members == (1, 2)
    assert found.tried == 2
    assert found.state["w"].tolist() == pytest.approx([0.95, 1.0])
    np.testing.assert_allclose(found.logits, logits_of(average(states[1:])))
    assert loss_of(states[1], states[2]) < min(loss_of(states[1]), loss_of(states[1], states[2], states[0]))


def test_the_best_alone_where_no_average_is_better() -> None:
    states = [network(2.0, 3.0), network(1.0, 1.0)]
    found = greedy(states, [logits_of(each) for each in states], targets=TRUTH, answer=logits_of)
    assert found.members == (1,)
    assert found.state is states[1]
    assert found.tried == 1
