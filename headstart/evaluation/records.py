"""What goes into an evaluation and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headstart._core.records import record
from headstart.metrics import ClassScores, Comparison, Metric, ReliabilityBin, RiskPoint
from headstart.metrics.assessment import Assessment
from headstart.metrics.classwise import Classwise
from headstart.metrics.conformal import Conformal

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Answers:
    """What a network said about some images, and what is true.

    Attributes:
        names: of the images.
        truth: (N,) class indices, or (N, classes) of 0 and 1; for boxes and masks what their task's `targets` give.
        logits: (N, classes), before the temperature; for boxes and masks the rows that their task keeps.
        groups: (N,) names of the groups (patient, video, place); empty ones are groups of one image. None: no groups.
    """

    names: tuple[str, ...]
    truth: Labels
    logits: NDArray[np.float64]
    groups: tuple[str, ...] | None = None

    @property
    def units(self) -> Labels | None:
        """(N,) the number of each image's group, or None where every image stands for itself."""
        if self.groups is None or not any(self.groups):
            return None
        named = [group or f"\0{position}" for position, group in enumerate(self.groups)]
        _, units = np.unique(np.array(named), return_inverse=True)
        return units if units.max() + 1 < len(units) else None


@dataclass(frozen=True)
class Aside:
    """What an evaluation can use beside the answers; everything may be missing.

    Attributes:
        conformal: what sets of classes are made from.
        coverage: of these sets.
        looks: what can be seen of the test images without a network: name -> (N,), NaN where it is unknown.
        features: (N, width) of the test images, for clusters.
        candidates: (k, N) how right each candidate's answers on the validation images are, the chosen one first.
    """

    conformal: Conformal | None = None
    coverage: float = 0.95
    looks: Mapping[str, Floats] = field(default_factory=dict)
    features: Floats | None = None
    candidates: Floats | None = None


@record
class About:
    """What is evaluated.

    Attributes:
        temperature: by which logits are divided.
        classwise: scales and shifts that are part of the logits; None where there are none.
        seed: of the bootstrap.
        seconds: spent so far, by stage, with `total`.
    """

    task: str
    classes: tuple[str, ...]
    method: str
    weights: str
    temperature: float
    seed: int
    seconds: dict[str, float]
    classwise: Classwise | None = None


@record
class SplitScores:
    """All metrics on one split.

    Attributes:
        groups: how many groups the images come in, by which the intervals are widened; 0 where there are none.
    """

    n: int
    metrics: dict[str, Metric]
    groups: int = 0


@record
class Mistake:
    """A wrong answer.

    Attributes:
        probability: of the wrong answer (multi-label: of the most confidently wrong decision).
        explained: the class of that answer or decision: the one that `overlay` explains.
        thumbnail: picture of what the network saw, relative to the run folder; empty where there is none.
        overlay: the same with what it looked at.
    """

    name: str
    truth: str
    predicted: str
    probability: float
    explained: str = ""
    thumbnail: str = ""
    overlay: str = ""


@record
class SetScores:
    """Conformal sets on the test split.

    Attributes:
        asked: the coverage that was asked for.
        calibrated_on: how many images the threshold comes from.
        coverage: share of the test images whose true class is in their set.
        size: classes in a set, on average.
        single: share of the images whose set is one class.
    """

    asked: float
    calibrated_on: int
    coverage: Metric
    size: Metric
    single: Metric


@record
class Slice:
    """A part of the test images.

    Attributes:
        name: in words.
        accuracy: on it.
        rest: accuracy on the other test images.
        p: of Fisher's exact test that it errs no more than the rest, corrected (Holm) for all parts that were looked at.
        examples: wrongly answered images of it.
        thumbnails: their pictures, relative to the run folder.
    """

    name: str
    accuracy: Metric
    rest: Metric
    p: float
    examples: tuple[str, ...] = ()
    thumbnails: tuple[str, ...] = ()


@record
class Slices:
    """Where the model fails more often than elsewhere.

    Attributes:
        looked: how many parts were looked at.
        lowest_p: the lowest corrected p-value among them.
        found: those with a corrected p-value below 5 %, the worst first.
    """

    looked: int
    lowest_p: float
    found: tuple[Slice, ...]


@record
class Selection:
    """What choosing the best of several on the validation images did to its figure there.

    Attributes:
        candidates: how many there were.
        plain: the chosen one's mean score on the validation images.
        corrected: the same, each time on images that the choice was not made on.
    """

    candidates: int
    plain: Metric
    corrected: Metric


@record
class Evaluation:
    """`evaluation.json`.

    Attributes:
        per_class: on the test split; for multi-label of the decisions at a probability of 0.5.
        confusion: counts on the test split, rows truth, columns answers; empty for multi-label.
        comparisons: of the method with each baseline, on the test split.
        baselines: the baselines' own scores on the test split.
        test_opened: how often the test split was looked at: 1.
        seconds: by stage, with `total`.
        risks: share of wrong answers among the surest images of the test split.
        sets: how well the conformal sets do; None where there are none.
        slices: where it fails; None where it was not looked.
        selection: None where there was one candidate.
        places: of boxes and masks, on the test split; None for other tasks.
        classwise: how each class's logit was calibrated by itself; None where one temperature does as well.
    """

    task: str
    method: str
    weights: str
    splits: dict[str, SplitScores]
    per_class: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    temperature: float
    reliability_before: tuple[ReliabilityBin, ...]
    reliability_after: tuple[ReliabilityBin, ...]
    comparisons: tuple[Comparison, ...]
    mistakes: tuple[Mistake, ...]
    baselines: dict[str, SplitScores]
    classes: tuple[str, ...]
    seconds: dict[str, float]
    test_opened: int = 1
    risks: tuple[RiskPoint, ...] = ()
    sets: SetScores | None = None
    slices: Slices | None = None
    selection: Selection | None = None
    places: Assessment | None = None
    classwise: Classwise | None = None
