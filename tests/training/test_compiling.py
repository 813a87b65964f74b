"""Compiled training: taken by a rule, the same weights, and nothing lost where a compiler fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstart._core.clock import Clock
from headstart.training import Pace, TrainingData
from headstart.training.compiling import WORTH_COMPILING, Compiled, pays
from headstart.weights import Backbone
from tests.training.test_gradient import backbone, data, prepared, run  # noqa: F401  # fixtures

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def never() -> float:
    raise AssertionError("counted although it decides nothing")


@pytest.mark.parametrize(
    ("choice", "where", "operations", "wanted"),
    [
        ("yes", CPU, never, True),
        ("no", CUDA, never, False),
        ("auto", CPU, never, False),
        ("auto", CUDA, lambda: WORTH_COMPILING, True),
        ("auto", CUDA, lambda: 0.9 * WORTH_COMPILING, False),
    ],
)
def test_the_rule(choice: str, where: torch.device, operations: Callable[[], float], wanted: bool) -> None:
    assert pays(choice, where, operations=operations) is wanted


def doubled(network: nn.Module) -> Callable[[Tensor], Any]:
    return lambda images: 2 * network(images)


def test_it_is_compiled_once_and_used() -> None:
    made = []

    def compiler(network: nn.Module) -> Callable[[Tensor], Any]:
        made.append(network)
        return doubled(network)

    call = Compiled(nn.Identity(), [], compiler=compiler)
    assert [float(call(torch.ones(1))) for _ in range(3)] == [2, 2, 2]
    assert len(made) == 1


def test_a_compiler_that_fails_is_told_once_and_the_network_runs() -> None:
    def compiler(network: nn.Module) -> Callable[[Tensor], Any]:
        def fail(images: Tensor) -> Any:
            raise RuntimeError("no C++ compiler found")

        return fail

    notes: list[str] = []
    call = Compiled(nn.Identity(), notes, compiler=compiler)
    assert [float(call(torch.ones(1))) for _ in range(2)] == [1, 1]
    assert notes == ["the network could not be compiled and runs as it is: no C++ compiler found"]


def test_lack_of_memory_is_left_to_the_engine() -> None:
    def compiler(network: nn.Module) -> Callable[[Tensor], Any]:
        def fail(images: Tensor) -> Any:
            raise RuntimeError("CUDA out of memory")

        return fail

    with pytest.raises(RuntimeError, match="out of memory"):
        Compiled(nn.Identity(), [], compiler=compiler)(torch.ones(1))


def test_an_error_of_a_network_that_worked_is_its_own() -> None:
    def fussy(network: nn.Module) -> Callable[[Tensor], Any]:
        def call(images: Tensor) -> Any:
            if len(images) > 1:
                raise ValueError("wrong shape")
            return images

        return call

    call = Compiled(nn.Identity(), [], compiler=fussy)
    call(torch.ones(1))
    with pytest.raises(ValueError, match="wrong shape"):
        call(torch.ones(2))


@pytest.mark.parametrize("method", ["full", "partial"])
def test_training_ends_with_the_same_weights(
    backbone: Backbone,  # noqa: F811
    data: TrainingData,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """Through dynamo and autograd's own tracing, without a C++ compiler, which not every machine has."""
    seen = []

    def traced(network: nn.Module) -> Callable[[Tensor], Any]:
        seen.append(network)
        call: Callable[[Tensor], Any] = torch.compile(network, backend="aot_eager")
        return call

    def other(network: nn.Module, notes: list[str]) -> Compiled:
        return Compiled(network, notes, compiler=traced)

    monkeypatch.setattr("headstart.training.gradient.Compiled", other)
    few = replace(data, train=data.train[:16])
    ends = []
    for choice in ("no", "yes"):
        adapted = prepared(backbone, method, epochs=1, compiled=choice)
        _, result = run(adapted, few, Pace(clock=Clock(None), folder=tmp_path / choice))
        ends.append(result.model.state_dict())
    assert len(seen) == 1
    for name, value in ends[0].items():
        torch.testing.assert_close(value.float(), ends[1][name].float(), rtol=0.05, atol=5e-3, msg=name)
