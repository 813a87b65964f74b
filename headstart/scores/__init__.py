"""Transferability scores: pure functions on arrays, `(features, labels) -> float`, higher is better."""

from headstart.scores.choice import DRAWS, bootstrap_best, resampled_means, tied
from headstart.scores.probes import (
    NEIGHBOURS,
    RidgePath,
    fold_numbers,
    knn_accuracy,
    ridge_accuracy,
    ridge_path,
)
from headstart.scores.transferability import h_score, leep, log_me, nce, regularised_h_score, shrinkage

__all__ = [
    "DRAWS",
    "NEIGHBOURS",
    "RidgePath",
    "bootstrap_best",
    "fold_numbers",
    "h_score",
    "knn_accuracy",
    "leep",
    "log_me",
    "nce",
    "regularised_h_score",
    "resampled_means",
    "ridge_accuracy",
    "ridge_path",
    "shrinkage",
    "tied",
]
