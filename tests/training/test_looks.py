"""Boxes and masks: how often the validation images are looked at, and what stays decoded in memory."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from headstart._core.clock import Clock
from headstart.adaptation import adapt
from headstart.methods import full
from headstart.planning import Rung
from headstart.tasks import TASKS
from headstart.training import gradient
from headstart.training.checkpoint import Progress
from headstart.training.feed import Pixels, kept_of
from headstart.training.gradient import Loop
from headstart.training.records import Pace, TrainingData
from headstart.training.schedule import looks
from headstart.weights import blank
from tests.tasks.scenes import scene

CONTRACT = blank("test_resnet").info.preprocess.boxed(96, 64)


def data_of(task: str, train: int = 8) -> TrainingData:
    samples = tuple(scene(number) for number in range(train + 4))
    return TrainingData(
        train=samples[:train],
        val=samples[train:],
        task=TASKS[task],
        classes=("red", "blue"),
        preprocess=CONTRACT,
        store=cast(Any, None),
        seed=0,
        refit=False,
    )


@pytest.mark.parametrize(("epochs", "most"), [(1, 12), (5, 12), (12, 12), (13, 12), (40, 12), (150, 12)])
def test_the_first_and_the_last_epoch_are_looked_at(epochs: int, most: int) -> None:
    seen = [epoch for epoch in range(1, epochs + 1) if looks(epoch, epochs, most=most)]
    assert seen[0] == 1
    assert seen[-1] == epochs
    assert len(seen) <= most * 1.5 + 1
    gaps = np.diff(seen[1:])
    assert not len(gaps) or gaps.max() == gaps.min()


def test_whole_images_are_looked_at_after_each_epoch() -> None:
    assert all(looks(epoch, 40, most=None) for epoch in range(1, 41))


def test_what_has_places_stays_decoded_as_far_as_there_is_room() -> None:
    data = data_of("detect")
    each = 3 * 96 * 64
    assert kept_of(data) == 8
    assert kept_of(data, room=3 * each) == 3
    assert kept_of(data, room=3 * each - 1) == 2
    unknown = replace(data, train=(data.train[0], replace(data.train[1], width=0), *data.train[2:]))
    assert kept_of(unknown) == 1  # what was not scanned has no known size
    assert kept_of(replace(data, task=TASKS["classify"])) == 0


def test_kept_images_give_the_same_batches(tmp_path: Path) -> None:
    from PIL import Image

    data = data_of("detect", train=4)
    files = []
    for number, sample in enumerate(data.train):
        Image.fromarray(np.asarray(sample.source)).save(tmp_path / f"{number}.jpg")
        files.append(replace(sample, source=tmp_path / f"{number}.jpg", mask=None))
    data = replace(data, train=tuple(files))
    feed = Pixels(data=data, augment="medium", flip=True, views=None, device=torch.device("cpu"))
    first = [next(iter(feed.epoch(epoch, [range(4)]))) for epoch in range(2)]
    assert set(feed.decoded) == {0, 1, 2, 3}
    for file in tmp_path.iterdir():
        file.unlink()
    again = [next(iter(feed.epoch(epoch, [range(4)]))) for epoch in range(2)]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        for (boxes, _), (others, _) in zip(one.truth, other.truth, strict=True):
            assert (boxes == others).all()
    assert not torch.equal(first[0].pixels, first[1].pixels)  # each epoch varies them anew


class _Loop(SimpleNamespace):
    looks: int | None


@pytest.mark.parametrize(("looked", "epochs"), [(None, 7), (12, 7)])
def test_the_schedule_fills_the_budget(looked: int | None, epochs: int) -> None:
    """Steps of 2 s after a first of 8 s, 10 an epoch, half as many validation images: by hand.

    A look at the average and at the network after each epoch: the mean of three steps is 4 s, an epoch takes
    40 s + 2 * 0.35 * 0.5 * 40 s = 54 s, and 0.9 * 430 / 54 = 7.2. Without the first step, and with looks that are few:
    20 s an epoch and 3.5 s a look, 0.9 * 430 / 23.5 = 16.5 epochs with a look each, or (387 - 13 * 3.5) / 20 = 17.1.
    """
    loop = _Loop(
        data=SimpleNamespace(train=range(80), val=range(40)),
        average=object(),
        looks=looked,
        alone=looked is not None,
        per_epoch=10,
        steps=1000,
        adapted=SimpleNamespace(method=SimpleNamespace(name="full")),
    )
    progress = Progress(step=3, seconds=12.0, first=8.0)
    pace = Pace(clock=Clock(None), folder=Path(), planned=430.0)
    event = gradient._resolve_steps(cast(Loop, loop), progress, pace)
    assert progress.steps == 10 * (epochs if looked is None else 17)
    assert event.reason == ("54 s" if looked is None else "20 s") + (
        f" an epoch: {progress.steps // 10} of 100 epochs planned"
    )
    assert math.isinf(pace.clock.left)


@pytest.mark.parametrize(("before", "taken"), [("same", True), ("other", False), ("none", False)])
def test_tuning_goes_on_from_the_heads_of_the_rung_before(before: str, taken: bool, tmp_path: Path) -> None:
    """All but the body is taken over from a network with the same heads, and told."""
    data = data_of("detect", train=4)
    network = blank("test_resnet")
    params = full.FullParams(epochs=1, batch_size=4, head_start="random", label_smoothing=0.0)
    rung = Rung(method="full", params=asdict(params), why="")
    adapted = adapt(rung, network, classes=2, seed=0, task=data.task)
    classes = {"same": 2, "other": 3, "none": 2}[before]
    earlier = data.task.build(replace(network, module=copy.deepcopy(network.module)), classes)
    with torch.no_grad():
        for parameter in earlier.parameters():
            parameter.add_(0.5)
    own = {name: value.clone() for name, value in adapted.model.state_dict().items()}
    pace = Pace(clock=Clock(None), folder=tmp_path, before=None if before == "none" else earlier)
    loop, _ = gradient._open(adapted, data, pace)
    now, other = loop.model.state_dict(), earlier.state_dict()
    for name, value in now.items():
        from_other = taken and not name.startswith("body.")
        assert torch.equal(value, other[name] if from_other else own[name]), name
    assert any("go on from those of the rung before" in note for note in loop.engine.notes) == taken


@pytest.mark.parametrize(("epochs", "alone"), [(100, True), (79, False)])
def test_an_average_of_much_of_a_schedule_is_judged_beside_the_network(
    epochs: int, alone: bool, tmp_path: Path
) -> None:
    """A step an epoch; the average remembers ten steps: a tenth of one schedule, more than an eighth of the other."""
    data = data_of("detect", train=4)
    params = full.FullParams(epochs=epochs, batch_size=4, head_start="random", label_smoothing=0.0, ema=0.9)
    rung = Rung(method="full", params=asdict(params), why="")
    adapted = adapt(rung, blank("test_resnet"), classes=2, seed=0, task=data.task)
    loop, progress = gradient._open(adapted, data, Pace(clock=Clock(None), folder=tmp_path))
    assert loop.alone == alone
    passes: list[Loop] = []
    with pytest.MonkeyPatch.context() as patch:
        validate = Loop.validate

        def counted(self: Loop) -> Any:
            passes.append(self)
            return validate(self)

        patch.setattr(Loop, "validate", counted)
        event = gradient._validate(loop, progress)
    assert len(passes) == (1 if alone else 2)
    assert event.metrics
    assert progress.best_averaged or not alone
