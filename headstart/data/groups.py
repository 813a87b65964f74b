"""Groups out of file names: which images may belong to one patient, video or place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from headstart._core.check import one_of
from headstart._core.errors import BadOption
from headstart.data.records import Sample

_COUNT = re.compile(r"[\W_]*\d+$")
_WORD = re.compile(r"[\W_]+")


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]  # noqa: PTH119, PTH122  # a tenth of the time of a Path


def _prefix(name: str) -> str:
    """`patient12` of `patient12_003`: the name without the number at its end."""
    return _COUNT.sub("", _stem(name))


def _word(name: str) -> str:
    """`p12` of `p12_left_003`: what stands before the first separator."""
    return _WORD.split(_stem(name), maxsplit=1)[0]


GROUP_RULES: dict[str, Callable[[str], str]] = {"prefix": _prefix, "word": _word, "folder": os.path.dirname}
"""Rule -> the group that an image's path has by it; empty where it has none."""


def group_of(name: str, rule: str) -> str:
    """The group of an image by its name.

    >>> group_of("scans/ill/patient12_003.png", "prefix"), group_of("scans/ill/p12-left-3.png", "word")
    ('patient12', 'p12')

    Raises:
        BadOption: for an unknown rule.
    """
    return GROUP_RULES[one_of("--group", rule, GROUP_RULES)](name)


def with_groups(samples: Sequence[Sample], rule: str) -> tuple[Sample, ...]:
    """The samples, each in the group that its name says; images that have a group of their own keep it.

    Raises:
        BadOption: for an unknown rule, or one that puts all images into one group.
    """
    grouped = tuple(
        sample if sample.group else replace(sample, group=group_of(sample.name, rule)) for sample in samples
    )
    if len(grouped) > 1 and len({sample.group for sample in grouped}) == 1:
        raise BadOption(
            f"--group {rule} puts all {len(grouped)} images into one group, {grouped[0].group!r}.",
            hint="Leave it out, or give the groups in a column of a CSV file.",
        )
    return grouped
