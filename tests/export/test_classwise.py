"""Classes that are calibrated apart: bundle and exported file give the scaled probabilities without knowing of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from headstart import export
from headstart._core import records
from headstart.export.bundle import FOLDER, MANIFEST
from headstart.export.onnx import open_runner, write
from headstart.metrics.classwise import Classwise, Fitted
from headstart.training.calibrating import Calibration, fold_into
from tests.export.conftest import CLASSES, MakeBundle, preprocess

COUNT = len(CLASSES)
WHOLE = Classwise(
    scale=tuple(np.linspace(0.5, 2.0, COUNT).tolist()),
    shift=tuple(np.linspace(-1.0, 1.0, COUNT).tolist()),
    temperature=1.2,
    gain=0.1,
    low=0.05,
    high=0.15,
    n=500,
)
FOUND = Calibration(1.0, Fitted(WHOLE, np.array([[WHOLE.scale, WHOLE.shift]] * 5), np.zeros(500, np.int64)))


def test_bundle_and_file_answer_as_scale_and_shift_say(make_bundle: MakeBundle, tmp_path: Path) -> None:
    plain = export.open_bundle(make_bundle(contract=preprocess(64)))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    wanted = WHOLE(plain.logits(pixels) * plain.manifest.temperature)
    fold_into(plain.model, FOUND)
    export.save_bundle(
        tmp_path / "bundle", plain.model, replace(plain.manifest, temperature=1.0, classwise=WHOLE)
    )
    bundle = export.open_bundle(tmp_path / "bundle")
    assert bundle.manifest.classwise == WHOLE
    np.testing.assert_allclose(bundle.logits(pixels), wanted, atol=1e-3)
    write(bundle, tmp_path / "model.onnx")
    images = np.random.default_rng(1).integers(0, 256, (2, 73, 73, 3), np.uint8)
    told = np.array([each.probability for each in bundle.predict(list(images), top_k=1)], np.float64)
    np.testing.assert_allclose(open_runner(tmp_path / "model.onnx")(images).max(1), told, atol=2e-3)
    np.testing.assert_allclose(bundle.probabilities(pixels), softmax(wanted, axis=1), atol=1e-3)


def test_a_bundle_from_before_is_read(make_bundle: MakeBundle) -> None:
    folder = make_bundle(contract=preprocess(64))
    place = folder / FOLDER / MANIFEST
    manifest = json.loads(place.read_text(encoding="utf-8"))
    del manifest["classwise"]
    records.save(place, manifest)
    assert export.open_bundle(folder).manifest.classwise is None
