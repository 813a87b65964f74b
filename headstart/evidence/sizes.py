"""Which input size the images need: probes at two or three sizes, and what a pass costs at each."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from headstart import compute
from headstart._core.clock import Clock
from headstart.data.preprocess import Preprocess
from headstart.evidence.depths import Judged, depth_names, judged_alike
from headstart.evidence.probing import Floats, Probing, mean_and_error
from headstart.evidence.records import SizeProbe
from headstart.features import FeatureStore
from headstart.weights import Backbone

STEP = 32
"""Sizes are multiples of this: the stride of nearly every network's last stage."""

LEAST_SIZE = 96
"""Below, a network of stride 32 has less than a 3 x 3 map at its end, and its deep layers see mostly padding."""

_DETAIL = 0.75  # quantile of the images' short sides that should come through
_CHEAPER = 0.7  # of the network's own size: half the work
_MANY = 500  # images from which a smaller input saves more seconds than trying it costs
_WARM, _TIMED = 8, compute.BATCH  # images of the passes that warm up and that are timed
_EAGER = 16  # … that are timed in eager torch, which has nothing to fill but one batch
_COMPARED, _TURNS = 4, 4  # images of a run, and runs, by which sizes are compared


def candidate_sizes(contract: Preprocess, short_sides: Sequence[int]) -> tuple[int, ...]:
    """The input sizes to try, rising, the network's own (the contract's) the last; that alone where it is not square.

    Enlarging adds no detail, so the smallest candidate is the size at which three quarters of the images are not shrunk;
    one between it and the network's own is tried too, because a network does best near the size it was trained at. Where the
    images are as large as the network's input, the one candidate is the size at half the cost.

    Args:
        contract: of the weights.
        short_sides: of the images, in pixels.

    >>> half = (0.5, 0.5, 0.5)
    >>> contract = Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=half, std=half)
    >>> candidate_sizes(contract, [32] * 10), candidate_sizes(contract, [400] * 10)
    ((96, 160, 224), (160, 224))
    """
    own = contract.height
    if contract.height != contract.width or own <= LEAST_SIZE:
        return (min(contract.height, contract.width),)
    ranked = sorted(short_sides)
    typical = ranked[min(len(ranked) - 1, int(_DETAIL * len(ranked)))]
    needed = typical * own / contract.resize  # the part of the image that is in view, in its own pixels
    smallest = max(LEAST_SIZE, _multiple(min(needed, _CHEAPER * own)))
    between = _multiple((smallest + own) / 2)
    sizes = {smallest, own} | ({between} if needed < _CHEAPER * own else set())
    return tuple(sorted(size for size in sizes if size <= own))


def worth_trying(contract: Preprocess, short_sides: Sequence[int], *, images: int) -> bool:
    """Whether a smaller input may be better, or its saving worth more than the trial.

    Where the images have more detail than the network's own size shows, a smaller one can only save time, and of few
    images hardly any.

    Args:
        contract: of the weights.
        short_sides: of the images, in pixels.
        images: that there are to learn from.
    """
    ranked = sorted(short_sides)
    return images >= _MANY or ranked[len(ranked) // 2] < contract.height


def _multiple(size: float) -> int:
    return STEP * round(size / STEP)


def sized(backbone: Backbone, size: int) -> Backbone:
    """The same network under its contract at another size."""
    return replace(backbone, info=replace(backbone.info, preprocess=backbone.info.preprocess.at(size)))


def takes(backbone: Backbone, size: int) -> bool:
    """Whether the network works at that size at all (one with fixed position embeddings does not)."""
    where = next(backbone.module.parameters()).device
    try:
        with torch.no_grad():
            out = backbone.module.eval()(torch.zeros(1, 3, size, size, device=where))
    except (RuntimeError, AssertionError, ValueError):  # timm asserts the size
        return False
    return bool(out.shape == (1, backbone.width))


def same_runtime(backbone: Backbone, size: int, counts: tuple[int, int]) -> bool:
    """Whether these two numbers of images are computed by the same runtime at that size."""
    contract = sized(backbone, size).info.preprocess
    one, other = (compute.few(backbone, contract, count=count) for count in counts)
    return one == other


def probe_size(
    backbone: Backbone, size: int, probing: Probing, *, judged: Judged, clock: Clock | None = None
) -> Floats | None:
    """Correctness (N,) at that size of the probe that reads the same depths; None where these features say nothing.

    Args:
        backbone: under its own contract.
        size: of the input, pixels; another one than the contract's.
        probing: the images.
        judged: the probe that knows most at the network's own size. What a size loses is asked where a head will read: with
            40 to 80 images the loss on the network's own output said nothing of that (correlation -0.04 over 60 draws).
        clock: says when to end.

    Raises:
        Stopped: when somebody asked for an end.
    """
    store = FeatureStore(sized(backbone, size), among=probing.samples)
    # All depths, though one is judged: a depth probe at this size then finds them, and they cost next to nothing.
    found = store.get_depths(probing.samples, depth_names(backbone), clock=clock)
    return judged_alike(found, judged, probing)


def size_probes(
    judged: Sequence[tuple[int, Floats | None, float]], *, own: int, images: int
) -> tuple[SizeProbe, ...]:
    """The records of (size, correctness, seconds per image), rising; `own` is the size that the others are compared with."""
    reference = next(right for size, right, _ in judged if size == own)
    out = []
    for size, right, seconds in sorted(judged, key=lambda each: each[0]):
        if right is None or reference is None:
            continue
        accuracy, error = mean_and_error(right)
        loss, loss_error = mean_and_error(reference - right)
        out.append(
            SizeProbe(
                size=size,
                accuracy=accuracy,
                error=error,
                seconds_per_image=seconds,
                loss=loss,
                loss_error=loss_error,
                images=images,
            )
        )
    return tuple(out)


def seconds_of_pass(network: compute.Network, probing: Probing, *, clock: Clock | None = None) -> float:
    """Seconds per image of reading, preparing and a frozen pass, in the runtime that serves these images.

    Args:
        network: that computes their features; with depths that were read already nothing needs compiling.
        probing: images by which it is timed.
        clock: says when to end.

    Raises:
        Stopped: when somebody asked for an end.
    """
    eager = network.chosen.engine == compute.REFERENCE
    samples = probing.samples[: _EAGER if eager else _TIMED]
    compute.run(network, samples[:_WARM], label="warming up", clock=clock)
    started = time.perf_counter()
    compute.run(network, samples, label="timing a pass", clock=clock)
    return (time.perf_counter() - started) / len(samples)


def relative_costs(backbone: Backbone, sizes: Sequence[int], *, engine: str) -> tuple[float, ...]:
    """What a frozen pass costs at each size, in units of one at the network's own.

    All are timed in one runtime that needs no compiling: a size that few images were probed at would else be compared in
    eager torch with another that was compiled. The best of four short runs each, in turn: a busy moment falls on all.

    Args:
        backbone: under its own contract.
        sizes: of the input, pixels.
        engine: name of the runtime that serves the images; one that compiles is replaced by the reference.
    """
    runtime = compute.REFERENCE if compute.ENGINES[engine].compiles else engine
    tried = (backbone.info.preprocess.height, *sizes)
    networks = [
        compute.open_network(here, here.info.preprocess, engine=runtime)
        for here in (sized(backbone, size) for size in tried)
    ]
    best = [math.inf] * len(tried)
    for turn in range(1 + _TURNS):  # the first one warms up
        for place, (size, network) in enumerate(zip(tried, networks, strict=True)):
            blank = np.zeros((_COMPARED, size, size, 3), np.uint8)
            started = time.perf_counter()
            network(blank)
            if turn:
                best[place] = min(best[place], time.perf_counter() - started)
    return tuple(each / best[0] for each in best[1:])
