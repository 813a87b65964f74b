"""What is decided before anything is trained: the plan, from what is measured, or from a file that the user edited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from headstart import evidence, planning
from headstart._core import records
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadOption, BadPlan
from headstart.data.annotations import DENSE
from headstart.data.records import Dataset, DatasetFacts
from headstart.evidence import Evidence
from headstart.evidence.sizes import takes
from headstart.features import FeatureStore
from headstart.methods import METHODS
from headstart.methods.dense import without_effect
from headstart.planning import Plan, Wishes
from headstart.planning.guide import LARGE
from headstart.ranking import Ranking
from headstart.runs.options import FitOptions
from headstart.runs.source import PLAN, RANKING, Source, changed
from headstart.tasks import head_of
from headstart.weights import Backbone

EVIDENCE = "evidence.json"

_SHARE, _LEAST = 0.25, 10.0  # of the budget for measuring, and seconds that it may have in any case
_IN_THE_PLAN = ("method", "weights", "budget", "seed", "prefer", "head")  # options that a plan has fields for


@dataclass(frozen=True)
class Decision:
    """The plan, what it rests on (None where nothing was measured), and the network at the plan's input size.

    Attributes:
        ranking: of the weights that the network was chosen among; None where there was no choice.
    """

    plan: Plan
    evidence: Evidence | None
    backbone: Backbone
    ranking: Ranking | None = None


def with_plan(options: FitOptions) -> FitOptions:
    """The options, with what the plan that they name says of weights and seed; without a plan as they are.

    Raises:
        BadOption: for an option that has no effect beside a plan.
        BadInput, BadPlan: for a plan that cannot be used.
    """
    if not options.plan:
        return options
    usual = FitOptions()
    given = [name for name in _IN_THE_PLAN if getattr(options, name) != getattr(usual, name)]
    flags = [f"--{name.replace('_', '-')}" for name in (*given, *options.given)] + changed(options.limits)
    if flags:
        names = ", ".join(flags)
        raise BadOption(f"{names} has no effect with --plan.", hint=f"Edit {options.plan} instead.")
    plan = planning.load_plan(Path(options.plan))
    return replace(options, weights=plan.weights, seed=plan.seed, data=replace(options.data, seed=plan.seed))


def decide(
    dataset: Dataset,
    facts: DatasetFacts,
    source: Source,
    options: FitOptions,
    folder: Path | None,
    *,
    explain: bool = False,
) -> Decision:
    """The plan of an interrupted run in the folder, or of the file that the user named, or a new one.

    For `--method auto` the images are measured first: the measurements of an interrupted run in the folder are taken as
    they are. With `explain` that is measured too which no decision depends on.
    """
    backbone = source.backbone
    if folder is not None and (folder / PLAN).exists():
        plan = records.load(Plan, folder / PLAN)
        measured = _measured_before(folder)
        return Decision(plan, measured, sized(backbone, plan), source.ranking)
    if options.plan:
        plan = _of_file(Path(options.plan), facts, backbone)
        return Decision(plan, None, sized(backbone, plan))
    head_of(facts.task, options.head)  # a head of another task is refused before anything is measured
    found = None
    if options.method == "auto":
        found = (None if folder is None else _measured_before(folder)) or measure(
            dataset, facts, backbone, options, twin=explain or twin_decides(facts)
        )
    plan = planning.make_plan(facts, found, backbone=backbone, wishes=wishes_of(options))
    if told := source.told():
        plan = replace(plan, decided=(*told, *(each for each in plan.decided if each.what != "weights")))
    return Decision(plan, found, sized(backbone, plan), source.ranking)


def save(decision: Decision, folder: Path) -> None:
    """Write the ranking and the evidence, if there are any, and then the plan: where there is a plan, they are whole."""
    if decision.ranking is not None:
        records.save(folder / RANKING, decision.ranking)
    if decision.evidence is not None:
        records.save(folder / EVIDENCE, decision.evidence)
    records.save(folder / PLAN, decision.plan)


def wishes_of(options: FitOptions) -> Wishes:
    """What the planner needs to know of the options."""
    return Wishes(
        method=options.method,
        budget_seconds=parse_duration(options.budget),
        seed=options.seed,
        given=options.given,
        prefer=options.prefer,
        head=options.head,
    )


def sized(backbone: Backbone, plan: Plan) -> Backbone:
    """The network with the contract for what the plan shows it: a letterbox, a square, or its own size."""
    if plan.frame is None:
        return at_size(backbone, plan.input_size)
    return replace(
        backbone, info=replace(backbone.info, preprocess=backbone.info.preprocess.boxed(*plan.frame))
    )


def at_size(backbone: Backbone, size: int | None) -> Backbone:
    """The same network with the contract for that input size; None: its own."""
    contract = backbone.info.preprocess
    if size is None or size == contract.height == contract.width:
        return backbone
    return replace(backbone, info=replace(backbone.info, preprocess=contract.at(size)))


def _measured_before(folder: Path) -> Evidence | None:
    path = folder / EVIDENCE
    return records.load(Evidence, path) if path.exists() else None


def twin_decides(facts: DatasetFacts) -> bool:
    """Whether a plan may depend on what a network with random weights knows: only `scratch` asks, and not about few images.

    With few images it explains, and a run that was asked for a model goes without: the twin is a quarter of the measuring.
    """
    return facts.n_train >= LARGE or facts.task in DENSE


def measure(
    dataset: Dataset, facts: DatasetFacts, backbone: Backbone, options: FitOptions, *, twin: bool
) -> Evidence:
    """What is measured before a plan, within a quarter of the budget.

    Args:
        dataset: whose training images are looked at.
        facts: about it.
        backbone: the network.
        options: of the run.
        twin: whether the randomly initialised twin is asked too.
    """
    budget = parse_duration(options.budget)
    return evidence.measure(
        backbone,
        dataset.train,
        store=FeatureStore(
            backbone, among=dataset.samples, passes=len(dataset.samples) + len(dataset.test), tapped=True
        ),
        facts=facts,
        options=evidence.Options(
            seed=options.seed, head=options.head, twin=twin, fast=options.prefer == "speed"
        ),
        clock=Clock(None if budget is None else max(_LEAST, _SHARE * budget)),
    )


def _of_file(path: Path, facts: DatasetFacts, backbone: Backbone) -> Plan:
    """The user's plan, if it is one for this data and this network."""
    plan = planning.told_edited(planning.load_plan(path), path)
    if plan.task != facts.task:
        raise BadPlan(
            f"{path} has the task {plan.task}, but the data asks for {facts.task}.",
            hint="Make a plan of this data: headstart plan DATA --json",
        )
    if (plan.frame is None) != (facts.task not in DENSE) or any(
        side % 32 or side < 32 for side in plan.frame or ()
    ):
        raise BadPlan(
            f"{path}: frame is {plan.frame}.",
            hint="For boxes and masks it is [width, height], both multiples of 32; for other tasks null.",
        )
    for rung in plan.rungs:
        row = METHODS[rung.method]
        if facts.task not in row.tasks:
            raise BadPlan(
                f"{path}: {rung.method} is not made for the task {facts.task}.", hint="Remove this rung."
            )
        if lost := without_effect(row.params, facts.task, rung.params):
            raise BadPlan(
                f"{path}: {lost} = {rung.params[lost]} of the rung {rung.method} has no effect on {facts.task}.",
                hint="Make a plan of this data: headstart plan DATA --json",
            )
    native = backbone.info.preprocess
    if plan.input_size not in (None, native.height) and not takes(backbone, plan.input_size):
        raise BadPlan(
            f"{path}: input_size is {plan.input_size}, which {backbone.info.arch} does not take.",
            hint=f"Its own size is {native.height}; some networks take no other.",
        )
    return plan
