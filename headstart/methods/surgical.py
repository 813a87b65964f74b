"""Fine-tuning of the one stage that the evidence points at; everything else is frozen.

On request only: it can do no more than partial or full fine-tuning, but keeps what is shipped close to the original.

Source: Lee et al. 2023, Surgical fine-tuning improves adaptation to distribution shifts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headstart._core.check import in_range, suggestion
from headstart._core.errors import BadOption
from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.methods import full
from headstart.methods.records import Applied, Choice, Decline, Method, Suggestion
from headstart.metrics import told_around

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone


@record
class SurgicalParams(full.FullParams):
    """Parameters of surgical fine-tuning: those of full fine-tuning, and which stage is tuned.

    Attributes:
        stage: the stage that is tuned, such as `stage3`; `auto`: the one that the evidence points at, else the last.
        views: augmented views of each training image; epoch e sees view e mod views, so that the frozen part runs only
            this many times over the images.
    """

    stage: str = "auto"
    views: int = 4


def check(params: SurgicalParams) -> None:
    """Nothing; a value outside its range or list is a `BadOption`."""
    full.check(params)
    in_range("--views", params.views, low=1, high=1_000)


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """As for full fine-tuning, and the stage: where good features are lost, else where the images are farthest."""
    answer = full.resolve(SurgicalParams, facts, backbone, given, evidence=evidence)
    if isinstance(answer, Decline):
        return answer
    names = [stage.name for stage in backbone.stages]
    stage, why = answer.params.stage, "asked for"
    if stage == "auto":
        stage, why = _points_at(evidence, backbone)
        why = f"asked for auto: {why}" if "stage" in given else why
    if stage not in names:
        hint = suggestion(stage, names) or f"It has {', '.join(names)}."
        raise BadOption(f"--stage {stage!r}: {backbone.info.arch} has no such stage.", hint=hint)
    choice = Choice(what="tuned stage", value=stage, why=why)
    return Suggestion(params=replace(answer.params, stage=stage), choices=(choice, *answer.choices))


def _points_at(evidence: Evidence | None, backbone: Backbone) -> tuple[str, str]:
    """(stage, why)."""
    names = [stage.name for stage in backbone.stages]
    last = (
        names[-1],
        "nothing was measured that speaks against the last one, the most bound to the source's classes",
    )
    if evidence is None:
        return last
    singles = {probe.name: probe for probe in evidence.depths if len(probe.outputs) == 1}
    stages = [singles[name] for name in names if name in singles]
    output = singles.get("output")
    if stages and output is not None:
        peak = max(stages, key=lambda probe: probe.accuracy)
        place = names.index(peak.name) + 1
        if place < len(names) and peak.accuracy - peak.error > output.accuracy:
            high, low = (told_around(each.accuracy, each.error, evidence.images) for each in (peak, output))
            why = (
                f"probes reach {high} at {peak.name} and {low} at the output: "
                "what comes behind it loses what the images need"
            )
            return names[place], why
    far = _farthest(evidence, backbone)
    return (far, "there the images are farthest from those of the pretraining") if far else last


def _farthest(evidence: Evidence, backbone: Backbone) -> str:
    """The stage whose layers lie farthest from the pretraining domain on average; empty where that is unknown."""
    found: dict[str, list[float]] = {}
    distance = evidence.distance
    for layer, value in zip(distance.layers, distance.per_layer, strict=True):
        for stage in backbone.stages:
            if any(layer == module or layer.startswith(f"{module}.") for module in stage.modules):
                found.setdefault(stage.name, []).append(value)
    return max(found, key=lambda name: sum(found[name]) / len(found[name])) if found else ""


def apply(backbone: Backbone, model: Network, params: SurgicalParams) -> Applied:
    """One stage tuned as in full fine-tuning; the others frozen, statistics too; those before it run only once."""
    place = [stage.name for stage in backbone.stages].index(params.stage)
    inside = set(backbone.stages[place].modules)
    norms = tuple(f"body.{name}" for name in backbone.norms if name in inside)
    still = tuple(
        f"body.{module}"
        for stage in backbone.stages
        if stage.name != params.stage
        for module in stage.modules
    )
    return Applied(
        groups=full.tuning_groups(backbone, model, params, tuned={params.stage}),
        held=still if params.batchnorm == "tuned" else (*still, *norms),
        reestimate=norms if params.batchnorm == "re-estimated" else (),
        boundary=f"body.{backbone.stages[place - 1].output}" if place else "",
    )


METHOD = Method(
    name="surgical",
    summary="fine-tuning of one stage, the one that the evidence points at",
    solver="gradient",
    params=SurgicalParams,
    check=check,
    suggest=suggest,
    apply=apply,
    reach=0.6,
    on_request=True,
)
