"""Feature extraction from earlier depths: a linear head on pooled outputs of a few stages, chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart._core.check import one_of, suggestion
from headstart._core.errors import BadOption
from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.methods import linear_probe
from headstart.methods.records import Choice, Decline, Method, Suggestion
from headstart.metrics import told_around

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence
    from headstart.weights import Backbone
    from headstart.weights.records import Stage

OUTPUT = "output"
POOLINGS = ("auto", "mean", "mean+deviation")
OWN = ("depths", "pooling")

_MOST = 4  # depths that evidence leaves to the search: half of a usual network's, which halves the search


@record
class DepthProbeParams(linear_probe.LinearProbeParams):
    """Parameters of the depth probe: those of the linear probe, and where the features come from.

    Attributes:
        depths: stages whose outputs the head reads, such as `stage3` or `stage3+output` (the network's own features);
            several separated by commas: the best of them and of their combinations, by cross-validation; `auto`: of all.
        pooling: what is read of a stage's output: `mean` over all places, `mean+deviation` (standard), or `auto`: by
            cross-validation.
    """

    depths: str = "auto"
    pooling: str = "auto"


def check(params: DepthProbeParams) -> None:
    """Nothing; a value outside its range or list is a `BadOption`."""
    linear_probe.check(params)
    one_of("--pooling", params.pooling, POOLINGS)


def suggest(
    facts: DatasetFacts, evidence: Evidence | None, backbone: Backbone, given: dict[str, Any]
) -> Suggestion | Decline:
    """As for the linear probe; evidence narrows the depths among which cross-validation chooses."""
    answer = linear_probe.suggest(facts, evidence, backbone, {k: v for k, v in given.items() if k not in OWN})
    if isinstance(answer, Decline):
        return answer
    wish, why = "auto", "the best depth is measured on the training images, not assumed"
    if evidence is not None and (best := _best(evidence)):
        wish, why = ",".join(best), "the depths with the best probes in the evidence"
    if "depths" in given:
        wish, why = given["depths"], "asked for"
    read_wish(wish, backbone.stages)
    values = {key: getattr(answer.params, key) for key in linear_probe.LinearProbeParams.__dataclass_fields__}
    own = {key: given[key] for key in OWN if key in given}
    params = DepthProbeParams(**(values | {"depths": wish} | own))
    choices = (Choice(what="depths", value=wish, why=why), *answer.choices)
    return Suggestion(params=params, choices=choices)


def read_wish(wish: str, stages: Sequence[Stage]) -> tuple[tuple[str, ...], bool]:
    """Names of depths, in forward order, and whether they are to be read as they are rather than searched.

    Raises:
        BadOption: for a stage that the network does not have.
    """
    known = [*(stage.name for stage in stages), OUTPUT]
    if wish == "auto":
        return tuple(known), False
    fixed = "," not in wish
    names = [name.strip() for name in wish.replace(",", "+").split("+")]
    for name in names:
        if name not in known:
            raise BadOption(
                f"--depths {wish!r}: this network has no {name!r}.",
                hint=suggestion(name, known) or f"It has {', '.join(known)}.",
            )
    return tuple(name for name in known if name in names), fixed


def _best(evidence: Evidence) -> list[str]:
    """The single depths whose probes were best, best first."""
    singles = [probe for probe in evidence.depths if len(probe.outputs) == 1]
    singles.sort(key=lambda probe: -probe.accuracy)
    return [probe.name for probe in singles[:_MOST]] if len(singles) > 1 else []


def _why_not(facts: DatasetFacts, evidence: Evidence | None) -> str:
    """Why it need not be tried: no earlier depth comes near the network's own output."""
    del facts
    singles = [probe for probe in evidence.depths if len(probe.outputs) == 1] if evidence is not None else []
    output = next((probe for probe in singles if probe.outputs == (OUTPUT,)), None)
    earlier = [probe for probe in singles if probe is not output]
    if output is None or not earlier:
        return ""
    best = max(earlier, key=lambda probe: probe.accuracy)
    if best.accuracy + best.error >= output.accuracy - output.error:
        return ""
    images = evidence.images if evidence is not None else 0
    own, other = (told_around(each.accuracy, each.error, images) for each in (output, best))
    return f"the network's own features reach {own} in cross-validation, the best earlier depth ({best.name}) {other}"


METHOD = Method(
    name="depth-probe",
    summary="frozen network, logistic regression on the stages that suit the images; what lies behind them is cut off",
    solver="features",
    params=DepthProbeParams,
    check=check,
    suggest=suggest,
    apply=linear_probe.apply,
    expects="depths",
    why_not=_why_not,
)
