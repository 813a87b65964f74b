"""What a head reads of images: rows of the feature store, for the network's own output or for chosen depths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart._core.clock import Clock
from headstart.compute import OUTPUT, DepthClassifier, Tap, columns
from headstart.data.records import Sample
from headstart.features import FeatureStore, View
from headstart.tasks import Network

Features = NDArray[np.float32]


def rows_of(
    model: Network | None,
    store: FeatureStore,
    samples: Sequence[Sample],
    *,
    clock: Clock | None = None,
    view: View | None = None,
) -> Features:
    """What the model's head reads of each sample (N, width), by one pass of the frozen network, or from the cache.

    Without a model: the network's own output.

    Raises:
        Stopped: when somebody asked for an end.
    """
    if not isinstance(model, DepthClassifier):
        return store.get(samples, clock=clock, view=view)
    depths = [tap.module for tap in model.depths.taps if tap.module != OUTPUT]
    found = store.get_depths(samples, depths, clock=clock, view=view)
    return joined(found, model.depths.taps)


def joined(found: dict[str, Features], taps: Sequence[Tap]) -> Features:
    """The columns of these taps side by side, out of the rows of each depth and of the output."""
    parts = [found[tap.module] if tap.module == OUTPUT else columns(found[tap.module], tap) for tap in taps]
    out: Features = np.concatenate(parts, 1) if len(parts) > 1 else parts[0]
    return out
