"""Everything together: what is measured, what is left away and why, and that nothing is computed twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headstart import compute, evidence
from headstart._core import records
from headstart._core.clock import Clock
from headstart.evidence import Evidence, Options
from headstart.evidence.depths import depth_names
from headstart.evidence.measure import NO_TWIN
from headstart.evidence.sizes import sized
from headstart.features import FeatureStore
from tests.evidence.pictures import facts_of, stripes, tiny


def measured(count: int = 80, *, clock: Clock | None = None, options: Options | None = None) -> Evidence:
    dataset, backbone = stripes(count), tiny()
    return evidence.measure(
        backbone,
        dataset.train,
        store=FeatureStore(backbone, among=dataset.samples),
        facts=facts_of(dataset),
        options=options,
        clock=clock,
    )


def test_all_of_it_survives_its_file(tmp_path: Path) -> None:
    found = measured(options=Options(sizes=(96,)))
    assert found.images == len(stripes(80).train)
    names = [stage.name for stage in tiny().stages]
    assert [probe.name for probe in found.depths][: len(names) + 1] == [*names, "output"]
    assert all(0 <= probe.accuracy <= 1 and probe.gain is not None for probe in found.depths)
    assert max(probe.accuracy for probe in found.depths) > 0.9, "stripes are easy"
    assert [probe.size for probe in found.sizes] == [64, 96]
    assert next(probe for probe in found.sizes if probe.size == 64).loss == 0.0
    assert found.curve is not None
    assert found.cost is not None
    assert found.distance.overall is not None
    assert found.skipped == ()
    records.save(tmp_path / "evidence.json", found)
    assert records.load(Evidence, tmp_path / "evidence.json") == found


def test_a_fit_afterwards_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(options=Options(twin=False, cost=False, sizes=(96,)))
    monkeypatch.setattr(compute, "stream", None)  # a call would fail
    dataset, backbone = stripes(80), tiny()
    for here in (backbone, sized(backbone, 96)):
        store = FeatureStore(here, among=dataset.samples)
        assert len(store.get(dataset.train)) == len(dataset.train)
        assert len(store.get_depths(dataset.train, depth_names(backbone)[1:3])["output"]) == len(
            dataset.train
        )


def test_without_time_only_the_first_part_is_done_and_the_rest_is_named() -> None:
    found = measured(clock=Clock(1e-9))
    assert found.depths
    assert found.distance.overall is not None
    assert found.curve is None
    assert found.cost is None
    assert found.sizes == ()
    said = " ".join(found.skipped)
    assert all(words in said for words in ("learning curve", "cost of training", "twin", "time budget"))


def test_a_signal_ends_it() -> None:
    clock = Clock()
    clock.stop("Ctrl-C")
    with pytest.raises(compute.Stopped):
        measured(clock=clock)


def test_a_handful_of_images_gets_no_probe_but_a_reason() -> None:
    found = measured(8)
    assert found.depths == ()
    assert found.curve is None
    assert "too few" in found.skipped[0]


def test_a_twin_that_was_not_wanted_is_named() -> None:
    found = measured(options=Options(twin=False, cost=False))
    assert found.skipped == (NO_TWIN,)
    assert all(probe.gain is None for probe in found.depths)


def test_random_weights_have_no_twin() -> None:
    dataset, backbone = stripes(80), tiny()
    own = replace(backbone, info=replace(backbone.info, objective="none"))
    found = evidence.measure(
        own, dataset.train, store=FeatureStore(own), facts=facts_of(dataset), options=Options(cost=False)
    )
    assert found.distance.overall is None
    assert found.standing == found.distance.reason
    assert all(probe.gain is None for probe in found.depths)
    assert found.twin_images == 0
