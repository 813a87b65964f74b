"""Metrics as pure functions on arrays, and their intervals."""

from headstart.metrics.calibration import calibration_error, debiased_error, fit_temperature, reliability
from headstart.metrics.intervals import (
    around,
    bootstrap,
    draw,
    mcnemar,
    mean_interval,
    told,
    told_around,
    told_mean,
    told_points,
    told_share,
    wilson,
)
from headstart.metrics.records import ClassScores, Comparison, Metric, ReliabilityBin, RiskPoint

__all__ = [
    "ClassScores",
    "Comparison",
    "Metric",
    "ReliabilityBin",
    "RiskPoint",
    "around",
    "bootstrap",
    "calibration_error",
    "debiased_error",
    "draw",
    "fit_temperature",
    "mcnemar",
    "mean_interval",
    "reliability",
    "told",
    "told_around",
    "told_mean",
    "told_points",
    "told_share",
    "wilson",
]
