"""Metrics as pure functions on arrays, and their intervals."""

from headstart.metrics.calibration import calibration_error, fit_temperature, reliability
from headstart.metrics.intervals import bootstrap, mcnemar, mean_interval, resamples, wilson
from headstart.metrics.records import ClassScores, Comparison, Metric, ReliabilityBin

__all__ = [
    "ClassScores",
    "Comparison",
    "Metric",
    "ReliabilityBin",
    "bootstrap",
    "calibration_error",
    "fit_temperature",
    "mcnemar",
    "mean_interval",
    "reliability",
    "resamples",
    "wilson",
]
