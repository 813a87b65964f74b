"""Evidence for boxes and masks: what the maps of a network know of single places, at each depth, and what tuning costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart import compute, similarity, weights
from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart._core.seed import generator
from headstart.compute.network import flops
from headstart.data.records import DatasetFacts, Sample
from headstart.evidence import domain, match, place_cost
from headstart.evidence.depths import ALL, standardised
from headstart.evidence.probing import LEAST, mean_and_error, one_thread
from headstart.evidence.records import Cost, DepthProbe, Evidence, Recall
from headstart.evidence.site_features import Features, Seen, site_features
from headstart.evidence.sites import Sites
from headstart.features import FeatureStore
from headstart.heads.probe import group_numbers
from headstart.scores import fold_numbers, ridge_path
from headstart.tasks import TASKS, HeadSpec, Task, head_of, task_of
from headstart.weights import Backbone

_IMAGES = 128  # whose places are asked about: their classes' shares are known to some points
_WORK = 400e9  # floating-point operations of a pass, which bound the images where a network is large
_GPU = 20  # times as much on a GPU
_FEWEST = 32  # images, below which the errors over images are too large to compare depths
_WIDEST = (
    512  # columns of a probe: of a wider map its leading directions, so that the folds are solved in a moment
)
_STRENGTHS = tuple(float(10.0**power) for power in range(-3, 3))
"""Penalties that are tried, in units of P times the features' mean variance, as for whole images."""

_OVER = 16  # directions that the search for the leading ones looks at besides

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        seed: of the choice of images and of places.
        twin: whether the randomly initialised twin is measured.
        cost: whether training steps are timed.
        head: whose steps they are; empty: the task's usual one.
    """

    seed: int = 0
    twin: bool = True
    cost: bool = True
    head: str = ""


@dataclass(frozen=True)
class _Judged:
    """A probe on one map, or on several.

    Attributes:
        right: (P,) 1 where a place is named rightly by a head that saw no place of its image, else 0.
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    width: int
    stride: int
    right: Floats

    @property
    def name(self) -> str:
        """Of the stage, or `all` for all maps together."""
        return self.names[0] if len(self.names) == 1 else ALL


def measure_places(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    store: FeatureStore,
    facts: DatasetFacts,
    clock: Clock,
    asked: Asked,
) -> Evidence:
    """What these weights know of the places of these images, before a pyramid or a head is trained.

    The distance to the pretraining images is that of the whole images at the network's own input size, where its scale
    holds; the maps are looked at in the letterbox that training will use.

    Args:
        backbone: the network with its pretrained weights and its own contract.
        samples: the training images, scanned.
        store: of the backbone's features of whole images.
        facts: of the dataset.
        clock: its budget ends the measuring after the current part; a signal ends it at once.
        asked: how much is looked at.

    Raises:
        BadWeights: for a network without maps.
        Stopped: when somebody asked for an end.
    """
    started, seed = time.monotonic(), asked.seed
    boxed, skipped = boxed_for(backbone, facts), list[str]()
    look = match.look_at(samples, clock_over=lambda: bool(clock.over))
    distance = domain.measure_distance(backbone, samples, store=store, seed=seed, clock=clock)
    chosen = chosen_images(samples, limit=affordable(boxed), seed=seed)
    late = clock.over  # the cost goes first: it decides most, and takes a few steps
    cost = None if late or not asked.cost else _cost(boxed, chosen, facts, asked)
    seen = site_features(boxed, chosen, classes=len(facts.classes), seed=seed, clock=clock)
    sites = sites_of(seen, chosen)
    judged = judge_maps(boxed, seen, sites)
    probes = tuple(record_of(each, sites) for each in judged)
    if not judged:
        skipped.append(f"No probes: {fault(sites) or 'the maps show the same everywhere'}.")
    elif asked.twin and backbone.info.objective != "none" and clock.over:
        skipped.append(f"Not measured: the randomly initialised twin; {clock.over}.")
    elif asked.twin and backbone.info.objective != "none":
        probes = _gains(boxed, chosen, judged, sites, what=(len(facts.classes), seed), clock=clock)
    if asked.cost and late:
        skipped.append(f"Not measured: the cost of training; {late}.")
    return Evidence(
        weights=backbone.info.name,
        images=len(chosen),
        distance=distance,
        standing=similarity.standing(distance, weights=backbone.info.name).text,
        depths=probes,
        sizes=(),
        curve=None,
        cost=cost,
        findings=match.find_mismatches(facts, boxed.info.preprocess, look),
        seconds=time.monotonic() - started,
        skipped=tuple(skipped),
        twin_images=len(chosen) if any(probe.gain is not None for probe in probes) else 0,
        places=len(sites) if judged else 0,
    )


def boxed_for(backbone: Backbone, facts: DatasetFacts) -> Backbone:
    """The network with the contract of the letterbox that the task chooses for this data."""
    places = TASKS[facts.task].places
    assert places is not None  # whoever asks has a task with places
    frame, _ = places.frame(facts)
    return replace(backbone, info=replace(backbone.info, preprocess=backbone.info.preprocess.boxed(*frame)))


def with_head(boxed: Backbone, facts: DatasetFacts, name: str) -> Task:
    """The task with that head, fitted to this data as a plan fits it."""
    head, contract = head_of(facts.task, name), boxed.info.preprocess
    settings, _ = head.fit(facts, (contract.width, contract.height))
    return task_of(facts.task, HeadSpec(name=head.name, settings=asdict(settings)))


def chosen_images(samples: Sequence[Sample], *, limit: int, seed: int) -> list[Sample]:
    """At most so many images, at random."""
    order = generator(seed, "places", len(samples)).permutation(len(samples))
    return [samples[place] for place in order[:limit]]


def affordable(boxed: Backbone) -> int:
    """Images whose maps are looked at: the same number on every machine of a kind."""
    scale = 1 if compute.device().type == "cpu" else _GPU
    work = max(1, flops(boxed.module.eval(), boxed.info.preprocess))
    return min(_IMAGES, max(_FEWEST, int(scale * _WORK / work)))


def sites_of(seen: Seen, samples: Sequence[Sample]) -> Sites:
    """The places with their folds: those of one image, and of one group of images, are held out together."""
    groups = group_numbers(samples)[seen.image]
    folds = fold_numbers(seen.labels, groups=groups) if len(groups) else groups
    return Sites(image=seen.image, labels=seen.labels, shares=seen.shares, folds=folds)


def fault(sites: Sites) -> str:
    """Why these places cannot be probed, or an empty string."""
    if sites.images < LEAST:
        return f"{sites.images} training images with boxes or masks are too few to learn from some and test on others"
    if len(np.unique(sites.labels)) < 2:
        return "all places have the same class"
    if len(np.unique(sites.folds)) < 2:
        return "all images are of one group"
    return ""


def judge_maps(boxed: Backbone, seen: Seen, sites: Sites) -> tuple[_Judged, ...]:
    """A probe on each map, the finest first, then one on all of them together."""
    if fault(sites):
        return ()
    names = {stage.output: stage.name for stage in boxed.stages}
    parts = [(tap,) for tap in seen.taps]
    out = []
    for taps in (*parts, seen.taps):
        own = [rows for tap, rows in zip(seen.taps, seen.maps, strict=True) if tap in taps]
        right = named_rightly(own, sites)
        if right is not None:
            out.append(
                _Judged(
                    names=tuple(names[tap.module] for tap in taps),
                    outputs=tuple(tap.module for tap in taps),
                    width=sum(tap.channels for tap in taps),
                    stride=taps[0].stride if len(taps) == 1 else 0,
                    right=right,
                )
            )
    return tuple(out)


def named_rightly(maps: Sequence[Features], sites: Sites) -> Floats | None:
    """(P,) 1 where a ridge head names the place rightly that saw no place of its image; None where maps say nothing at all.

    In the head's eyes all classes weigh alike, as in the probes of whole images.
    """
    rows = np.concatenate([standardised(each) for each in maps], axis=1)
    if not np.isfinite(rows).all():
        return None
    try:
        with one_thread():
            return ridge_path(
                narrowed(rows, most=_WIDEST), sites.labels, folds=sites.folds, strengths=_STRENGTHS
            ).correct
    except BadInput:  # the same features everywhere: a random network may be dead at a depth
        return None


def narrowed(rows: Features, *, most: int) -> Features:
    """(P, at most `most`): the rows in their leading directions; as they are where they are no wider.

    Source: Halko et al. 2011, Finding structure with randomness (one power iteration).
    """
    if rows.shape[1] <= most or len(rows) <= most:
        return rows
    rng = generator(0, "narrowed", rows.shape[1])
    start = rng.standard_normal((rows.shape[1], most + _OVER)).astype(np.float32)
    basis, _ = np.linalg.qr(rows @ start)
    basis, _ = np.linalg.qr(rows @ (rows.T @ basis))
    _, _, directions = np.linalg.svd(basis.T @ rows, full_matrices=False)
    return np.asarray(rows @ directions[:most].T, np.float32)


def record_of(judged: _Judged, sites: Sites, blank: Floats | None = None) -> DepthProbe:
    """What is kept of a probe; with the twin's answers (P,) also the transfer gain."""
    accuracy, error = mean_and_error(sites.by_image(judged.right))
    recall = Recall(**dict(zip(("value", "error"), sites.by_class(judged.right), strict=True)))
    gain = gain_error = random = None
    if blank is not None:
        gain, gain_error = mean_and_error(sites.by_image(judged.right - blank))
        random = min(1.0, max(0.0, accuracy - gain))
        recall = replace(
            recall,
            **dict(zip(("gain", "gain_error"), sites.by_class(judged.right - blank), strict=True)),
        )
    return DepthProbe(
        name=judged.name,
        outputs=judged.outputs,
        width=judged.width,
        accuracy=accuracy,
        error=error,
        random=random,
        gain=gain,
        gain_error=gain_error,
        recall=recall,
        stride=judged.stride,
    )


def _cost(boxed: Backbone, chosen: Sequence[Sample], facts: DatasetFacts, asked: Asked) -> Cost | None:
    if not chosen:
        return None
    task = with_head(boxed, facts, asked.head)
    return place_cost.measure_cost(boxed, chosen, task=task, classes=len(facts.classes), seed=asked.seed)


def _gains(
    boxed: Backbone,
    chosen: Sequence[Sample],
    judged: Sequence[_Judged],
    sites: Sites,
    *,
    what: tuple[int, int],
    clock: Clock,
) -> tuple[DepthProbe, ...]:
    """The probes with the transfer gain: the same places in the maps of a network of the same shape with random weights."""
    classes, seed = what
    info = replace(boxed.info, name=f"random:{boxed.info.arch}", objective="none", sha256="")
    twin = weights.blank(boxed.info.arch, facts=info)
    theirs = site_features(twin, chosen, classes=classes, seed=seed, clock=clock)
    blank = {each.outputs: each.right for each in judge_maps(twin, theirs, sites)}
    return tuple(record_of(each, sites, blank.get(each.outputs)) for each in judged)
