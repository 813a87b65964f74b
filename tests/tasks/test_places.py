"""Contracts over the tasks whose answers have places, as docs/add/task.md promises them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headstart.data.records import Sample
from headstart.pixels import PRESETS, Chances, Example, truth_boxes
from headstart.tasks import TASKS, Places, Task, fcos
from headstart.tasks.boxes import IGNORE, NOTHING
from headstart.tasks.fcos import assign, centredness, places
from headstart.weights import blank
from tests.tasks.scenes import scene

CONTRACT = blank("test_resnet").info.preprocess.boxed(96, 64)
COUNTS = {"detect": 2, "segment": 3}
tables = pytest.mark.parametrize("name", [name for name, row in TASKS.items() if row.places is not None])


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
