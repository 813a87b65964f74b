"""Contracts over the heads of tasks whose answers have places, as docs/add/head.md promises them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from headstart import export
from headstart._core.errors import BadInput, BadOption, MissingPackage
from headstart.adaptation import Adapted, adapt, settle
from headstart.data.records import DatasetFacts, Sample
from headstart.export import Manifest, open_bundle, save_bundle
from headstart.methods import METHODS, Suggestion
from headstart.metrics.detection import overlaps
from headstart.pixels import Example, normalise, truth_boxes
from headstart.planning import Rung, Wishes, make_plan
from headstart.tasks import (
    HEADS,
    TASKS,
    HeadSpec,
    Task,
    faster_rcnn,
    fcos,
    head_of,
    heads_of,
    retinanet,
    task_of,
)
from headstart.tasks.anchors import Anchors, assign, fit, laid, moved
from headstart.tasks.boxes import IGNORE, NOTHING
from headstart.training.prefix import suffix_of
from headstart.weights import Backbone, blank
from tests.tasks.scenes import scene
from tests.test_methods import facts

PLACES = [task for task, row in TASKS.items() if row.places is not None]
OF_PLACES = [(task, name) for task in PLACES for name in heads_of(task)]
NAMES = [name for _, name in OF_PLACES]
OF_BOXES = [name for task, name in OF_PLACES if task == "detect"]
CLASSES = {"detect": ("red", "blue"), "segment": ("ground", "red", "blue")}
CONTRACT = blank("test_resnet").info.preprocess.boxed(96, 64)
STEPS = {"faster-rcnn": 64}
"""Of a head's contract; a second look learns only from what the first has found. Others: 32."""

heads = pytest.mark.parametrize(("task", "name"), OF_PLACES, ids=NAMES)
box_heads = pytest.mark.parametrize("name", OF_BOXES)


@pytest.fixture(autouse=True)
def _few_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene has three objects: the second look at each proposal is most of the work."""
    monkeypatch.setattr(faster_rcnn, "PROPOSALS", 32)


def known(task: str) -> DatasetFacts:
    """Facts that fit the scenes."""
    return replace(
        facts(8),
        task=task,
        classes=CLASSES[task],
        box_quantiles=(0.17, 0.2, 0.24, 0.28, 0.33),
        aspect_quantiles=(1.5,) * 5,
        long_side=96.0,
    )


def headed(task: str, name: str) -> Task:
    """The task with that head, fitted to the scenes."""
    head = head_of(task, name)
    return task_of(task, head.spec(head.fit(known(task), (96, 64))[0]))


def batch(task: Task, samples: list[Sample]) -> tuple[Tensor, Any]:
    """Network input and truth."""
    examples = [task.example(sample, CONTRACT, None) for sample in samples]
    pixels = torch.from_numpy(np.stack([each.pixels for each in examples if isinstance(each, Example)]))
    truth = task.together([each.truth for each in examples if isinstance(each, Example)])
    return normalise(pixels.permute(0, 3, 1, 2), CONTRACT), truth


@dataclass(frozen=True)
class Fitted:
    """A head after some steps on eight scenes, all of the network's parts moving, with its losses."""

    task: Task
    adapted: Adapted
    losses: tuple[float, ...]


def adapted_for(task: Task, method: str, backbone: Backbone) -> Adapted:
    answer = METHODS[method].suggest(known(task.name), None, backbone, {})
    assert isinstance(answer, Suggestion)
    rung = Rung(method=method, params=asdict(answer.params), why="a test")
    return adapt(rung, backbone, classes=len(CLASSES[task.name]), seed=0, task=task)


def steps(task: Task, adapted: Adapted, count: int) -> list[float]:
    """The losses of so many steps on the same eight scenes."""
    network = adapted.model.train()
    images, truth = batch(task, [scene(number) for number in range(8)])
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=2e-3)
    losses = []
    for number in range(count):
        torch.manual_seed(number)
        optimizer.zero_grad()
        value = task.loss(network(images), truth, None, 0.0)
        value.backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


@cache
def fitted(task: str, name: str) -> Fitted:
    own = headed(task, name)
    adapted = adapted_for(own, "full", blank("test_resnet"))
    losses = steps(own, adapted, STEPS.get(name, 32))
    adapted.model.eval()
    return Fitted(own, adapted, tuple(losses))


@heads
def test_the_row_is_whole(task: str, name: str) -> None:
    head = HEADS[name]
    assert head.name == name
    assert task in head.tasks
    assert head.summary
    assert head.source
    assert "(" in head.licence
    spec = headed(task, name).head
    assert spec.name == name
    assert task_of(task, HeadSpec(name=name, settings=copy.deepcopy(spec.settings))).head == spec


@heads
def test_the_loss_falls_on_eight_images(task: str, name: str) -> None:
    losses = fitted(task, name).losses
    assert min(losses[10:16]) < 0.85 * losses[0]
    assert min(losses[-4:]) < 0.6 * losses[0]


@heads
def test_an_image_without_objects(task: str, name: str) -> None:
    own = headed(task, name)
    samples = [scene(3, empty=True), scene(4, empty=True)]
    network = own.build(blank("test_resnet"), len(CLASSES[task]))
    images, truth = batch(own, samples)
    value = own.loss(network(images), truth, None, 0.0)
    value.backward()
    assert torch.isfinite(value)
    rows = own.rows(network.eval()(images).detach(), samples, CONTRACT, len(CLASSES[task]))
    scores = own.correctness(rows, own.targets(samples, len(CLASSES[task])))
    assert ((scores >= 0) & (scores <= 1)).all()


@heads
def test_parameters_keep_the_backbones_names(task: str, name: str) -> None:
    backbone = blank("test_resnet")
    names = {key for key, _ in backbone.module.named_parameters()}
    network = headed(task, name).build(backbone, 3)
    body = {key.removeprefix("body.") for key, _ in network.named_parameters() if key.startswith("body.")}
    assert body <= names
    assert len(body) > 10
    kinds = [type(part).__name__ for key, part in network.named_modules() if not key.startswith("body")]
    assert not [kind for kind in kinds if "BatchNorm" in kind]  # small batches have no statistics
    assert "GroupNorm" in kinds


@heads
def test_a_frozen_backbone_stays_bit_identical(task: str, name: str) -> None:
    own = headed(task, name)
    adapted = adapted_for(own, "frozen", blank("test_resnet"))
    losses = steps(own, adapted, 6)
    ledger = settle(adapted, adapted.model)
    assert ledger.frozen_identical
    assert all(line.verified for line in ledger.groups if line.name != "head")
    moved_head = next(line for line in ledger.groups if line.name == "head")
    assert moved_head.hash_before != moved_head.hash_after
    assert min(losses[1:]) < losses[0]


@heads
def test_heads_need_nothing_but_the_maps(task: str, name: str) -> None:
    """Else the maps of a frozen backbone could not be stored."""
    adapted = adapted_for(headed(task, name), "frozen", blank("test_resnet"))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    assert adapted.applied.boundary
    assert suffix_of(adapted.model, adapted.applied.boundary, images) is not None


def bundle_of(task: str, name: str, folder: Path) -> export.Bundle:
    """The fitted head, saved and read again."""
    done, info = fitted(task, name), blank("test_resnet").info
    manifest = Manifest(
        task=task,
        classes=CLASSES[task],
        head=done.task.head,
        arch=info.arch,
        width=1,
        preprocess=CONTRACT,
        weights=info,
        method="full",
    )
    save_bundle(folder, done.adapted.model, manifest)
    return open_bundle(folder)


@heads
def test_a_bundle_gives_the_same_answers(task: str, name: str, tmp_path: Path) -> None:
    done, bundle = fitted(task, name), bundle_of(task, name, tmp_path)
    assert bundle.made.head == done.task.head
    samples = [scene(number) for number in range(4)]
    pixels = np.stack([_pixels(done.task, sample) for sample in samples])
    sizes = [(96, 64)] * 4
    images, _ = batch(done.task, samples)
    assert done.task.places is not None
    with torch.inference_mode():
        ours = done.task.places.answers(done.adapted.model(images), sizes, CONTRACT)
    theirs = bundle.answers(pixels, sizes, threshold=0.0)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert one == pytest.approx(other, abs=1e-3)


def _pixels(task: Task, sample: Sample) -> Any:
    example = task.example(sample, CONTRACT, None)
    assert isinstance(example, Example)
    return example.pixels


@heads
def test_a_fitted_head_finds_what_it_was_shown(task: str, name: str) -> None:
    """After a few seconds on eight scenes the answers to them are better than none: encoding and decoding agree."""
    done = fitted(task, name)
    samples = [scene(number) for number in range(8)]
    images, _ = batch(done.task, samples)
    with torch.inference_mode():
        outputs = done.adapted.model(images)
    rows = done.task.rows(outputs, samples, CONTRACT, len(CLASSES[task]))
    assert done.task.judge(rows, done.task.targets(samples, len(CLASSES[task]))) < 0.7


@pytest.mark.slow
@heads
def test_the_exported_file_agrees(task: str, name: str, tmp_path: Path) -> None:
    from headstart.export import places as exported

    bundle = bundle_of(task, name, tmp_path / "bundle")
    exported.write(bundle, tmp_path / "model.onnx")
    runner = exported.open_runner(tmp_path / "model.onnx")
    samples = [scene(n, size) for n, size in enumerate([(96, 64), (96, 64), (150, 100), (64, 96), (37, 41)])]
    if task == "detect":
        sure = [bundle.answers(_pixels(bundle.made, s)[None], [(s.width, s.height)]) for s in samples]
        assert sum((one[:, 4] >= exported.SURE).sum() for (one,) in sure) >= 4  # else nothing is compared
    assert exported.check(bundle, runner, samples).passed
    pair = np.stack([np.asarray(sample.source) for sample in samples[:2]])
    alone = [runner(one[None])[0] for one in pair]
    for one, other in zip(runner(pair), alone, strict=True):  # a batch gives what its images give alone
        assert one == pytest.approx(other, abs=1e-2)


# Boxes: what the loss asks for is what the answers are made of


def perfect_fcos(boxes: np.ndarray[Any, Any], settings: Any) -> Tensor:
    centres, strides = (torch.from_numpy(part) for part in fcos.places(64, 96))
    label, sides = fcos.assign(torch.from_numpy(boxes), centres, strides)
    outputs = torch.full((1, len(centres), 7), -9.0)
    outputs[0, :, 2:6] = sides
    outputs[0, label >= 0, label[label >= 0]] = 9.0
    outputs[0, label >= 0, 6] = fcos.centredness(sides[label >= 0]).clamp(1e-3, 1 - 1e-3).logit()
    return outputs


def perfect_retinanet(boxes: np.ndarray[Any, Any], settings: Anchors) -> Tensor:
    anchors = torch.from_numpy(laid(64, 96, settings))
    label, true = assign(torch.from_numpy(boxes), anchors, above=0.5, below=0.4)
    outputs = torch.full((1, len(anchors), 6), -9.0)
    outputs[0, :, 2:] = 0
    outputs[0, label >= 0, label[label >= 0]] = 9.0
    outputs[0, label >= 0, 2:] = changes(anchors, true)[label >= 0]
    return outputs


def perfect_faster_rcnn(boxes: np.ndarray[Any, Any], settings: Anchors) -> Tensor:
    """Proposals a little beside the boxes, some beside everything, each with what is to be said of it."""
    one = boxes.copy()
    one[:, 4] = 0
    first = perfect_retinanet(one, settings)
    near = torch.from_numpy(boxes[:, :4]) + torch.tensor([1.0, -1, 2, 1])
    far = torch.tensor([[0.0, 0, 6, 6], [90, 60, 96, 64]])
    proposals = torch.cat([near, far])
    said = torch.full((len(proposals), 3), -9.0)
    said[len(near) :, 2] = 9.0
    said[range(len(near)), boxes[:, 4].astype(int)] = 9.0
    ways = torch.cat([changes(near, torch.from_numpy(boxes[:, :4])), torch.zeros(2, 4)])
    zeros = torch.zeros(1, first.shape[1], 6)
    return torch.cat(
        [torch.cat([first[..., :1], first[..., 2:], zeros], 2), torch.cat([said, ways, proposals], 1)[None]],
        1,
    )


def changes(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Torchvision's own encoding."""
    from torchvision.models.detection._utils import BoxCoder

    coded: Tensor = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(boxes, anchors)
    return coded


PERFECT: dict[str, Callable[[Any, Any], Tensor]] = {
    "fcos": perfect_fcos,
    "retinanet": perfect_retinanet,
    "faster-rcnn": perfect_faster_rcnn,
}
"""A head for boxes adds a line: the outputs that say exactly these boxes."""


@box_heads
def test_perfect_outputs_decode_to_the_boxes(name: str) -> None:
    own = headed("detect", name)
    assert own.places is not None
    settings = HEADS[name].fit(known("detect"), (96, 64))[0]
    sample = scene(5, (120, 80))
    example = own.example(sample, CONTRACT, None)
    assert isinstance(example, Example)
    outputs = PERFECT[name](example.truth[0], settings)
    (found,) = own.places.answers(outputs, [(120, 80)], CONTRACT)
    truth = truth_boxes(sample)
    assert len(found) == len(truth) > 1
    place = overlaps(found[:, :4], truth[:, :4])
    assert place.max(1) == pytest.approx(np.ones(len(found)), abs=1e-3)
    assert (truth[place.argmax(1), 4] == found[:, 5]).all()
    rows = own.rows(outputs, [sample], CONTRACT, 2)
    assert own.judge(rows, own.targets([sample], 2)) == pytest.approx(0)
    perfect = float(own.loss(outputs, own.together([example.truth]), None, 0.0))
    worse = float(own.loss(outputs.roll(1, 1), own.together([example.truth]), None, 0.0))
    assert perfect < 0.3 * worse


@box_heads
def test_finding_a_crowd_costs_nothing(name: str) -> None:
    """An object that counts neither way may be said or not."""
    own = headed("detect", name)
    settings = HEADS[name].fit(known("detect"), (96, 64))[0]
    box = np.array([[20, 10, 44, 34, 1, 0]], np.float32)
    crowd = box + np.array([[0, 0, 0, 0, 0, 1]], np.float32)
    said = PERFECT[name](box, settings)
    silent = PERFECT[name](box[:0], settings)
    costs = [float(own.loss(each, [(crowd, (64, 96))], None, 0.0)) for each in (said, silent)]
    nothing = float(own.loss(said, [(box[:0], (64, 96))], None, 0.0))
    assert costs[0] == pytest.approx(costs[1], abs=0.02)
    assert nothing > costs[0] + 0.5


# Anchors


def test_anchors_are_torchvisions() -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = Anchors(sizes=((16.0, 24.0), (32.0, 48.0), (64.0, 96.0), (128.0, 192.0)))
    generator = AnchorGenerator(anchors.sizes, (anchors.ratios,) * 4)
    strides = [[torch.tensor(stride)] * 2 for stride in (8, 16, 32, 64)]
    theirs = torch.cat(generator.grid_anchors([[8, 12], [4, 6], [2, 3], [1, 2]], strides)).numpy()
    ours = laid(64, 96, anchors)
    half = np.repeat([4, 8, 16, 32], [96 * 6, 24 * 6, 6 * 6, 2 * 6])[:, None]
    assert np.abs(ours - theirs - half).max() <= 0.5  # theirs are whole pixels


def test_moving_is_torchvisions_decoding() -> None:
    from torchvision.models.detection._utils import BoxCoder

    generator = torch.Generator().manual_seed(0)
    anchors = torch.from_numpy(laid(64, 96, fit(known("detect"), (96, 64))[0]))
    said = torch.randn(len(anchors), 4, generator=generator) * torch.tensor([1.0, 1, 3, 3])
    theirs = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(said, anchors)
    assert torch.allclose(moved(anchors, said), theirs, rtol=1e-4, atol=1e-3)


def test_anchor_sizes_follow_the_boxes() -> None:
    near, why = fit(known("detect"), (96, 64))
    assert "18 to 29 pixels" in why  # sqrt(0.17 * 0.2) and sqrt(0.28 * 0.33) of 96
    sizes = [size for level in near.sizes for size in level]
    assert sizes == sorted(sizes)
    assert near.sizes[0][0] == 16  # two strides, though the ladder would begin a little lower
    shares = (0.02, 0.05, 0.1, 0.3, 0.6)  # 640 * sqrt(0.02 * 0.05) = 20.2, 640 * sqrt(0.3 * 0.6) = 271.5
    wide = [
        size
        for level in fit(replace(known("detect"), box_quantiles=shares), (640, 480))[0].sizes
        for size in level
    ]
    assert (wide[0], wide[-1]) == pytest.approx((20.2, 271.5), rel=0.01)
    ratios = np.divide(wide[1:], wide[:-1])
    assert ratios == pytest.approx(np.full(7, (271.5 / 20.2) ** (1 / 7)), rel=0.01)


def test_an_anchor_stands_for_the_box_it_overlaps_most() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [100, 100, 110, 110], [50, 50, 60, 60]])
    boxes = torch.tensor([[0.0, 0, 10, 9, 1, 0], [100, 100, 130, 130, 0, 0], [48, 48, 62, 62, 0, 1]])
    label, true = assign(boxes, anchors, above=0.5, below=0.4)
    # the second overlaps too little; the third is rescued: nothing overlaps its box more; the last lies in a crowd
    assert label.tolist() == [1, NOTHING, 0, IGNORE]
    assert true[0].tolist() == [0, 0, 10, 9]
    assert assign(boxes, anchors, above=0.5, below=0.4, rescue=False)[0].tolist() == [
        1,
        NOTHING,
        NOTHING,
        IGNORE,
    ]


def test_the_focal_part_is_torchvisions() -> None:
    """With the same anchors assigned and boxes that fit exactly, the loss is torchvision's for the classes."""
    from torchvision.models.detection.retinanet import RetinaNetHead

    settings = fit(known("detect"), (96, 64))[0]
    anchors = torch.from_numpy(laid(64, 96, settings))
    boxes = np.array([[8, 8, 40, 36, 1, 0], [50, 20, 90, 60, 0, 0]], np.float32)
    outputs = perfect_retinanet(boxes, settings)
    outputs[..., :2] = torch.randn(1, len(anchors), 2, generator=torch.Generator().manual_seed(0))
    label, true = assign(torch.from_numpy(boxes), anchors, above=0.5, below=0.4)
    matched = torch.where(
        label >= 0, (true[:, None] == torch.from_numpy(boxes[None, :, :4])).all(2).int().argmax(1), label
    )
    parts = RetinaNetHead(64, 6, 2).classification_head.compute_loss(
        [{"labels": torch.tensor([1, 0])}], {"cls_logits": outputs[..., :2]}, [matched]
    )
    assert float(retinanet.loss(outputs, [(boxes, (64, 96))], settings)) == pytest.approx(
        float(parts), rel=1e-4
    )


# The choice


def test_a_plan_has_a_head_and_says_why() -> None:
    backbone = blank("test_resnet")
    made = make_plan(known("detect"), None, backbone=backbone, wishes=Wishes(given={}))
    assert made.head == HeadSpec(name="fcos")
    made = make_plan(known("detect"), None, backbone=backbone, wishes=Wishes(given={}, head="retinanet"))
    assert made.head.name == "retinanet"
    assert set(made.head.settings) == {"sizes", "ratios"}
    told = {choice.what: choice for choice in made.decided}
    assert told["head"].value == "retinanet"
    assert told["head"].why.startswith("asked for; anchors")
    assert told["retinanet: settings"].value.startswith("sizes 16")


def test_a_head_of_another_task_is_refused() -> None:
    backbone = blank("test_resnet")
    for task, name in (("detect", "unet"), ("segment", "retinanet"), ("detect", "linear")):
        with pytest.raises(BadOption, match=f"--head {name} is not made for the task {task}") as caught:
            make_plan(known(task), None, backbone=backbone, wishes=Wishes(given={}, head=name))
        assert f"Heads that are: {', '.join(heads_of(task))}." in str(caught.value)
    with pytest.raises(BadOption, match="--head unet is not made for the task classify"):
        head_of("classify", "unet")
    with pytest.raises(BadOption, match="Did you mean 'retinanet'"):
        head_of("detect", "retinanett")
    with pytest.raises(BadInput, match=r"'retinanet'.* does not fit Anchors: sizes"):
        task_of("detect", HeadSpec(name="retinanet"))
    with pytest.raises(BadInput, match="'fcos' does not fit Plain: sizes"):
        task_of("detect", HeadSpec(name="fcos", settings={"sizes": []}))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.tasks.heads.find_spec", lambda _: None)
    assert head_of("segment").name == "pyramid"  # the usual heads need none
    with pytest.raises(MissingPackage, match=r"--head unet needs .*segmentation_models_pytorch") as caught:
        head_of("segment", "unet")
    assert "pip install 'headstart[heads]'" in str(caught.value)


def test_files_from_before_there_was_a_choice_have_the_usual_heads() -> None:
    assert [task_of(task, HeadSpec()).head.name for task in TASKS] == ["linear", "linear", "fcos", "pyramid"]
