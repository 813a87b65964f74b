"""The ledger: hashes that notice one changed bit, and a result that is refused because of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from headstart._core import records
from headstart._core.errors import BadInput, BadPlan
from headstart._core.records import from_plain
from headstart.adaptation import Adapted, Ledger, adapt, settle, tensor_hash
from headstart.methods import METHODS, Group
from headstart.planning import Rung
from headstart.weights import Backbone, blank


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def rung(name: str, **given: Any) -> Rung:
    return Rung(method=name, params=asdict(METHODS[name].params(**given)), why="a test")


def made(backbone: Backbone, name: str, **given: Any) -> Adapted:
    return adapt(rung(name, **given), backbone, classes=3, seed=0)


def flip_one_bit(tensor: torch.Tensor) -> None:
    """The smallest change there is."""
    with torch.no_grad():
        raw = tensor.reshape(-1)[:1].view(torch.uint8)
        raw[0] ^= 1


def test_a_network_of_its_own(backbone: Backbone) -> None:
    first, second = made(backbone, "full"), made(backbone, "full")
    for name, value in backbone.module.state_dict().items():
        own = first.model.body.state_dict()[name]
        assert torch.equal(own, value)
        assert own.data_ptr() != value.data_ptr()
    assert torch.equal(first.model.head.weight, second.model.head.weight)
    other = adapt(rung("full"), backbone, classes=3, seed=1)
    assert not torch.equal(first.model.head.weight, other.model.head.weight)
    assert first.model.head.weight.shape == (3, backbone.width)


def test_adapting_disturbs_no_generator(backbone: Backbone) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    made(backbone, "linear-probe")
    assert torch.equal(torch.rand(2), expected)


def test_nothing_moved(backbone: Backbone) -> None:
    adapted = made(backbone, "linear-probe")
    with torch.no_grad():
        adapted.model.head.bias.add_(1)
    ledger = settle(adapted, adapted.model)
    assert ledger.frozen_identical
    *frozen, head = ledger.groups
    assert all(line.verified is True and line.hash_before == line.hash_after for line in frozen)
    assert head.hash_before != head.hash_after
    assert head.verified is None  # it may change, so there is nothing to prove


WEIGHTS = ["body.conv1.0.weight", "body.layer2.0.bn1.bias", "body.layer4.0.conv2.weight"]
BUFFERS = [
    "body.bn1.running_mean",
    "body.layer2.0.bn1.running_var",
    "body.layer4.0.bn2.num_batches_tracked",
]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_moved_weight_is_refused(name: str, backbone: Backbone) -> None:
    adapted = made(backbone, "linear-probe")
    flip_one_bit(adapted.model.get_parameter(name))
    stage = next(g.name for g in adapted.applied.groups if name in g.parameters)
    with pytest.raises(BadPlan, match=f"^{stage} changed although linear-probe calls it frozen"):
        settle(adapted, adapted.model)


@pytest.mark.parametrize("method", ["linear-probe", "full"])
@pytest.mark.parametrize("name", BUFFERS)
def test_a_moved_buffer_is_refused(name: str, method: str, backbone: Backbone) -> None:
    adapted = made(backbone, method)
    flip_one_bit(adapted.model.get_buffer(name))
    stage = next(g.name for g in adapted.applied.groups if name in g.buffers)
    with pytest.raises(BadPlan, match=f"^{stage} changed although {method} calls it frozen"):
        settle(adapted, adapted.model)


def test_all_that_moved_are_named(backbone: Backbone) -> None:
    adapted = made(backbone, "linear-probe")
    for name in WEIGHTS:
        flip_one_bit(adapted.model.get_parameter(name))
    with pytest.raises(BadPlan, match="stem, stage2, stage4 changed"):
        settle(adapted, adapted.model)


@pytest.mark.parametrize("name", WEIGHTS)
def test_full_may_move_weights(name: str, backbone: Backbone) -> None:
    adapted = made(backbone, "full")
    flip_one_bit(adapted.model.get_parameter(name))
    ledger = settle(adapted, adapted.model)
    moved = [line.name for line in ledger.groups if line.hash_before != line.hash_after]
    assert moved == [next(g.name for g in adapted.applied.groups if name in g.parameters)]
    assert all(line.verified is True for line in ledger.groups if line.buffers)


@pytest.mark.parametrize("norm", ["tuned", "re-estimated"])
def test_statistics_that_may_move(norm: str, backbone: Backbone) -> None:
    adapted = made(backbone, "full", batchnorm=norm)
    flip_one_bit(adapted.model.get_buffer(BUFFERS[0]))
    ledger = settle(adapted, adapted.model)
    assert ledger.groups[0].buffers_may_move
    assert ledger.groups[0].verified is None


def test_a_line_counts_what_is_in_it(backbone: Backbone) -> None:
    adapted = made(backbone, "full", learning_rate=1e-3, layer_decay=0.5, head_factor=10.0)
    ledger = settle(adapted, adapted.model)
    assert sum(line.parameters for line in ledger.groups) == sum(
        p.numel() for p in adapted.model.parameters()
    )
    assert sum(line.tensors for line in ledger.groups) == len(list(adapted.model.parameters()))
    assert sum(line.buffers for line in ledger.groups) == len(list(adapted.model.buffers()))
    head, last = ledger.groups[-1], ledger.groups[-2]
    assert (head.name, head.tensors, head.parameters) == ("head", 2, 3 * backbone.width + 3)
    assert head.lr == pytest.approx(1e-2)
    assert last.lr == pytest.approx(1e-3)
    assert from_plain(Ledger, records.to_plain(ledger), where="the test") == ledger


def with_groups(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let the linear probe's treatment be changed."""
    row = METHODS["linear-probe"]

    def apply(*args: Any) -> Any:
        applied = row.apply(*args)
        return replace(applied, groups=change(applied.groups))

    monkeypatch.setitem(METHODS._rows, "linear-probe", replace(row, apply=apply))


def test_a_forgotten_tensor_is_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    with_groups(monkeypatch, lambda groups: (*groups[:1], *groups[2:]))
    with pytest.raises(BadPlan, match=r"not in exactly one group: body\.layer1\."):
        made(backbone, "linear-probe")


def test_a_tensor_in_two_groups_is_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(groups: tuple[Group, ...]) -> tuple[Group, ...]:
        extra = replace(groups[0], name="again", parameters=groups[0].parameters[:1], buffers=())
        return (*groups, extra)

    with_groups(monkeypatch, twice)
    with pytest.raises(BadPlan, match=r"not in exactly one group: body\.conv1\.0\.weight\."):
        made(backbone, "linear-probe")


def test_a_plan_edited_by_hand_is_checked(backbone: Backbone) -> None:
    broken = Rung(method="full", params={"epochs": "many", "speed": 3}, why="")
    with pytest.raises(BadInput, match=r"epochs: .*speed: "):
        adapt(broken, backbone, classes=3, seed=0)


# The hash


def test_hash_by_hand() -> None:
    tensors = {"a": torch.tensor([1.0, 2.0])}
    expected = hashlib.sha256(b"a(2,)torch.float32" + b"\x00\x00\x80\x3f\x00\x00\x00\x40").hexdigest()
    assert tensor_hash(tensors, ("a",)) == expected


def test_hash_tells_everything_apart() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.zeros(6), "n": torch.tensor(3)}
    variants = [
        (base, ("a", "b", "n")),
        (base, ("b", "a", "n")),
        (base, ("a", "b")),
        (base | {"a": torch.zeros(3, 2)}, ("a", "b", "n")),
        (base | {"a": -torch.zeros(2, 3)}, ("a", "b", "n")),  # equal to torch.equal, not to the hash
        (base | {"a": torch.zeros(2, 3, dtype=torch.float64)}, ("a", "b", "n")),
        (base | {"n": torch.tensor(4)}, ("a", "b", "n")),
    ]
    assert len({tensor_hash(*variant) for variant in variants}) == len(variants)


def test_hash_sees_values_not_memory() -> None:
    plain = torch.arange(24.0).reshape(1, 2, 3, 4)
    layout = plain.contiguous(memory_format=torch.channels_last)
    assert tensor_hash({"a": plain}, ("a",)) == tensor_hash({"a": layout}, ("a",))
    nan = torch.tensor([float("nan")])
    assert tensor_hash({"a": nan}, ("a",)) == tensor_hash({"a": nan.clone()}, ("a",))
