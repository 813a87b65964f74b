"""Boxes against pycocotools, masks against scikit-learn and hand-worked cases."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from headstart.metrics import detection, draw, segmentation
from headstart.metrics.detection import Floats


def scene(
    seed: int, images: int = 25, classes: int = 3, *, empty: bool = True
) -> tuple[list[Floats], list[Floats]]:
    """Answers of middling quality to random boxes of all sizes, some of them crowds, some images empty."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for image in range(images):
        count = 0 if empty and image % 7 == 3 else int(rng.integers(1, 8))
        corner = rng.uniform(0, 300, (count, 2))
        size = np.exp(rng.uniform(np.log(8), np.log(200), (count, 2)))
        label = rng.integers(0, classes, (count, 1))
        crowd = rng.random((count, 1)) < 0.1
        truth.append(np.concatenate([corner, corner + size, label, crowd], 1).astype(np.float64))
        moved = truth[-1][rng.random(count) < 0.8].copy()
        moved[:, :4] += rng.normal(0, 0.06, (len(moved), 4)) * np.tile(moved[:, 2:4] - moved[:, :2], 2)
        wrong = rng.uniform(0, 300, (int(rng.integers(0, 5)), 2))
        extra = np.concatenate([wrong, wrong + 40, rng.integers(0, classes, (len(wrong), 1))], 1)
        boxes = np.concatenate([moved[:, :5], extra])
        scores = np.round(rng.random((len(boxes), 1)), 2)  # ties occur
        found.append(np.concatenate([boxes[:, :4], scores, boxes[:, 4:5]], 1))
    return found, truth


def summary(found: list[Floats], truth: list[Floats], classes: int = 3) -> Floats:
    """pycocotools' own twelve numbers."""
    evaluator = detection.evaluated(found, truth, classes=classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
        evaluator.summarize()
    return np.asarray(evaluator.stats)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_numbers_as_pycocotools(seed: int) -> None:
    found, truth = scene(seed)
    stats = summary(found, truth)
    matches = detection.match(found, truth, classes=3)
    each = detection.class_precisions(matches)
    ours = [detection.mean_precision(each), detection.mean_precision(each[:, 0])]
    ours.append(detection.mean_precision(each[:, 5]))
    ours += [
        detection.mean_precision(detection.class_precisions(matches, size=size))
        for size in detection.SIZES[1:]
    ]
    assert np.abs(np.array(ours) - stats[:6]).max() < 1e-12


def test_a_weight_is_as_many_copies_of_the_image() -> None:
    found, truth = scene(5)
    times = np.random.default_rng(0).integers(0, 4, len(truth))
    copies = [k for k, n in enumerate(times) for _ in range(n)]
    repeated = detection.match([found[k] for k in copies], [truth[k] for k in copies], classes=3)
    weighted = detection.class_precisions(
        detection.match(found, truth, classes=3), weights=times.astype(np.float64)
    )
    assert detection.class_precisions(repeated) == pytest.approx(weighted, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_resamples_at_once_are_each_by_itself(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crowds, images and classes without objects, ties, resamples without a class; in pieces of seven rows too."""
    found, truth = scene(seed, images=12, classes=4)
    draws = draw(12, seed=seed, repeats=40).images
    for by_size in (True, False):
        matches = detection.match(found, truth, classes=5, by_size=by_size)
        for size in detection.SIZES if by_size else ("all",):
            each = np.stack(
                [
                    detection.class_precisions(matches, size=size, weights=row.astype(np.float64))
                    for row in draws
                ]
            )
            assert np.isnan(each[:, 4]).all()
            at_once = detection.resampled_precisions(matches, draws, size=size)
            np.testing.assert_allclose(at_once, each, rtol=0, atol=1e-12)
            means = [detection.mean_precision(one) for one in each]
            np.testing.assert_allclose(detection.mean_precisions(at_once), means)
    monkeypatch.setattr(detection, "_CELLS", 7 * max(len(part.scores) for part in matches.parts[0]))
    np.testing.assert_allclose(detection.resampled_precisions(matches, draws), each, rtol=0, atol=1e-12)


def test_the_truth_scores_perfectly_and_padding_does_not_count() -> None:
    _, truth = scene(1)
    padding = np.full((5, 6), -1.0)
    found = [
        np.concatenate([np.concatenate([t[:, :4], np.ones((len(t), 1)), t[:, 4:5]], 1), padding])
        for t in truth
    ]
    matches = detection.match(found, truth, classes=3)
    assert detection.mean_precision(detection.class_precisions(matches)) == pytest.approx(1)
    assert detection.image_scores(matches) == pytest.approx(np.ones(len(truth)))


def test_image_scores_of_images_without_objects() -> None:
    nothing, one = np.zeros((0, 6)), np.array([[0, 0, 10, 10, 0.7, 0]])
    matches = detection.match([nothing, one], [nothing, nothing], classes=2)
    assert detection.image_scores(matches).tolist() == pytest.approx([1.0, 0.3])
    assert np.isnan(detection.class_precisions(matches)).all()


def test_a_threshold_for_a_precision() -> None:
    truth = [np.array([[0, 0, 10, 10, 0, 0], [50, 50, 60, 60, 0, 0]], np.float64)]
    found = [
        np.array(
            [
                [0, 0, 10, 10, 0.9, 0],
                [90, 90, 99, 99, 0.6, 0],
                [50, 50, 60, 60, 0.4, 0],
                [30, 30, 40, 40, 0.1, 0],
            ]
        )
    ]
    matches = detection.match(found, truth, classes=1)
    assert detection.best_threshold(matches) == 0.4  # two of three right, nothing missed
    assert detection.best_threshold(matches, precision=0.99) == 0.9
    assert detection.best_threshold(matches, precision=0.5) == 0.1


def test_kinds_of_errors_by_hand() -> None:
    truth = [
        np.array(
            [[0, 0, 10, 10, 0, 0], [20, 0, 30, 10, 1, 0], [40, 0, 50, 10, 0, 0], [60, 0, 70, 10, 1, 0]], float
        )
    ]
    found = [
        np.array(
            [
                [0, 0, 10, 10, 0.9, 0],  # right
                [0, 0, 10, 9, 0.8, 0],  # double
                [20, 0, 30, 10, 0.7, 0],  # confused
                [46, 0, 56, 10, 0.6, 0],  # misplaced: overlap 0.25
                [90, 0, 99, 10, 0.5, 1],  # background
                [60, 0, 70, 10, 0.1, 1],  # below the threshold: missed
            ]
        )
    ]
    kinds, table = detection.error_kinds(found, truth, classes=2, threshold=0.3)
    assert kinds == {
        "right": 1,
        "confused": 1,
        "misplaced": 1,
        "double": 1,
        "background": 1,
        "missed": 3,
    }
    assert table.tolist() == [[1, 0, 1], [1, 0, 2], [2, 1, 0]]


def labels(seed: int, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 4, (4, 5)), np.ones((shape[0] // 4, shape[1] // 5))).astype(np.int16)


def test_masks_against_scikit_learn() -> None:
    pairs = [(labels(seed), labels(seed + 100)) for seed in range(3)]
    for truth, answers in pairs:
        answers[:20] = truth[:20]
        truth[0, :7] = -1
    rows = np.stack([segmentation.counts(t, a, classes=4) for t, a in pairs])
    known = [t >= 0 for t, _ in pairs]
    truth = np.concatenate([t[k] for (t, _), k in zip(pairs, known, strict=True)])
    answers = np.concatenate([a[k] for (_, a), k in zip(pairs, known, strict=True)])
    assert segmentation.ious(rows) == pytest.approx(jaccard_score(truth, answers, average=None))
    assert segmentation.dices(rows) == pytest.approx(f1_score(truth, answers, average=None))
    assert segmentation.pixel_accuracy(rows) == pytest.approx((truth == answers).mean())
    alone = jaccard_score(pairs[0][0][known[0]], pairs[0][1][known[0]], average="macro")
    assert segmentation.image_scores(rows)[0] == pytest.approx(alone)


def test_resampled_counts_are_those_of_the_images_drawn() -> None:
    rows = np.stack([segmentation.counts(labels(k), labels(k + 50), classes=5) for k in range(6)])
    draws = draw(6, seed=1, repeats=20).images
    each = [segmentation.ious(np.repeat(rows, row.astype(int), axis=0)) for row in draws]
    np.testing.assert_allclose(segmentation.resampled_ious(rows, draws.astype(np.float64)), each)


def test_the_boundary_by_erosion() -> None:
    """A region's part within the band is what erosion by as many pixels takes away."""
    from scipy.ndimage import binary_erosion

    truth, answers = labels(1, (80, 100)), labels(1, (80, 100))
    answers[:, :30] = np.roll(answers, 3, axis=0)[:, :30]
    width = round(segmentation.BAND * np.hypot(80, 100))
    rows = segmentation.counts(truth, answers, classes=4)[None]
    square = np.ones((2 * width + 1, 2 * width + 1))
    for label in range(4):
        bands = [(m == label) & ~binary_erosion(m == label, square, border_value=1) for m in (truth, answers)]
        expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
        assert segmentation.boundary_ious(rows)[label] == pytest.approx(expected)


def test_a_perfect_mask_and_one_that_nobody_labelled() -> None:
    truth, nothing = labels(2), np.full((40, 50), -1, np.int16)
    rows = np.stack([segmentation.counts(t, labels(2), classes=4) for t in (truth, nothing)])
    assert segmentation.image_scores(rows).tolist() == [1.0, 1.0]
    assert segmentation.mean_of(segmentation.boundary_ious(rows)) == 1.0
    assert not rows[1].any()


def test_all_sizes_together_are_the_first_of_each_size() -> None:
    found, truth = scene(3)
    whole = detection.match(found, truth, classes=3)
    quick = detection.match(found, truth, classes=3, by_size=False)
    assert len(quick.parts) == 1
    assert detection.class_precisions(quick) == pytest.approx(detection.class_precisions(whole), abs=0)
    assert detection.image_scores(quick) == pytest.approx(detection.image_scores(whole), abs=0)
