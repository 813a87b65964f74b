"""The bundle and its exports say what is unlike the training images; scores against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.neighbors import NearestNeighbors

from headstart import export
from headstart._core.table import load
from headstart.data.records import Sample
from headstart.export.formats import FORMATS
from headstart.export.onnx import open_runner
from headstart.export.parity import check
from headstart.metrics.conformal import calibrate
from headstart.metrics.novelty import Novelty, distances, fit_novelty, unit
from headstart.pixels import normalise
from headstart.predict import as_row, predict
from headstart.tasks import Mirrored, Watched
from headstart.weights.records import WeightsInfo
from tests.export.conftest import MakeBundle, fitted, noise, picture, preprocess

WIDTH = 12


def features(n: int, seed: int) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, WIDTH)) + 3).astype(np.float32)


def test_distances_equal_scikit_learns() -> None:
    bank, rows = features(60, 0), features(25, 1)
    expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank).kneighbors(rows)[0].mean(1)
    assert distances(rows, bank, neighbours=5) == pytest.approx(expected, abs=1e-5)
    alone = (
        NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank).kneighbors()[0].mean(1)
    )  # without itself
    assert distances(bank, bank, neighbours=5, own=np.arange(60)) == pytest.approx(alone, abs=1e-5)


def test_five_of_a_hundred_like_images_are_called_unlike() -> None:
    flagged = []
    for seed in range(60):
        bank, fresh = features(150, seed), features(150, 1000 + seed)
        logits = np.random.default_rng(seed).normal(size=(300, 3))
        found = fit_novelty(distances(bank, bank, neighbours=5, own=np.arange(150)), logits[:150])
        scores = found.scores(distances(fresh, bank, neighbours=5), logits[150:])
        flagged.append((scores > found.threshold).mean())
        far = found.scores(distances(-features(50, seed), bank, neighbours=5), logits[:50])
        assert (far > found.threshold).all()
    assert np.mean(flagged) == pytest.approx(0.05, abs=0.01)


def test_the_score_by_hand() -> None:
    found = Novelty(neighbours=1, distance=(0.1, 0.02), energy=(-2.0, 0.5), threshold=3.0, n=50)
    logits = np.array([[1.0, 2.0]])
    expected = (0.2 - 0.1) / 0.02 + (-logsumexp(logits[0]) + 2.0) / 0.5
    assert found.scores(np.array([0.2]), logits) == pytest.approx([expected])
    assert replace(found, energy=None).scores(np.array([0.2]), logits) == pytest.approx([5.0])


@pytest.fixture
def watched(tmp_path: Path) -> export.Bundle:
    """A bundle that has seen smooth pictures; noise is new to it."""
    return bundle_of(tmp_path / "bundle", mirrored=False)


def bundle_of(folder: Path, *, mirrored: bool) -> export.Bundle:
    model, width = fitted("resnet10t")
    contract = preprocess(64)
    windows = np.stack([np.asarray(picture(64, 64, seed)) for seed in range(40)])
    images = torch.from_numpy(windows).permute(0, 3, 1, 2)
    with torch.inference_mode():
        rows, logits = (part.numpy() for part in model.read(normalise(images, contract)))
    novelty = fit_novelty(distances(rows, rows, neighbours=5, own=np.arange(40)), logits)
    truth = np.arange(40) % model.head.out_features
    manifest = export.Manifest(
        task="classify",
        classes=tuple("abcdefghij"[: model.head.out_features]),
        arch="resnet10t",
        width=width,
        preprocess=contract,
        weights=WeightsInfo(
            name="timm:resnet10t",
            arch="resnet10t",
            licence="Apache-2.0",
            source="made here",
            preprocess=contract,
        ),
        method="linear-probe",
        novelty=novelty,
        conformal=calibrate(np.exp(logits - logsumexp(logits, axis=1, keepdims=True)), truth),
    )
    export.save_bundle(folder, Mirrored(model) if mirrored else model, manifest, bank=unit(rows))
    return export.open_bundle(folder)


def test_rows_say_what_is_unlike_and_what_it_may_be(watched: export.Bundle) -> None:
    samples = [Sample(name="like", source=picture(64, 64, 99)), Sample(name="noise", source=noise(64, 64))]
    like, strange = (as_row(found) for found in predict(watched, samples, coverage=0.9))
    assert like["unlike"] is False
    assert strange["unlike"] is True
    assert strange["novelty"] > like["novelty"]  # type: ignore[operator]
    assert isinstance(like["set"], list)
    assert like["class"] in like["set"]
    wide = next(iter(predict(watched, samples, coverage=0.999)))
    assert wide.candidates is not None
    assert set(wide.candidates) == set(watched.classes)  # 40 images cannot promise 99.9 %


def test_the_watched_network_scores_as_the_arrays_do(watched: export.Bundle) -> None:
    novelty, windows = watched.manifest.novelty, np.stack([picture(64, 64, 7), noise(64, 64, 1)])
    assert novelty is not None
    assert watched.watched is not None
    logits, scores = watched.judged(windows)
    assert logits == pytest.approx(watched.logits(windows), abs=1e-4)
    with torch.inference_mode():
        ready = normalise(torch.from_numpy(windows).permute(0, 3, 1, 2), watched.preprocess)
        rows = watched.model.read(ready)[0].numpy()
    bank = watched.watched.get_buffer("bank").float().numpy()
    expected = novelty.scores(distances(rows, bank, neighbours=5), logits)
    assert scores == pytest.approx(expected, rel=1e-3, abs=0.02)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_exported_file_says_it_too(tmp_path: Path, mirrored: bool) -> None:
    bundle = bundle_of(tmp_path / "bundle", mirrored=mirrored)
    file = tmp_path / "model.onnx"
    load(FORMATS["onnx"].write)(bundle, file)
    runner = open_runner(file)
    samples = [Sample(name="a", source=picture(64, 64, 5)), Sample(name="b", source=noise(64, 64))]
    found = check(bundle, runner, samples)
    assert found.passed
    assert found.novelty_gap is not None
    assert found.novelty_gap < 0.1
    over = runner.novelty(np.stack([picture(64, 64, 5), noise(64, 64)]))  # type: ignore[attr-defined]
    assert (over > 0).tolist() == [False, True]


def test_a_bundle_without_it_stays_as_it_was(make_bundle: MakeBundle) -> None:
    bundle = export.open_bundle(make_bundle(contract=preprocess(64)))
    assert bundle.watched is None
    found = next(iter(predict(bundle, [Sample(name="a", source=picture(64, 64))])))
    assert (found.unlike, found.novelty, found.candidates) == (None, None, None)


def test_two_scales_make_two_networks() -> None:
    model, width = fitted("resnet10t")
    one = Novelty(neighbours=2, distance=(0.1, 0.02), energy=None, threshold=3.0, n=50)
    bank = torch.zeros(4, width)
    texts = {repr(Watched(model, bank, each, 1.0)) for each in (one, replace(one, distance=(0.2, 0.02)))}
    assert len(texts) == 2
