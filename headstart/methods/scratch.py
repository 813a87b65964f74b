"""Training of the same network from random weights: what pretraining has to beat."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headstart._core.records import record
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.methods import augmenting, dense, full
from headstart.methods.records import WHOLE, Applied, Choice, Decline, Method, Suggestion

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone

LARGE = 10_000  # images, below which random weights collapse: He 2019 found so on COCO with 3,500, and a tie with 10,000

_STEPS = 12_000  # that the schedule tries to reach; the classic 90 epochs are the least, this many the most:
_LEAST_EPOCHS, _MOST_EPOCHS = 30, 150
_WINDOW = 1.0  # Beta(1, 1): windows of all sizes alike, beside mixup 0.1 (Wightman 2021, ResNet strikes back)


@record
class ScratchParams(full.FullParams):
    """Parameters of training from scratch: those of full fine-tuning, with a longer, faster, rougher schedule."""

    epochs: int = 90
    learning_rate: float = 1e-3
    layer_decay: float = 1.0
    head_factor: float = 1.0
    augment: str = "strong"
    patience: int = 20
    batchnorm: str = "tuned"
    head_start: str = "random"


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """Epochs, batch size and regularisation for this many images."""
    if given.get("batchnorm") == "frozen":
        return Decline(
            reason="random weights have no statistics to freeze: use --batchnorm tuned or re-estimated"
        )
    if given.get("l2sp"):
        return Decline(reason="random weights are no place to be pulled back to: leave --l2sp away")
    n = facts.n_train
    usual = dense.LEAST_BATCH_FOR_TUNED_NORM if facts.task in DENSE else 64 if n >= 1000 else 32
    batch = given.get("batch_size", usual)
    epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(_STEPS * batch / max(n, 1))))
    flip, why_flip = augmenting.flips(evidence)
    values: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "augment": "strong",
        "batchnorm": "tuned",
        "flip": flip,
    }
    reasons = {
        "epochs": f"{n} training images; random weights need about {_STEPS} steps",
        "batch_size": "large enough for BatchNorm to follow",
        "augment": "nothing but variation keeps a network without pretraining from learning by heart",
        "batchnorm": "random weights have no statistics to keep",
        "flip": why_flip,
    }
    if average := augmenting.averaging(given.get("epochs", epochs) * math.ceil(n / batch)):
        values["ema"], reasons["ema"] = average
    if n >= LARGE:
        values |= {"mixup": augmenting.BLEND, "cutmix": _WINDOW}
        reasons |= dict.fromkeys(
            ("mixup", "cutmix"), f"{n} images and a long schedule: each step does one of both"
        )
    if facts.task in DENSE:
        answer = dense.resolve(ScratchParams, facts, backbone, values | given, pace=dense.SCRATCH)
    else:
        answer = full.resolve(ScratchParams, facts, backbone, values | given, evidence=evidence)
    if isinstance(answer, Decline):
        return answer
    choices = tuple(
        Choice(what=what, value=str(getattr(answer.params, what)), why="asked for" if what in given else why)
        for what, why in reasons.items()
        if what != "batchnorm" or backbone.norms
    )
    return Suggestion(params=answer.params, choices=choices)


def apply(backbone: Backbone, model: Network, params: ScratchParams) -> Applied:
    """As for full fine-tuning, from random weights."""
    return replace(full.apply(backbone, model, params), restart=True)


def _why_not(facts: DatasetFacts, evidence: Evidence | None) -> str:
    """Why random weights cannot catch up: too few images, or images that the pretraining knows."""
    if facts.task in DENSE and evidence is not None and evidence.transfers is False:
        return ""
    if facts.n_train < LARGE:
        return f"random weights need {LARGE} training images or more to catch up, there are {facts.n_train}"
    if evidence is None or not evidence.standing.startswith("far"):
        return "the images are not known to be far from those of the pretraining, whose features are then worth keeping"
    return ""


METHOD = Method(
    name="scratch",
    summary="training from random weights, longer and with stronger augmentation",
    solver="gradient",
    params=ScratchParams,
    check=full.check,
    suggest=suggest,
    apply=apply,
    expects="scratch",
    why_not=_why_not,
    tasks=(*WHOLE, *DENSE),
)
