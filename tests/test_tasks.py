"""Contracts over the table of tasks, as docs/add/task.md promises them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

from headstart.data.records import Sample
from headstart.tasks import TASKS, Classifier, Task
from headstart.tasks.records import Floats, Labels

CLASSES = 4
LABELS: dict[str, list[tuple[int, ...]]] = {
    "classify": [(0,), (3,), (1,), (1,), (2,), (0,)],
    "multilabel": [(0, 2), (), (3,), (0, 1, 2, 3), (1,), (2, 3)],
}
"""A task with labels of another kind adds a line."""

tables = pytest.mark.parametrize("name", [name for name, row in TASKS.items() if row.places is None])


def samples(name: str) -> tuple[Sample, ...]:
    empty = np.zeros((2, 2, 3), np.uint8)
    return tuple(Sample(name=str(n), source=empty, labels=own) for n, own in enumerate(LABELS[name]))


def case(name: str) -> tuple[Task, Labels]:
    task = TASKS[name]
    return task, task.targets(samples(name), CLASSES)


def perfect(task: Task, targets: Labels, sure: float = 8.0) -> Floats:
    """Logits that say the truth, as surely as that."""
    if targets.ndim == 1:
        return np.eye(CLASSES)[targets] * sure
    return (2.0 * targets - 1) * sure


def tensor_loss(task: Task, logits: Floats, targets: Labels, smoothing: float = 0.0) -> float:
    return float(task.loss(torch.from_numpy(logits).float(), torch.from_numpy(targets), None, smoothing))


@tables
def test_the_row_is_whole(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    assert task.activation in ("softmax", "sigmoid")
    assert task.primary


@tables
def test_targets_have_a_row_an_image(name: str) -> None:
    _, targets = case(name)
    assert targets.dtype == np.int64
    assert targets.shape in ((6,), (6, CLASSES))


@tables
def test_perfect_logits_decode_to_the_truth(name: str) -> None:
    task, targets = case(name)
    logits = perfect(task, targets)
    assert task.decode(task.probabilities(logits)) == LABELS[name]
    assert task.correctness(logits, targets).tolist() == [1.0] * 6


@tables
def test_wrong_logits_are_wrong(name: str) -> None:
    task, targets = case(name)
    assert task.correctness(-perfect(task, targets), targets).tolist() == [0.0] * 6


@tables
def test_correctness_and_probabilities_are_in_bounds(name: str) -> None:
    task, targets = case(name)
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0, 30.0, 1000.0):
        logits = rng.normal(0, scale, (6, CLASSES))
        scores, probability = task.correctness(logits, targets), task.probabilities(logits)
        assert scores.shape == (6,)
        assert ((scores >= 0) & (scores <= 1)).all()
        assert probability.shape == (6, CLASSES)
        assert np.isfinite(probability).all()
        assert ((probability >= 0) & (probability <= 1)).all()
        if task.activation == "softmax":
            assert probability.sum(1) == pytest.approx(np.ones(6))


@tables
def test_probabilities_are_the_activation_of_the_exported_graph(name: str) -> None:
    task = TASKS[name]
    logits = torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(1) if task.activation == "softmax" else logits.sigmoid()
    assert task.probabilities(logits.numpy()) == pytest.approx(expected.numpy(), abs=1e-6)


@tables
def test_the_loss_falls_as_logits_move_towards_the_truth(name: str) -> None:
    task, targets = case(name)
    start = np.random.default_rng(0).normal(0, 1, (6, CLASSES))
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    losses = [
        tensor_loss(task, start + share * (perfect(task, targets) - start), targets) for share in shares
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01


@tables
def test_smoothing_punishes_certainty(name: str) -> None:
    task, targets = case(name)
    sure, surer = perfect(task, targets, 4.0), perfect(task, targets, 40.0)
    assert tensor_loss(task, surer, targets) < tensor_loss(task, sure, targets)
    assert tensor_loss(task, surer, targets, 0.2) > tensor_loss(task, sure, targets, 0.2)


@tables
def test_weights_move_the_loss_towards_their_class(name: str) -> None:
    """A class of weight 3 pulls three times as hard on its own logits as one of weight 1, relative to the rest."""
    task, targets = case(name)
    plain, heavy = (torch.zeros(6, CLASSES, requires_grad=True) for _ in range(2))
    truth = torch.from_numpy(targets)
    task.loss(plain, truth, torch.ones(CLASSES), 0.0).backward()
    task.loss(heavy, truth, torch.tensor([3.0, 1.0, 1.0, 1.0]), 0.0).backward()
    assert plain.grad is not None
    assert heavy.grad is not None
    has = (targets == 0) if targets.ndim == 1 else targets[:, 0] > 0
    rows = torch.from_numpy(np.flatnonzero(has))
    others = torch.from_numpy(np.flatnonzero(~has))
    ratio = (heavy.grad[rows, 0] / plain.grad[rows, 0]).mean()
    rest = (heavy.grad[others] / plain.grad[others]).mean()
    assert float(ratio / rest) == pytest.approx(3.0)


@tables
def test_primary_is_the_mean_of_correctness(name: str) -> None:
    """Checked against scikit-learn, by the name the row gives: a history that says `x` must hold x."""
    task, targets = case(name)
    logits = np.random.default_rng(3).normal(0, 1, (6, CLASSES))
    score = float(task.correctness(logits, targets).mean())
    if task.primary == "accuracy":
        assert score == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    else:
        assert task.primary == "f1_samples"
        given = (logits > 0).astype(int)
        expected = f1_score(targets, given, average="samples", zero_division=1)
        assert score == pytest.approx(expected)


def test_classify_by_hand() -> None:
    task = TASKS["classify"]
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    expected = -(log_softmax(logits, axis=1)[0, 0] + log_softmax(logits, axis=1)[1, 1]) / 2
    assert tensor_loss(task, logits, np.array([0, 1])) == pytest.approx(expected, rel=1e-5)
    assert task.correctness(logits, np.array([0, 1])).tolist() == [1.0, 0.0]


def test_multilabel_by_hand() -> None:
    task = TASKS["multilabel"]
    logits, truth = np.array([[2.0, -1.0, 0.5]]), np.array([[1, 1, 0]])
    p = expit(logits[0])
    expected = -(np.log(p[0]) + np.log(p[1]) + np.log(1 - p[2])) / 3
    assert tensor_loss(task, logits, truth) == pytest.approx(expected, rel=1e-5)
    assert task.decode(task.probabilities(logits)) == [(0, 2)]
    assert task.correctness(logits, truth).tolist() == [0.5]  # one of two given, one of two present
    none = np.zeros((1, 3), np.int64)
    assert task.correctness(-np.abs(logits), none).tolist() == [1.0]  # nothing said, nothing there
    assert task.correctness(np.abs(logits), none).tolist() == [0.0]


def test_decode_and_correctness_agree() -> None:
    task = TASKS["multilabel"]
    logits = np.random.default_rng(1).normal(0, 1, (50, CLASSES))
    given = np.zeros((50, CLASSES), np.int64)
    for row, names in enumerate(task.decode(task.probabilities(logits))):
        given[row, list(names)] = 1
    assert task.correctness(logits, given).tolist() == [1.0] * 50


# The network


def test_what_is_held_stays_in_evaluation_mode() -> None:
    body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(), nn.Linear(4, 5)))
    model = Classifier(body, 5, 2)
    model.held = ("body.1", "body.2")
    assert model.train() is model
    assert [name for name, m in model.named_modules() if m.training] == ["", "body", "body.0", "head"]
    model.eval()
    assert not any(module.training for module in model.modules())
    model.train()
    assert not model.get_submodule("body.2.0").training


def test_names_of_parameters() -> None:
    model = Classifier(nn.Linear(3, 4), 4, 2)
    assert [n for n, _ in model.named_parameters()] == [
        "body.weight",
        "body.bias",
        "head.weight",
        "head.bias",
    ]
    assert model(torch.zeros(5, 3)).shape == (5, 2)
