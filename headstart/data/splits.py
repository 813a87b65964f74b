"""The splits that the user did not give: stratified, with groups kept whole, and the same for any listing order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from headstart._core.errors import BadInput, BadOption
from headstart._core.records import record
from headstart._core.seed import generator
from headstart.data.annotations import DENSE
from headstart.data.records import SPLITS, LoadOptions, Sample

_PASSES = 10  # over the units, to improve a grouped split; it rarely takes more than three


@record
class Splits:
    """Samples that all have a split.

    Attributes:
        samples: in the order they came in; none is undecided.
        made: which of `test` and `val` were made here.
        notes: what was decided, in sentences for the user.
    """

    samples: tuple[Sample, ...]
    made: tuple[str, ...]
    notes: tuple[str, ...]


def make_splits(
    samples: Sequence[Sample],
    *,
    classes: Sequence[str],
    options: LoadOptions,
    task: str,
    make_test: bool = True,
) -> Splits:
    """The samples, each in `train`, `val` or `test`; a split that was given is left as it is.

    Where no test split exists, `test_fraction` of the images is sealed; where no validation split exists,
    `val_fraction` of the remaining training images is held out. Samples of one group, and identical files,
    stay together. The draw depends on contents, names and seed, not on the order of the listing.

    Raises:
        BadInput: when a class has too few images or no training image, when there is only one class, or when
            there are too few groups.
        BadOption: when a fraction is outside (0, 0.5].
    """
    _check_samples(samples, classes, task)
    given = {sample.split for sample in samples}
    wanted = [("test", options.test_fraction)] if make_test and "test" not in given else []
    wanted += [("val", options.val_fraction)] if "val" not in given else []
    for split, fraction in wanted:
        if not 0 < fraction <= 0.5:
            raise BadOption(
                f"--{split}-fraction is {fraction:g}; it must lie above 0 and be at most 0.5.",
                hint=f"Usual is 0.2. Or give a {split} split of your own.",
            )
    placed = ["train" if sample.split == "" else sample.split for sample in samples]
    pool = [index for index, split in enumerate(placed) if split == "train"]
    grouped = any(samples[index].group for index in pool)
    if wanted:
        made = [split for split, _ in wanted]
        _check_enough(samples, _units(samples, pool), () if task in DENSE else classes, made=made)
    notes = []
    for step, (split, fraction) in enumerate(wanted):
        units = _units(samples, pool)
        order = generator(options.seed, "split", split).permutation(len(units))
        held = _Draw([units[i] for i in order], fraction, later=len(wanted) - step - 1).held()
        if not held:
            raise BadInput(
                f"No {split} split can be made: each group holds all training images of some class.",
                hint=f"Give a {split} split, add groups, or leave the groups out.",
            )
        for index in held:
            placed[index] = split
        how = "groups kept whole" if grouped else "stratified by class"
        notes.append(
            f"No {split} split was given: {len(held)} of {len(pool)} training images were held out as {split} "
            f"({how}, seed {options.seed})."
        )
        pool = [index for index in pool if placed[index] == "train"]
    done = tuple(replace(sample, split=split) for sample, split in zip(samples, placed, strict=True))
    notes += _absences(done, classes)
    return Splits(samples=done, made=tuple(split for split, _ in wanted), notes=tuple(notes))


@record
class _Unit:
    """Samples that must stay together.

    Attributes:
        members: indices of the samples.
        labels: class index -> how many of the members have it.
    """

    members: tuple[int, ...]
    labels: dict[int, int]


def _units(samples: Sequence[Sample], pool: Iterable[int]) -> list[_Unit]:
    """The pool in units: connected by a shared group or a shared digest; sorted by content, then name."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    # By content first: the same pictures give the same split under another path or another listing order.
    ordered = sorted(
        pool, key=lambda index: (samples[index].digest, samples[index].name, samples[index].labels)
    )
    anchor: dict[int, str] = {}
    for index in ordered:
        sample = samples[index]
        keys = [f"digest {sample.digest}"] if sample.digest else []
        keys += [f"group {sample.group}"] if sample.group else []
        keys = keys or [f"index {index}"]
        anchor[index] = keys[0]
        parent[root(keys[-1])] = root(keys[0])
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index in ordered:
        members[root(anchor[index])].append(index)
    return [
        _Unit(
            members=tuple(indices),
            labels=dict(sorted(Counter(label for i in indices for label in samples[i].labels).items())),
        )
        for indices in members.values()
    ]


class _Draw:
    """One draw of a held-out part from units in random order.

    Greedy iterative stratification: the rarest label's units are placed first, each on the side that still
    misses most of that label; then, where units hold several images, single moves as long as they bring the
    held-out part closer to its share of each class. Every class leaves units behind for the splits to come.

    Source: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.
    """

    def __init__(self, units: Sequence[_Unit], fraction: float, *, later: int) -> None:
        self.units = units
        self.images: Counter[int] = Counter()  # class -> images
        self.behind: Counter[int] = Counter()  # class -> units that are not held out
        for unit in units:
            self.images.update(unit.labels)
            self.behind.update(unit.labels.keys())
        self.keep = {label: max(1, min(1 + later, n - 1)) for label, n in self.behind.items()}
        self.total = sum(len(unit.members) for unit in units)
        self.target = {
            label: max(1, min(round(fraction * n), n - self.keep[label])) for label, n in self.images.items()
        }
        self.target_total = max(1.0, fraction * self.total)
        self.got: Counter[int] = Counter()  # class -> images held out
        self.got_units: Counter[int] = Counter()
        self.got_total = 0
        self.chosen: set[int] = set()

    def held(self) -> list[int]:
        """Indices of the samples to hold out."""
        self._place()
        for label in self.images:
            self._supply(label)
        if not self.images and not self.chosen:
            self._move(0)
        if any(len(unit.members) > 1 for unit in self.units):
            for _ in range(_PASSES):
                moves = sum(self._improve(number) for number in range(len(self.units)))
                if moves == 0:
                    break
        return [index for number in sorted(self.chosen) for index in self.units[number].members]

    def _place(self) -> None:
        having: defaultdict[int, list[int]] = defaultdict(list)
        for number, unit in enumerate(self.units):
            for label in unit.labels:
                having[label].append(number)
        left = Counter({label: len(numbers) for label, numbers in having.items()})
        open_rest = {label: n - self.target[label] for label, n in self.images.items()}
        open_total = self.total - self.target_total
        placed: set[int] = set()
        while left:
            rarest = min(left, key=lambda label: (left[label], label))
            queue = [number for number in having[rarest] if number not in placed]
            # Large units first: the small ones can then fill what is missing.
            for number in sorted(queue, key=lambda number: -len(self.units[number].members)):
                unit = self.units[number]
                miss = self.target[rarest] - self.got[rarest], self.target_total - self.got_total
                if miss >= (open_rest[rarest], open_total) and self._may_leave(unit):
                    self._move(number)
                else:
                    open_total -= len(unit.members)
                    for label, n in unit.labels.items():
                        open_rest[label] -= n
                placed.add(number)
                left.subtract(unit.labels.keys())
            del left[rarest]
            left = +left
        for number in range(len(self.units)):  # those without any label
            if number not in placed:
                if self.target_total - self.got_total >= open_total:
                    self._move(number)
                else:
                    open_total -= len(self.units[number].members)

    def _supply(self, label: int) -> None:
        """Hold out the smallest fitting unit of a class that the held-out part lacks."""
        if self.got[label]:
            return
        fitting = [
            (len(unit.members), number)
            for number, unit in enumerate(self.units)
            if label in unit.labels and number not in self.chosen and self._may_leave(unit)
        ]
        if fitting:
            self._move(min(fitting)[1])

    def _improve(self, number: int) -> bool:
        """Whether moving the unit to the other side brought the held-out part closer to its target."""
        unit = self.units[number]
        back = number in self.chosen
        if back and any(self.got_units[label] < 2 for label in unit.labels):
            return False
        if back and len(self.chosen) == 1:
            return False
        if not back and not self._may_leave(unit):
            return False
        sign = -1 if back else 1
        change = _change(self.got_total, sign * len(unit.members), self.target_total)
        for label, n in unit.labels.items():
            change += _change(self.got[label], sign * n, self.target[label]) / len(self.images)
        if change > -1e-9:
            return False
        self._move(number)
        return True

    def _may_leave(self, unit: _Unit) -> bool:
        return all(self.behind[label] > self.keep[label] for label in unit.labels)

    def _move(self, number: int) -> None:
        """Hold the unit out, or take it back where it is held out already."""
        unit = self.units[number]
        sign = -1 if number in self.chosen else 1
        self.chosen ^= {number}
        self.got_total += sign * len(unit.members)
        for label, n in unit.labels.items():
            self.got[label] += sign * n
            self.got_units[label] += sign
            self.behind[label] -= sign


def _change(have: float, step: float, target: float) -> float:
    """By how much the squared relative distance to the target grows."""
    return float(((have + step - target) ** 2 - (have - target) ** 2) / target**2)


def _check_samples(samples: Sequence[Sample], classes: Sequence[str], task: str) -> None:
    """What no split can repair."""
    if not samples:
        raise BadInput(
            "There is no readable image.", hint="Check the path; the report lists unreadable files."
        )
    unknown = sorted({sample.split for sample in samples} - {*SPLITS, ""})
    if unknown:
        raise BadInput(
            f"Unknown split {_named(unknown)}, allowed: {', '.join(SPLITS)} or empty.",
            hint="Rename the splits in the split column.",
        )
    if task == "classify" and len(classes) < 2:
        raise BadInput(
            f"There is only one class: {_named(classes)}." if classes else "There is no class.",
            hint="Classification needs images of two classes or more, one folder (or label) each.",
        )
    seen: defaultdict[int, set[str]] = defaultdict(set)
    for sample in samples:
        for label in sample.labels:
            seen[label].add(sample.split or "train")
    _check_groups(samples)
    if task in DENSE:  # a list of classes may be longer than what these images show
        return
    empty = [name for index, name in enumerate(classes) if not seen[index]]
    if empty:
        raise BadInput(
            f"No readable image has class {_named(empty)}.", hint="Add images or remove the class."
        )
    missing = [
        f"{name!r} (in {' and '.join(sorted(seen[index]))})"
        for index, name in enumerate(classes)
        if "train" not in seen[index]
    ]
    if missing:
        raise BadInput(
            f"No training image has class {_few(missing)}.",
            hint="A class must be in train to be learnt: add training images or remove the class.",
        )


def _check_groups(samples: Sequence[Sample]) -> None:
    where: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.group:
            where[sample.group].add(sample.split or "train")
    torn = sorted(group for group, splits in where.items() if len(splits) > 1)
    if torn:
        raise BadInput(
            f"Group {_named(torn)} is in more than one split: {' and '.join(sorted(where[torn[0]]))}.",
            hint="Put each group into one split, or leave out the splits (they are then made) or the groups.",
        )


def _check_enough(
    samples: Sequence[Sample], units: Sequence[_Unit], classes: Sequence[str], *, made: Sequence[str]
) -> None:
    """Enough images of each class, and enough groups, for train and the splits to be made."""
    need = 1 + len(made)
    pool = [samples[index] for unit in units for index in unit.members]
    grouped = any(sample.group for sample in pool)
    counts: Counter[int] = Counter()
    for unit in units:
        # Without groups a unit is one picture, however many copies of it there are.
        counts.update(unit.labels if grouped else unit.labels.keys())
    what = " and ".join(["train", *reversed(made)])
    poor = [f"{name!r} ({counts[i]})" for i, name in enumerate(classes) if counts[i] < need]
    if poor:
        raise BadInput(
            f"Too few different images to make {what}, which takes {need} of each class: {_few(poor)}.",
            hint=f"Add images, remove the class, or give the {' and '.join(made)} split yourself.",
        )
    if grouped and len(units) < need:
        raise BadInput(
            f"Too few groups to make {what}: there are {len(units)}, it takes {need}.",
            hint="Give the splits yourself, add groups, or leave the groups out.",
        )
    if len(units) < need:
        raise BadInput(
            f"Too few different images to make {what}: there are {len(units)}, it takes {need}.",
            hint="Add images or give the splits yourself.",
        )


def _absences(samples: Sequence[Sample], classes: Sequence[str]) -> list[str]:
    """A note for each split that lacks a class: it cannot be learnt, or no number about it can be given there."""
    notes = []
    for split in ("train", "val", "test"):
        chosen = [sample for sample in samples if sample.split == split]
        present = {label for sample in chosen for label in sample.labels}
        absent = [name for index, name in enumerate(classes) if index not in present]
        if chosen and absent:
            what = "it cannot be learnt" if split == "train" else "nothing can be said about it there"
            notes.append(f"No {split} image has class {_named(absent)}: {what}.")
    return notes


def _named(names: Iterable[str]) -> str:
    return _few([repr(name) for name in names])


def _few(items: Sequence[str]) -> str:
    """The items in a row, after the tenth only their number."""
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return ", ".join(items[:10]) + more
