"""Which pretrained weights suit these images: what is known of them, corrected by what is measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._core.table import load as _load
from headstart.ranking.records import (
    Choice,
    Limits,
    Offer,
    Pilot,
    Ranked,
    Ranking,
    RankOptions,
    Scores,
    Skipped,
)

if TYPE_CHECKING:
    from headstart.ranking.choose import choose_weights, rank

__all__ = [
    "Choice",
    "Limits",
    "Offer",
    "Pilot",
    "RankOptions",
    "Ranked",
    "Ranking",
    "Scores",
    "Skipped",
    "choose_weights",
    "rank",
]

_HEAVY = {
    "choose_weights": "headstart.ranking.choose:choose_weights",
    "rank": "headstart.ranking.choose:rank",
}


def __getattr__(name: str) -> Any:
    """The function of that name, imported when it is first used: the options alone cost no torch."""
    if name in _HEAVY:
        return _load(_HEAVY[name])
    raise AttributeError(f"module 'headstart.ranking' has no attribute {name!r}")
