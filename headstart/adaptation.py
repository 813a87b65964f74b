"""A rung becomes a network whose every tensor is accounted for; the ledger says what may move, and hashes prove it."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from headstart._core.errors import BadPlan
from headstart._core.records import from_plain, record
from headstart._core.seed import derive
from headstart.methods import METHODS, Applied, Group, Method
from headstart.planning import Rung
from headstart.tasks import TASKS, Network, Task
from headstart.weights import Backbone, blank
from headstart.weights.records import Stage


@dataclass(frozen=True)
class Adapted:
    """A network ready for training.

    Attributes:
        model: a copy of its own; the backbone stays as it was.
        applied: which part moves how.
        before: hash of each group's parameters and of its buffers, taken before training.
        stages: the backbone's parts.
    """

    method: Method
    params: Any
    model: Network
    applied: Applied
    before: dict[str, tuple[str, str]]
    stages: tuple[Stage, ...]


@record
class LedgerLine:
    """What was planned for a group of tensors and what happened to it.

    Attributes:
        tensors: number of parameter tensors.
        parameters: number of values in them.
        trains: whether the parameters may change.
        lr: peak learning rate, None without gradients.
        buffers: number of buffers (BatchNorm's running statistics and counters).
        hash_before: of parameters and buffers together, before training.
        hash_after: the same after training.
        verified: what was called frozen is bit-identical; None where nothing was.
    """

    name: str
    tensors: int
    parameters: int
    trains: bool
    lr: float | None
    weight_decay: float | None
    buffers: int
    buffers_may_move: bool
    hash_before: str
    hash_after: str
    verified: bool | None


@record
class Ledger:
    """`ledger.json`: every tensor of the network in exactly one line."""

    method: str
    groups: tuple[LedgerLine, ...]
    frozen_identical: bool


def adapt(rung: Rung, backbone: Backbone, *, classes: int, seed: int, task: Task | None = None) -> Adapted:
    """The network for this rung: a copy of the backbone, the task's new head, and the method's treatment of each part.

    Args:
        rung: the method with its parameters.
        backbone: the network; it stays as it was.
        classes: how many there are.
        seed: of the run.
        task: with the head that the network gets; None: classification.

    Raises:
        BadPlan: when the method forgets a tensor or treats one twice.
    """
    method = METHODS[rung.method]
    params = from_plain(method.params, rung.params, where=f"The rung {rung.method!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, rung.method, "head"))
        model = (task or TASKS["classify"]).build(
            replace(backbone, module=copy.deepcopy(backbone.module)), classes
        )
    applied = method.apply(backbone, model, params)
    _check_cover(model, applied)
    if applied.restart:
        fresh = blank(backbone.info.arch, seed=derive(seed, rung.method, "body"))
        state = fresh.module.state_dict()  # of the whole network, of which a task may need less
        model.body.load_state_dict({name: state[name] for name in model.body.state_dict()})
    trains = {name for group in applied.groups if group.trains for name in group.parameters}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trains)
    model.held = applied.held
    return Adapted(
        method=method,
        params=params,
        model=model,
        applied=applied,
        before=_hashes(model, applied),
        stages=backbone.stages,
    )


def settle(adapted: Adapted, trained: Network) -> Ledger:
    """The ledger after training.

    Raises:
        BadPlan: when a tensor that was called frozen has changed; the result must not be used.
    """
    after = _hashes(trained, adapted.applied)
    lines = [
        _line(group, trained, adapted.before[group.name], after[group.name])
        for group in adapted.applied.groups
    ]
    broken = [line.name for line in lines if line.verified is False]
    if broken:
        raise BadPlan(
            f"{', '.join(broken)} changed although {adapted.method.name} calls it frozen.",
            hint="This is a defect of headstart, not of your data: please report it with the run's plan.json.",
        )
    return Ledger(method=adapted.method.name, groups=tuple(lines), frozen_identical=True)


def settle_average(members: Sequence[Adapted], averaged: Network, *, name: str) -> Ledger:
    """The ledger of an average of networks: what was frozen in all of them is frozen in it, and proved to be.

    No rate stands in it, because the average was not trained.

    Args:
        members: the networks before training, all with the same groups of tensors.
        averaged: the average.
        name: what the ledger calls the method.

    Raises:
        BadPlan: when a tensor that was frozen in all of them is not what it was.
    """
    groups = tuple(
        replace(
            same[0],
            lr=None,
            weight_decay=None,
            trains=any(group.trains for group in same),
            buffers_may_move=any(group.buffers_may_move for group in same),
        )
        for same in zip(*(member.applied.groups for member in members), strict=True)
    )
    joint = replace(members[0], applied=replace(members[0].applied, groups=groups))
    return replace(settle(joint, averaged), method=name)


def same_parts(first: Adapted, second: Adapted) -> bool:
    """Whether both have the same groups of tensors, so that one can be averaged with the other."""
    parts = [
        [(group.name, group.parameters, group.buffers) for group in each.applied.groups]
        for each in (first, second)
    ]
    return parts[0] == parts[1]


def _check_cover(model: Network, applied: Applied) -> None:
    listed = [name for group in applied.groups for name in (*group.parameters, *group.buffers)]
    actual = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    wrong = set(listed) ^ set(actual) | {name for name, count in Counter(listed).items() if count > 1}
    if wrong:
        raise BadPlan(
            f"Tensors not in exactly one group: {', '.join(sorted(wrong))}.",
            hint="Mend the method's apply().",
        )


def _line(group: Group, model: Network, before: tuple[str, str], after: tuple[str, str]) -> LedgerLine:
    frozen = [
        b == a
        for b, a, may in zip(before, after, (group.trains, group.buffers_may_move), strict=True)
        if not may
    ]
    if not group.buffers and group.trains:
        frozen = []  # no buffers: there is nothing to prove
    return LedgerLine(
        name=group.name,
        tensors=len(group.parameters),
        parameters=sum(model.get_parameter(name).numel() for name in group.parameters),
        trains=group.trains,
        lr=group.lr,
        weight_decay=group.weight_decay,
        buffers=len(group.buffers),
        buffers_may_move=group.buffers_may_move,
        hash_before=_joined(before),
        hash_after=_joined(after),
        verified=all(frozen) if frozen else None,
    )


def _joined(pair: tuple[str, str]) -> str:
    return hashlib.sha256("".join(pair).encode()).hexdigest()


def _hashes(model: Network, applied: Applied) -> dict[str, tuple[str, str]]:
    tensors = dict(model.state_dict())
    tensors |= {
        name: buffer for name, buffer in model.named_buffers() if name not in tensors
    }  # non-persistent ones
    return {
        group.name: (tensor_hash(tensors, group.parameters), tensor_hash(tensors, group.buffers))
        for group in applied.groups
    }


def tensor_hash(tensors: dict[str, torch.Tensor], names: tuple[str, ...]) -> str:
    """SHA-256 over names, shapes and bytes of the tensors, in the order given: equal only if bit-identical."""
    digest = hashlib.sha256()
    for name in names:
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
