"""Maps of a frozen network, stored with their truth: what heads train on is what the network would have given them."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart._core.clock import Clock
from headstart._core.files import sha256_bytes
from headstart.adaptation import Adapted, adapt, settle
from headstart.data.records import Sample
from headstart.features import FeatureStore
from headstart.methods import METHODS, Suggestion
from headstart.planning import Rung
from headstart.tasks import TASKS
from headstart.tasks.pyramid import MapNetwork
from headstart.training import Pace, TrainingData, fit, gradient, prefix
from headstart.training.checkpoint import Progress
from headstart.training.feed import Pixels
from headstart.training.packed import Boxes, ClassMap
from headstart.weights import Backbone, blank
from tests.tasks.scenes import scene
from tests.training.test_gradient import CPU, run, same, until

tasks = pytest.mark.parametrize("task", ["detect", "segment"])
methods = pytest.mark.parametrize("method", ["frozen", "partial"])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    found = blank("test_efficientnet")
    return replace(found, info=replace(found.info, preprocess=found.info.preprocess.boxed(96, 64)))


def known(number: int, size: tuple[int, int] = (96, 64)) -> Sample:
    sample = scene(number, size, empty=number == 1)
    assert isinstance(sample.source, np.ndarray)
    return replace(sample, digest=sha256_bytes(sample.source.tobytes()))


def data_of(task: str, backbone: Backbone) -> TrainingData:
    return TrainingData(
        train=tuple(known(number) for number in range(10)),
        val=tuple(known(number, (64, 64)) for number in range(10, 14)),
        task=TASKS[task],
        classes=("ground", "red", "blue")[task == "detect" :],
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=0,
        refit=False,
    )


class _Facts:
    """What the methods ask about the data."""

    n_train = 10

    def __init__(self, task: str) -> None:
        self.task = task


def prepared(method: str, backbone: Backbone, data: TrainingData, **given: Any) -> Adapted:
    facts: Any = _Facts(data.task.name)
    answer = METHODS[method].suggest(
        facts, None, backbone, {"epochs": 4, "batch_size": 5, "views": 2, "patience": 99} | given
    )
    assert isinstance(answer, Suggestion), answer
    rung = Rung(method=method, params=asdict(answer.params), why="")
    return adapt(rung, backbone, classes=len(data.classes), seed=0, task=data.task)


def engine_and_feed(
    adapted: Adapted, data: TrainingData, folder: Path, clock: Clock | None = None
) -> tuple[Any, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "native_bfloat16", lambda _: False)
        pace = Pace(clock=clock or Clock(), folder=folder)
        return gradient._engine(adapted, data, pace, Progress())


@tasks
@methods
def test_rows_give_the_networks_answers_and_the_views_truth(
    task: str, method: str, backbone: Backbone, tmp_path: Path
) -> None:
    data = data_of(task, backbone)
    adapted = prepared(method, backbone, data)
    engine, feed = engine_and_feed(adapted, data, tmp_path)
    assert isinstance(feed, prefix.Stored)
    assert len(feed.rows) == 2 * 10 + 4
    pixels = Pixels(data=data, augment="medium", flip=True, views=2, device=CPU)
    whole = adapted.model.eval()
    for epoch in (0, 1, 5):
        (images,), (stored,) = (list(source.epoch(epoch, [[3, 0, 7]])) for source in (pixels, feed))
        assert stored.positions == (3, 0, 7)
        with torch.no_grad():
            expected = whole(pixels.inputs(images.pixels))
            found = engine.network.eval()(feed.inputs(stored.pixels))
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
        for one, other in zip(images.truth, stored.truth, strict=True):
            if task == "segment":
                assert torch.equal(one, other)
            else:
                np.testing.assert_array_equal(one[0], other[0])
                assert one[1] == other[1]
    for own, theirs in zip(pixels.validation(), feed.validation(), strict=True):
        with torch.no_grad():
            expected = whole(pixels.inputs(own.pixels))
            torch.testing.assert_close(
                engine.network(feed.inputs(theirs.pixels)), expected, rtol=2e-2, atol=2e-2
            )
        assert theirs.truth == ()


@methods
def test_nothing_of_the_frozen_part_is_left_in_what_trains(
    method: str, backbone: Backbone, tmp_path: Path
) -> None:
    data = data_of("segment", backbone)
    adapted = prepared(method, backbone, data)
    engine, _ = engine_and_feed(adapted, data, tmp_path)
    left = {name for name, _ in engine.network.named_parameters()}
    frozen = {name for group in adapted.applied.groups if not group.trains for name in group.parameters}
    assert frozen
    assert not left & frozen
    trained = {name for group in adapted.applied.groups if group.trains for name in group.parameters}
    assert all(
        engine.network.get_parameter(name) is adapted.model.get_parameter(name)
        for name in left & trained
        if name.startswith(("pyramid", "join", "head"))
    )


@tasks
@methods
def test_stored_or_not_the_same_network_comes_out(
    task: str, method: str, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same views in the same order: what differs is that maps were rounded to 16 bits."""
    monkeypatch.setattr(gradient, "native_bfloat16", lambda _: False)
    data = data_of(task, backbone)
    _, stored = run(prepared(method, backbone, data), data, Pace(clock=Clock(), folder=tmp_path / "stored"))
    monkeypatch.setattr(prefix, "suffix_of", lambda *_: None)
    adapted = prepared(method, backbone, data)
    _, whole = run(adapted, data, Pace(clock=Clock(), folder=tmp_path / "whole"))
    assert stored.facts["stored_prefix"] is True
    assert whole.facts["stored_prefix"] is False
    assert settle(adapted, whole.model).frozen_identical
    for name, value in whole.model.state_dict().items():
        other = stored.model.state_dict()[name]
        if name.startswith("body") and method == "frozen":
            assert torch.equal(value, other), name  # bit-identical
        torch.testing.assert_close(value, other, rtol=0.05, atol=0.02, msg=name)


@tasks
def test_frozen_is_proved_by_hashes(task: str, backbone: Backbone, tmp_path: Path) -> None:
    data = data_of(task, backbone)
    adapted = prepared("frozen", backbone, data)
    _, result = run(adapted, data, Pace(clock=Clock(), folder=tmp_path))
    ledger = settle(adapted, result.model)
    assert ledger.frozen_identical
    lines = {line.name: line for line in ledger.groups}
    assert lines["head"].hash_before != lines["head"].hash_after
    assert all(line.hash_before == line.hash_after for name, line in lines.items() if name != "head")


@tasks
def test_killed_and_resumed_is_the_same(
    task: str, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps in memory or in a file, killed in an epoch or not: the same bits."""
    data = data_of(task, backbone)
    _, memory = run(prepared("frozen", backbone, data), data, Pace(clock=Clock(), folder=tmp_path / "memory"))
    monkeypatch.setattr(prefix, "IN_MEMORY", 0)
    pace = Pace(clock=Clock(), folder=tmp_path / "disk", every=0.0)
    until(fit(prepared("frozen", backbone, data), data, pace), 3)
    (file,) = (tmp_path / "disk").glob(prefix.PATTERN)
    written = file.stat().st_mtime_ns
    stream = fit(prepared("frozen", backbone, data), data, pace)
    next(stream)
    assert file.stat().st_mtime_ns == written  # what was stored is read, not computed again
    stream.close()
    _, disk = run(prepared("frozen", backbone, data), data, pace)
    assert same(memory.model, disk.model)
    assert not list((tmp_path / "disk").glob(prefix.PATTERN))


def test_rows_of_other_annotations_are_not_taken(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrected box makes another file: the truth is in the rows."""
    monkeypatch.setattr(prefix, "IN_MEMORY", 0)
    data = data_of("detect", backbone)
    engine_and_feed(prepared("frozen", backbone, data), data, tmp_path)
    (before,) = tmp_path.glob(prefix.PATTERN)
    first = data.train[0]
    moved = replace(first, boxes=(replace(first.boxes[0], left=first.boxes[0].left + 1), *first.boxes[1:]))
    changed = replace(data, train=(moved, *data.train[1:]))
    engine_and_feed(prepared("frozen", backbone, changed), changed, tmp_path)
    (after,) = tmp_path.glob(prefix.PATTERN)
    assert before.name != after.name


def test_a_disk_without_room_is_told_and_not_filled(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "IN_MEMORY", 0)
    monkeypatch.setattr(prefix, "free_bytes", lambda _: 1000)
    data = data_of("detect", backbone)
    engine, feed = engine_and_feed(prepared("frozen", backbone, data), data, tmp_path / "new")
    assert isinstance(feed, Pixels)
    assert any("1.0 kB free" in note for note in engine.notes)
    assert not (tmp_path / "new").exists()


def test_what_storing_takes_is_not_planned_for_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of("detect", backbone)
    real, seen = gradient._resolve_steps, list[float]()

    def spy(loop: Any, progress: Any, pace: Pace) -> Any:
        seen.append(pace.planned)
        return real(loop, progress, pace)

    def slow(*given: Any) -> Any:
        time.sleep(0.5)
        return split(*given)

    split = prefix.split
    monkeypatch.setattr(prefix, "split", slow)
    monkeypatch.setattr(gradient, "_resolve_steps", spy)
    pace = Pace(clock=Clock(1000), folder=tmp_path, planned=100.0)
    events, result = run(prepared("frozen", backbone, data), data, pace)
    assert seen
    assert seen[0] < 99.5
    first = next(event for event in events if event.event == "validation")
    assert 0.5 < first.seconds < result.seconds  # both since the rung began, and the last look comes after it


def test_one_view_where_nothing_changes(backbone: Backbone) -> None:
    facts: Any = _Facts("segment")
    plain = {"augment": "none", "flip": False}
    views = [
        METHODS["frozen"].suggest(facts, None, backbone, given) for given in ({}, plain, plain | {"views": 3})
    ]
    assert [each.params.views for each in views if isinstance(each, Suggestion)] == [8, 1, 3]


def test_truth_survives_its_row() -> None:
    boxes = Boxes(most=4, size=(64, 96))
    told = np.array([[1.5, 2, 30, 40.25, 1, 0], [0, 0, 5, 5, 0, 1]], np.float32)
    for truth in (told, told[:0]):
        found, size = boxes.unpack(boxes.pack((truth, (64, 96))))
        np.testing.assert_array_equal(found, truth)
        assert size == (64, 96)
    for classes, highest in ((12, 11), (254, 253), (300, 299)):
        packer = ClassMap(size=(3, 5), classes=classes)
        labels = torch.randint(-1, highest + 1, (3, 5), dtype=torch.int16)
        labels[0, :2] = torch.tensor([-1, highest])
        row = packer.pack(labels)
        assert len(row) == packer.width == (8 if classes < 255 else 15)
        assert torch.equal(packer.unpack(row), labels)


def test_heads_that_look_at_the_images_themselves_are_not_cut(backbone: Backbone) -> None:
    """Such a network has no row that would do; that is seen by comparing the answers."""

    class Looks(MapNetwork):
        def __init__(self) -> None:
            import copy

            super().__init__(replace(backbone, module=copy.deepcopy(backbone.module)), (8, 16))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.maps(images)[0].mean((2, 3)) + images.flatten(1)[:, :1]

    network = Looks().eval()
    images = torch.randn(2, 3, 64, 96)
    last = f"body.{network.taps[-1].module}"
    assert prefix.suffix_of(network, last, images) is None
