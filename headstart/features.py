"""Pooled features of a frozen backbone, each computed once in a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart import compute
from headstart._core.clock import Clock
from headstart.data.records import Sample
from headstart.weights import Backbone


class FeatureStore:
    """Features by image content: the same bytes are never sent through the network twice."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._rows: dict[str, NDArray[np.float32]] = {}

    def get(self, samples: Sequence[Sample], *, clock: Clock | None = None) -> NDArray[np.float32]:
        """Features (N, width), row by row those of the samples; samples must have been scanned (they carry digests)."""
        missing = list(
            {sample.digest: sample for sample in samples if sample.digest not in self._rows}.values()
        )
        if missing:
            preprocess = self._backbone.info.preprocess
            rows = compute.forward(
                self._backbone.module, missing, preprocess, label="computing features", clock=clock
            )
            self._rows.update(zip((sample.digest for sample in missing), rows, strict=True))
        return np.stack([self._rows[sample.digest] for sample in samples])
