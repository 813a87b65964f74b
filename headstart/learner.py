"""scikit-learn's way in: `TransferLearner().fit(X, y).predict(X)`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from headstart import data, export
from headstart._core.errors import BadInput, NotFitted
from headstart.data.handed import Images, as_sources
from headstart.pixels import contract_pixels
from headstart.predict import BATCH
from headstart.runs.fit import fit_dataset
from headstart.runs.options import DEFAULT_WEIGHTS, sort_options
from headstart.tasks import TASKS


class UnfittedLearner(NotFitted, NotFittedError):  # type: ignore[misc]  # scikit-learn has no types
    """`predict` before `fit`; also scikit-learn's own error, so that its tools recognise it."""


class TransferLearner(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An image classifier that reuses a pretrained network, with scikit-learn's interface.

    X is a sequence of images: paths, PIL images, or 8-bit arrays (N, H, W), (N, H, W, 3) or a list of arrays of different
    sizes. y is one label an image (any type that scikit-learn accepts), or an (N, classes) array of 0 and 1 for multi-label.

    Args:
        method: `auto` or a name of the table of methods.
        weights: `source:id`; several with commas between, or `auto`: the images choose.
        budget: time for training: `30s`, `10m`, `1h`, `none`.
        seed: of everything random.
        val_fraction: share of the images held out to choose by, in (0, 0.5].
        params: values for the method's parameters, by name; None for those that suit the data.

    Attributes:
        classes_: labels in the order of `predict_proba`'s columns; for multi-label the numbers of y's columns.
        bundle_: the fitted model.

    Example:
        >>> from headstart import TransferLearner
        >>> from sklearn.datasets import load_digits
        >>> digits = load_digits()
        >>> X = (digits.images * 15).astype("uint8")
        >>> learner = TransferLearner(weights="random:test_resnet").fit(X[:60], digits.target[:60])
        >>> learner.predict_proba(X[60:62]).shape
        (2, 10)
    """

    def __init__(
        self,
        method: str = "linear-probe",
        *,
        weights: str = DEFAULT_WEIGHTS,
        budget: str = "10m",
        seed: int = 0,
        val_fraction: float = 0.2,
        params: dict[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.weights = weights
        self.budget = budget
        self.seed = seed
        self.val_fraction = val_fraction
        self.params = params

    def fit(self, X: Images, y: Sequence[Any] | NDArray[Any]) -> TransferLearner:
        """This learner, fitted; an earlier fit is forgotten.

        Raises:
            BadInput: for images or labels that cannot be used.
            ValueError: scikit-learn's own, for a y that is no classification target.
        """
        sources, labels = as_sources(X), _labels(y)
        if len(sources) != len(labels):
            raise BadInput(
                f"X has {len(sources)} images but y has {len(labels)} labels.",
                hint="Give one label for each image.",
            )
        options = sort_options(
            {
                "method": self.method,
                "weights": self.weights,
                "budget": self.budget,
                "seed": self.seed,
                "val_fraction": self.val_fraction,
                **(self.params or {}),
            }
        )
        many = labels.ndim == 2
        classes, indices = (
            (np.arange(labels.shape[1]), labels) if many else np.unique(labels, return_inverse=True)
        )
        names = tuple(str(label) for label in classes)
        dataset = data.from_arrays(sources, indices, classes=names, options=options.data)
        with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
            fit_dataset(Path(folder), dataset, data.describe(dataset, "memory"), options)
            self.bundle_ = export.open_bundle(folder)
        self.classes_ = classes
        return self

    def decision_function(self, X: Images) -> NDArray[np.float64]:
        """Calibrated logits (N, classes); of two classes, how much the second exceeds the first (N,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if self._is_binary() else logits

    def _is_binary(self) -> bool:
        """Whether scikit-learn expects one column of decisions where the network has two."""
        return self.bundle_.task == "classify" and len(self.classes_) == 2

    def _logits(self, X: Images) -> NDArray[np.float64]:
        """The network's calibrated logits (N, classes)."""
        try:
            check_is_fitted(self, "bundle_")
        except NotFittedError as error:
            raise UnfittedLearner(
                "This TransferLearner is not fitted yet.", hint="Call fit(X, y) first."
            ) from error
        sources, rows = as_sources(X), []
        for start in range(0, len(sources), BATCH):
            chunk = sources[start : start + BATCH]
            windows = [contract_pixels(data.open_rgb(source), self.bundle_.preprocess) for source in chunk]
            rows.append(self.bundle_.logits(np.stack(windows)))
        return np.concatenate(rows).astype(np.float64) if rows else np.empty((0, len(self.classes_)))

    def predict_proba(self, X: Images) -> NDArray[np.float64]:
        """Calibrated probabilities (N, classes)."""
        logits = self._logits(X)
        return TASKS[self.bundle_.task].probabilities(logits).astype(np.float64)

    def predict(self, X: Images) -> NDArray[Any]:
        """Labels (N,), or (N, classes) of 0 and 1 for multi-label."""
        probability = self.predict_proba(X)
        if self.bundle_.task == "multilabel":
            out = np.zeros(probability.shape, np.int64)
            for row, chosen in enumerate(TASKS["multilabel"].decode(probability)):
                out[row, list(chosen)] = 1
            return out
        best: NDArray[Any] = self.classes_[probability.argmax(1)]
        return best

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn should know: images, not numbers, are expected."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _labels(y: Any) -> NDArray[Any]:
    """Labels (N,), or 0 and 1 (N, classes).

    Raises:
        ValueError: scikit-learn's own, for numbers that are no classes, missing labels and ragged lists.
    """
    if type_of_target(y, input_name="y") == "multilabel-indicator":
        dense: NDArray[Any] = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        return dense
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    check_classification_targets(labels)
    return labels
