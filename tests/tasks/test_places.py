"""Contracts over the tasks whose answers have places, as docs/add/task.md promises them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.pixels import PRESETS, Chances, Example, normalise, truth_boxes
from headstart.tasks import TASKS, Network, Places, Task, fcos
from headstart.tasks.boxes import IGNORE, NOTHING, answers
from headstart.tasks.fcos import assign, centredness, places
from headstart.weights import Backbone, blank
from tests.tasks.scenes import scene

CONTRACT = blank("test_resnet").info.preprocess.boxed(96, 64)
COUNTS = {"detect": 2, "segment": 3}
tables = pytest.mark.parametrize("name", [name for name, row in TASKS.items() if row.places is not None])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def own(backbone: Backbone) -> Backbone:
    return replace(backbone, module=copy.deepcopy(backbone.module))


def task_of(name: str) -> tuple[Task, Places]:
    task = TASKS[name]
    assert task.places is not None
    return task, task.places


def perfect(name: str, sample: Sample) -> NDArray[Any]:
    """The true answer, as an answer."""
    if name == "segment":
        assert sample.mask is not None
        return np.asarray(sample.mask.source, np.int16)
    boxes = truth_boxes(sample)
    return np.concatenate([boxes[:, :4], np.ones((len(boxes), 1)), boxes[:, 4:5]], 1)


def batch(task: Task, samples: list[Sample], contract: Preprocess = CONTRACT) -> tuple[Tensor, Any]:
    """Network input and truth."""
    examples = [task.example(sample, contract, None) for sample in samples]
    assert all(isinstance(each, Example) for each in examples)
    pixels = torch.from_numpy(np.stack([each.pixels for each in examples]))  # type: ignore[union-attr]
    truth = task.together([each.truth for each in examples])  # type: ignore[union-attr]
    return normalise(pixels.permute(0, 3, 1, 2), contract), truth


@tables
def test_the_truth_scores_perfectly(name: str) -> None:
    task, own_places = task_of(name)
    samples = [scene(number) for number in range(6)] + [scene(9, empty=True)]
    rows = own_places.tally([perfect(name, sample) for sample in samples], samples, COUNTS[name])
    truth = task.targets(samples, COUNTS[name])
    assert task.correctness(rows, truth) == pytest.approx(np.ones(7))
    assert task.judge(rows, truth) == pytest.approx(0)
    found = own_places.assess(rows, truth, ["a", "b", "c"][: COUNTS[name]], 0.5, 0)
    for metric in found.metrics.values():
        assert metric.value == pytest.approx(1)
        assert metric.low <= metric.value <= metric.high
    assert found.scores == pytest.approx([1.0] * 7)


@tables
def test_an_image_without_objects(name: str, backbone: Backbone) -> None:
    task, _ = task_of(name)
    samples = [scene(3, empty=True), scene(4, empty=True)]
    network = task.build(own(backbone), COUNTS[name])
    images, truth = batch(task, samples)
    value = task.loss(network(images), truth, None, 0.0)
    value.backward()
    assert torch.isfinite(value)
    rows = task.rows(network.eval()(images).detach(), samples, CONTRACT, COUNTS[name])
    scores = task.correctness(rows, task.targets(samples, COUNTS[name]))
    assert ((scores >= 0) & (scores <= 1)).all()


@tables
def test_the_loss_falls_on_eight_images(name: str, backbone: Backbone) -> None:
    task, _ = task_of(name)
    torch.manual_seed(0)
    network = task.build(own(backbone), COUNTS[name]).train()
    images, truth = batch(task, [scene(number) for number in range(8)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        value = task.loss(network(images), truth, None, 0.0)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.75 * losses[0]


@tables
def test_parameters_keep_the_backbones_names(name: str, backbone: Backbone) -> None:
    network: Network = TASKS[name].build(own(backbone), 3)
    body = {key.removeprefix("body.") for key, _ in network.named_parameters() if key.startswith("body.")}
    assert body <= {key for key, _ in backbone.module.named_parameters()}
    assert len(body) > 10
    norms = [
        m for key, m in network.named_modules() if not key.startswith("body") and "Batch" in type(m).__name__
    ]
    assert not norms  # group norm in new heads: small batches have no statistics


@tables
def test_chances_move_pixels_and_truth_alike(name: str) -> None:
    """A changed example's truth is found again in its pixels."""
    task, _ = task_of(name)
    for number in range(12):
        rng = np.random.default_rng(number)
        chances = Chances(augment=PRESETS["strong"], flip=True, rng=rng)
        found = task.example(scene(number), CONTRACT, chances)
        assert isinstance(found, Example)
        pixels = found.pixels.astype(float)
        reddish = pixels[..., 0] - pixels[..., 2] > 40
        bluish = pixels[..., 2] - pixels[..., 0] > 40
        if name == "segment":
            labels = found.truth.numpy()
            for colour, label in ((reddish, 1), (bluish, 2)):
                region = labels == label
                if region.sum() > 60:
                    assert colour[region].mean() > 0.8
                assert colour[labels == 0].mean() < 0.1
            continue
        for left, top, right, bottom, label, _ in found.truth[0]:
            inside = (slice(round(top), round(bottom)), slice(round(left), round(right)))
            if right - left > 6 and bottom - top > 6:
                assert (reddish if label == 0 else bluish)[inside].mean() > 0.8


def test_a_place_belongs_to_the_smallest_object_around_it() -> None:
    centres, strides = (torch.from_numpy(part) for part in places(64, 96))
    boxes = torch.tensor([[0.0, 0, 96, 64, 0, 0], [16.0, 16, 40, 40, 1, 0]])
    label, sides = assign(boxes, centres, strides)
    middle = int(((centres - 28).abs().sum(1) + (strides - 8)).argmin())
    assert label[middle] == 1
    x, y = centres[middle]
    expected = torch.tensor([x - 16, y - 16, 40 - x, 40 - y]) / 8
    assert torch.allclose(sides[middle], expected)
    assert (label == 0).any()  # around the larger one's own centre
    outside = centres[:, 0] > 70  # inside the larger one, far from its centre
    assert (label[outside] == NOTHING).all()


def test_a_crowd_counts_neither_way() -> None:
    centres, strides = (torch.from_numpy(part) for part in places(64, 96))
    label, _ = assign(torch.tensor([[0.0, 0, 40, 40, 0, 1]]), centres, strides)
    inside = (centres < 40).all(1)
    assert (label[inside] == IGNORE).all()
    assert (label[~inside] == NOTHING).all()


def test_centredness_by_hand() -> None:
    sides = torch.tensor([[4.0, 3, 4, 3], [1.0, 2, 3, 8]])
    assert centredness(sides).tolist() == pytest.approx([1.0, (1 / 3 * 2 / 8) ** 0.5])


def test_perfect_outputs_decode_to_the_boxes() -> None:
    """What the loss asks for is what the answers are made of."""
    sample = scene(5, (120, 80))
    contract = CONTRACT
    example = TASKS["detect"].example(sample, contract, None)
    assert isinstance(example, Example)
    centres, strides = (torch.from_numpy(part) for part in places(contract.height, contract.width))
    label, sides = assign(torch.from_numpy(example.truth[0]), centres, strides)
    outputs = torch.full((1, len(centres), 7), -9.0)
    outputs[..., 2:6] = sides
    for place, own_label in enumerate(label.tolist()):
        if own_label >= 0:
            outputs[0, place, own_label] = 9.0
            outputs[0, place, 6] = 9.0
    (found,) = answers(fcos.decoded, outputs, [(120, 80)], contract)
    truth = truth_boxes(sample)
    assert len(found) == len(truth) > 1
    assert np.sort(found[:, 5]).tolist() == np.sort(truth[:, 4]).tolist()
    order, wanted = np.lexsort((found[:, 1], found[:, 0])), np.lexsort((truth[:, 1], truth[:, 0]))
    assert found[order, :4] == pytest.approx(truth[wanted, :4], abs=0.01)


def test_the_loss_of_torchvision() -> None:
    """With the same places assigned, FCOS's loss is torchvision's own."""
    from torchvision.models.detection.fcos import FCOSHead

    generator = torch.Generator().manual_seed(0)
    centres, strides = (torch.from_numpy(part) for part in places(64, 96))
    boxes = np.array([[8, 8, 40, 36, 1, 0], [50, 20, 90, 60, 0, 0]], np.float32)
    outputs = torch.randn(1, len(centres), 7, generator=generator)
    outputs[..., 2:6] = outputs[..., 2:6].abs() + 0.2
    label, _ = assign(torch.from_numpy(boxes), centres, strides)
    objects = torch.from_numpy(boxes)
    matched = torch.full((len(centres),), -1)
    for place, own_label in enumerate(label.tolist()):
        if own_label >= 0:
            matched[place] = int((objects[:, 4] == own_label).nonzero()[0])
    anchors = torch.cat([centres - strides[:, None] / 2, centres + strides[:, None] / 2], 1)
    parts = FCOSHead(32, 1, 2, num_convs=1).compute_loss(
        [{"boxes": objects[:, :4], "labels": objects[:, 4].long()}],
        {
            "cls_logits": outputs[..., :2],
            "bbox_regression": outputs[..., 2:6],
            "bbox_ctrness": outputs[..., 6:],
        },
        [anchors],
        [matched],
    )
    ours = fcos.loss(outputs, [(boxes, (64, 96))])
    assert float(ours) == pytest.approx(float(sum(parts.values())), rel=1e-4)


def test_a_letterbox_is_undone_exactly() -> None:
    contract = CONTRACT
    for size in ((96, 64), (64, 96), (301, 77), (33, 200)):
        columns, rows = contract.resized(*size)
        assert columns <= 96
        assert rows <= 64
        assert columns == 96 or rows == 64
        logits = torch.zeros(1, 2, 16, 24)
        (mask,) = TASKS["segment"].places.answers(logits, [size], contract)  # type: ignore[union-attr]
        assert mask.shape == (size[1], size[0])
