"""Class weights: none, by frequency, or by name."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from headstart._core.errors import BadOption
from headstart.training.class_weights import class_weights

CLASSES = ("ants", "bees", "red = wasps")
COUNTS = np.array([60, 30, 10], np.int64)


def mean(weights: np.ndarray, counts: np.ndarray = COUNTS) -> float:
    """Over the images."""
    return float((weights * counts).sum() / counts.sum())


def test_none() -> None:
    assert class_weights("none", CLASSES, COUNTS) is None


def test_auto_is_scikit_learns_balanced() -> None:
    weights = class_weights("auto", CLASSES, COUNTS)
    assert weights is not None
    labels = np.repeat(np.arange(3), COUNTS)
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert mean(weights) == pytest.approx(1)


def test_auto_with_an_absent_class() -> None:
    """It has no images, so no share in the mean: the others weigh as if it were not there."""
    counts = np.array([60, 0, 20], np.int64)
    weights = class_weights("auto", CLASSES, counts)
    assert weights is not None
    assert weights[[0, 2]] == pytest.approx([80 / 120, 80 / 40])
    assert np.isfinite(weights).all()
    assert mean(weights, counts) == pytest.approx(1)


def test_by_name() -> None:
    """bees=3: 60 * 1 + 30 * 3 + 10 * 1 = 160 over 100 images, so all are divided by 1.6."""
    weights = class_weights("bees=3", CLASSES, COUNTS)
    assert weights is not None
    assert weights == pytest.approx([1 / 1.6, 3 / 1.6, 1 / 1.6])
    assert mean(weights) == pytest.approx(1)


def test_names_with_spaces_and_signs() -> None:
    weights = class_weights(" ants = 2 , red = wasps=0.5", CLASSES, COUNTS)
    assert weights is not None
    assert weights / weights[1] == pytest.approx([2, 1, 0.5])


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("bes=3", "Did you mean 'bees'?"),
        ("nothing like it=3", "Write none, auto, or name=weight"),
        ("Auto", "names 'Auto', which is no class"),
        ("ants", "names 'ants'"),
        ("", "name=weight"),
        ("ants=", "positive number"),
        ("ants=two", "the weight 'two'"),
        ("ants=0", "positive number"),
        ("ants=-1", "positive number"),
        ("ants=nan", "positive number"),
        ("ants=inf", "positive number"),
        ("ants=2,bees=x", "gives 'bees' the weight 'x'"),
    ],
)
def test_bad_wishes(wish: str, said: str) -> None:
    with pytest.raises(BadOption) as caught:
        class_weights(wish, CLASSES, COUNTS)
    assert said in str(caught.value)
