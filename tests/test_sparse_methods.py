"""Methods that move little, one stage, or everything anew: what exactly they touch, and when they stand aside."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart._core.errors import BadOption
from headstart.adaptation import Adapted, adapt
from headstart.data.records import DatasetFacts
from headstart.evidence import DepthProbe, Evidence
from headstart.methods import METHODS, Decline, Suggestion
from headstart.methods.scratch import LARGE
from headstart.methods.sparse import bias_parameters, norm_parameters
from headstart.planning import Rung, check_given
from headstart.similarity import Distance
from headstart.weights import Backbone, blank
from tests.test_methods import facts

ARCHS = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext", "torchvision/resnet18")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def measured(
    accuracies: dict[str, float],
    *,
    layers: dict[str, float] | None = None,
    words: str = "far (0.4)",
) -> Evidence:
    far = layers or {}
    return Evidence(
        weights="random:test_resnet",
        images=200,
        distance=Distance(overall=0.4, layers=tuple(far), per_layer=tuple(far.values())),
        standing=words,
        depths=tuple(
            DepthProbe(name=name, outputs=(name,), width=8, accuracy=value, error=0.01)
            for name, value in accuracies.items()
        ),
        sizes=(),
        curve=None,
        cost=None,
        findings=(),
        seconds=1.0,
    )


def suggestion(
    name: str,
    backbone: Backbone,
    *,
    evidence: Evidence | None = None,
    n: int = 200,
    **given: Any,
) -> Suggestion:
    answer = METHODS[name].suggest(facts(n), evidence, backbone, given)
    assert isinstance(answer, Suggestion)
    return answer


def made(name: str, backbone: Backbone, **given: Any) -> Adapted:
    params = asdict(suggestion(name, backbone, **given).params)
    return adapt(Rung(method=name, params=params, why="a test"), backbone, classes=3, seed=0)


# Norms and biases


@pytest.mark.parametrize("arch", ARCHS)
def test_norms_are_all_norms_and_nothing_else(arch: str) -> None:
    """Against the names that the authors of the networks gave; the code itself looks at no name."""
    body = blank(arch).module
    found = set(norm_parameters(body))
    places = {name.rpartition(".")[0] for name in found}
    assert places == {
        name for name, m in body.named_modules() if "Norm" in type(m).__name__ and list(m.parameters(False))
    }
    assert found == {f"{place}.{kind}" for place in places for kind in ("weight", "bias")}


@pytest.mark.parametrize("arch", ARCHS)
def test_biases_are_all_biases_and_nothing_else(arch: str) -> None:
    body = blank(arch).module
    assert set(bias_parameters(body)) == {
        name for name, _ in body.named_parameters() if name.endswith(".bias")
    }


@pytest.mark.parametrize(("name", "what"), [("norm-only", "norms"), ("bias-only", "biases")])
def test_only_they_and_the_head_train(name: str, what: str, backbone: Backbone) -> None:
    adapted = made(name, backbone)
    pick = norm_parameters if what == "norms" else bias_parameters
    expected = {f"body.{each}" for each in pick(backbone.module)} | {"head.weight", "head.bias"}
    assert {n for n, p in adapted.model.named_parameters() if p.requires_grad} == expected
    for group in adapted.applied.groups:
        assert group.trains is (group.name == "head" or group.name.endswith(what))
    share = sum(p.numel() for p in adapted.model.body.parameters() if p.requires_grad)
    assert share < 0.05 * sum(p.numel() for p in adapted.model.body.parameters())


def test_a_network_without_them_declines(backbone: Backbone) -> None:
    plain = replace(backbone, module=nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)), norms=())
    for name in ("norm-only", "bias-only"):
        answer = METHODS[name].suggest(facts(), None, plain, {})
        assert isinstance(answer, Decline)
        assert "has no" in answer.reason


# One stage


def test_surgery_touches_one_stage(backbone: Backbone) -> None:
    adapted = made("surgical", backbone, stage="stage2")
    assert [group.name for group in adapted.applied.groups if group.trains] == ["stage2", "head"]
    assert adapted.applied.boundary == f"body.{backbone.stages[1].output}"
    model = adapted.model.train()
    inside = set(backbone.stages[2].modules)
    outside = {m for stage in backbone.stages for m in stage.modules} - inside
    assert all(not model.body.get_submodule(place).training for place in outside)
    assert made("surgical", backbone, stage="stem").applied.boundary == ""


def test_surgery_where_good_features_are_lost(backbone: Backbone) -> None:
    curve = {"stem": 0.6, "stage1": 0.7, "stage2": 0.93, "stage3": 0.88, "stage4": 0.84, "output": 0.84}
    answer = suggestion("surgical", backbone, evidence=measured(curve))
    assert answer.params.stage == "stage3"
    assert "93.0% (90.8% to 94.7%) at stage2 and 84.0% (" in answer.choices[0].why


def test_surgery_where_images_are_farthest(backbone: Backbone) -> None:
    rising = {"stem": 0.5, "stage1": 0.6, "stage2": 0.7, "stage3": 0.8, "stage4": 0.9, "output": 0.9}
    layers = dict.fromkeys(backbone.norms, 0.1) | {
        name: 0.9 for name in backbone.norms if name.startswith("layer1.")
    }
    answer = suggestion("surgical", backbone, evidence=measured(rising, layers=layers))
    assert answer.params.stage == "stage1"
    assert "farthest" in answer.choices[0].why
    assert suggestion("surgical", backbone).params.stage == backbone.stages[-1].name


def test_surgery_on_a_stage_that_is_not_there(backbone: Backbone) -> None:
    with pytest.raises(BadOption, match=r"--stage 'stage9': test_resnet has no such stage"):
        suggestion("surgical", backbone, stage="stage9")


# From scratch


def test_scratch_forgets_everything(backbone: Backbone) -> None:
    with torch.no_grad():
        for buffer in backbone.module.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.5)
    adapted = made("scratch", backbone)
    for name, value in adapted.model.body.named_parameters():
        if value.ndim > 1:
            assert not torch.equal(value, backbone.module.get_parameter(name)), name
    norm: Any = adapted.model.body.get_submodule(backbone.norms[0])
    assert torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))
    again, other = made("scratch", backbone), made("scratch", backbone)
    assert all(
        torch.equal(a, b) for a, b in zip(again.model.parameters(), other.model.parameters(), strict=True)
    )
    assert adapted.before["head"] == again.before["head"]
    params = asdict(suggestion("scratch", backbone).params)
    third = adapt(Rung(method="scratch", params=params, why=""), backbone, classes=3, seed=1)
    weight = f"body.{backbone.stages[0].parameters[0]}"
    assert not torch.equal(third.model.get_parameter(weight), again.model.get_parameter(weight))


@pytest.mark.parametrize(
    ("n", "epochs", "batch"), [(200, 150, 32), (5_000, 150, 64), (20_000, 38, 64), (10**6, 30, 64)]
)
def test_scratch_has_a_schedule_of_its_own(n: int, epochs: int, batch: int, backbone: Backbone) -> None:
    params = suggestion("scratch", backbone, n=n).params
    usual = suggestion("full", backbone, n=n).params
    assert (params.epochs, params.batch_size) == (epochs, batch)
    assert params.epochs > usual.epochs
    assert params.learning_rate > usual.learning_rate
    assert (params.augment, params.batchnorm, params.head_start) == ("strong", "tuned", "random")


# Who stands aside under `auto`


def left_out(name: str, n: int, evidence: Evidence | None) -> str:
    about: DatasetFacts = facts(n)
    return METHODS[name].why_not(about, evidence)


def test_scratch_stands_aside_unless_data_is_large_and_far() -> None:
    far, near = measured({}), measured({}, words="moderate (0.1)")
    assert str(LARGE) in left_out("scratch", LARGE - 1, far)
    assert "not known to be far" in left_out("scratch", LARGE, near)
    assert "not known to be far" in left_out("scratch", LARGE, None)
    assert left_out("scratch", LARGE, far) == ""


def test_the_ladder_is_short() -> None:
    usual = [name for name, row in METHODS.items() if "classify" in row.tasks and not row.on_request]
    always = [name for name in usual if not left_out(name, 1000, None)]
    assert always == ["linear-probe", "depth-probe", "partial", "full"]


def test_random_weights_have_nothing_to_freeze(backbone: Backbone) -> None:
    answer = METHODS["scratch"].suggest(facts(), None, backbone, {"batchnorm": "frozen"})
    assert isinstance(answer, Decline)
    assert "--batchnorm tuned" in answer.reason
    check_given("auto", {"batchnorm": "frozen"})  # what `full` understands is no error because of it


def test_a_flag_of_a_method_on_request_has_no_effect_on_auto() -> None:
    with pytest.raises(BadOption, match="--stage has no effect") as caught:
        check_given("auto", {"stage": "stage1"})
    assert "It belongs to surgical." in str(caught.value)


def test_the_depth_probe_stands_aside_where_the_output_is_best() -> None:
    rising = {"stage1": 0.6, "stage2": 0.8, "output": 0.9}
    assert "stage2" in left_out("depth-probe", 1000, measured(rising))
    assert (
        left_out("depth-probe", 1000, measured(rising | {"stage2": 0.885})) == ""
    )  # within what chance does
    assert left_out("depth-probe", 1000, None) == ""


def test_evidence_narrows_the_search(backbone: Backbone) -> None:
    values = np.linspace(0.5, 0.9, len(backbone.stages))
    evidence = measured(
        {stage.name: v for stage, v in zip(backbone.stages, values, strict=True)} | {"output": 0.95}
    )
    answer = suggestion("depth-probe", backbone, evidence=evidence)
    assert answer.params.depths == "output,stage4,stage3,stage2"
    asked = suggestion("depth-probe", backbone, evidence=evidence, depths="stage1")
    assert asked.params.depths == "stage1"
    assert asked.choices[0].why == "asked for"
    with pytest.raises(BadOption, match="stage7"):
        suggestion("depth-probe", backbone, depths="stage7")
