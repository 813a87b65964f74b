"""Whether a mirror keeps the meaning: against an independent probe, and on pictures whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart import evidence
from headstart._core import records
from headstart._core.clock import Clock
from headstart.data import from_arrays
from headstart.data.records import Dataset
from headstart.evidence import Evidence, Flips, Options
from headstart.evidence.flips import _FIRST, _STRENGTHS, judge_both
from headstart.evidence.probing import Probing
from headstart.features import FeatureStore
from headstart.methods import METHODS, Suggestion
from headstart.scores import fold_numbers
from tests.evidence.pictures import SIZE, facts_of, stripes, tiny
from tests.test_methods import facts as some_facts


def wedges(count: int, *, turned: bool) -> Dataset:
    """Pictures that grow brighter to the right or to the left (`turned`), or downwards or upwards: what a mirror does."""
    draw = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 120, SIZE), (SIZE, 1))
    ramp = ramp if turned else ramp.T
    images: list[NDArray[np.uint8]] = []
    for number in range(count):
        own = ramp if number % 2 else ramp[::-1, ::-1]
        images.append((own[..., None] + draw.integers(0, 130, (SIZE, SIZE, 3))).astype(np.uint8))
    return from_arrays(images, np.arange(count) % 2, classes=("falls", "rises"))


def measured(dataset: Dataset, *, clock: Clock | None = None) -> Evidence:
    backbone = tiny()
    return evidence.measure(
        backbone,
        dataset.train,
        store=FeatureStore(backbone, among=dataset.samples),
        facts=facts_of(dataset),
        options=Options(twin=False, cost=False),
        clock=clock,
    )


def test_a_mirror_that_does_no_harm_is_not_looked_at_for_long() -> None:
    harmless, harmful = (measured(wedges(160, turned=turned)).flips for turned in (False, True))
    assert harmless is not None
    assert harmful is not None
    assert harmless.images == _FIRST
    assert harmless.keeps
    assert harmful.images > _FIRST


def test_a_mirror_that_swaps_the_classes_is_seen() -> None:
    found = measured(wedges(100, turned=True)).flips
    assert found is not None
    assert found.accuracy > 0.9
    assert found.loss > 0.5
    assert not found.keeps
    assert "a mirror changes what the images mean" in found.told
    assert f"on {found.accuracy - found.loss:.1%} (" in found.told
    low = 100 * (found.loss - 1.959964 * found.error)
    high = min(100.0, 100 * (found.loss + 1.959964 * found.error))
    assert f"a loss of {100 * found.loss:.1f} points ({low:.1f} to {high:.1f})" in found.told


@pytest.mark.parametrize("dataset", [wedges(100, turned=False), stripes(100)], ids=["up and down", "stripes"])
def test_a_mirror_that_changes_nothing_is_allowed(dataset: Dataset) -> None:
    found = measured(dataset).flips
    assert found is not None
    assert found.accuracy > 0.9
    assert found.keeps
    assert "mirrored images mean the same" in found.told


def test_without_time_it_is_left_away_and_named() -> None:
    found = measured(stripes(80), clock=Clock(1e-9))
    assert found.flips is None
    assert any("mirrored" in line for line in found.skipped)


def test_evidence_of_an_older_version_is_read(tmp_path: Path) -> None:
    found = measured(stripes(80))
    plain = records.to_plain(found)
    del plain["flips"]
    (tmp_path / "evidence.json").write_text(json.dumps(plain | {"format": 1}), encoding="utf-8")
    assert records.load(Evidence, tmp_path / "evidence.json").flips is None


@pytest.mark.parametrize("labels", ["one", "several"])
def test_the_probe_is_scikit_learns(labels: str) -> None:
    """Ridge on columns standardised by what each fold learns from; the penalty that suits both sides best."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng(5)
    truth = draw.integers(0, 3, 60) if labels == "one" else draw.integers(0, 2, (60, 3))
    hot = np.eye(3)[truth] if labels == "one" else truth
    features = (hot @ draw.normal(size=(3, 20)) + draw.normal(size=(60, 20))).astype(np.float32)
    features[:, 7] = 4.0  # says nothing
    mirrored = (features + draw.normal(size=(60, 20))).astype(np.float32)
    folds = fold_numbers(truth)
    found = np.zeros((2, 60, len(_STRENGTHS)))
    for fold in np.unique(folds):
        held = folds == fold
        scale = StandardScaler().fit(features[~held].astype(np.float64))
        for column, strength in enumerate(_STRENGTHS):
            ridge = Ridge(alpha=strength * (~held).sum())
            ridge.fit(scale.transform(features[~held].astype(np.float64)), hot[~held])
            for side, rows in enumerate((features, mirrored)):
                said = ridge.predict(scale.transform(rows[held].astype(np.float64)))
                if labels == "one":
                    found[side, held, column] = said.argmax(1) == truth[held]
                    continue
                both = ((said > 0.5) & (hot[held] > 0)).sum(1)
                size = (said > 0.5).sum(1) + (hot[held] > 0).sum(1)
                found[side, held, column] = np.where(size > 0, 2 * both / np.maximum(size, 1), 1.0)
    best = found.mean((0, 1)).argmax()
    right, turned = judge_both(features, mirrored, Probing((), truth, None))
    np.testing.assert_allclose(right, found[0, :, best])
    np.testing.assert_allclose(turned, found[1, :, best])
    assert right.mean() > turned.mean()


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if "classify" in row.tasks])
def test_the_methods_follow_it(name: str) -> None:
    """Every method that augments: what was measured decides, what the user gave wins, unmeasured is allowed."""
    known = measured_flips(keeps=False)
    for found, given, flip in ((None, {}, True), (known, {}, False), (known, {"flip": True}, True)):
        answer = METHODS[name].suggest(some_facts(), found, tiny(), given)
        assert isinstance(answer, Suggestion)
        assert answer.params.flip is flip
        reasons = {choice.what: (choice.value, choice.why) for choice in answer.choices}
        if METHODS[name].solver == "gradient":
            assert reasons["flip"][0] == str(flip)
            assert (reasons["flip"][1] == "asked for") is bool(given)
            assert ("a mirror hurts" in reasons["flip"][1]) is (found is not None and not given)


def measured_flips(*, keeps: bool) -> Evidence:
    told = "mirrored images mean the same" if keeps else "a mirror hurts"
    flips = Flips(images=100, accuracy=0.9, loss=0.0 if keeps else 0.6, error=0.02, keeps=keeps, told=told)
    return replace(measured(stripes(40)), depths=(), flips=flips)
