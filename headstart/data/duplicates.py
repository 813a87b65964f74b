"""Files with the same content: what would leak from one split into another is taken out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from headstart._core.errors import BadInput
from headstart.data.records import Duplicate, Sample

_RANK = {"train": 0, "val": 1, "test": 2}


def settle(
    samples: Sequence[Sample], classes: Sequence[str]
) -> tuple[tuple[Sample, ...], tuple[Duplicate, ...]]:
    """The samples without leaks, in their order, and a record of every set of identical ones.

    A file that is in test leaves train and val; one that is in val leaves train: the split that judges keeps
    its images. Copies inside one split stay. A sample without a digest is compared with nothing.

    Raises:
        BadInput: when a class loses all its training images in this way.
    """
    same: defaultdict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if sample.digest:
            same[sample.digest].append(index)
    removed: set[int] = set()
    records: list[Duplicate] = []
    for indices in same.values():
        if len(indices) < 2:
            continue
        copies = [samples[index] for index in indices]
        last = max(copies, key=_rank).split
        leaks = [index for index in indices if _rank(samples[index]) < _RANK.get(last, 0)]
        removed.update(leaks)
        labels = tuple(tuple(classes[label] for label in sorted(sample.labels)) for sample in copies)
        records.append(
            Duplicate(
                names=tuple(sample.name for sample in copies),
                splits=tuple(sample.split for sample in copies),
                labels=labels,
                action=_action([samples[index] for index in leaks], last, labels),
            )
        )
    kept = tuple(sample for index, sample in enumerate(samples) if index not in removed)
    _check_left(samples, kept, classes)
    return kept, tuple(records)


def _check_left(before: Sequence[Sample], after: Sequence[Sample], classes: Sequence[str]) -> None:
    had, have = (
        {label for sample in some if _rank(sample) == 0 for label in sample.labels}
        for some in (before, after)
    )
    lost = sorted(had - have)
    if lost:
        raise BadInput(
            f"Every training image of class {', '.join(repr(classes[label]) for label in lost)} "
            "is also in val or test.",
            hint="Give training images of their own: a test on training images would prove nothing.",
        )


def _rank(sample: Sample) -> int:
    return _RANK.get(sample.split, 0)


def _action(leaks: Sequence[Sample], last: str, labels: Sequence[tuple[str, ...]]) -> str:
    """What was done in words, with the labels where the copies contradict each other."""
    done = "; ".join(
        f"removed {sample.name} from {sample.split or 'train'}: also in {last}" for sample in leaks
    )
    distinct = sorted({", ".join(names) or "no label" for names in labels})
    conflict = f"; labels disagree: {' / '.join(distinct)}" if len(distinct) > 1 else ""
    return (done or "kept") + conflict
