"""Seconds of a training step, stage by stage: they add up, and a stage that works more costs more."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from headstart.evidence import cost
from headstart.evidence.cost import _gaps, measure_cost, step_seconds
from headstart.weights import Backbone, Stage
from tests.evidence.pictures import stripes, tiny


class Slow(nn.Module):
    """Passes its input on after a while, forwards and backwards."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.weight = seconds, nn.Parameter(torch.ones(1))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        inner = values * self.weight
        inner.register_hook(lambda _: time.sleep(self.seconds))
        return inner + 0.0


def chain(*seconds: float) -> Backbone:
    parts = {f"part{number}": Slow(each) for number, each in enumerate(seconds)}
    tail = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    stages = tuple(
        Stage(name=f"stage{n}", modules=(part,), parameters=(f"{part}.weight",), output=part)
        for n, part in enumerate(parts)
    )
    module = nn.Sequential(OrderedDict(parts | tail)).eval()
    return replace(tiny(), module=module, stages=stages, norms=(), width=3)


def test_each_stage_gets_its_own_time() -> None:
    found = [8 * each for each in step_seconds(chain(0.1, 0.4, 0.02))]
    assert found[1] > 2 * found[0] > 2 * found[2] > 0
    assert found[1] == pytest.approx(0.8, rel=0.5)


def test_moments_that_are_missing_or_out_of_order_cost_nothing() -> None:
    assert _gaps(0.0, [1.0, None, 3.0], 4.0) == [1.0, 0.0, 2.0, 1.0]
    assert _gaps(0.0, [2.0, 1.0], 4.0) == [2.0, 0.0, 2.0]


def test_the_parts_add_up_and_the_network_stays_as_it_was() -> None:
    backbone = tiny()
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    flags = [parameter.requires_grad for parameter in backbone.module.parameters()]
    found = measure_cost(backbone, stripes(12).train, forward=0.001)
    assert len(found.stages) == len(backbone.stages)
    assert found.step == pytest.approx(sum(found.stages))
    assert 0 < found.partial_step < found.step
    assert found.read > 0
    assert all((value == before[name]).all() for name, value in backbone.module.state_dict().items())
    assert flags == [parameter.requires_grad for parameter in backbone.module.parameters()]
    assert all(parameter.grad is None for parameter in backbone.module.parameters())


def test_long_batches_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def timed(_network: nn.Module, images: torch.Tensor, _ends: list[str]) -> list[float]:
        seen.append(len(images))
        return [1.0, 1.5]

    monkeypatch.setattr(cost, "_one", timed)
    assert step_seconds(chain(0.0, 0.0)) == (1.0 / 8, 1.5 / 8)
    assert seen == [2, 8, 8]  # the one that warms up; after 2.5 seconds another, after five none
