"""What a ranking is asked, and what it answers."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from headstart._core.errors import BadOption
from headstart._core.records import record

if TYPE_CHECKING:  # the options are read to make flags and help, without torch
    from headstart.weights import WeightsInfo

PREFERENCES = ("accuracy", "speed", "size")


@record
class Limits:
    """What keeps weights from being chosen.

    Attributes:
        max_parameters: largest network to choose, in millions of parameters without the classifier; 0: any.
        max_latency: longest time for one image on this machine, in milliseconds; 0: any.
        commercial: only weights whose licence is known to allow commercial use.
        non_commercial: also weights whose licence forbids commercial use.
    """

    max_parameters: float = 0.0
    max_latency: float = 0.0
    commercial: bool = False
    non_commercial: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            BadOption: for a negative limit, or both licence options.
        """
        for name in ("max_parameters", "max_latency"):
            if not getattr(self, name) >= 0:
                flag = name.replace("_", "-")
                raise BadOption(
                    f"--{flag} is {getattr(self, name):g}.", hint="Give a limit above 0, or leave it away."
                )
        if self.commercial and self.non_commercial:
            raise BadOption(
                "--commercial and --non-commercial exclude each other.", hint="Leave one of them away."
            )


@record
class RankOptions(Limits):
    """What `rank` can be told, beside the limits.

    Attributes:
        weights: names of the candidates with commas between them; by default those that are on this machine.
        arch: architecture of the candidates that do not say theirs (`file:`, some `hf:`).
        download: fetch a handful of promising weights of the catalog, if the hub can be reached.
        prefer: among equally good ones, `accuracy` takes the best guess, `speed` the quickest, `size` the smallest.
        images: how many training images are measured, at most.
        seed: of the sample, the folds and the draws.
    """

    weights: str = ""
    arch: str = ""
    download: bool = False
    prefer: str = "accuracy"
    images: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            BadOption: for a limit that cannot be meant, an unknown preference, or too few images.
        """
        super().__post_init__()
        if self.prefer not in PREFERENCES:
            raise BadOption(f"--prefer is {self.prefer!r}.", hint=f"Choose one of {', '.join(PREFERENCES)}.")
        if self.images < 20:
            raise BadOption(
                f"--images is {self.images}.", hint="Measure 20 or more: fewer say nothing about the others."
            )


@record
class Scores:
    """What was measured of one candidate on the sample; higher is better everywhere. None: it does not apply.

    Attributes:
        probe: accuracy of a ridge probe, cross-validated, in [0, 1] (several labels an image: their mean F1).
        probe_error: its standard error.
        knn: share of images that their five nearest other images classify rightly, in [0, 1].
        log_me: log evidence of a linear model, per image.
        leep: log-likelihood under the pretraining classifier's answers, <= 0; where there is such a classifier.
        h_score: between-class over total variance, regularised, >= 0.
        intervals: name of each of these scores that applies -> (low, high), 95 %, of what as many other images would show.
    """

    probe: float
    probe_error: float
    log_me: float
    knn: float | None = None
    leep: float | None = None
    h_score: float | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@record
class Ranked:
    """One candidate, judged.

    Attributes:
        weights: `source:id`.
        parameters: of the backbone.
        licence: as the source names it.
        commercial: whether it allows commercial use; None where unknown.
        pretraining: data and objective in words.
        objective: as in `WeightsInfo`.
        top1: ImageNet-1k accuracy in [0, 1] that was known before; None where none is published.
        latency: milliseconds for one image on this machine, eager torch, float32.
        scores: what was measured.
        expected: accuracy of a linear head on such images, in [0, 1]: measurement and prior together.
        low: 5 % quantile of it.
        high: 95 % quantile of it.
        best: probability of being the best of these candidates; they add up to 1.
        tied: whether the data cannot tell it from the first.
        why: in words.
    """

    weights: str
    parameters: int
    licence: str
    commercial: bool | None
    pretraining: str
    objective: str
    top1: float | None
    latency: float
    scores: Scores
    expected: float
    low: float
    high: float
    best: float
    tied: bool
    why: str


@record
class Skipped:
    """Weights that were not measured, and why."""

    weights: str
    why: str


@record
class Offer:
    """Weights that a download would allow, and what speaks for them."""

    weights: str
    parameters: int
    licence: str
    why: str


@record
class Pilot:
    """What a short fine-tuning of one candidate reached.

    Attributes:
        weights: `source:id`.
        accuracy: on training images that were held out, in [0, 1] (several labels an image: their mean F1).
        error: its standard error.
        images: how many were held out, the same ones for all candidates.
        trained: how many it was tuned on.
        steps: that the tuning took; the time it was given may have cut them.
        seconds: that it took.
        tied: whether these images cannot tell it from the best of the pilots.
    """

    weights: str
    accuracy: float
    error: float
    images: int
    trained: int
    steps: int
    seconds: float
    tied: bool


@record
class Ranking:
    """The answer, best first.

    Attributes:
        task: `classify` or `multilabel`.
        images: training images that were measured.
        of: training images there are.
        rows: candidates, the most probable best first.
        skipped: candidates that were left out.
        offers: better candidates that are not on this machine.
        chosen: the weights to use.
        reason: why, in a sentence or two.
        seconds: what the measuring took.
        pilots: short fine-tunings of candidates that were tied, if there were any.
    """

    task: str
    images: int
    of: int
    rows: tuple[Ranked, ...]
    skipped: tuple[Skipped, ...]
    offers: tuple[Offer, ...]
    chosen: str
    reason: str
    seconds: float
    pilots: tuple[Pilot, ...] = ()


@record
class Choice:
    """The weights that suit the images best, why, and the ranking behind it (None where there was only one candidate)."""

    weights: WeightsInfo
    reason: str
    ranking: Ranking | None
