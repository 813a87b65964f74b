"""Heads with places on a frozen network: the pyramid and the heads train, nothing of the backbone moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._core.records import record
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.methods import dense, full
from headstart.methods.records import Applied, Decline, Method, Suggestion

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone


@record
class FrozenParams(full.FullParams):
    """Parameters of training heads on a frozen network: those of full fine-tuning; the rate is the heads' own."""

    learning_rate: float = 1.5e-3
    head_factor: float = 1.0
    head_start: str = "random"


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """A short schedule; what only moves the backbone is declined."""
    del evidence
    for name in ("batchnorm", "layer_decay", "l2sp"):
        if name in given:
            return Decline(
                reason=f"--{name.replace('_', '-')} has no effect where nothing of the backbone moves: leave it away"
            )
    return dense.resolve(FrozenParams, facts, backbone, given, pace=dense.FROZEN)


def apply(backbone: Backbone, model: Network, params: FrozenParams) -> Applied:
    """The whole body held in evaluation mode; the head has the only group that trains."""
    return Applied(groups=full.tuning_groups(backbone, model, params, tuned=()), held=("body",))


METHOD = Method(
    name="frozen",
    summary="pyramid and heads for boxes or masks, trained on a frozen network",
    solver="gradient",
    params=FrozenParams,
    check=full.check,
    suggest=suggest,
    apply=apply,
    reach=0.5,
    tasks=DENSE,
)
