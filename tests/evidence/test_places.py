"""Probes of single places: which places are asked about, that no image tells on itself, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from headstart import compute, data, evidence, weights
from headstart._core import records
from headstart._core.clock import Clock
from headstart._core.files import sha256_bytes
from headstart.data.describe import describe
from headstart.data.records import Box, Dataset, Sample
from headstart.evidence import Evidence, places, site_features
from headstart.evidence.places import narrowed
from headstart.evidence.site_features import at_places
from headstart.evidence.sites import PER_IMAGE, Drawn, Sites, draw_sites
from headstart.features import FeatureStore
from headstart.pixels import read_scene
from headstart.weights import Backbone
from tests.tasks.scenes import scene, write

CONTRACT = weights.blank("test_resnet").info.preprocess.boxed(96, 64)


def known(number: int, size: tuple[int, int] = (96, 64), *, masks: bool = False) -> Sample:
    sample = scene(number, size, empty=number == 1)
    assert isinstance(sample.source, np.ndarray)
    found = replace(sample, digest=sha256_bytes(sample.source.tobytes()))
    return found if masks else replace(found, mask=None)


def network(name: str = "test_resnet", objective: str = "supervised") -> Backbone:
    found = weights.blank(name)
    return replace(found, info=replace(found.info, objective=objective))


def sites(image: Sequence[int], labels: Sequence[int], shares: Sequence[float] | None = None) -> Sites:
    count = len(image)
    return Sites(
        image=np.array(image),
        labels=np.array(labels),
        shares=np.array(shares) if shares else np.full(count, 0.5),
        folds=np.zeros(count, np.int64),
    )


# Which places


def test_places_of_a_mask_are_as_many_of_each_class_and_stand_for_all_pixels() -> None:
    sample = known(0, (80, 64), masks=True)  # a letterbox with room left over
    _, drawn = draw_sites(sample, CONTRACT, classes=3, seed=0)
    labels = read_scene(sample, CONTRACT).labels
    assert labels is not None
    present = set(labels[labels >= 0].tolist())
    assert set(drawn.labels.tolist()) == present
    assert np.bincount(drawn.labels).max() <= PER_IMAGE // len(present)
    x, y = np.floor(drawn.where).astype(int).T
    np.testing.assert_array_equal(
        labels[y, x], drawn.labels
    )  # what is true of a place is what the mask says there
    assert drawn.shares.sum() == pytest.approx(1)
    for label in present:
        share = (labels == label).sum() / (labels >= 0).sum()
        assert drawn.shares[drawn.labels == label].sum() == pytest.approx(share)


def test_places_of_boxes_are_objects_middles_and_free_ground() -> None:
    sample = known(3)
    scene_there, drawn = draw_sites(sample, CONTRACT, classes=2, seed=0)
    boxes = scene_there.boxes
    assert (drawn.labels == 2).sum() >= PER_IMAGE // 4
    assert set(drawn.labels[drawn.labels < 2].tolist()) == {box.label for box in sample.boxes}
    for (x, y), label in zip(drawn.where, drawn.labels, strict=True):
        inside = [box for box in boxes if box[0] < x < box[2] and box[1] < y < box[3]]
        if label == 2:
            assert not inside
            continue
        (own,) = [box for box in inside if box[4] == label][:1]
        assert abs(x - (own[0] + own[2]) / 2) <= (own[2] - own[0]) / 4 + 1e-4
        assert abs(y - (own[1] + own[3]) / 2) <= (own[3] - own[1]) / 4 + 1e-4
    assert drawn.shares.sum() == pytest.approx(1)


def test_a_smaller_object_in_front_is_not_called_by_the_larger_ones_name() -> None:
    """Both are asked about only where each is the smallest box there; a crowd is neither object nor background."""
    big, small = (
        Box(left=0, top=0, right=64, bottom=64, label=0),
        Box(left=8, top=8, right=56, bottom=56, label=1),
    )
    crowd = Box(left=64, top=0, right=96, bottom=64, label=0, crowd=True)
    sample = replace(known(0), boxes=(big, small, crowd))
    seen = [draw_sites(sample, CONTRACT, classes=2, seed=seed)[1] for seed in range(20)]
    labels = np.concatenate([each.labels for each in seen])
    assert 1 in labels
    assert 0 not in labels  # the middle half of the big box is all in the small one
    assert 2 not in labels  # nowhere is no box


def test_an_image_without_objects_is_background_alone() -> None:
    _, drawn = draw_sites(known(1), CONTRACT, classes=2, seed=0)
    assert set(drawn.labels.tolist()) == {2}


def test_the_same_places_for_the_same_image_only() -> None:
    one, again, other = (
        draw_sites(known(number), CONTRACT, classes=2, seed=0)[1].where for number in (0, 0, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)


# What maps show there


def test_between_places_of_a_map_the_values_are_between_too() -> None:
    """By hand: a map of four columns at 1/4 of 16 pixels holds 0 1 2 3, whose middles lie at 2, 6, 10 and 14 pixels."""
    contract = CONTRACT.boxed(16, 8)
    values = torch.arange(4.0).expand(1, 2, 4)
    where = np.array([[2.0, 2], [6, 6], [8, 4], [9, 3], [0.5, 0.5], [15.5, 7]])
    found = at_places(values, where, contract)
    np.testing.assert_allclose(found[:, 0].numpy(), [0, 1, 1.5, 1.75, 0, 3], atol=1e-6)


def test_heads_that_interpolate_read_the_same() -> None:
    """At whole pixels it is what the task's own head makes of the map."""
    values = torch.randn(3, 16, 24)
    whole = F.interpolate(values[None], size=(64, 96), mode="bilinear", align_corners=False)[0]
    rows, columns = np.array([0, 5, 33, 63]), np.array([0, 17, 50, 95])
    found = at_places(values, np.stack([columns + 0.5, rows + 0.5], 1), CONTRACT)
    np.testing.assert_allclose(found.numpy(), whole[:, rows, columns].T.numpy(), atol=1e-5)


def test_a_second_look_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = replace(network(), info=replace(network().info, preprocess=CONTRACT))
    samples = [known(number) for number in range(5)]
    first = site_features.site_features(boxed, samples, classes=2, seed=0)
    monkeypatch.setattr(site_features, "batches", None)  # a call would fail
    again = site_features.site_features(boxed, samples, classes=2, seed=0)
    for one, other in zip(first.maps, again.maps, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.labels, again.labels)
    moved = replace(samples[0], boxes=samples[0].boxes[:-1])
    with pytest.raises(TypeError):  # other boxes are another question
        site_features.site_features(boxed, [moved], classes=2, seed=0)


# What is made of the answers


def test_means_by_hand() -> None:
    """Two images: 2 of 2 and 0.25 of the shares right; classes: 2 of 3 and 1 of 1."""
    asked = sites([0, 0, 1, 1], [0, 0, 0, 1], [0.5, 0.5, 0.75, 0.25])
    right = np.array([1.0, 1, 0, 1])
    np.testing.assert_allclose(asked.by_image(right), [1.0, 0.25])
    value, error = asked.by_class(right)
    assert value == pytest.approx((2 / 3 + 1) / 2)
    # without image 0: class 0 0/1, class 1 1/1 -> 0.5; without image 1: class 0 2/2, class 1 has no place -> 1.0
    assert error == pytest.approx(np.sqrt(0.5 * ((0.5 - 0.75) ** 2 + (1.0 - 0.75) ** 2)))


def test_the_error_over_images_is_that_of_drawing_images_again() -> None:
    """Places of one image are alike: an error over places would be far too small."""
    draw = np.random.default_rng(0)
    image = np.repeat(np.arange(60), 20)
    labels = draw.integers(0, 3, len(image))
    easy = np.repeat(draw.uniform(0.2, 1.0, 60), 20)
    right = (draw.uniform(size=len(image)) < easy).astype(float)
    asked = sites(image.tolist(), labels.tolist())
    _, error = asked.by_class(right)
    means = []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(image == one) for one in draw.integers(0, 60, 60)])
        means.append(np.mean([right[rows][labels[rows] == label].mean() for label in range(3)]))
    assert error == pytest.approx(np.std(means), rel=0.15)
    assert error > 1.7 * np.sqrt(right.var() / len(right))


def test_places_of_one_image_are_held_out_together() -> None:
    """Features that only tell which image it is are of no use, however often the image's class stands in them."""
    draw = np.random.default_rng(0)
    image = np.repeat(np.arange(40), 12)
    labels = np.repeat(np.arange(40) % 2, 12)
    rows = np.repeat(draw.standard_normal((40, 64)), 12, axis=0).astype(np.float32)
    samples = [replace(known(0), digest=f"{number:064d}") for number in range(40)]
    seen = site_features.Seen(
        taps=(), image=image, labels=labels, shares=np.full(len(image), 1 / 12), maps=(rows,)
    )
    asked = places.sites_of(seen, samples)
    assert all(len(set(asked.folds[image == one])) == 1 for one in range(40))
    right = places.named_rightly([rows], asked)
    assert right is not None
    assert right.mean() < 0.7
    grouped = [replace(sample, group=f"video {number // 10}") for number, sample in enumerate(samples)]
    folds = places.sites_of(seen, grouped).folds
    assert all(len(set(folds[(image >= 10 * one) & (image < 10 * one + 10)])) == 1 for one in range(4))


def test_leading_directions_keep_what_matters() -> None:
    draw = np.random.default_rng(0)
    rows = (draw.standard_normal((200, 8)) @ draw.standard_normal((8, 90))).astype(np.float32)
    short = narrowed(rows, most=16)
    assert short.shape == (200, 16)
    np.testing.assert_allclose(
        short @ short.T, rows @ rows.T, rtol=1e-3, atol=1e-2 * np.abs(rows @ rows.T).max()
    )
    assert narrowed(rows, most=90) is rows


# All of it


@pytest.fixture(scope="module", params=["detect", "segment"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    boxes, masks = write(tmp_path_factory.mktemp("data"), 48)
    return data.load(str(boxes if request.param == "detect" else masks))


def measured(
    dataset: Dataset, backbone: Backbone, clock: Clock | None = None, *, cost: bool = True
) -> Evidence:
    return evidence.measure(
        backbone,
        dataset.train,
        store=FeatureStore(backbone, among=dataset.samples),
        facts=describe(dataset, "somewhere"),
        clock=clock,
        options=evidence.Options(cost=cost),
    )


def test_all_of_it_survives_its_file(dataset: Dataset, tmp_path: Path) -> None:
    found = measured(dataset, network())
    assert [(probe.name, probe.stride) for probe in found.depths] == [
        ("stage1", 4),
        ("stage2", 8),
        ("stage3", 16),
        ("stage4", 32),
        ("all", 0),
    ]
    assert found.places > 5 * found.images
    assert found.twin_images == found.images == len(dataset.train)
    recalls = [probe.recall for probe in found.depths]
    assert all(recall is not None and 0 <= recall.value <= 1 for recall in recalls)
    assert recalls[0] is not None
    assert recalls[0].value > 0.8, "red and blue squares are easy"
    # the twin is this very network: nothing was learnt, and nothing is gained
    assert all(
        probe.gain == 0 and probe.recall is not None and probe.recall.gain == 0 for probe in found.depths
    )
    assert found.transfers is False
    assert found.cost is not None
    assert found.cost.step == pytest.approx(sum(found.cost.stages) + found.cost.head)
    assert found.cost.head < found.cost.partial_step < found.cost.step
    assert min(found.cost.read, found.cost.answer, found.cost.head) > 0
    assert found.cost.forward > found.cost.read >= found.cost.prepare > 0
    assert found.sizes == ()
    assert found.skipped == ()
    records.save(tmp_path / "evidence.json", found)
    assert records.load(Evidence, tmp_path / "evidence.json") == found


def test_what_was_learnt_is_seen_against_random_weights(dataset: Dataset) -> None:
    """A network whose first convolution is wiped out knows nothing; its twin does, and the gain is negative and sure."""
    blind = network()
    first = next(p for p in blind.module.parameters() if p.ndim == 4)
    with torch.no_grad():
        first.zero_()
    found = measured(dataset, blind, cost=False)
    assert found.transfers in (False, None)
    assert not found.depths or all(probe.recall and (probe.recall.gain or 0) <= 0 for probe in found.depths)


def test_without_time_the_rest_is_named(dataset: Dataset) -> None:
    found = measured(dataset, network(), Clock(1e-9))
    assert found.depths
    assert found.transfers is None
    assert found.cost is None
    assert all(words in " ".join(found.skipped) for words in ("twin", "cost of training", "time budget"))


def test_the_cost_is_known_when_time_runs_out_at_the_maps(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rungs and their times follow from it, and it takes a few steps."""
    real, clock = site_features.site_features, Clock(3600.0)

    def slow(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(clock, "_seconds", 1e-9)
        return real(*given, **named)

    monkeypatch.setattr(places, "site_features", slow)
    found = measured(dataset, network(), clock)
    assert found.cost is not None
    assert found.transfers is None
    assert ["twin" in each for each in found.skipped] == [True]


def test_a_signal_ends_it(dataset: Dataset) -> None:
    clock = Clock()
    clock.stop("Ctrl-C")
    with pytest.raises(compute.Stopped):
        measured(dataset, network(), clock)


def test_a_handful_of_images_gets_no_probe_but_a_reason(dataset: Dataset) -> None:
    few = replace(dataset, samples=dataset.train[:6])
    found = measured(few, network(), cost=False)
    assert found.depths == ()
    assert found.places == 0
    assert "too few" in found.skipped[0]


def test_places_that_are_all_of_one_class_are_no_question() -> None:
    drawn = Drawn(where=np.zeros((0, 2)), labels=np.zeros(0, np.int64), shares=np.zeros(0))
    assert len(drawn.labels) == 0
    assert "same class" in places.fault(sites(list(range(12)), [1] * 12))
    assert "too few" in places.fault(sites([0, 1, 2], [0, 1, 1]))
