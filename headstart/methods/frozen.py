"""Heads with places on a frozen network: the pyramid and the heads train, nothing of the backbone moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headstart._core.check import in_range
from headstart._core.records import record
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.methods import dense, full
from headstart.methods.records import Applied, Choice, Decline, Method, Suggestion

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone


@record
class FrozenParams(full.FullParams):
    """Parameters of training heads on a frozen network: those of full fine-tuning; the rate is the heads' own.

    Attributes:
        views: augmented views of each training image; epoch e sees view e mod views, so that the frozen network runs only
            this many times over the images.
    """

    learning_rate: float = 1.5e-3
    head_factor: float = 1.0
    head_start: str = "random"
    views: int = 4


def check(params: FrozenParams) -> None:
    """Nothing; a value outside its range or list is a `BadOption`."""
    full.check(params)
    in_range("--views", params.views, low=1, high=1_000)


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
    answer = dense.resolve(FrozenParams, facts, backbone, given, pace=dense.FROZEN)
    if isinstance(answer, Decline):
        return answer
    return with_views(answer, given)


def with_views(answer: Suggestion, given: dict[str, Any]) -> Suggestion:
    """The suggestion with as many views of each image as its passes need, and why."""
    params, why = answer.params, "so often the frozen part runs over each image; what it gives is stored"
    if "views" in given:
        why = "asked for"
    elif params.augment == "none" and not params.flip:
        params, why = replace(params, views=1), "nothing is changed, so one view is all"
    else:
        params = replace(params, views=dense.views_for(params.epochs))
    choice = Choice(what="views", value=str(params.views), why=why)
    return Suggestion(params=params, choices=(*answer.choices, choice))


def apply(backbone: Backbone, model: Network, params: FrozenParams) -> Applied:
    """The whole body held in evaluation mode; the head has the only group that trains, on maps that are stored."""
    from headstart.tasks.pyramid import MapNetwork  # torch, which the table itself does not need

    last = f"body.{model.taps[-1].module}" if isinstance(model, MapNetwork) else ""
    return Applied(
        groups=full.tuning_groups(backbone, model, params, tuned=()), held=("body",), boundary=last
    )


def _why_not(facts: DatasetFacts, evidence: Evidence | None) -> str:
    """Why heads on frozen maps have little to build on."""
    del facts
    if evidence is not None and evidence.transfers is False:
        return "its maps know no more of the images' places than those of a network with random weights"
    return ""


METHOD = Method(
    name="frozen",
    summary="pyramid and heads for boxes or masks, trained on a frozen network",
    solver="gradient",
    params=FrozenParams,
    check=check,
    suggest=suggest,
    apply=apply,
    reach=0.5,
    step="head",
    why_not=_why_not,
    tasks=DENSE,
)
