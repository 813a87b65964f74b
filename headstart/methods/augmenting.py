"""Choices that the tuning methods share: mirrored images, blended images, averaged weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the table of methods is read to make flags and help, without torch
    from headstart.evidence import Evidence

LARGE = 20_000
"""Training images from which blending them in pairs is worth it in fine-tuning (Kolesnikov 2020, BiT-HyperRule)."""

BLEND = 0.1
"""Beta(0.1, 0.1): nearly always one image with a little of another (BiT-HyperRule)."""

_LONG = 1_000  # steps, below which an average has little noise to forget
_SHARE = 20  # the average remembers about a twentieth of the schedule


def flips(evidence: Evidence | None) -> tuple[bool, str]:
    """Whether left and right may be exchanged, and why."""
    found = None if evidence is None else evidence.flips
    if found is None:
        return True, "not measured; most pictures mean the same in a mirror"
    return found.keeps, found.told


def averaging(steps: int) -> tuple[float, str] | None:
    """The decay of a running average of the weights for a schedule of so many steps, and why; None: too few for one.

    >>> averaging(400), averaging(2000)[0]
    (None, 0.99)
    """
    if steps < _LONG:
        return None
    why = (
        f"{steps} steps are enough for a running average of about the last twentieth of them; it is kept where the "
        "validation images prefer it"
    )
    return round(1 - _SHARE / steps, 4), why
