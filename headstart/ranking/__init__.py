"""Which pretrained weights suit these images: what is known of them, corrected by what is measured here."""

from headstart.ranking.choose import choose_weights, rank
from headstart.ranking.records import Choice, Offer, Ranked, Ranking, RankOptions, Scores, Skipped

__all__ = [
    "Choice",
    "Offer",
    "RankOptions",
    "Ranked",
    "Ranking",
    "Scores",
    "Skipped",
    "choose_weights",
    "rank",
]
