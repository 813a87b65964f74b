"""What a network's maps show at places of images, from one pass that is remembered for the same images and their truth."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headstart import compute
from headstart._core.clock import Clock
from headstart._core.progress import track
from headstart._core.records import to_plain
from headstart._core.store import RowStore, namespace, row_keys
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.evidence.sites import PER_IMAGE, Drawn, draw_sites
from headstart.pixels import Example, batches, in_order, normalise
from headstart.tasks.pyramid import MapNetwork
from headstart.weights import Backbone, FeatureMap
from headstart.weights.maps import STRIDES

_MEANING = 1  # raised when the same images would get other places or features than before
_BATCH = 8
_HEAD = 4  # columns before the features: x, y, class, share

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """What the maps show at places (P).

    Attributes:
        taps: the maps, the finest first.
        image: (P,) position of its image among those asked for.
        labels: (P,) class indices.
        shares: (P,) how much of its image each stands for.
        maps: of each map (P, channels).
    """

    taps: tuple[FeatureMap, ...]
    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    shares: NDArray[np.float64]
    maps: tuple[Features, ...]


def site_features(
    backbone: Backbone, samples: Sequence[Sample], *, classes: int, seed: int, clock: Clock | None = None
) -> Seen:
    """The features of every map at 1/4 to 1/32 at some places of these images, read between a map's places as heads do.

    Args:
        backbone: with the contract of the letterbox; it stays as it is.
        samples: scanned, with boxes or masks.
        classes: of the task; the background of boxes is one more.
        seed: of the choice of places.
        clock: says when to end.

    Raises:
        BadWeights: for a network without such maps.
        Stopped: when somebody asked for an end.
    """
    network = MapNetwork(replace(backbone, module=copy.deepcopy(backbone.module)), STRIDES)
    width = _HEAD + sum(tap.channels for tap in network.taps)
    kept = RowStore(_name(backbone, classes, seed), shape=(PER_IMAGE, width), dtype=np.float32)
    keys = row_keys(_key(sample) for sample in samples)
    rows = np.zeros((len(samples), PER_IMAGE, width), np.float32)
    todo = np.flatnonzero(~kept.read(keys, rows))
    if len(todo):
        _fill(rows, todo, network, samples, what=(backbone.info.preprocess, classes, seed), clock=clock)
        kept.add(keys[todo], rows[todo])
    there = rows[..., 3] > 0
    image = np.nonzero(there)[0]
    flat = rows[there]
    ends = np.cumsum([tap.channels for tap in network.taps])[:-1]
    return Seen(
        taps=network.taps,
        image=image.astype(np.int64),
        labels=flat[:, 2].astype(np.int64),
        shares=flat[:, 3].astype(np.float64),
        maps=tuple(np.split(flat[:, _HEAD:], ends, axis=1)),
    )


def _fill(
    rows: Features,
    todo: NDArray[np.intp],
    network: MapNetwork,
    samples: Sequence[Sample],
    *,
    what: tuple[Preprocess, int, int],
    clock: Clock | None,
) -> None:
    """Compute the rows of these positions."""
    contract, classes, seed = what
    where = compute.device()
    network = network.to(where).to(memory_format=torch.channels_last).eval()
    own = [samples[place] for place in todo]

    def load(_position: int, sample: Sample) -> Example:
        scene, drawn = draw_sites(sample, contract, classes=classes, seed=seed)
        return Example(pixels=scene.pixels, truth=drawn)

    stream = batches(own, load, groups=in_order(len(own), _BATCH))
    with closing(stream), torch.inference_mode():
        for batch in track(stream, label="looking at places", total=len(own), weight=_BATCH):
            if clock is not None and clock.stop_reason:
                raise compute.Stopped(clock.stop_reason)
            images = normalise(batch.pixels.to(where), contract).contiguous(memory_format=torch.channels_last)
            maps = network.maps(images)
            for number, (position, drawn) in enumerate(zip(batch.positions, batch.truth, strict=True)):
                found = [at_places(each[number], drawn.where, contract) for each in maps]
                _put(rows[todo[position]], drawn, torch.cat(found, 1).float().cpu().numpy())


def _put(row: Features, drawn: Drawn, found: Features) -> None:
    count = len(drawn.labels)
    row[:count, :2], row[:count, 2], row[:count, 3] = drawn.where, drawn.labels, drawn.shares
    row[:count, _HEAD:] = found


def at_places(values: Tensor, where: NDArray[np.float64], contract: Preprocess) -> Tensor:
    """(P, C) of a map (C, h, w) at places (P, 2) in pixels of the letterbox, linear between the middles of its cells."""
    size = torch.tensor([contract.width, contract.height], dtype=torch.float32, device=values.device)
    grid = torch.as_tensor(where, dtype=torch.float32, device=values.device) / size * 2 - 1
    found = F.grid_sample(
        values[None].float(), grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T


def _name(backbone: Backbone, classes: int, seed: int) -> str:
    """Where the rows of this network are kept."""
    return namespace(
        places=_MEANING,
        arch=backbone.info.arch,
        weights=compute.content_hash(backbone.module),
        preprocess=to_plain(backbone.info.preprocess),
        strides=STRIDES,
        most=PER_IMAGE,
        classes=classes,
        seed=seed,
    )


def _key(sample: Sample) -> str:
    """A digest of the image and of what is true of it."""
    mask = None if sample.mask is None else (sample.mask.digest, sample.mask.meaning)
    boxes = [(b.left, b.top, b.right, b.bottom, b.label, b.crowd) for b in sample.boxes]
    return hashlib.sha256(json.dumps([sample.digest, mask, boxes]).encode()).hexdigest()
