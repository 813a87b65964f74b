"""The distance that the evidence measures: the same numbers, once for the same images, and its pass is not wasted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstart import compute, similarity
from headstart.evidence import domain
from headstart.evidence.depths import depth_names
from headstart.evidence.domain import measure_distance
from headstart.features import FeatureStore
from headstart.similarity import Distance
from headstart.weights import Backbone
from tests.evidence.pictures import stripes, tiny

COUNT = 40


def moved() -> Backbone:
    """A network whose BatchNorm layers remember some domain."""
    backbone = tiny()
    for name in backbone.norms:
        backbone.module.get_submodule(name).running_mean.add_(0.1)  # type: ignore[operator]
    return backbone


def measured(backbone: Backbone, *, store: FeatureStore | None = None, seed: int = 0) -> Distance:
    return measure_distance(
        backbone,
        stripes(COUNT).train,
        store=store or FeatureStore(backbone),
        seed=seed,
    )


def test_the_numbers_are_those_of_a_pass_of_its_own() -> None:
    backbone = moved()
    found, alone = measured(backbone), similarity.domain_distance(backbone, stripes(COUNT).train)
    assert found.overall is not None
    assert found.layers == alone.layers == tuple(backbone.norms)
    assert (found.n, found.reference) == (alone.n, alone.reference)
    for name in ("overall", "low", "high", "early", "middle", "late", "per_layer"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-4), name


def test_the_same_images_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = moved()
    first = measured(backbone)
    monkeypatch.setattr(similarity, "image_moments", None)  # a call would fail
    assert measured(backbone) == first
    with pytest.raises(TypeError):
        measured(backbone, seed=1)
    other = moved()
    other.module.get_submodule(other.norms[0]).running_mean.add_(0.1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        measured(other)


def test_the_pass_leaves_the_features_that_a_fit_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, train = moved(), stripes(COUNT).train
    expected = compute.run(
        compute.open_network(backbone, backbone.info.preprocess, depths=depth_names(backbone)),
        train,
        label="test",
    )
    measured(backbone)
    monkeypatch.setattr(compute, "stream", None)  # a call would fail
    found = FeatureStore(backbone).get_depths(train, depth_names(backbone))
    for name, rows in zip(("output", *depth_names(backbone)), expected, strict=True):
        np.testing.assert_allclose(found[name], rows, atol=1e-5, rtol=1e-4)


def test_a_store_of_another_runtime_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, train = moved(), stripes(COUNT).train
    store = FeatureStore(backbone)
    names = depth_names(backbone)
    network = compute.choose(backbone, train, backbone.info.preprocess, depths=names)
    network.chosen = replace(network.chosen, engine="openvino")
    monkeypatch.setattr(compute, "choose", lambda *_, **__: network)
    measured(backbone, store=store)
    monkeypatch.setattr(compute, "stream", None)
    with pytest.raises(TypeError):
        store.get_depths(train, names)


def test_without_a_reference_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "image_moments", None)
    backbone = tiny()
    blank = replace(backbone, info=replace(backbone.info, objective="none"))
    found = measured(blank)
    assert found.overall is None
    assert "random weights" in found.reason
    assert found == similarity.domain_distance(blank, stripes(COUNT).train)
    assert domain.measure_distance(
        moved(), stripes(COUNT).train[:1], store=FeatureStore(blank)
    ).reason.startswith("1 image")
