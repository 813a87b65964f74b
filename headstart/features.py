"""Pooled features of a frozen backbone, each computed once: in this run, in an earlier one, or in one beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart import compute
from headstart._core.clock import Clock
from headstart._core.files import sha256_file
from headstart._core.records import to_plain
from headstart._core.store import RowStore, namespace, row_keys
from headstart.data.records import SCANNED_SINCE, Sample
from headstart.weights import Backbone

PIECE = 512
"""Images computed between two visits to the store: what a killed process loses at most."""

_POOLED = "pooled"
_PRECISION = "float32"
_CLOCKS_DIFFER = 2.0  # seconds between this machine's clock and its file system's


class FeatureStore:
    """Features by image content: the same bytes are never sent through the same network twice.

    Rows are kept in the cache folder, under the content of the weights, the preprocessing contract and the precision, so
    that runs, commands and processes share them; `headstart cache` shows and clears them.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._rows: RowStore | None = None

    def get(self, samples: Sequence[Sample], *, clock: Clock | None = None) -> NDArray[np.float32]:
        """Features (N, width), row by row those of the samples; samples must have been scanned (they carry digests).

        Raises:
            Stopped: when somebody asked for an end; the pieces that were ready are kept.
            BadInput: for a sample without a digest.
        """
        keys = row_keys(sample.digest for sample in samples)
        out = np.empty((len(samples), self._backbone.width), np.float32)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        rows, once = self._store(), np.sort(first)
        missing = once[~rows.read(keys[once], out, at=once)]
        for piece in _shuffled(_pieces(missing)):
            # Another process may have finished these images meanwhile.
            left = piece[~rows.read(keys[piece], out, at=piece)]
            if len(left):
                todo = [samples[position] for position in left]
                out[left] = self._compute(todo, clock)
                sound = left[[_unchanged(sample) for sample in todo]]
                rows.add(keys[sound], out[sound])
        sources = first[inverse]
        for piece in _pieces(np.flatnonzero(sources != np.arange(len(samples)))):
            out[piece] = out[sources[piece]]
        return out

    def _compute(self, samples: list[Sample], clock: Clock | None) -> NDArray[np.float32]:
        contract = self._backbone.info.preprocess
        return compute.forward(
            self._backbone.module, samples, contract, label="computing features", clock=clock
        )

    def _store(self) -> RowStore:
        """The rows of this network, opened at the first use: to hash its weights takes a moment."""
        if self._rows is None:
            name = namespace(
                arch=self._backbone.info.arch,
                weights=content_hash(self._backbone.module),
                preprocess=to_plain(self._backbone.info.preprocess),
                output=_POOLED,
                precision=_PRECISION,
            )
            self._rows = RowStore(name, shape=(self._backbone.width,), dtype=np.float32)
        return self._rows


def _unchanged(sample: Sample) -> bool:
    """Whether the file still has the content of its digest; one that was not touched since is not read for it."""
    if not isinstance(sample.source, Path):
        return True
    try:
        seen = sample.source.stat()
        if max(seen.st_mtime, seen.st_ctime) < SCANNED_SINCE - _CLOCKS_DIFFER:
            return True
        return sha256_file(sample.source) == sample.digest
    except OSError:  # gone since it was decoded
        return False


def content_hash(network: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters and buffers: what the weights are, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _pieces(positions: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [positions[start : start + PIECE] for start in range(0, len(positions), PIECE)]


def _shuffled(pieces: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """The pieces in an order of this process's own, so that processes with the same images do not walk in step.

    No result depends on it, therefore no seed: two processes must not have the same.
    """
    return [pieces[turn] for turn in np.random.default_rng().permutation(len(pieces))]
