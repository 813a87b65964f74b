"""What FCOS says before it has learnt anything."""

from __future__ import annotations

import torch

from headstart.tasks.fcos import LEVELS, Detector, places
from headstart.weights import blank


def test_every_place_can_learn_from_the_first_step() -> None:
    """Behind the ReLU of the distances nearly every place has a slope, so every positive one is pulled to its object."""
    torch.manual_seed(0)
    network = Detector(blank("test_resnet"), 2)
    outputs = network(torch.randn(2, 3, 64, 96))
    centres, strides = places(64, 96)
    assert outputs.shape == (2, len(centres), 7)
    sides = outputs[..., 2:6]
    assert (sides > 0).float().mean() > 0.95
    middle = sides.detach().mean((0, 2))
    for stride in LEVELS:  # about as far as the objects that a level answers for
        assert 2 < middle[torch.from_numpy(strides == stride)].mean() < 4
    assert outputs[..., :2].sigmoid().mean() < 0.05  # nothing is found yet
