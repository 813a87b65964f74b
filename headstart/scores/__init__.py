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
from headstart.scores.transferability import (
    Estimate,
    h_score,
    leep,
    leep_estimate,
    log_me,
    log_me_estimate,
    nce,
    regularised_h_score,
    regularised_h_score_estimate,
    shrinkage,
)

__all__ = [
    "DRAWS",
    "NEIGHBOURS",
    "Estimate",
    "RidgePath",
    "bootstrap_best",
    "fold_numbers",
    "h_score",
    "knn_accuracy",
    "leep",
    "leep_estimate",
    "log_me",
    "log_me_estimate",
    "nce",
    "regularised_h_score",
    "regularised_h_score_estimate",
    "resampled_means",
    "ridge_accuracy",
    "ridge_path",
    "shrinkage",
    "tied",
]
