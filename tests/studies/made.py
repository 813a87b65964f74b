"""Studies made of plausible numbers, and small labelled images for each task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from headstart.metrics import Comparison, Metric
from headstart.metrics.claims import verdict
from headstart.studies import STUDIES
from headstart.studies.records import (
    ArmScore,
    Cell,
    Grid,
    Point,
    Reach,
    Result,
    Settings,
    Speed,
    Tried,
)
from tests.tasks.scenes import write
from tests.tiny import make_tints

NETWORK = "random:test_resnet"
TASKS = ("classify", "multilabel", "detect", "segment")
N = 72


def images_of(task: str, folder: Path) -> Path:
    """Data of that task, of which 16 or more images are for training."""
    if task == "classify":
        return make_tints(folder / "tints", each=20)
    if task == "multilabel":
        return _several(folder / "several")
    return write(folder / "scenes", 32)[task == "segment"]


def _several(folder: Path) -> Path:
    """A table of images with a red half, a blue half, both, or neither."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["path,red,blue"]
    for number in range(40):
        pixels = rng.integers(60, 160, (48, 48, 3)).astype(np.uint8)
        red, blue = number % 2, number // 2 % 2
        pixels[:, :24, 0] += 80 * red
        pixels[:, 24:, 2] += 80 * blue
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{red},{blue}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.csv"


def metric(value: float, half: float = 0.05) -> Metric:
    return Metric(value=value, low=value - half, high=value + half, interval="bootstrap", n=N)


def pair(a: str, b: str, difference: float, half: float = 0.03) -> Comparison:
    low, high = difference - half, difference + half
    return Comparison(
        a=a,
        b=b,
        metric="mean IoU of each image",
        difference=difference,
        low=low,
        high=high,
        p=None,
        n=N,
        verdict=verdict(low, high),
    )


def cell(fraction: float, schedule: int, values: tuple[float, float]) -> Cell:
    """A cell with these values of pretrained and random weights."""
    arms = []
    for name, value in zip(("pretrained", "scratch"), values, strict=True):
        tried = (Tried(rate=1e-4, validation=None), Tried(rate=1e-3, validation=value - 0.01))
        arms.append(
            ArmScore(
                arm=name,
                rate=1e-3,
                edge="highest",
                tried=tried if schedule == 1 else (),
                value=metric(value),
                metrics={"miou": metric(value + 0.02)},
                seeds=(value,),
                curves=(
                    tuple(
                        Point(epoch=e + 1.0, primary=value * e / 4, judged=1 - value, loss=1.0)
                        for e in range(4)
                    ),
                ),
                seconds=12.0,
            )
        )
    return Cell(
        fraction=fraction,
        images=round(164 * fraction),
        schedule=schedule,
        epochs=4 * schedule,
        arms=tuple(arms),
        pairs=(pair("pretrained", "scratch", values[0] - values[1]),),
    )


def reach(cells: tuple[Cell, ...]) -> Reach:
    """Of cells of one fraction."""
    level = cells[0].arms[0].value.value
    against = tuple(
        pair(f"scratch {each.schedule}x", "pretrained 1x", each.arms[1].value.value - level) for each in cells
    )
    at = next((c.schedule for c, found in zip(cells, against, strict=True) if found.difference >= 0), None)
    return Reach(
        arm="scratch",
        fraction=cells[0].fraction,
        images=cells[0].images,
        level=level,
        base=1,
        schedules=tuple(each.schedule for each in cells),
        against=against,
        at=at,
    )


def result() -> Result:
    """A study of two fractions and three schedules; random weights catch up with all images only."""
    few = tuple(cell(0.5, s, (0.5 + 0.02 * s, 0.2 + 0.05 * s)) for s in (1, 2, 3))
    many = tuple(cell(1.0, s, (0.6 + 0.02 * s, 0.4 + 0.08 * s)) for s in (1, 2, 3))
    study = STUDIES["scratch"]
    cells, reaches = (*few, *many), (reach(few), reach(many))
    return Result(
        settings=Settings(
            study="scratch",
            source="/home/ann/<b>streets</b>",
            data="0" * 64,
            task="segment",
            weights="bundled:efficientnet_lite0",
            asked=0,
            epochs=4,
            wished=8,
            batch_size=16,
            augment="medium",
            flip=True,
            head="summed",
            head_settings={},
            frame=(256, 192),
            usual={"pretrained": 5e-4, "scratch": 5e-4},
            shared={"weight_decay": "0.02"},
            own={"pretrained": {"batchnorm": "frozen"}, "scratch": {"batchnorm": "tuned"}},
            speed=Speed(train={"pretrained": 0.05, "scratch": 0.06}, forward=0.02),
        ),
        grid=Grid(fractions=(0.5, 1.0), schedules=(1, 2, 3), rates=(0.3, 1.0), seeds=(0,), search="shortest"),
        primary="image_miou",
        train=164,
        val=41,
        test=N,
        cells=cells,
        reaches=reaches,
        finding=study.finding(cells, reaches, "image_miou"),
        known=study.known,
        source=study.source,
        seconds=500.0,
        machine="Linux, 2 CPU threads",
    )
