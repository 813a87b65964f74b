"""What a study is going to train, in which order, on which images, and how long that will take. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from headstart._core.check import in_range, one_of
from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart._core.seed import generator
from headstart.data.records import Sample
from headstart.reporting.wording import duration
from headstart.studies.records import SEARCHES, Arm, Grid, Speed, StudyOptions

FEWEST = 16
"""Training images of the smallest fraction: below, batch statistics are too noisy for random weights (Wu & He 2018)."""

_LEAST_EPOCHS = 2  # of the 1x schedule, to which a budget may shorten it
_SAFETY = 0.9  # of the budget is planned for
_OVERHEAD = 2.0  # seconds of a training beside its steps: building the network, checkpoints


@dataclass(frozen=True)
class Slot:
    """A training whose rate may yet have to be found: `factor` is None where the validation images will have chosen it."""

    arm: str
    fraction: float
    schedule: int
    factor: float | None
    seed: int


def read_grid(options: StudyOptions) -> Grid:
    """The grid that the options ask for.

    Raises:
        BadOption: for a list that is none, and values outside their range.
    """
    seeds = tuple(dict.fromkeys(_whole("--seeds", options.seeds, least=0)))
    return Grid(
        fractions=_sorted(_numbers("--fractions", options.fractions, low=0.0, high=1.0)),
        schedules=tuple(sorted(set(_whole("--schedules", options.schedules, least=1)))),
        rates=_sorted(_numbers("--rates", options.rates, low=0.0, high=1000.0)),
        seeds=seeds,
        search=one_of("--search", options.search, SEARCHES),
        widen=int(in_range("--widen", options.widen, low=0, high=6)),
    )


def _sorted(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


def _numbers(flag: str, text: str, *, low: float, high: float) -> list[float]:
    """The numbers of a list, each above `low` and at most `high`."""
    out = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            raise BadOption(
                f"{flag} holds {part.strip()!r}, which is no number.",
                hint="Write numbers with commas between.",
            ) from None
        if not low < value <= high:
            raise BadOption(
                f"{flag} holds {value:g}.", hint=f"Each must lie above {low:g} and be at most {high:g}."
            )
        out.append(value)
    return out


def _whole(flag: str, text: str, *, least: int) -> list[int]:
    out = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < least:
            raise BadOption(
                f"{flag} holds {part.strip()!r}.",
                hint=f"Write whole numbers from {least} on with commas between.",
            )
        out.append(int(part))
    return out


def searched(grid: Grid, schedule: int) -> bool:
    """Whether the rates are tried at that schedule."""
    return grid.search == "every" or schedule == grid.schedules[0]


def reach(grid: Grid) -> tuple[float, ...]:
    """All rates that a search may come to, rising: the list, and `widen` steps beyond each end, as long as its outer step.

    >>> reach(Grid(fractions=(1.0,), schedules=(1,), rates=(0.3, 1.0, 3.0), seeds=(0,), search="shortest", widen=1))
    (0.09, 0.3, 1.0, 3.0, 9.0)
    """
    rates = grid.rates
    if len(rates) < 2:
        return rates
    steps = range(1, grid.widen + 1)
    low = [rates[0] * (rates[0] / rates[1]) ** step for step in reversed(steps)]
    high = [rates[-1] * (rates[-1] / rates[-2]) ** step for step in steps]
    lower, higher = (tuple(float(f"{rate:.3g}") for rate in each) for each in (low, high))
    return (*lower, *rates, *higher)


def beyond(grid: Grid, tried: Sequence[float], best: float) -> float | None:
    """The rate to try next, beyond a best one that lies at an end of those tried; None where the search is over."""
    every = reach(grid)
    place = every.index(best)
    if best == min(tried):
        return every[place - 1] if place else None
    return every[place + 1] if best == max(tried) and place + 1 < len(every) else None


def slots(grid: Grid, arms: Sequence[Arm], *, longest: bool = False) -> tuple[Slot, ...]:
    """All trainings in order: the cheap cells first, all arms of a cell together, a search before what rests on it.

    Args:
        grid: what is crossed.
        arms: of the study.
        longest: with as many trainings beyond an end of the rates as there may be.
    """
    rates = reach(grid)[grid.widen :] if longest and len(grid.rates) > 1 else grid.rates
    out = []
    for fraction in grid.fractions:
        for schedule in grid.schedules:
            for arm in arms:
                searching = searched(grid, schedule)
                factors: tuple[float | None, ...] = rates if searching else (None,)
                out += [Slot(arm.name, fraction, schedule, factor, grid.seeds[0]) for factor in factors]
                out += [Slot(arm.name, fraction, schedule, None, seed) for seed in grid.seeds[1:]]
    return tuple(out)


def part_of(samples: Sequence[Sample], fraction: float, *, seed: int) -> tuple[Sample, ...]:
    """That share of the samples, each class by its share; a smaller part is in every larger one of the same seed.

    An image counts for the rarest class that it has. The draw depends on contents, names and seed, not on the order of the
    listing; all of them keep their order.
    """
    if fraction >= 1:
        return tuple(samples)
    ordered = sorted(range(len(samples)), key=lambda place: (samples[place].digest, samples[place].name))
    counts = Counter(label for sample in samples for label in sample.labels)
    strata: defaultdict[int, list[int]] = defaultdict(list)
    for draw in generator(seed, "study", "part").permutation(len(ordered)):
        place = ordered[int(draw)]
        rarest = min(samples[place].labels, key=lambda label: (counts[label], label), default=-1)
        strata[rarest].append(place)
    keys = {
        place: ((rank + 0.5) / len(members), label, rank)
        for label, members in strata.items()
        for rank, place in enumerate(members)
    }
    chosen = sorted(keys, key=lambda place: keys[place])[: max(1, round(fraction * len(samples)))]
    return tuple(samples[place] for place in sorted(chosen))


def check_parts(grid: Grid, samples: Sequence[Sample], classes: Sequence[str], *, whole: bool) -> None:
    """Nothing, if the smallest part can be trained on.

    Args:
        grid: with the fractions and the seeds.
        samples: all training images.
        classes: names.
        whole: whether every class must occur in it, as for images that have classes as a whole.

    Raises:
        BadInput: for too few images, or a class without one.
    """
    for seed in grid.seeds:
        part = part_of(samples, grid.fractions[0], seed=seed)
        if len(part) < FEWEST:
            enough = FEWEST / max(1, len(samples))
            move = f"Give --fractions from {enough:.2g} on" if enough <= 1 else "Add images"
            raise BadInput(
                f"The fraction {grid.fractions[0]:g} of {len(samples)} training images is {len(part)}: too few to train on.",
                hint=f"{move}; a study needs {FEWEST} images or more in each part.",
            )
        there = {label for sample in part for label in sample.labels}
        missing = [name for index, name in enumerate(classes) if index not in there] if whole else []
        if missing:
            raise BadInput(
                f"The fraction {grid.fractions[0]:g} of the training images has none of the class {missing[0]!r}.",
                hint="Give larger --fractions, or add images of that class.",
            )


@dataclass(frozen=True)
class Work:
    """What the time of a training depends on.

    Attributes:
        images: fraction -> training images.
        val: validation images.
        test: test images.
        speed: as timed.
        looks: how often a training looks at the validation images at most; None: after each epoch.
    """

    images: dict[float, int]
    val: int
    test: int
    speed: Speed
    looks: int | None = None

    def seconds(self, slot: Slot, epochs: int) -> float:
        """What a training is expected to take, its part of the exam included.

        Args:
            slot: the training.
            epochs: of the 1x schedule.
        """
        passes = epochs * slot.schedule
        step = self.images[slot.fraction] * self.speed.train[slot.arm]
        looks = passes if self.looks is None else min(passes, self.looks)
        return passes * step + self.speed.forward * ((looks + 1) * self.val + self.test) + _OVERHEAD


def total(found: Iterable[Slot], work: Work, epochs: int) -> float:
    """Seconds that these trainings are expected to take."""
    return sum(work.seconds(slot, epochs) for slot in found)


def fitting(found: Sequence[Slot], work: Work, *, wished: int, budget: float | None) -> int:
    """Epochs of the 1x schedule: as many as were wished for, or the most that fit into the budget, all schedules alike.

    Args:
        found: all trainings.
        work: what their time depends on.
        wished: epochs.
        budget: seconds; None: no limit.

    Raises:
        BadPlan: when not even a very short schedule fits.
    """
    if budget is None:
        return wished
    least = min(_LEAST_EPOCHS, wished)
    for epochs in range(wished, least - 1, -1):
        if total(found, work, epochs) <= _SAFETY * budget:
            return epochs
    needed = total(found, work, least) / _SAFETY
    raise BadPlan(
        f"--budget {_plain(budget)} is too little: {len(found)} trainings with 1x at {_epochs(least)} take about "
        f"{_plain(needed)}.",
        hint=f"Give --budget {_minutes(needed)}, or fewer --fractions, --schedules, --rates or --seeds, or a smaller "
        "--input-size.",
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60) + 1}m" if seconds >= 60 else f"{int(seconds) + 1}s"


def _plain(seconds: float) -> str:
    return duration(seconds).replace("\u00a0", " ")


def plan_lines(
    grid: Grid, arms: Sequence[Arm], work: Work, *, epochs: int, done: Callable[[Slot], bool]
) -> list[str]:
    """The plan as lines of a table: cells x arms x rates with expected times; what is done already costs nothing.

    Args:
        grid: what is crossed.
        arms: of the study.
        work: what times depend on.
        epochs: of the 1x schedule.
        done: whether a training is finished.
    """
    every = slots(grid, arms)
    open_ = [slot for slot in every if not done(slot)]
    kept = f", {len(every) - len(open_)} of them done" if len(open_) < len(every) else ""
    lines = [
        f"{len(every)} trainings{kept}; about {_plain(total(open_, work, epochs))} on this machine",
        f"  {'training images':<18}{'schedule':<18}{'arms x rates':<15}{'trainings':<12}expected",
    ]
    for fraction in grid.fractions:
        for schedule in grid.schedules:
            mine = [slot for slot in open_ if (slot.fraction, slot.schedule) == (fraction, schedule)]
            rates = len(grid.rates) if searched(grid, schedule) else 1
            size = f"{work.images[fraction]} ({fraction:.0%})"
            length = f"{schedule}x, {_epochs(epochs * schedule)}"
            count = len(arms) * (rates + len(grid.seeds) - 1)
            time = _plain(total(mine, work, epochs)) if mine else "done"
            lines.append(f"  {size:<18}{length:<18}{f'{len(arms)} x {rates}':<15}{count:<12}{time}")
    more = len(slots(grid, arms, longest=True)) - len(every)
    if more:
        lines.append(
            f"  and up to {more} more with other rates, where the best one lies at the end of those tried"
        )
    return lines


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count != 1 else ''}"
