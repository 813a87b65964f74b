"""Probes at every depth: against hand-made features, against scikit-learn, and on satellite scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler

from headstart import data, weights
from headstart.evidence.depths import (
    ALL,
    depth_names,
    joined,
    judge_depths,
    standardised,
    twin_features,
    with_gains,
)
from headstart.evidence.probing import Probing, choose_images, correctness, mean_and_error
from headstart.features import FeatureStore
from headstart.scores import fold_numbers
from headstart.tasks import TASKS
from tests.evidence.pictures import stripes, tiny
from tests.evidence.test_curve import probing

BACKBONE = tiny()


def made(informative: dict[str, float], images: Probing, *, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Features of the tiny network's depths; `informative` says how far the classes lie apart, in which half."""
    draw = np.random.default_rng(seed)
    out = {}
    for name in (*depth_names(BACKBONE), "output"):
        rows = draw.normal(0, 1, (len(images), 12))
        place, strength = (name, informative.get(name, 0.0))
        rows[:, 0 if place != "layer3" else 6] += strength * images.targets
        out[name] = (rows * draw.uniform(0.01, 100)).astype(np.float32)
    return out


def test_the_informative_depth_wins_and_pooling_is_chosen() -> None:
    images = probing(240, classes=2)
    found = made({"layer2": 3.0, "layer3": 3.0}, images)
    judged = {"+".join(each.names): each for each in judge_depths(BACKBONE, images, found) if not each.name}
    modules = {stage.name: stage.output for stage in BACKBONE.stages}
    by_module = {modules.get(name, name): each for name, each in judged.items()}
    assert by_module["layer2"].accuracy > 0.85
    assert by_module["layer3"].accuracy > 0.85
    assert by_module["output"].accuracy < 0.65
    assert by_module["layer2"].pooling == ("mean",), "the deviation adds nothing"
    assert by_module["layer3"].pooling == ("mean+deviation",), "all is in the deviation"


def test_depths_that_complete_each_other_are_joined() -> None:
    images = probing(240, classes=2)
    judged = judge_depths(BACKBONE, images, made({"layer2": 2.0, "output": 2.0}, images))
    single = max(each.accuracy for each in judged if len(each.names) == 1)
    sets = [each for each in judged if len(each.names) > 1 and each.name != ALL]
    assert len(sets) == 1
    assert {BACKBONE.stages[-1].output, "layer2", "output"} >= {"layer2", "output"} <= set(sets[0].outputs)
    assert sets[0].accuracy > single


def test_a_probe_is_that_of_scikit_learn() -> None:
    images = probing(120, classes=3)
    rows = np.random.default_rng(2).normal(0, 1, (120, 8)).astype(np.float32)
    rows[:, 0] += 1.5 * images.targets
    right = correctness(standardised(rows), images)
    assert right is not None
    scaled = StandardScaler().fit_transform(rows)
    answers = cross_val_predict(
        RidgeClassifier(alpha=12.0, class_weight="balanced"),
        scaled,
        images.targets,
        cv=PredefinedSplit(fold_numbers(images.targets)),
    )
    assert right.mean() == pytest.approx((answers == images.targets).mean(), abs=0.05)


def test_standardising_ignores_columns_that_stand_still() -> None:
    rows = np.array([[1000.0, 1.0], [1000.0, 3.0]], np.float32)
    assert standardised(rows).tolist() == [[0.0, -1.0], [0.0, 1.0]]
    found = {"a": np.arange(8, dtype=np.float32).reshape(2, 4), "output": np.ones((2, 3), np.float32)}
    assert joined(found, ("a", "output"), ("mean", "output")).tolist() == [[0, 1, 1, 1, 1], [4, 5, 1, 1, 1]]


def test_dead_features_are_left_out() -> None:
    images = probing(60, classes=2)
    found = made({"layer2": 3.0}, images)
    found["layer1"] = np.zeros_like(found["layer1"])
    found["output"] = np.full_like(found["output"], np.inf)
    outputs = {output for each in judge_depths(BACKBONE, images, found) for output in each.outputs}
    assert "layer1" not in outputs
    assert "output" not in outputs
    assert "layer2" in outputs


def test_the_gain_is_paired_on_the_twins_images() -> None:
    images = probing(200, classes=2)
    found, blank = made({"layer2": 4.0}, images), made({}, images.first(80), seed=1)
    judged = judge_depths(BACKBONE, images, found)
    probes = with_gains(judged, images.first(80), found, blank)
    best = max(probes, key=lambda probe: probe.accuracy)
    assert best.gain is not None
    assert best.random is not None
    assert best.gain > 0.3
    assert best.random == pytest.approx(best.accuracy - best.gain, abs=1e-9)


def test_the_twin_has_the_same_depths_and_other_answers() -> None:
    dataset = stripes(24)
    images = choose_images(dataset.train, TASKS["classify"], classes=2, limit=12, seed=0)
    ours = FeatureStore(BACKBONE).get_depths(images.samples, depth_names(BACKBONE))
    blank = twin_features(BACKBONE, images)
    assert {name: rows.shape for name, rows in ours.items()} == {n: rows.shape for n, rows in blank.items()}


@pytest.mark.slow
def test_satellite_scenes_are_best_read_before_the_last_layer(test_data: Path) -> None:
    """The paired interval between the best single depth and the network's own output excludes zero."""
    dataset = data.load(str(test_data / "rsscn7-satellite"), data.LoadOptions())
    backbone = weights.load("bundled:efficientnet_lite0")
    images = choose_images(dataset.train, TASKS["classify"], classes=7, limit=400, seed=0)
    found = FeatureStore(backbone).get_depths(images.samples, depth_names(backbone))
    judged = [each for each in judge_depths(backbone, images, found) if len(each.names) == 1]
    output = next(each for each in judged if each.names == ("output",))
    best = max(judged, key=lambda each: each.accuracy)
    gain, error = mean_and_error(best.correct - output.correct)
    assert best.names[0] not in ("output", backbone.stages[-1].name)
    assert gain - 1.96 * error > 0, (best.names, gain, error)
