"""What a transfer method is: which parts of the network move, how fast, and how the head is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart._core.records import record
from headstart.data.records import DatasetFacts

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone


@record
class Decline:
    """A method's answer when it should not be tried on this data."""

    reason: str


@record
class Choice:
    """A setting that a method made for this data: its value and why."""

    what: str
    value: str
    why: str


@dataclass(frozen=True)
class Suggestion:
    """Fully resolved parameters and the reasons for those that depend on the data."""

    params: Any
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Group:
    """A set of tensors that are treated alike; one line of the ledger.

    Attributes:
        name: `stem`, `stage1` … or `head`.
        parameters: dotted names in the `Network`.
        buffers: dotted names in the `Network`.
        lr: peak learning rate; None where nothing trains by gradient.
        weight_decay: decoupled (AdamW) or L2 (SGD); None where nothing trains by gradient.
        trains: whether the parameters may change.
        buffers_may_move: whether the buffers (BatchNorm's running statistics) may change.
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    lr: float | None
    weight_decay: float | None
    trains: bool
    buffers_may_move: bool


@dataclass(frozen=True)
class Applied:
    """A method's decision about each part of a network.

    Attributes:
        groups: cover every parameter and buffer of the `Network` exactly once, in forward order.
        held: modules kept in evaluation mode during training.
        reestimate: BatchNorm layers whose statistics are computed anew on the training images before training.
        boundary: the module whose output ends the frozen prefix, which need not run at each step; empty where every
            part may move.
        restart: whether the network forgets its pretraining and begins with random weights.
    """

    groups: tuple[Group, ...]
    held: tuple[str, ...]
    reestimate: tuple[str, ...] = ()
    boundary: str = ""
    restart: bool = False


WHOLE = ("classify", "multilabel")
"""Tasks of whole images, whose heads read one vector."""


def always(facts: DatasetFacts, evidence: Evidence | None) -> str:
    """Nothing: the method may stand on every ladder."""
    del facts, evidence
    return ""


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Attributes:
        name: what the user types after `--method`.
        summary: one line for help and report.
        solver: `features` (a convex problem on features that are computed once) or `gradient`.
        params: the frozen record of its parameters; its docstring describes each, which is where flags come from.
        check: raises `BadOption` for values of parameters that make no sense, before any work.
        suggest: (facts, evidence, backbone, given) -> parameters for this data, or `Decline`; `evidence` is None where
            nothing was measured, `given` are the user's own values, and they win.
        apply: (backbone, model, params) -> which part moves how.
        expects: how well it is expected to do, before it is tried: `output` (as the linear probe on the last layer),
            `depths` (as the best of the probes at all depths), `tuning` (better than the probe by a share of its
            errors) or `scratch`.
        reach: for `tuning`: its share of what full fine-tuning is expected to gain, in [0, 1].
        step: which measured cost an image of an epoch has: `step` (the whole network learns), `partial_step` (the
            last stages, behind a frozen part that ran before) or `head` (heads alone, on maps of a network that ran before).
        why_not: (facts, evidence) -> why `auto` does not climb it on this data, in a clause; empty: it does.
        tasks: names of the tasks that it can be used for.
        on_request: whether `auto` never climbs it.
    """

    name: str
    summary: str
    solver: str
    params: type[Any]
    check: Callable[[Any], None]
    suggest: Callable[[DatasetFacts, Evidence | None, Backbone, dict[str, Any]], Suggestion | Decline]
    apply: Callable[[Backbone, Network, Any], Applied]
    expects: str = "tuning"
    reach: float = 1.0
    step: str = "step"
    why_not: Callable[[DatasetFacts, Evidence | None], str] = always
    tasks: tuple[str, ...] = WHOLE
    on_request: bool = False


def backbone_groups(backbone: Backbone, model: Network) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(stage name, parameter names, buffer names) of each stage as they are called in the `Network`.

    A buffer belongs to the stage that owns the module it sits in. What the task's network took away is left out.
    """
    owner = {module: stage.name for stage in backbone.stages for module in stage.modules}
    buffers: dict[str, list[str]] = {stage.name: [] for stage in backbone.stages}
    for name, _ in model.body.named_buffers():
        place = name
        while place and place not in owner:
            place = place.rpartition(".")[0]
        buffers[owner.get(place, backbone.stages[0].name)].append(f"body.{name}")
    there = {name for name, _ in model.named_parameters()}
    return [
        (
            stage.name,
            tuple(f"body.{name}" for name in stage.parameters if f"body.{name}" in there),
            tuple(buffers[stage.name]),
        )
        for stage in backbone.stages
    ]


def head_group(model: Network, *, lr: float | None, weight_decay: float | None) -> Group:
    """What is not the backbone's; it always trains."""
    return Group(
        "head",
        model.head_parameters(),
        model.head_buffers(),
        lr=lr,
        weight_decay=weight_decay,
        trains=True,
        buffers_may_move=False,
    )
