"""How much is measured: enough for figures, or just enough to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """What the cases take as given.

    Attributes:
        repeats: turns of A B A B …
        feature_images: photos of the data folder that are used, 0 for all.
        copies: of each photo, with distinct bytes.
        batch: images of a training step.
        step_seconds: how long steps are measured for in each process.
        epoch_images: photos for the training loop.
        epochs: of the training loop; the first is not in the figure.
        head_rows: rows of features for the heads.
        head_width: numbers in a row.
        head_classes: of them.
        scale: numbers of images, each a multiple of the first.
        large_images: enlarged photos.
        large_size: their long and short side.
        processes: that share a cache.
        killed: how many of them.
        kill_within: seconds after its scan in which a process is killed.
        gpu_batch: images of a step on a GPU.
    """

    repeats: int
    feature_images: int
    copies: int
    batch: int
    step_seconds: float
    epoch_images: int
    epochs: int
    head_rows: int
    head_width: int
    head_classes: int
    scale: tuple[int, ...]
    large_images: int
    large_size: tuple[int, int]
    processes: int
    killed: int
    kill_within: float
    gpu_batch: int


FULL = Sizes(
    repeats=3,
    feature_images=0,
    copies=5,
    batch=32,
    step_seconds=15,
    epoch_images=200,
    epochs=5,
    head_rows=10_000,
    head_width=1280,
    head_classes=100,
    scale=(1000, 6000, 60_000),
    large_images=12,
    large_size=(6000, 4000),
    processes=10,
    killed=3,
    kill_within=15,
    gpu_batch=256,
)

QUICK = Sizes(
    repeats=1,
    feature_images=40,
    copies=2,
    batch=4,
    step_seconds=1,
    epoch_images=40,
    epochs=3,
    head_rows=500,
    head_width=32,
    head_classes=5,
    scale=(500, 1000, 2000),
    large_images=3,
    large_size=(2400, 1600),
    processes=4,
    killed=1,
    kill_within=1,
    gpu_batch=32,
)
