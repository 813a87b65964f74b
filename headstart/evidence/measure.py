"""Everything that is measured before a plan is made, in the order of what it is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headstart import compute, similarity
from headstart._core.clock import Clock
from headstart._core.records import record
from headstart.compute.network import flops
from headstart.data.records import DatasetFacts, Sample
from headstart.evidence import cost, curve, depths, domain, flips, match, places, sizes
from headstart.evidence.probing import Probing, choose_images
from headstart.evidence.records import Cost, DepthProbe, Evidence, Flips, SizeProbe
from headstart.features import FeatureStore
from headstart.tasks import TASKS
from headstart.weights import Backbone

_SIZES_WORK, _TWIN_WORK, _FLIPS_WORK = 300e9, 150e9, 150e9
"""Floating-point operations whose images are judged at other sizes, by the twin, mirrored: a second or two each.

Half as many images are too few for the twin: with 100 of 160 satellite scenes the gain at the best depths fell from 30 to 7
points, and what training from scratch may hope for rose by as much as 13."""

NO_TWIN = (
    "Not measured: what pretraining is worth, by a network with random weights; no decision about so few images "
    "depends on it, and the command headstart plan shows it."
)
"""What `skipped` says where the twin was not wanted."""

_GPU = 20  # times as much on a GPU
_FEWEST = 100  # images, below which their answers would be lost in noise


@record
class Options:
    """How much is looked at.

    Attributes:
        images: training images that the probes of depths and the learning curve use at most; more say little more.
        seed: of the choice of images.
        sizes: input sizes to try besides the network's own; empty: the images' own sizes say which.
        twin: whether the randomly initialised twin is measured.
        cost: whether training steps are timed.
        fast: whether a smaller input is wanted for its own sake.
        head: for boxes and masks, whose steps are timed; empty: the task's usual one.
    """

    images: int = 1000
    seed: int = 0
    sizes: tuple[int, ...] = ()
    twin: bool = True
    cost: bool = True
    fast: bool = False
    head: str = ""


def measure(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    store: FeatureStore,
    facts: DatasetFacts,
    options: Options | None = None,
    clock: Clock | None = None,
) -> Evidence:
    """What these weights and these images say of each other; a few seconds, and most of it is work that a fit needs anyway.

    For boxes and masks, places of the images are asked about instead of whole images (`places`).

    Features go through the store, so that neither a fit nor another look computes them again. What is left away because
    the clock's budget is over, or because there are too few images, stands in `skipped`.

    Args:
        backbone: the network with its pretrained weights.
        samples: the training images, scanned.
        store: of the backbone's features.
        facts: of the dataset.
        options: how much is looked at.
        clock: its budget ends the measuring after the current part; a signal ends it at once.

    Raises:
        Stopped: when somebody asked for an end.
    """
    asked, watch = options or Options(), clock or Clock()
    if TASKS[facts.task].places is None:
        return _measure_whole(backbone, samples, store=store, facts=facts, asked=asked, watch=watch)
    own = places.Asked(seed=asked.seed, twin=asked.twin, cost=asked.cost, head=asked.head)
    return places.measure_places(backbone, samples, store=store, facts=facts, clock=watch, asked=own)


def _measure_whole(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    store: FeatureStore,
    facts: DatasetFacts,
    asked: Options,
    watch: Clock,
) -> Evidence:
    """What is asked of whole images."""
    started, task = time.monotonic(), TASKS[facts.task]
    probing = choose_images(samples, task, classes=len(facts.classes), limit=asked.images, seed=asked.seed)
    look = match.look_at(probing.samples, clock_over=lambda: bool(watch.over))
    work = _Work(backbone, samples, probing, watch, asked, store)
    distance = domain.measure_distance(backbone, samples, store=store, seed=asked.seed, clock=watch)
    found: depths.Found = {}
    fault, learned = probing.fault, None
    if fault:
        work.skipped.append(f"No probes: {fault}.")
    else:
        found = store.get_depths(probing.samples, depths.depth_names(backbone), clock=watch)
        work.judged = depths.judge_depths(backbone, probing, found)
    if found and work.wanted("the learning curve"):
        learned = curve.learning_curve(found["output"], probing, task, total=len(samples), seed=asked.seed)
        if learned is None:
            work.skipped.append("No learning curve: too few images to learn from parts of them.")
    turned = _flips(work, found)
    costs = _cost(work)
    tried = _sizes(work, found)
    return Evidence(
        weights=backbone.info.name,
        images=len(probing),
        distance=distance,
        standing=similarity.standing(distance, weights=backbone.info.name).text,
        depths=_gains(work, found),
        sizes=tried,
        curve=learned,
        cost=costs,
        findings=match.find_mismatches(facts, backbone.info.preprocess, look),
        seconds=time.monotonic() - started,
        skipped=tuple(work.skipped),
        twin_images=work.twin_images,
        flips=turned,
    )


@dataclass
class _Work:
    """What the parts share, and what they have left away."""

    backbone: Backbone
    samples: Sequence[Sample]
    probing: Probing
    clock: Clock
    options: Options
    store: FeatureStore
    judged: tuple[depths.Judged, ...] = ()
    forward: float | None = None
    operations: int | None = None
    twin_images: int = 0
    skipped: list[str] = field(default_factory=list)

    def wanted(self, what: str) -> bool:
        """Whether there is time left; if not, that is noted."""
        if self.clock.over:
            self.skipped.append(f"Not measured: {what}; {self.clock.over}.")
            return False
        return True

    def affordable(self, work: float) -> Probing:
        """As many of the images as that many operations compute; the same on every machine of a kind."""
        if self.operations is None:
            self.operations = max(1, flops(self.backbone.module.eval(), self.backbone.info.preprocess))
        scale = 1 if compute.device().type == "cpu" else _GPU
        return self.probing.first(max(_FEWEST, int(scale * work / self.operations)))

    def network(self) -> compute.Network:
        """What computes the features of all depths, so that times are those of the work to come."""
        return self.store.network(self.samples, depths.depth_names(self.backbone))

    def seconds(self) -> float:
        """Seconds per image of a frozen pass at the network's own size, measured once."""
        if self.forward is None:
            self.forward = sizes.seconds_of_pass(self.network(), self.probing, clock=self.clock)
        return self.forward


def _flips(work: _Work, found: depths.Found) -> Flips | None:
    """What a mirror does at the single depth that knows most."""
    singles = [each for each in work.judged if len(each.outputs) == 1]
    if not singles or not work.wanted("whether images may be mirrored"):
        return None
    best = max(singles, key=lambda each: each.accuracy)
    return flips.measure_flips(
        work.affordable(_FLIPS_WORK), found, judged=best, store=work.store, clock=work.clock
    )


def _cost(work: _Work) -> Cost | None:
    if not work.options.cost or not len(work.probing) or not work.wanted("the cost of training"):
        return None
    return cost.measure_cost(work.backbone, work.probing.samples, forward=work.seconds())


def _sizes(work: _Work, found: depths.Found) -> tuple[SizeProbe, ...]:
    short_sides = [min(each.width, each.height) for each in work.samples]
    own = work.backbone.info.preprocess.height
    tried = sizes.candidate_sizes(work.backbone.info.preprocess, short_sides)
    if work.options.sizes:
        tried = (*sorted({*work.options.sizes} - {own}), own)
    others = [size for size in tried if size != own and sizes.takes(work.backbone, size)]
    if len(tried) > 1 and not others:
        work.skipped.append(f"No other input size: this network takes {own} pixels only.")
    if not work.judged or not others:
        return ()
    wished = work.options.sizes or work.options.fast
    if not wished and not sizes.worth_trying(
        work.backbone.info.preprocess, short_sides, images=len(work.samples)
    ):
        work.skipped.append(
            f"Other input sizes were not tried: the images have more detail than {own} pixels show, and a smaller input "
            f"saves hardly any time with {len(work.samples)} of them."
        )
        return ()
    if not work.wanted("other input sizes"):
        return ()
    few = work.affordable(_SIZES_WORK)
    engine = work.network().chosen.engine
    seconds = [share * work.seconds() for share in sizes.relative_costs(work.backbone, others, engine=engine)]
    best = max(work.judged, key=lambda each: each.accuracy)
    right = [sizes.probe_size(work.backbone, size, few, judged=best, clock=work.clock) for size in others]
    reference = depths.judged_alike({name: rows[: len(few)] for name, rows in found.items()}, best, few)
    judged = [*zip(others, right, seconds, strict=True), (own, reference, work.seconds())]
    counts = len(few), work.store.count
    return tuple(
        replace(each, reusable=each.size == own or sizes.same_runtime(work.backbone, each.size, counts))
        for each in sizes.size_probes(judged, own=own, images=len(few))
    )


def _gains(work: _Work, found: depths.Found) -> tuple[DepthProbe, ...]:
    """The probes, with the transfer gain at each depth where it is measured."""
    plain = tuple(each.record() for each in work.judged)
    if not plain or work.backbone.info.objective == "none":
        return plain
    if not work.options.twin:
        work.skipped.append(NO_TWIN)
        return plain
    if not work.wanted("the randomly initialised twin"):
        return plain
    few = work.affordable(_TWIN_WORK)
    blank = depths.twin_features(work.backbone, few, clock=work.clock)
    work.twin_images = len(few)
    return depths.with_gains(work.judged, few, found, blank)
