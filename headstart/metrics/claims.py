"""The words for a difference. No other file may say that something is better: a test reads every text of the tree."""

from __future__ import annotations

BETTER = "better"
WORSE = "worse"
UNSHOWN = "no difference shown"

_LEVEL = 0.05


def verdict(low: float, high: float, *, p: float | None = None) -> str:
    """`better`, `worse`, or `no difference shown` of a paired difference.

    Args:
        low: lower end of its 95 % interval.
        high: upper end.
        p: of an exact test of the same difference, where there is one: it must agree at 5 %, because intervals of few
            images are approximations.

    >>> verdict(0.01, 0.05), verdict(-0.01, 0.05), verdict(0.01, 0.05, p=0.12)
    ('better', 'no difference shown', 'no difference shown')
    """
    if p is not None and p >= _LEVEL:
        return UNSHOWN
    return BETTER if low > 0 else WORSE if high < 0 else UNSHOWN


def meaning(found: str, low: float, high: float) -> str:
    """What a verdict rests on, as a sentence; empty for a word that is no verdict."""
    if found == BETTER:
        return "The interval excludes zero: the difference is real on these images."
    if found == WORSE:
        return "The interval excludes zero: it is worse on these images."
    if found != UNSHOWN:
        return ""
    if low > 0 or high < 0:
        return "The exact test does not confirm it: too few images differ to tell the two apart."
    return "The interval includes zero: these images cannot tell the two apart."


def against_chance(found: str) -> str:
    """What a verdict against the simplest baseline adds to its figure: nothing, if the model is shown to do more."""
    return "" if found == BETTER else "these images do not show that the model is any better"


def direction(*, lower: bool) -> str:
    """Which way a metric points, for a table: no claim about anything measured.

    >>> direction(lower=True)
    'lower is better'
    """
    return f"{'lower' if lower else 'higher'} is better"


def alone_at_the_top(tied: int) -> str:
    """A sentence about the first of a ranking that nothing is tied with, from paired tests; empty where something is.

    >>> alone_at_the_top(2)
    ''
    """
    return "It is shown to be better than every other." if tied == 1 else ""
