"""Fine-tuning of the whole network, slower towards the input, from a head that already works."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from headstart._core.check import in_range, one_of
from headstart._core.records import record
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.methods import augmenting, dense
from headstart.methods.records import (
    WHOLE,
    Applied,
    Choice,
    Decline,
    Group,
    Method,
    Suggestion,
    backbone_groups,
    head_group,
)

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone

BATCHNORM = ("frozen", "tuned", "re-estimated")
OPTIMIZERS = ("adamw", "sgd")
HEAD_STARTS = ("probe", "random")
COMPILED = ("auto", "yes", "no")

_SGD_FACTOR = 50.0  # SGD with momentum 0.9 wants rates this much above AdamW's


@record
class FullParams:
    """Parameters of full fine-tuning.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: `adamw` or `sgd` (momentum 0.9, Nesterov).
        learning_rate: peak rate of the last stage.
        layer_decay: each stage towards the input learns this many times as fast as the one after it, in (0, 1].
        head_factor: the head learns this many times as fast as the last stage.
        weight_decay: pull of the weights towards zero; not on biases and normalisation.
        warmup: share of the steps in which the rate rises from zero; a cosine to zero follows.
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        augment: `none`, `light`, `medium` or `strong`.
        flip: whether left and right may be exchanged.
        patience: stop after this many epochs without a lower validation loss.
        batchnorm: `frozen` (statistics of the source), `tuned` (they follow the batches) or `re-estimated` (computed
            once on the training images, then held).
        class_weights: `none`, `auto` (inverse to frequency) or `name=weight,…`.
        head_start: `probe` (the linear probe's solution) or `random`.
        l2sp: pull of the pretrained weights towards where they started (L2-SP), in units of `weight_decay`; 0: none.
        mixup: images and labels are blended in pairs, the blend drawn from Beta(mixup, mixup); 0: they are not.
        cutmix: a window of each image is replaced by that of another, and as much of its label, the share drawn from
            Beta(cutmix, cutmix); 0: none is. With mixup too, each step does one or the other.
        ema: decay of a running average of the weights, such as 0.99; of the network and its average the one that the
            validation images prefer is kept; 0: no average.
        compiled: `auto` (compile the network on a GPU where the run is long enough to pay for it), `yes` or `no`.
    """

    epochs: int = 15
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 2e-4
    layer_decay: float = 0.75
    head_factor: float = 10.0
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    augment: str = "light"
    flip: bool = True
    patience: int = 5
    batchnorm: str = "frozen"
    class_weights: str = "none"
    head_start: str = "probe"
    l2sp: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    compiled: str = "auto"


def check(params: FullParams) -> None:
    """Nothing; a value outside its range or list is a `BadOption`."""
    from headstart.pixels import PRESETS  # torch, which the table itself does not need

    one_of("--augment", params.augment, PRESETS)
    one_of("--batchnorm", params.batchnorm, BATCHNORM)
    one_of("--optimizer", params.optimizer, OPTIMIZERS)
    one_of("--head-start", params.head_start, HEAD_STARTS)
    one_of("--compiled", params.compiled, COMPILED)
    in_range("--epochs", params.epochs, low=1, high=10_000)
    in_range("--batch-size", params.batch_size, low=2, high=65_536)
    in_range("--learning-rate", params.learning_rate, low=1e-9, high=10)
    in_range("--layer-decay", params.layer_decay, low=0.01, high=1)
    in_range("--head-factor", params.head_factor, low=0.01, high=1_000)
    in_range("--weight-decay", params.weight_decay, low=0, high=1)
    in_range("--warmup", params.warmup, low=0, high=1)
    in_range("--label-smoothing", params.label_smoothing, low=0, high=0.9)
    in_range("--patience", params.patience, low=1, high=10_000)
    in_range("--l2sp", params.l2sp, low=0, high=1_000)
    in_range("--mixup", params.mixup, low=0, high=10)
    in_range("--cutmix", params.cutmix, low=0, high=10)
    in_range("--ema", params.ema, low=0, high=0.99999)


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """Epochs, batch size, augmentation and the treatment of BatchNorm from the training split's size and the evidence."""
    return resolve(FullParams, facts, backbone, given, evidence=evidence)


def resolve(
    kind: type[FullParams],
    facts: DatasetFacts,
    backbone: Backbone,
    given: dict[str, Any],
    *,
    evidence: Evidence | None,
) -> Suggestion | Decline:
    """Parameters of that kind for this data; what is not chosen here keeps its default."""
    if facts.task in DENSE:
        return dense.resolve(kind, facts, backbone, given)
    n = facts.n_train
    values: dict[str, Any] = {}
    choices: list[Choice] = []

    def choose(what: str, value: Any, why: str) -> None:
        values[what] = value
        if what in given:
            value, why = given[what], "asked for"
        choices.append(Choice(what=what, value=str(value), why=why))

    choose(
        "epochs",
        15 if n < 5000 else 8,
        f"{n} training images; smaller sets need more passes for as many steps",
    )
    choose("batch_size", 32 if n >= 128 else 16, "at least a handful of steps an epoch")
    choose(
        "augment",
        "medium" if n < 500 else "light",
        "small data wants more variation" if n < 500 else "enough images to vary by themselves",
    )
    choose("flip", *augmenting.flips(evidence))
    batch_size = given.get("batch_size", values["batch_size"])
    if average := augmenting.averaging(given.get("epochs", values["epochs"]) * math.ceil(n / batch_size)):
        choose("ema", *average)
    if n >= augmenting.LARGE:
        choose("mixup", augmenting.BLEND, f"{n} training images are enough to blend them in pairs")
    if given.get("optimizer") == "sgd" and "learning_rate" not in given:
        choose("learning_rate", FullParams.learning_rate * _SGD_FACTOR, "SGD wants higher rates than AdamW")
    if backbone.norms:
        choose(
            "batchnorm",
            "frozen",
            "the same statistics in training and in use, whatever the batch; nothing drifts unseen",
        )
    params = kind(**{**values, **given})
    if params.batchnorm == "tuned" and params.batch_size < dense.LEAST_BATCH_FOR_TUNED_NORM:
        return Decline(
            reason=f"BatchNorm statistics of batches of {params.batch_size} are too noisy: use --batch-size "
            f"{dense.LEAST_BATCH_FOR_TUNED_NORM} or more, or --batchnorm frozen or re-estimated"
        )
    return Suggestion(params=params, choices=tuple(choices))


def apply(backbone: Backbone, model: Network, params: FullParams) -> Applied:
    """A learning-rate group for each stage, falling towards the input, and the head ahead of them all."""
    norms = tuple(f"body.{name}" for name in backbone.norms)
    return Applied(
        groups=tuning_groups(backbone, model, params),
        held=() if params.batchnorm == "tuned" else norms,
        reestimate=norms if params.batchnorm == "re-estimated" else (),
    )


def tuning_groups(
    backbone: Backbone, model: Network, params: FullParams, *, tuned: Collection[str] | None = None
) -> tuple[Group, ...]:
    """The groups of all stages, of which only those named in `tuned` move (None: all), and of the head."""
    stages = backbone_groups(backbone, model)
    norms = {f"body.{name}" for name in backbone.norms}
    groups = []
    for number, (name, parameters, buffers) in enumerate(stages):
        trains = tuned is None or name in tuned
        follows = trains and params.batchnorm != "frozen"
        depth = len(stages) - 1 - number
        groups.append(
            Group(
                name,
                parameters,
                buffers,
                lr=params.learning_rate * params.layer_decay**depth if trains else None,
                weight_decay=params.weight_decay if trains else None,
                trains=trains,
                buffers_may_move=follows and any(buffer.rpartition(".")[0] in norms for buffer in buffers),
            )
        )
    head = head_group(model, lr=params.learning_rate * params.head_factor, weight_decay=params.weight_decay)
    return (*groups, head)


METHOD = Method(
    name="full",
    summary="fine-tuning of every layer, slower towards the input, started from the probe's head",
    solver="gradient",
    params=FullParams,
    check=check,
    suggest=suggest,
    apply=apply,
    tasks=(*WHOLE, *DENSE),
)
