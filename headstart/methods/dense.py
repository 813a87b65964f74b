"""Parameters of the tuning methods for boxes and masks, whose new parts are larger and whose batches are smaller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from headstart.data.records import DatasetFacts
from headstart.methods import augmenting
from headstart.methods.records import Choice, Decline, Suggestion

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.methods.full import FullParams
    from headstart.weights import Backbone

    Kind = TypeVar("Kind", bound=FullParams)

BATCH = 8
"""Images a step: each holds many objects and thousands of places, so a few say as much as many whole images."""

LEAST_BATCH_FOR_TUNED_NORM = 16  # below, batch statistics are too noisy to train on (Wu & He 2018, figure 1)

WITHOUT_EFFECT = {
    "detect": ("label_smoothing", "class_weights", "head_start", "mixup", "cutmix"),
    "segment": ("head_start", "mixup", "cutmix", "class_weights"),
}
"""Parameters of tuning that these tasks' losses and heads do not know."""

_FIXED: dict[str, Any] = {"head_start": "random", "label_smoothing": 0.0}
_FEWEST, _MOST = 10, 150  # epochs


@dataclass(frozen=True)
class Pace:
    """What suits a method on boxes and masks.

    Attributes:
        steps: that the schedule tries to reach.
        values: of other parameters.
    """

    steps: int
    values: dict[str, Any]


TUNED = Pace(
    steps=2_500,
    values={
        "learning_rate": 5e-4,
        "layer_decay": 0.85,
        "head_factor": 3.0,
        "weight_decay": 0.02,
        "warmup": 0.05,
        "patience": 25,
    },
)
"""Fine-tuning: the new pyramid and heads need more steps than a linear head, and a rate that moves them in so many."""

FROZEN = Pace(steps=400, values={"learning_rate": 1.5e-3, "head_factor": 1.0, "warmup": 0.05, "patience": 25})
"""Heads alone on a frozen network: soon at the end of what they can."""

SCRATCH = Pace(
    steps=TUNED.steps, values=TUNED.values | {"learning_rate": 1e-3, "layer_decay": 1.0, "head_factor": 1.0}
)
"""Random weights: everything is as new as the heads and learns as fast."""


def resolve(
    kind: type[Kind], facts: DatasetFacts, backbone: Backbone, given: dict[str, Any], *, pace: Pace = TUNED
) -> Suggestion | Decline:
    """Parameters of that kind for this data.

    Args:
        kind: the method's record.
        facts: of the data.
        backbone: the network.
        given: what the user, or the method, asks for.
        pace: what suits the method.
    """
    if lost := without_effect(kind, facts.task, given):
        return Decline(reason=f"--{lost.replace('_', '-')} has no effect on {facts.task}: leave it away")
    batch = int(given.get("batch_size", BATCH))
    per_epoch = math.ceil(facts.n_train / batch)
    epochs = min(_MOST, max(_FEWEST, round(pace.steps / per_epoch)))
    wishes: list[tuple[str, Any, str]] = [
        ("epochs", epochs, f"{facts.n_train} training images; about {pace.steps} steps"),
        ("batch_size", BATCH, "an image holds many places that say something"),
        ("augment", "medium" if facts.n_train < 2_000 else "light", "objects come nearer and farther"),
    ]
    if average := augmenting.averaging(int(given.get("epochs", epochs)) * per_epoch):
        wishes.append(("ema", *average))
    values = _FIXED | pace.values | {name: value for name, value, _ in wishes} | given
    params = kind(**values)
    if params.batchnorm == "tuned" and params.batch_size < LEAST_BATCH_FOR_TUNED_NORM:
        return Decline(
            reason=f"BatchNorm statistics of batches of {params.batch_size} are too noisy: use --batch-size "
            f"{LEAST_BATCH_FOR_TUNED_NORM} or more, or --batchnorm frozen or re-estimated"
        )
    choices = [
        Choice(what=name, value=str(getattr(params, name)), why="asked for" if name in given else why)
        for name, _, why in wishes
    ]
    if backbone.norms and "batchnorm" not in given:
        why = "the same statistics in training and in use, whatever the batch; small batches have noisy ones"
        choices.append(Choice(what="batchnorm", value=params.batchnorm, why=why))
    return Suggestion(params=params, choices=tuple(choices))


def views_for(epochs: int) -> int:
    """Augmented views of each image for so many passes on what is stored of them: each is seen about four times.

    With four views and fifty passes a detector's score on the validation images fell from the twentieth pass on. Each view
    more costs a pass of the frozen part, and as much room.

    >>> views_for(10), views_for(24), views_for(96)
    (4, 6, 8)
    """
    return min(max(math.ceil(epochs / 4), 4), 8)


def without_effect(kind: type[Any], task: str, given: dict[str, Any]) -> str:
    """The first value that was asked for and that this task does not know; empty: none. Other tasks know all."""
    return next((name for name in WITHOUT_EFFECT.get(task, ()) if _differs(kind, name, given)), "")


def _differs(kind: type[Any], name: str, given: dict[str, Any]) -> bool:
    """Whether a value was asked for that is not the one that these tasks have anyway."""
    return name in given and given[name] != _FIXED.get(name, getattr(kind, name))
