"""The distance to the pretraining images, from a pass whose features are kept too, and remembered for the same images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart import compute, similarity
from headstart._core.clock import Clock
from headstart._core.records import to_plain
from headstart._core.store import RowStore, namespace, row_keys
from headstart.compute.taps import read_depths
from headstart.data.records import Sample
from headstart.evidence.depths import OUTPUT, depth_names
from headstart.features import FeatureStore
from headstart.similarity import Distance, Reference
from headstart.weights import Backbone

_LEAST = 64
"""Images whose distance is measured where their pass serves nothing else: how little twice as many change stands in
docs/measures.md."""

_MEANING = 1  # raised when the same images would get another distance than before
_NUMBERS = ("overall", "low", "high", "early", "middle", "late")

Floats = NDArray[np.float64]


def measure_distance(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    store: FeatureStore,
    seed: int = 0,
    clock: Clock | None = None,
) -> Distance:
    """`similarity.domain_distance` for less: its pass also fills the store, and is made once.

    A store that a compiled network answers gains nothing by the pass: 64 images must do there instead of 128.

    Args:
        backbone: the network with its pretrained weights.
        samples: the training images, scanned.
        store: gets the features of these images, at every stage, where they are as its own runtime's.
        seed: of the choice of images and of the bootstrap.
        clock: says when to end.

    Raises:
        Stopped: when somebody asked for an end.
    """
    reference, _ = similarity.reference_of(backbone)
    if reference is None or len(samples) < 2:
        return similarity.domain_distance(backbone, samples, seed=seed, clock=clock)
    engine = store.network(samples, depth_names(backbone)).chosen.engine
    # The pass is eager torch's own: where that answers the store, its features are needed anyway.
    limit = similarity.LIMIT if engine == compute.REFERENCE else _LEAST
    chosen = similarity.even_choice(samples, limit=limit, seed=seed)
    kept = _rows(backbone, reference)
    key = row_keys([_key(chosen, seed)])
    row = np.empty((1, *kept.kind.shape))
    if kept.read(key, row).all():
        return _unpacked(row[0], reference, len(chosen))
    moments = _moments(backbone, chosen, reference=reference, store=store, clock=clock)
    found = similarity.distance_of(moments, reference, weights=similarity.class_weights(chosen), seed=seed)
    if (
        moments.places == reference.places
    ):  # a layer that the pass does not reach would leave a gap in the row
        kept.add(key, _packed(found)[None])
    return found


def _moments(
    backbone: Backbone,
    chosen: Sequence[Sample],
    *,
    reference: Reference,
    store: FeatureStore,
    clock: Clock | None,
) -> similarity.Moments:
    """The images' moments; the features that their pass gave in full batches are in the store when this returns."""
    depths = depth_names(backbone)
    names = (OUTPUT, *depths)
    parts: list[tuple[tuple[int, ...], tuple[NDArray[np.float32], ...]]] = []
    readings = read_depths(backbone.module.eval(), backbone.info.preprocess, depths)
    moments = similarity.image_moments(
        backbone,
        chosen,
        places=reference.places,
        beside=similarity.Beside(readings, lambda positions, found: parts.append((positions, found))),
        clock=clock,
    )
    if not parts:
        return moments
    order = np.concatenate([positions for positions, _ in parts])
    found = {name: np.concatenate([rows[k] for _, rows in parts]) for k, name in enumerate(names)}
    store.add([chosen[place] for place in order], depths, found)
    return moments


def _rows(backbone: Backbone, reference: Reference) -> RowStore:
    """Where distances of this network are kept: one row for each choice of images."""
    told = hashlib.sha256()
    for numbers in (*reference.means, *reference.variances, np.asarray(reference.floors)):
        told.update(np.ascontiguousarray(numbers).tobytes())
    name = namespace(
        distance=_MEANING,
        arch=backbone.info.arch,
        weights=compute.content_hash(backbone.module),
        preprocess=to_plain(backbone.info.preprocess),
        reference=told.hexdigest(),
        places=[(place.module, place.side) for place in reference.places],
    )
    return RowStore(name, shape=(len(_NUMBERS) + len(reference.places),), dtype=np.float64)


def _key(chosen: Sequence[Sample], seed: int) -> str:
    """A digest of everything besides the network that the numbers depend on."""
    told = [seed, [(sample.digest, sample.labels) for sample in chosen]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _packed(found: Distance) -> Floats:
    numbers = [getattr(found, name) for name in _NUMBERS]
    return np.array([*(np.nan if each is None else each for each in numbers), *found.per_layer])


def _unpacked(row: Floats, reference: Reference, count: int) -> Distance:
    numbers = [None if np.isnan(each) else float(each) for each in row[: len(_NUMBERS)]]
    overall, low, high, early, middle, late = numbers
    return Distance(
        overall=overall,
        low=low,
        high=high,
        early=early,
        middle=middle,
        late=late,
        per_layer=tuple(row[len(_NUMBERS) :].tolist()),
        layers=tuple(place.module for place in reference.places),
        n=count,
        reference=reference.made,
    )
