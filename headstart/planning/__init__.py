"""Facts, evidence and wishes become a plan: rungs in order, each value with its reason; no side effects."""

from headstart.planning.edited import load_plan, told_edited
from headstart.planning.expect import place_words, told_probe, told_size, told_twin
from headstart.planning.make import check_given, make_plan
from headstart.planning.records import PREFERENCES, Expected, Guide, Plan, Rung, Wishes, at_95
from headstart.planning.worth import confidence, not_worth

__all__ = [
    "PREFERENCES",
    "Expected",
    "Guide",
    "Plan",
    "Rung",
    "Wishes",
    "at_95",
    "check_given",
    "confidence",
    "load_plan",
    "make_plan",
    "not_worth",
    "place_words",
    "told_edited",
    "told_probe",
    "told_size",
    "told_twin",
]
