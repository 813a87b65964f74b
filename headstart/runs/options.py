"""What `fit` can be told, from Python and from the command line alike."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from headstart._core.check import suggestion
from headstart._core.errors import BadOption
from headstart._core.records import record
from headstart.data.records import LoadOptions
from headstart.methods import METHODS
from headstart.ranking.records import Limits

DEFAULT_WEIGHTS = "bundled:efficientnet_lite0"
"""Always there, quick to a first model. A choice by the images costs a pass through each candidate, so it is asked for."""

AUTO = "auto"


@record
class FitOptions:
    """Options of `fit` beside those of reading data and those of the methods.

    Attributes:
        method: `auto` climbs the ladder; a method's name runs that one alone.
        weights: a name from `headstart weights list`; several with commas between: the images choose one of them;
            `auto`: one of those on this machine, and with time and a network of a handful more.
        arch: architecture of the network, for weights that do not say (`file:`, some `hf:`).
        budget: time for the climb: `30s`, `10m`, `1h`, `none`.
        seed: of splits, folds, order and augmentation.
        out: run folder; by default the next free one under `headstart-runs/`.
        head: what stands on the network, for boxes and masks: a name from docs/places.md, such as `retinanet` or `unet`; by
            default the task's usual one.
        prefer: what decides where methods are about equally good: `accuracy`, `speed` or `size`.
        plan: a plan.json to carry out, edited or not, instead of making one.
        precision: of boxes: those are shown that reach this share of right ones on the validation images; 0: the best F1.
        checkpoint_every: seconds between two checkpoints of a training loop.
        limits: which weights may be chosen, where there is a choice.
        data: how the data is read.
        given: values for parameters of the methods.
    """

    method: str = "auto"
    weights: str = DEFAULT_WEIGHTS
    arch: str = ""
    budget: str = "10m"
    seed: int = 0
    out: str = ""
    head: str = ""
    prefer: str = "accuracy"
    plan: str = ""
    precision: float = 0.0
    checkpoint_every: float = 20.0
    limits: Limits = field(default_factory=Limits)
    data: LoadOptions = field(default_factory=LoadOptions)
    given: dict[str, Any] = field(default_factory=dict)


def own_fields() -> list[str]:
    """Names of the flat options of `fit` itself."""
    return [item.name for item in fields(FitOptions) if item.name not in ("limits", "data", "given")]


def sort_options(flat: dict[str, Any]) -> FitOptions:
    """The record out of flat `name=value` pairs, each put where it belongs.

    Raises:
        BadOption: for a name that neither `fit`, nor reading data, nor any method knows.
    """
    own, reading = set(own_fields()), {item.name for item in fields(LoadOptions)}
    choosing = {item.name for item in fields(Limits)}
    tunable = {item.name for method in METHODS.values() for item in fields(method.params)}
    for name in flat:
        if name not in own | reading | choosing | tunable:
            known = own | reading | choosing | tunable
            raise BadOption(f"fit has no option {name!r}.", hint=suggestion(name, known))
    data = LoadOptions(**{name: value for name, value in flat.items() if name in reading})
    limits = Limits(**{name: value for name, value in flat.items() if name in choosing})
    return FitOptions(
        **{name: value for name, value in flat.items() if name in own},
        limits=limits,
        data=data,
        given={name: value for name, value in flat.items() if name in tunable and name not in own | reading},
    )
