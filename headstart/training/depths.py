"""Which depths a head should read: single ones first, then combinations, by cross-validation inside the training split.

Columns are standardised, because depths differ in scale by orders of magnitude; one that is large would else drown the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart._core.seed import generator
from headstart.adaptation import Adapted
from headstart.compute import OUTPUT, DepthClassifier, Depths, Stopped, Tap, at_depths
from headstart.compute.taps import Reading, read_depths
from headstart.heads.logistic import LinearHead
from headstart.heads.probe import Problem, group_numbers, walk
from headstart.methods.depth_probe import read_wish
from headstart.metrics import told_mean, told_share
from headstart.metrics.losses import row_losses
from headstart.training.class_weights import class_weights, label_counts
from headstart.training.records import Pace, TrainingData
from headstart.training.rows import Features, joined

# A coarse path on one division into folds: it orders depths, and the chosen ones walk the whole path afterwards. On 504
# satellite scenes (Lite0) three divisions and four wider strengths chose the same depths in three times the time.
_STRENGTHS = (0.1, 0.3, 1.0)
_SEARCH = 1000  # images that the search looks at: its time grows with them, and the order of depths is coarse
_PARTNERS = 4  # depths that are tried beside the best one, the best first
_MOST = 3  # depths read together: gains shrink, the head widens, and less of the network can be cut off

T = TypeVar("T")

_TINY = 1e-5  # of a column's size: what rounding leaves of a constant


@dataclass(frozen=True)
class Candidate:
    """A set of depths and how a head on them did on images it had not seen.

    Attributes:
        name: as `--depths` and `DepthProbe.name` have it.
        taps: what is read.
        losses: (N,) log-loss of each image.
        accuracy: mean correctness in [0, 1].
    """

    name: str
    taps: tuple[Tap, ...]
    losses: NDArray[np.float64]
    accuracy: float

    @property
    def loss(self) -> float:
        """Mean log-loss."""
        return float(self.losses.mean())


@dataclass
class Search:
    """The depths' features of some training images, and what was tried on them.

    Attributes:
        rows: depth or `output` -> features (N, columns); of depths mean and deviation.
        targets: of the images.
        groups: images that stay in one fold.
        tried: every candidate so far.
    """

    rows: dict[str, Features]
    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    data: TrainingData
    pace: Pace
    weights: NDArray[np.float64] | None
    folds: int
    tried: list[Candidate] = field(default_factory=list)

    def judge(self, parts: Sequence[tuple[str, Tap]]) -> Candidate:
        """How a head does that reads these (name, tap) pairs."""
        raw = joined(self.rows, [tap for _, tap in parts])
        problem = Problem(
            features=Scaling.of(raw)(raw),
            targets=self.targets,
            groups=self.groups,
            classes=len(self.data.classes),
            weights=self.weights,
        )
        path = walk(problem, strengths=_STRENGTHS, count=self.folds, seed=self.data.seed, repeats=1)
        logits = path.logits[path.chosen]
        found = Candidate(
            name="+".join(name for name, _ in parts),
            taps=tuple(tap for _, tap in parts),
            losses=row_losses(logits, self.targets),
            accuracy=float(self.data.task.correctness(logits, self.targets).mean()),
        )
        self.tried.append(found)
        return found


@dataclass(frozen=True)
class Scaling:
    """Centre and scale (width,) of columns, taken from the training images."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Features) -> Scaling:
        """That of these rows; a column without variation keeps its scale."""
        centre, spread = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        constant = spread <= _TINY * np.abs(centre)
        return cls(centre, np.where(constant, 1.0, spread))

    def __call__(self, rows: Features) -> Features:
        """The rows, standardised."""
        out: Features = ((rows - self.centre) / self.scale).astype(np.float32)
        return out

    def folded(self, head: LinearHead) -> LinearHead:
        """The head that gives the same logits on rows as they are as `head` on standardised ones."""
        weight = head.weight / self.scale
        return LinearHead(weight=weight, bias=head.bias - weight @ self.centre)


@dataclass(frozen=True)
class Chosen:
    """What was chosen: the network that reads it, and what was tried on the way."""

    model: DepthClassifier
    chosen: Candidate
    tried: tuple[Candidate, ...]

    @property
    def told(self) -> str:
        """The choice in a sentence."""
        parts = " and ".join(f"{name} ({_pooled(tap)})" for name, tap in _pairs(self.chosen))
        return (
            f"the head reads {parts}: of {len(self.tried)} choices cross-validated on the training images the one with "
            f"the lowest log-loss, {told_mean(self.chosen.losses)}; "
            f"{told_share(self.chosen.accuracy, len(self.chosen.losses))} right"
        )

    @property
    def facts(self) -> dict[str, object]:
        """The choice and what it was made from, as plain values."""
        return {
            "depths": self.chosen.name,
            "pooling": [_pooled(tap) for tap in self.chosen.taps],
            "depths_tried": [
                {
                    "name": each.name,
                    "pooling": [_pooled(tap) for tap in each.taps],
                    "log_loss": each.loss,
                    "standard_error": float(each.losses.std() / np.sqrt(len(each.losses))),
                    "accuracy": each.accuracy,
                }
                for each in self.tried
            ],
        }


def choose_depths(adapted: Adapted, data: TrainingData, pace: Pace) -> Chosen:
    """The depths that the parameters ask for, or the best of them by cross-validation, and a network that reads them.

    The single depth with the lowest log-loss comes first; then the best partner is added as long as it lowers the loss by
    more than the standard error of the difference, because each further one makes the head wider and may make the exported
    network deeper. When the time is up, the best so far is taken.

    Raises:
        Stopped: when somebody asked for an end.

    Source: Evci et al. 2022, Head2Toe: utilizing intermediate representations for better transfer learning, for the idea
        of selecting whole groups of features.
    """
    names, fixed = read_wish(adapted.params.depths, adapted.stages)
    outputs = {stage.name: stage.output for stage in adapted.stages if stage.name in names}
    readings = read_depths(adapted.model.body, data.preprocess, tuple(outputs.values()))
    search = _open(adapted, data, pace, tuple(outputs.values()))
    options = {
        name: _taps(outputs[name], readings[outputs[name]], adapted.params.pooling)
        if name in outputs
        else (Tap(module=OUTPUT),)
        for name in names
    }
    if fixed:  # as they are; only the pooling is left to choose, the same for all
        sets = [
            [(name, taps[min(k, len(taps) - 1)]) for name, taps in options.items()]
            for k in range(max(map(len, options.values())))
        ]
        best = min((search.judge(parts) for parts in sets), key=lambda each: each.loss)
    else:
        best = _grow(search, options)
    width = joined(search.rows, best.taps).shape[1]
    return Chosen(at_depths(adapted.model, Depths(taps=best.taps), width=width), best, tuple(search.tried))


def _taps(module: str, reading: Reading, pooling: str) -> tuple[Tap, ...]:
    """The ways to read that module, the narrower first."""
    deviations = {"auto": (False, True), "mean": (False,), "mean+deviation": (True,)}[pooling]
    if reading.layout == "vector":  # has no places to deviate over
        deviations = (False,)
    return tuple(
        Tap(module=module, layout=reading.layout, skip=reading.skip, deviation=each) for each in deviations
    )


def _grow(search: Search, options: dict[str, tuple[Tap, ...]]) -> Candidate:
    """The best single depth, joined by others as long as they help."""
    order = list(options)
    alone = [(name, tap) for name, taps in options.items() for tap in taps]
    singles = [search.judge([part]) for part in _until_over(alone, search)]
    best = min(singles, key=lambda each: each.loss)
    partners = [each for each in sorted(singles, key=lambda each: each.loss) if each.name != best.name]
    first = {each.name: each for each in reversed(partners)}  # the better pooling of each
    partners = [each for each in partners if first[each.name] is each][:_PARTNERS]
    while len(best.taps) < _MOST and partners:
        joint = [
            search.judge(_in_order([*_pairs(best), *_pairs(other)], order))
            for other in _until_over(partners, search)
        ]
        found = min(joint, key=lambda each: each.loss, default=best)
        gain = best.losses - found.losses
        if gain.mean() <= gain.std() / np.sqrt(len(gain)):
            break
        best = found
        partners = [each for each in partners if each.name not in best.name.split("+")]
    return best


def _pooled(tap: Tap) -> str:
    return "pooled output" if tap.module == OUTPUT else "mean+deviation" if tap.deviation else "mean"


def _pairs(candidate: Candidate) -> list[tuple[str, Tap]]:
    return list(zip(candidate.name.split("+"), candidate.taps, strict=True))


def _in_order(parts: list[tuple[str, Tap]], order: Sequence[str]) -> list[tuple[str, Tap]]:
    return sorted(parts, key=lambda part: order.index(part[0]))


def _until_over(things: Iterable[T], search: Search) -> Iterator[T]:
    """The things, until the time is up; the first in any case, if nothing was tried before."""
    for thing in things:
        if search.pace.clock.stop_reason:
            raise Stopped(search.pace.clock.stop_reason)
        if search.tried and search.pace.clock.over:
            return
        yield thing


def _open(adapted: Adapted, data: TrainingData, pace: Pace, outputs: tuple[str, ...]) -> Search:
    """The search over the training images, or over some of them where there are many."""
    places = np.arange(len(data.train))
    if len(places) > _SEARCH:
        places = np.sort(generator(data.seed, "depths").choice(len(places), _SEARCH, replace=False))
    rows = data.store.get_depths(data.train, outputs, clock=pace.clock)
    targets = data.task.targets(data.train, len(data.classes))
    return Search(
        rows={name: each[places] for name, each in rows.items()},
        targets=targets[places],
        groups=group_numbers(data.train)[places],
        data=data,
        pace=pace,
        weights=class_weights(adapted.params.class_weights, data.classes, label_counts(data, targets)),
        folds=adapted.params.folds,
    )
