"""How good is it, against what, and how sure is that: answers to labelled images become numbers with intervals."""

from headstart.evaluation.comparing import compare
from headstart.evaluation.looks import look_at
from headstart.evaluation.places import Shown, calibrated_rows, evaluate_places
from headstart.evaluation.records import (
    About,
    Answers,
    Aside,
    Evaluation,
    Mistake,
    Selection,
    SetScores,
    Slice,
    Slices,
    SplitScores,
)
from headstart.evaluation.scoring import score
from headstart.evaluation.whole import evaluate, majority

__all__ = [
    "About",
    "Answers",
    "Aside",
    "Evaluation",
    "Mistake",
    "Selection",
    "SetScores",
    "Shown",
    "Slice",
    "Slices",
    "SplitScores",
    "calibrated_rows",
    "compare",
    "evaluate",
    "evaluate_places",
    "look_at",
    "majority",
    "score",
]
