"""The loss of masks against torch's cross-entropy and a Dice loss written with one-hot arrays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.tasks.segment import loss


def reference(outputs: Tensor, truth: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    label = truth.long()
    logits = F.interpolate(outputs, size=label.shape[-2:], mode="bilinear", align_corners=False)
    known = label >= 0
    each = F.cross_entropy(
        logits, label, weight=weights, ignore_index=-1, label_smoothing=smoothing, reduction="none"
    )
    hot = F.one_hot(label.clamp_min(0), logits.shape[1]).permute(0, 3, 1, 2) * known[:, None]
    share = logits.softmax(1) * known[:, None]
    there = hot.sum((0, 2, 3)) > 0
    dice = 1 - (2 * (share * hot).sum((0, 2, 3)) / (share + hot).sum((0, 2, 3)))[there]
    return 0.5 * each.sum() / known.sum() + 0.5 * dice.mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lowest", [-1, 0])
def test_value_and_gradient(smoothing: float, weighted: bool, lowest: int) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(2, 5, 6, 8, requires_grad=True)
    truth = torch.randint(lowest, 4, (2, 24, 32), dtype=torch.int16)  # the last class does not occur
    weights = torch.tensor([0.5, 1.0, 2.0, 1.0, 3.0]) if weighted else None
    value = loss(outputs, truth, weights, smoothing)
    (slope,) = torch.autograd.grad(value, outputs)
    expected = reference(outputs, truth, weights, smoothing)
    (wanted,) = torch.autograd.grad(expected, outputs)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(slope, wanted, atol=1e-6)


def test_a_batch_that_counts_nowhere_has_no_loss() -> None:
    outputs = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(outputs, torch.full((1, 16, 16), -1, dtype=torch.int16), None, 0.0)
    value.backward()
    assert value.item() == 0
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()
