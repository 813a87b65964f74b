"""Grad-CAM against a case worked by hand, for every kind of feature map, and the pictures made of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from headstart.evaluation.mistakes import wrongness
from headstart.explanation import grad_cam, overlaid, overlays, picture
from headstart.tasks import Classifier
from headstart.weights import load
from tests.export.conftest import preprocess


class Pooled(nn.Module):
    """Features are the mean colours: the network's last feature map is the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 3, 1, bias=False)
        self.same.weight.data = torch.eye(3)[:, :, None, None]
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.same(images)).flatten(1)
        return pooled


def hand_made() -> Classifier:
    model = Classifier(Pooled(), 3, 2).eval()
    model.head.weight.data = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, -1.0]])
    return model


def test_the_map_is_the_positive_part_of_the_evidence() -> None:
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0] = torch.tensor([[4.0, 0.0], [2.0, 1.0]])  # evidence for class 0 ...
    images[0, 1] = torch.tensor([[0.0, 5.0], [0.0, 1.0]])  # ... and twice as much against it
    images[1, 2] = 3.0  # only speaks against class 1
    found = grad_cam(hand_made(), images, answers=[0, 1])
    np.testing.assert_allclose(found[0], [[1.0, 0.0], [0.5, 0.0]], atol=1e-6)
    np.testing.assert_array_equal(found[1], np.zeros((2, 2)))


def test_nothing_is_left_behind_in_the_model() -> None:
    model = hand_made().requires_grad_(False)
    with torch.no_grad():
        assert grad_cam(model, torch.ones(1, 3, 4, 4), answers=[0]).shape == (1, 4, 4)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


# a map right before the pooling (channels first, channels last, tokens), and a class token, which hides the others
@pytest.mark.parametrize(
    "arch", ["resnet10t", "test_efficientnet", "test_convnext", "test_maxvit", "test_vit", "test_vit2"]
)
def test_every_kind_of_network_says_where_it_looked(arch: str) -> None:
    torch.manual_seed(0)
    backbone = load(f"random:{arch}")
    model = Classifier(backbone.module, backbone.width, 20).eval()
    nn.init.normal_(model.head.weight)
    contract = backbone.info.preprocess
    layers = [model.get_submodule(f"body.{stage.output}") for stage in reversed(backbone.stages)]
    images = torch.randn(2, 3, contract.height, contract.width)
    with torch.no_grad():
        answers = model(images).argmax(1).tolist()
    found = grad_cam(model, images, answers=answers, layers=layers)
    assert found.shape[0] == 2
    assert min(found.shape[1:]) > 1
    assert np.ptp(found, axis=(1, 2)).min() > 0.02, "a flat map tells nothing"
    np.testing.assert_array_equal(found.max((1, 2)), 1)
    assert found.min() >= 0


def test_the_overlay_is_grey_where_the_network_did_not_look() -> None:
    seen = Image.new("RGB", (60, 60), (250, 220, 0))
    heat = np.zeros((3, 3), np.float32)
    heat[0, 0] = 1
    found = np.asarray(overlaid(seen, heat), int)
    red, green, _ = found[2, 2]
    assert red > green + 80
    assert green < 130
    cold = found[55, 55]
    assert cold.max() == cold.min() == np.asarray(seen.convert("L"))[0, 0]


def test_the_decision_that_was_wrong_is_the_one_explained() -> None:
    one = wrongness(np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([1, 1]))
    np.testing.assert_array_equal(one, [[0.7, 0], [0, 0]])
    many = wrongness(np.array([[0.9, 0.2, 0.6]]), np.array([[1, 1, 0]]))
    np.testing.assert_allclose(many, [[0, 0.8, 0.6]])  # missed the second, added the third


def test_pictures_are_what_the_network_saw() -> None:
    contract = preprocess(32)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    seen = picture(image, contract)
    assert seen.size == (32, 32)
    (hot,) = overlays(hand_made(), [seen], contract, answers=[1])
    assert hot.size == (32, 32)
    assert overlays(hand_made(), [], contract, answers=[]) == []
