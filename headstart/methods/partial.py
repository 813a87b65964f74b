"""Fine-tuning of the last stages behind a frozen prefix, whose output is computed once for a few views of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._core.check import in_range
from headstart._core.records import record
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.methods import full
from headstart.methods.frozen import with_views
from headstart.methods.records import WHOLE, Applied, Choice, Decline, Method, Suggestion
from headstart.metrics import told_around

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.tasks import Network
    from headstart.weights import Backbone


@record
class PartialParams(full.FullParams):
    """Parameters of partial fine-tuning: those of full fine-tuning, and where the frozen part ends.

    Attributes:
        unfreeze: how many of the last stages are tuned; all before them are frozen.
        views: augmented views of each training image; epoch e sees view e mod views, so that the frozen part runs only
            this many times over the images.
    """

    unfreeze: int = 2
    views: int = 4


def check(params: PartialParams) -> None:
    """Nothing; a value outside its range or list is a `BadOption`."""
    full.check(params)
    in_range("--unfreeze", params.unfreeze, low=1, high=1_000)
    in_range("--views", params.views, low=1, high=1_000)


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """As for full fine-tuning; a network without that many stages declines."""
    count, told = tuned_stages(evidence, backbone)
    answer = full.resolve(PartialParams, facts, backbone, {"unfreeze": count} | given, evidence=evidence)
    if isinstance(answer, Decline):
        return answer
    if facts.task in DENSE:
        answer = with_views(answer, given)
    stages = len(backbone.stages)
    if answer.params.unfreeze >= stages:
        reason = (
            f"--unfreeze {answer.params.unfreeze} leaves nothing frozen of the {stages} stages of "
            f"{backbone.info.arch}: use {stages - 1} or less, or the method full"
        )
        return Decline(reason=reason)
    tuned = [stage.name for stage in backbone.stages[-answer.params.unfreeze :]]
    choice = Choice(
        what="tuned stages", value=", ".join(tuned), why="asked for" if "unfreeze" in given else told
    )
    return Suggestion(params=answer.params, choices=(choice, *answer.choices))


def tuned_stages(evidence: Evidence | None, backbone: Backbone) -> tuple[int, str]:
    """How many of the last stages to tune, and why: those behind the depth at which the features stop getting better.

    A depth counts as better than all before it if it is so by more than its standard error. At least two stages are tuned
    (one alone changes little) and at least one stays frozen.
    """
    names = [stage.name for stage in backbone.stages]
    probes = [probe for probe in evidence.depths if probe.name in names] if evidence is not None else []
    least, most = PartialParams.unfreeze, len(names) - 1
    if not probes:
        return least, "late layers are the ones most bound to the source's classes"
    best = probes[0]
    for probe in probes[1:]:
        if probe.accuracy - probe.error > best.accuracy:
            best = probe
    count = min(max(len(names) - 1 - names.index(best.name), least), max(most, 1))
    last = probes[-1]
    images = evidence.images if evidence is not None else 0
    reached, end = (told_around(probe.accuracy, probe.error, images) for probe in (best, last))
    grows = f"features gain up to {best.name}: {reached}"
    if best.name == last.name:
        return count, f"{grows}, the last: only what is most bound to the source's classes is tuned"
    return count, f"{grows} and no further ({last.name}: {end}): what lies behind is tuned"


def apply(backbone: Backbone, model: Network, params: PartialParams) -> Applied:
    """The first stages frozen, statistics too; the others as in full fine-tuning."""
    frozen = len(backbone.stages) - params.unfreeze
    prefix, suffix = backbone.stages[:frozen], backbone.stages[frozen:]
    inside = {module for stage in suffix for module in stage.modules}
    norms = tuple(f"body.{name}" for name in backbone.norms if name in inside)
    still = tuple(f"body.{module}" for stage in prefix for module in stage.modules)
    return Applied(
        groups=full.tuning_groups(backbone, model, params, tuned={stage.name for stage in suffix}),
        held=still if params.batchnorm == "tuned" else (*still, *norms),
        reestimate=norms if params.batchnorm == "re-estimated" else (),
        boundary=f"body.{prefix[-1].output}",
    )


def _why_not(facts: DatasetFacts, evidence: Evidence | None) -> str:
    """Why it is no rung for boxes and masks where nothing was timed: all that it saves there is time."""
    if facts.task in DENSE and evidence is None:
        return "nothing was measured, and full changes more"
    return ""


METHOD = Method(
    name="partial",
    summary="fine-tuning of the last stages; the stages before them are frozen and run only once",
    solver="gradient",
    params=PartialParams,
    check=check,
    suggest=suggest,
    apply=apply,
    reach=0.8,
    step="partial_step",
    why_not=_why_not,
    tasks=(*WHOLE, *DENSE),
)
