"""What a plan is: wishes in, rungs with their expected results out. `plan.json` holds it."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from headstart._core.records import record
from headstart.methods import Choice
from headstart.metrics.intervals import Z95
from headstart.tasks.heads import HeadSpec

Z90 = 1.6448536269514722  # the normal distribution's 95 % quantile: intervals of 90 %

PREFERENCES = ("accuracy", "speed", "size")


@record
class Wishes:
    """What the user asked for.

    Attributes:
        method: a name of `METHODS`, or `auto` for the whole ladder.
        budget_seconds: time for the climb; None for no limit.
        seed: of everything random.
        given: values for parameters of the methods, by field name.
        prefer: of `PREFERENCES`: what decides where methods are about equally good.
        head: a name of `HEADS`; empty: the task's usual one.
    """

    method: str = "auto"
    budget_seconds: float | None = 600.0
    seed: int = 0
    given: dict[str, Any]
    prefer: str = "accuracy"
    head: str = ""


@record
class Expected:
    """What a rung is expected to reach, before it is tried.

    Attributes:
        accuracy: expected, in [0, 1] (multi-label: F1 of each image).
        low: lower end of the 90 % interval of what the test images will show; `interval` has that of 95 %.
        high: upper end.
        seconds: expected duration; None where nothing was timed.
        because: the measurements it rests on, in sentences without a full stop.
    """

    accuracy: float
    low: float
    high: float
    seconds: float | None
    because: tuple[str, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) of the 95 % interval of what the test images will show, which is printed."""
        return at_95(self.accuracy, self.low, self.high)


def at_95(value: float, low: float, high: float) -> tuple[float, float]:
    """The 95 % interval inside [0, 1] of which the 90 % interval (low, high) is known, about a normally distributed value.

    >>> [round(end, 3) for end in at_95(0.9, 0.8, 1.0)]
    [0.781, 1.0]
    """
    half = Z95 / Z90 * max(value - low, high - value)  # one end may have been cut off at 0 or 1
    return max(0.0, value - half), min(1.0, value + half)


@record
class Rung:
    """A method with all its parameters resolved, and why it stands there.

    Attributes:
        expected: None where nothing was measured, and for boxes and masks, whose results are not foretold.
        doubtful: whether it will be climbed only if the rung before ends below its expectation. It explains: the ladder
            decides anew with what was reached.
        seconds: expected duration where nothing is expected of the answers; None where nothing was timed.
    """

    method: str
    params: dict[str, Any]
    why: str
    expected: Expected | None = None
    doubtful: bool = False
    seconds: float | None = None


@record
class Guide:
    """The textbook's advice, what was measured, and what follows: where the plan starts from and what moved it.

    Attributes:
        size: `small` (< 1,000 training images), `between`, `large` (> 10,000).
        similarity: `close`, `moderate`, `far` or `unknown`.
        prior: what the textbook says for these two.
        measured: sentences; empty where nothing was measured.
        therefore: what the plan does, in a sentence; empty where nothing was measured.
        distance: of the images from the pretraining domain; None where it was not measured.
        known: distances of domains that everybody knows, on the scale of these weights.
    """

    size: str
    similarity: str
    prior: str
    measured: tuple[str, ...] = ()
    therefore: str = ""
    distance: float | None = None
    known: dict[str, float] = field(default_factory=dict)


@record
class Plan:
    """What `fit` will do: `plan.json`.

    Attributes:
        decided: every value that was chosen for this data, with its reason. It explains; `rungs` and the fields beside
            it are what is done.
        rungs: in the order in which they are climbed.
        input_size: pixels (square) that the network sees; None: the size of its pretraining.
        prefer: what decides where methods are about equally good.
        frame: (width, height) of the letterbox in which whole images are shown, for boxes and masks; None for other tasks.
        head: of the network, with what was fitted to the data for it.
    """

    task: str
    weights: str
    seed: int
    budget_seconds: float | None
    decided: tuple[Choice, ...]
    rungs: tuple[Rung, ...]
    guide: Guide
    input_size: int | None = None
    prefer: str = "accuracy"
    frame: tuple[int, int] | None = None
    head: HeadSpec = field(default_factory=HeadSpec)
