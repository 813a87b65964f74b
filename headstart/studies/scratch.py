"""Pretrained against random weights: does the second catch up, given longer schedules and more images?"""

from __future__ import annotations

from headstart.metrics import Comparison
from headstart.reporting.wording import metric_words, percent, signed
from headstart.studies.records import Arm, Cell, Reach, Study

PRETRAINED = Arm(
    name="pretrained",
    words="pretrained weights",
    method="full",
    given={"head_start": "random"},  # else a probe on pretrained features would be a second difference
)
SCRATCH = Arm(
    name="scratch",
    words="random weights",
    method="scratch",
    # nothing of a random network is worth being moved with care: all of it learns at one rate
    given={"head_start": "random", "layer_decay": 1.0, "head_factor": 1.0},
    tone="warm",
)


def finding(cells: tuple[Cell, ...], reaches: tuple[Reach, ...], primary: str) -> str:
    """What the cells say of random weights, in one sentence."""
    if not cells:
        return "No cell is complete yet, so there is no finding."
    if not reaches:
        return "The pretrained arm's shortest schedule is not complete yet, so there is no finding."
    label = metric_words(primary).label
    metric = label if label[1:2].isupper() else label[:1].lower() + label[1:]  # `AP of each image` stays
    return f"By {metric} on the test images, " + "; ".join(_clause(reach) for reach in reaches) + "."


def _clause(reach: Reach) -> str:
    """What one size of training set says."""
    level, base = percent(reach.level), f"{reach.base}x"
    who = f"with {reach.images} training images random weights"
    goal = f"the pretrained arm's {base} ({level})"
    last = reach.against[-1]
    if reach.at is None:
        gap = signed(last.difference, share=True)
        return f"{who} do not reach {goal} by {reach.schedules[-1]}x ({gap} points there, {_interval(last)})"
    place = reach.schedules.index(reach.at)
    when = (
        f"already at {reach.at}x" if place == 0 else f"between {reach.schedules[place - 1]}x and {reach.at}x"
    )
    found = reach.against[place]
    return f"{who} reach {goal} {when} ({signed(found.difference, share=True)} points at {reach.at}x, {_interval(found)})"


def _interval(found: Comparison) -> str:
    low, high = (signed(value, share=True) for value in (found.low, found.high))
    return f"95 %: {low} to {high}, {found.verdict}"


STUDY = Study(
    name="scratch",
    summary="pretrained against random weights, at several lengths of training and sizes of the training set",
    question="Do random weights catch up with pretrained ones?",
    arms=(PRETRAINED, SCRATCH),
    finding=finding,
    known=(
        "With 118,000 images of COCO random weights catch up on schedules of 5x to 6x (ResNet-50: 36.8 against 40.3 AP at "
        "2x, 41.3 against 41.1 at 6x), and with 10,000 still (25.9 against 26.0), but not with 3,500 (9.3 against 16.0) "
        "or 1,000 (3.5 against 9.9)."
    ),
    source="He, Girshick & Dollár 2019, Rethinking ImageNet pre-training, arXiv 1811.08883, table 1 and section 5.2",
)
