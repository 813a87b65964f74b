"""Input sizes: which are tried, that the network's own is the yardstick, and that small pictures need less than 224."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart import compute, data, weights
from headstart.compute import network
from headstart.data.preprocess import Preprocess
from headstart.evidence.depths import depth_names, judge_depths, judged_alike
from headstart.evidence.probing import choose_images
from headstart.evidence.sizes import (
    candidate_sizes,
    probe_size,
    relative_costs,
    same_runtime,
    seconds_of_pass,
    size_probes,
    sized,
    takes,
    worth_trying,
)
from headstart.features import FeatureStore
from headstart.tasks import TASKS
from headstart.weights import Backbone
from tests.evidence.pictures import stripes, tiny

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("own", "side", "expected"),
    [
        (224, 28, (96, 160, 224)),
        (224, 150, (128, 192, 224)),
        (224, 500, (160, 224)),
        (384, 100, (96, 256, 384)),
        (96, 28, (96,)),
    ],
)
def test_candidates_follow_the_images(own: int, side: int, expected: tuple[int, ...]) -> None:
    contract = Preprocess(
        height=own, width=own, resize=own * 8 // 7, interpolation="bicubic", mean=HALF, std=HALF
    )
    assert candidate_sizes(contract, [side] * 9) == expected


def test_a_loss_is_paired_with_the_own_size() -> None:
    own = np.array([1.0, 1, 1, 0, 1, 1, 0, 1, 1, 1])
    small = own.copy()
    small[0] = 0.0
    found = size_probes([(96, small, 0.001), (160, None, 0.002), (224, own, 0.004)], own=224, images=10)
    assert [probe.size for probe in found] == [96, 224], "a size without an answer is left out"
    assert found[0].loss == pytest.approx(0.1)
    assert found[0].loss_error == pytest.approx(np.std(own - small, ddof=1) / np.sqrt(10))
    assert found[1].loss == found[1].loss_error == 0.0


def test_networks_say_which_sizes_they_take() -> None:
    assert takes(tiny(), 96)
    assert not takes(weights.blank("vit_tiny_patch16_224"), 96), (
        "its position embeddings are made for one size"
    )


def test_features_at_another_size_are_other_features(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = FeatureStore.get_depths

    def watched(self: FeatureStore, *args: object, **more: object) -> object:
        asked.append(self._backbone.info.preprocess.height)
        return real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureStore, "get_depths", watched)
    dataset = stripes(40)
    images = choose_images(dataset.train, TASKS["classify"], classes=2, limit=30, seed=0)
    found = FeatureStore(tiny()).get_depths(images.samples, depth_names(tiny()))
    judged = max(judge_depths(tiny(), images, found), key=lambda each: each.accuracy)
    asked.clear()
    right = probe_size(tiny(), 96, images, judged=judged)
    assert asked == [96]
    assert right is not None
    assert right.shape == (len(images),)


def test_a_size_is_judged_at_the_depth_that_knows_most() -> None:
    """The output says nothing at the other size, the first block all: it is asked, because a head will read it."""
    images = choose_images(stripes(60).train, TASKS["classify"], classes=2, limit=40, seed=0)
    draw = np.random.default_rng(0)
    blank = {
        name: draw.normal(size=(len(images), 8)).astype(np.float32)
        for name in (*depth_names(tiny()), "output")
    }
    first = tiny().stages[1]
    told = blank | {first.output: blank[first.output] + 9 * images.targets[:, None].astype(np.float32)}
    best = max(judge_depths(tiny(), images, told), key=lambda each: each.accuracy)
    assert best.names == (first.name,)
    again, none = (judged_alike(found, best, images) for found in (told, blank))
    assert again is not None
    assert none is not None
    assert np.array_equal(again, best.correct)
    assert again.mean() > 0.95 > 0.8 > none.mean()


@pytest.fixture(scope="module")
def lite() -> Backbone:
    return weights.load("bundled:efficientnet_lite0")


@pytest.mark.slow
def test_tiny_pictures_need_less_than_224_pixels(test_data: Path, lite: Backbone) -> None:
    """CIFAR-10: some smaller size loses nothing that its paired interval could tell, and costs less than half."""
    dataset = data.load(str(test_data / "cifar10-5k"), data.LoadOptions())
    images = choose_images(dataset.train, TASKS["classify"], classes=10, limit=200, seed=0)
    tried = candidate_sizes(lite.info.preprocess, [min(each.width, each.height) for each in images.samples])
    assert tried == (96, 160, 224)
    found_depths = FeatureStore(lite).get_depths(images.samples, depth_names(lite))
    best = max(judge_depths(lite, images, found_depths), key=lambda each: each.accuracy)
    right = [probe_size(lite, size, images, judged=best) for size in tried[:-1]]
    costs = relative_costs(lite, tried[:-1], engine=compute.REFERENCE)
    judged = [*zip(tried, [*right, best.correct], [*costs, 1.0], strict=True)]
    found = size_probes(judged, own=224, images=len(images))
    suffices = [probe for probe in found[:-1] if probe.loss - 1.96 * probe.loss_error <= 0]
    assert suffices, [(probe.size, probe.loss, probe.loss_error) for probe in found]
    assert min(probe.seconds_per_image for probe in suffices) < 0.75


@pytest.mark.parametrize(
    ("side", "images", "expected"),
    [(32, 50, True), (200, 50, True), (400, 50, False), (400, 499, False), (400, 500, True)],
)
def test_large_images_are_shrunk_further_only_where_that_saves_time(
    side: int, images: int, expected: bool
) -> None:
    half = (0.5, 0.5, 0.5)
    contract = Preprocess(height=224, width=224, resize=256, interpolation="bicubic", mean=half, std=half)
    assert worth_trying(contract, [side] * 9, images=images) is expected


def test_a_pass_is_timed_and_larger_inputs_cost_more() -> None:
    images = choose_images(stripes(40).train, TASKS["classify"], classes=2, limit=30, seed=0)
    network = FeatureStore(tiny()).network(images.samples, ())
    assert 0 < seconds_of_pass(network, images) < 1
    small, large = relative_costs(tiny(), (32, 256), engine=compute.REFERENCE)
    assert small < 1 < large, "64 pixels are its own"
    assert large > 4 * small


def test_features_are_found_again_where_the_runtime_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty images by torch and four hundred by a compiled network share nothing."""
    backbone = tiny()
    work = compute.flops(backbone.module, sized(backbone, 96).info.preprocess)
    monkeypatch.setattr(network, "FEW", 1)
    monkeypatch.setattr(network, "WORTH_COMPILING", 100 * work)
    assert same_runtime(backbone, 96, (40, 90))
    assert same_runtime(backbone, 96, (110, 400))
    assert not same_runtime(backbone, 96, (40, 400))
