"""At which depth the features that the data needs are: a probe for each stage, for chosen sets, and for a random twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart import weights
from headstart._core.clock import Clock
from headstart.evidence.probing import Floats, Probing, correctness, mean_and_error
from headstart.evidence.records import DepthProbe
from headstart.features import FeatureStore
from headstart.weights import Backbone

ALL = "all"
"""Name of the set of all depths."""

OUTPUT, MEAN, BOTH = "output", "mean", "mean+deviation"
"""Poolings: the network's own pooled output; the mean of each channel over all places; its mean and deviation."""

_STILL = 1e-6  # share of a column's size below which its deviation is what rounding leaves
_MOST = 3  # depths in a chosen set: each one more is another one to export
_HELPERS = 4  # best single depths that are tried as partners: the others have never helped

Found = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """A probe on one or several depths.

    Attributes:
        names: of the stages, or `output`.
        outputs: the modules that are read.
        pooling: of each.
        width: features a head reads.
        correct: (N,) how right it is, for each image.
        name: of all of it where it has one of its own.
    """

    names: tuple[str, ...]
    outputs: tuple[str, ...]
    pooling: tuple[str, ...]
    width: int
    correct: Floats
    name: str = ""

    @property
    def accuracy(self) -> float:
        """Mean correctness."""
        return float(self.correct.mean())

    def record(self) -> DepthProbe:
        """What is kept of it."""
        accuracy, error = mean_and_error(self.correct)
        return DepthProbe(
            name=self.name or "+".join(self.names),
            outputs=self.outputs,
            width=self.width,
            accuracy=accuracy,
            error=error,
            pooling=self.pooling,
        )


def judge_depths(backbone: Backbone, probing: Probing, found: Found) -> tuple[Judged, ...]:
    """A probe for each stage and the output in forward order, then the chosen set if it has several depths, then all.

    Each stage is judged by the mean over all places alone and by mean and deviation; the wider one has to be better by
    more than the standard error of the difference.

    Args:
        backbone: whose stages are probed.
        probing: the images.
        found: their features at every stage's output, and `output`.
    """
    singles = _singles(backbone, probing, found)
    if not singles:
        return ()
    out = list(singles)
    chosen = _grown(singles, probing, found)
    if len(chosen.names) > 1:
        out.append(chosen)
    whole = _together(singles, probing, found)
    if whole is not None and len(singles) > max(1, len(chosen.names)):
        out.append(replace(whole, name=ALL))
    return tuple(out)


def twin_features(
    backbone: Backbone, probing: Probing, *, clock: Clock | None = None
) -> dict[str, NDArray[np.float32]]:
    """Features of the same images at the same depths, by a network of the same shape with random weights.

    Raises:
        Stopped: when somebody asked for an end.
    """
    facts = replace(backbone.info, name=f"random:{backbone.info.arch}", objective="none", sha256="")
    twin = weights.blank(backbone.info.arch, facts=facts)
    store = FeatureStore(twin, among=probing.samples)
    return store.get_depths(probing.samples, depth_names(backbone), clock=clock)


def with_gains(
    judged: Sequence[Judged], probing: Probing, found: Found, blank: Found
) -> tuple[DepthProbe, ...]:
    """The records with the transfer gain: the same probe on a random network's features of the first of these images.

    Args:
        judged: probes of the trained network.
        probing: the images that the twin saw.
        found: the trained network's features of these images or more.
        blank: the twin's features of these images.
    """
    own = {name: rows[: len(probing)] for name, rows in found.items()}
    out = []
    for each in judged:
        probe = each.record()
        theirs = _judged(blank, each.outputs, each.pooling, probing)
        same = len(each.correct) == len(probing)
        ours = each.correct if same else _judged(own, each.outputs, each.pooling, probing)
        if theirs is None or ours is None:
            out.append(probe)
            continue
        gain, error = mean_and_error(ours - theirs)
        random = min(1.0, max(0.0, probe.accuracy - gain))
        out.append(replace(probe, random=random, gain=gain, gain_error=error))
    return tuple(out)


def depth_names(backbone: Backbone) -> tuple[str, ...]:
    """The modules whose outputs are probed, each once."""
    return tuple(dict.fromkeys(stage.output for stage in backbone.stages))


def joined(found: Found, outputs: Sequence[str], pooling: Sequence[str]) -> NDArray[np.float32]:
    """Features (N, width) of these outputs, side by side, before any scaling.

    Args:
        found: what `FeatureStore.get_depths` gave: `output` (N, width), and (N, 2 * C) mean and deviation of each depth.
        outputs: names in `found`.
        pooling: for each of them `output`, `mean` or `mean+deviation`.
    """
    parts = [
        found[output][:, : found[output].shape[1] // 2] if how == MEAN else found[output]
        for output, how in zip(outputs, pooling, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def standardised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows, every column centred and divided by its deviation; one that does not vary becomes 0.

    Depths differ in scale by orders of magnitude, and so do a mean and a deviation: unscaled, the largest decides.
    """
    mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    out = (rows - mean) / np.where(deviation > _STILL * np.abs(mean), deviation, np.inf)
    return np.asarray(out, np.float32)


def judged_alike(found: Found, judged: Judged, probing: Probing) -> Floats | None:
    """Correctness (N,) of a probe on the same depths of other features, read the same way; None where they say nothing."""
    return _judged(found, judged.outputs, judged.pooling, probing)


def _judged(
    found: Found, outputs: tuple[str, ...], pooling: tuple[str, ...], probing: Probing
) -> Floats | None:
    rows = joined(found, outputs, pooling)
    return correctness(rows if pooling == (OUTPUT,) else standardised(rows), probing)


def _candidate(
    names: tuple[str, ...], reading: tuple[tuple[str, ...], tuple[str, ...]], probing: Probing, found: Found
) -> Judged | None:
    outputs, pooling = reading
    right = _judged(found, outputs, pooling, probing)
    if right is None:
        return None
    width = joined({name: rows[:1] for name, rows in found.items()}, outputs, pooling).shape[1]
    return Judged(names, outputs, pooling, width, right)


def _singles(backbone: Backbone, probing: Probing, found: Found) -> list[Judged]:
    """Each depth with its better pooling, in forward order, the network's own output last."""
    out = []
    seen: set[str] = set()
    for stage in backbone.stages:
        if stage.output in seen:
            continue
        seen.add(stage.output)
        narrow, wide = (
            _candidate((stage.name,), ((stage.output,), (how,)), probing, found) for how in (MEAN, BOTH)
        )
        if narrow is not None and wide is not None:
            out.append(wide if _helps(wide, narrow) else narrow)
    own = _candidate((OUTPUT,), ((OUTPUT,), (OUTPUT,)), probing, found)
    return [*out, own] if own is not None else out


def _helps(wider: Judged, narrower: Judged) -> bool:
    gain, error = mean_and_error(wider.correct - narrower.correct)
    return gain > error


def _grown(singles: list[Judged], probing: Probing, found: Found) -> Judged:
    """The best depth, and with it whichever helps by more than a standard error, one after the other."""
    ranked = sorted(singles, key=lambda one: -one.accuracy)
    chosen = ranked[0]
    while len(chosen.names) < _MOST:
        partners = [one for one in ranked[: _HELPERS + 1] if one.names[0] not in chosen.names]
        sets = []
        for partner in partners:
            names = {*chosen.names, *partner.names}
            sets.append(_union([one for one in singles if one.names[0] in names], probing, found))
        better = [each for each in sets if each is not None and _helps(each, chosen)]
        if not better:
            break
        chosen = max(better, key=lambda one: one.accuracy)
    return chosen


def _together(singles: list[Judged], probing: Probing, found: Found) -> Judged | None:
    return _union(singles, probing, found) if len(singles) > 1 else None


def _union(parts: list[Judged], probing: Probing, found: Found) -> Judged | None:
    names = tuple(part.names[0] for part in parts)
    reading = tuple(part.outputs[0] for part in parts), tuple(part.pooling[0] for part in parts)
    return _candidate(names, reading, probing, found)
