"""scikit-learn's way in: `TransferLearner().fit(X, y).predict(X)`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from headstart import data, export
from headstart._core.errors import BadInput, NotFitted
from headstart.data.records import ImageSource
from headstart.pixels import contract_pixels
from headstart.predict import BATCH
from headstart.runs.fit import fit_dataset
from headstart.runs.options import sort_options
from headstart.tasks import TASKS

Images = Sequence[str | Path | Image.Image | NDArray[np.uint8]] | NDArray[Any]


class UnfittedLearner(NotFitted, NotFittedError):  # type: ignore[misc]  # scikit-learn has no types
    """`predict` before `fit`; also scikit-learn's own error, so that its tools recognise it."""


class TransferLearner(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An image classifier that reuses a pretrained network, with scikit-learn's interface.

    X is a sequence of images: paths, PIL images, or 8-bit arrays (N, H, W), (N, H, W, 3) or a list of arrays of different
    sizes. y is one label an image (any type that scikit-learn accepts), or an (N, classes) array of 0 and 1 for multi-label.

    Args:
        method: `auto` or a name of the table of methods.
        weights: `auto`, or `source:id`.
        budget: time for training: `30s`, `10m`, `1h`, `none`.
        seed: of everything random.
        val_fraction: share of the images held out to choose by, in (0, 0.5].
        params: values for the method's parameters, by name; None for those that suit the data.

    Attributes:
        classes_: labels in the order of `predict_proba`'s columns.
        bundle_: the fitted model.
        n_features_in_: pixels of the network's input, as scikit-learn counts features.
    """

    def __init__(
        self,
        method: str = "linear-probe",
        *,
        weights: str = "auto",
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
        """
        labels = np.asarray(y)
        if len(X) != len(labels):
            raise BadInput(
                f"X has {len(X)} images but y has {len(labels)} labels.",
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
        self.classes_ = np.unique(labels) if labels.ndim == 1 else np.arange(labels.shape[1])
        indices = np.searchsorted(self.classes_, labels) if labels.ndim == 1 else labels
        names = tuple(str(label) for label in self.classes_)
        dataset = data.from_arrays(_sources(X), indices, classes=names, options=options.data)
        with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
            fit_dataset(Path(folder), dataset, data.describe(dataset, "memory"), options)
            self.bundle_ = export.open_bundle(folder)
        contract = self.bundle_.preprocess
        self.n_features_in_ = contract.height * contract.width * 3
        return self

    def decision_function(self, X: Images) -> NDArray[np.float64]:
        """Calibrated logits (N, classes)."""
        try:
            check_is_fitted(self, "bundle_")
        except NotFittedError as error:
            raise UnfittedLearner(
                "This TransferLearner is not fitted yet.", hint="Call fit(X, y) first."
            ) from error
        sources, rows = _sources(X), []
        for start in range(0, len(sources), BATCH):
            chunk = sources[start : start + BATCH]
            windows = [contract_pixels(data.open_rgb(source), self.bundle_.preprocess) for source in chunk]
            rows.append(self.bundle_.logits(np.stack(windows)))
        return np.concatenate(rows).astype(np.float64) if rows else np.empty((0, len(self.classes_)))

    def predict_proba(self, X: Images) -> NDArray[np.float64]:
        """Calibrated probabilities (N, classes)."""
        logits = self.decision_function(X)
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


def _sources(X: Images) -> list[ImageSource]:
    """Each image as a path or an 8-bit array.

    Raises:
        BadInput: for arrays that are not 8-bit, and for other types.
    """
    return [_source(item, position) for position, item in enumerate(X)]


def _source(item: Any, position: int) -> ImageSource:
    if isinstance(item, str | Path):
        return Path(item)
    if isinstance(item, Image.Image):
        return np.asarray(item.convert("RGB"))
    array = np.asarray(item)
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    raise BadInput(
        f"X[{position}] is {type(item).__name__} of shape {array.shape} and type {array.dtype}.",
        hint="Give paths, PIL images, or uint8 arrays (H, W), (H, W, 3) or (H, W, 4) with values 0 to 255.",
    )
