"""Feature extraction: the network stays as it is, a linear head is found on its pooled features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._core.check import in_range
from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.methods.records import Applied, Choice, Decline, Group, Method, Suggestion, backbone_groups

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.tasks import Classifier
    from headstart.weights import Backbone


@record
class LinearProbeParams:
    """Parameters of the linear probe.

    Attributes:
        folds: parts of the cross-validation that chooses the strength of the regularisation, inside the training split.
        class_weights: `none`, `auto` (inverse to frequency) or `name=weight,…`.
    """

    folds: int = 5
    class_weights: str = "none"


def check(params: LinearProbeParams) -> None:
    """Nothing; a number of folds outside 2 to 20 is a `BadOption`."""
    in_range("--folds", params.folds, low=2, high=20)


def suggest(facts: DatasetFacts, backbone: Backbone, given: dict[str, Any]) -> Suggestion | Decline:
    """Fewer folds where a class is too small for five."""
    del backbone
    smallest = min(facts.splits["train"].per_class.values())
    folds = max(2, min(5, smallest))
    why = (
        "each fold needs an image of every class"
        if folds < 5
        else "the usual number; every training image is used"
    )
    params = LinearProbeParams(**{"folds": folds, **given})
    choice = Choice(
        what="cross-validation folds", value=str(params.folds), why="asked for" if "folds" in given else why
    )
    return Suggestion(params=params, choices=(choice,))


def apply(backbone: Backbone, model: Classifier, params: LinearProbeParams) -> Applied:
    """Everything is frozen, statistics too, except for the head."""
    del params
    frozen = [
        Group(name, parameters, buffers, lr=None, weight_decay=None, trains=False, buffers_may_move=False)
        for name, parameters, buffers in backbone_groups(backbone, model)
    ]
    head = Group(
        "head",
        ("head.weight", "head.bias"),
        (),
        lr=None,
        weight_decay=None,
        trains=True,
        buffers_may_move=False,
    )
    return Applied(groups=(*frozen, head), held=("body",))


METHOD = Method(
    name="linear-probe",
    summary="frozen network, logistic regression on its pooled features",
    solver="features",
    params=LinearProbeParams,
    check=check,
    suggest=suggest,
    apply=apply,
)
