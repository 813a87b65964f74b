"""The bundle: what was saved answers the same, what was damaged is refused, and a kill leaves a whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart._core import records
from headstart._core.errors import BadInput, NotFitted
from headstart.export import Manifest, bundle, open_bundle, save_bundle
from headstart.pixels import normalise
from tests.export.conftest import CLASSES, MakeBundle, fitted, picture, preprocess


def test_answers_are_those_of_the_model_divided_by_the_temperature(make_bundle: MakeBundle) -> None:
    opened = open_bundle(make_bundle())
    model, _ = fitted("resnet10t")
    pixels = np.stack([picture(224, 224, seed) for seed in range(3)])
    pixels.setflags(write=False)  # as Pillow hands them out
    with torch.inference_mode():
        raw = model(normalise(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), preprocess()))
    given = opened.logits(pixels)
    assert given.dtype == np.float32
    assert given.shape == (3, len(CLASSES))
    np.testing.assert_allclose(given, raw.numpy() / 1.7, atol=1e-4)
    assert np.ptp(given, axis=0).max() > 1e-2, (
        "the images must get different answers for this test to mean anything"
    )
    np.testing.assert_allclose(opened.probabilities(pixels).sum(1), 1, atol=1e-6)
    assert opened.classes == CLASSES
    assert opened.task == "classify"
    assert not opened.model.training


def test_a_bundle_opens_from_the_run_folder_and_from_its_own(make_bundle: MakeBundle) -> None:
    run = make_bundle()
    assert open_bundle(run).manifest == open_bundle(str(run / "bundle")).manifest


def test_the_manifest_is_complete(make_bundle: MakeBundle) -> None:
    written = json.loads((make_bundle() / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert written["format"] == 1
    assert written["classes"] == list(CLASSES)
    assert written["weights"]["licence"] == "Apache-2.0"
    assert {"python", "torch", "timm"} <= set(written["versions"])
    assert written["machine"]
    assert written["created"][4] == "-"


def test_saving_again_leaves_one_file_of_tensors(make_bundle: MakeBundle) -> None:
    run = make_bundle()
    manifest = open_bundle(run).manifest
    model, _ = fitted("resnet10t", seed=1)
    (run / "bundle" / ".model-0.safetensors.x.tmp").write_bytes(b"of a save that was killed")
    saved = save_bundle(run / "bundle", model, manifest)
    assert [path.name for path in (run / "bundle").glob("*.safetensors")] == [saved.file]
    assert saved.sha256 != manifest.sha256
    assert sorted(path.name for path in (run / "bundle").iterdir()) == sorted([saved.file, "manifest.json"])


@pytest.mark.parametrize("moment", ["tensors", "manifest"])
def test_a_kill_between_the_writes_leaves_the_old_bundle(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run = make_bundle()
    before = open_bundle(run)
    pixels = picture(224, 224)[None]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    target = (bundle, "atomic") if moment == "tensors" else (records, "write_text")
    monkeypatch.setattr(*target, killed)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(run / "bundle", fitted("resnet10t", seed=1)[0], before.manifest)
    monkeypatch.undo()
    after = open_bundle(run)
    assert after.manifest == before.manifest
    np.testing.assert_array_equal(after.logits(pixels), before.logits(pixels))


def test_the_wrong_number_of_outputs_is_refused_before_anything_is_written(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    manifest = open_bundle(make_bundle()).manifest
    with pytest.raises(BadInput, match=r"2 outputs, the manifest 3"):
        save_bundle(tmp_path / "other", fitted("resnet10t", classes=2)[0], manifest)
    assert not (tmp_path / "other").exists()


def _flip_a_byte(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _cut(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])


def _edit(key: str, value: object, folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")


DAMAGE = {
    "a flipped byte": (_flip_a_byte, "damaged or was edited"),
    "a cut file": (_cut, "damaged or was edited"),
    "no tensors": (lambda folder: next(folder.glob("*.safetensors")).unlink(), "is missing"),
    "no JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "is not JSON"),
    "a newer format": (lambda folder: _edit("format", 99, folder), "newer headstart"),
    "an unknown field": (lambda folder: _edit("colour", "red", folder), "colour"),
    "a class too few": (lambda folder: _edit("classes", ["ants", "bees"], folder), "do not fit"),
    "another network": (lambda folder: _edit("arch", "test_vit", folder), "do not fit"),
    "a temperature of 0": (lambda folder: _edit("temperature", 0, folder), "temperature"),
    "an unknown task": (lambda folder: _edit("task", "classfy", folder), "Did you mean 'classify'"),
    "a file outside": (lambda folder: _edit("file", "../../secret.safetensors", folder), "is missing"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_bundle_is_refused_with_the_reason(make_bundle: MakeBundle, what: str) -> None:
    run = make_bundle()
    damage, reason = DAMAGE[what]
    damage(run / "bundle")
    with pytest.raises(ValueError, match=reason) as caught:
        open_bundle(run)
    assert caught.value.hint  # type: ignore[attr-defined]


def test_a_folder_without_a_bundle_is_not_fitted(tmp_path: Path) -> None:
    with pytest.raises(NotFitted, match="headstart fit"):
        open_bundle(tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        open_bundle(tmp_path / "nothing")


def test_opening_a_bundle_imports_no_training_code() -> None:
    code = "import sys, headstart.export; print([m for m in sys.modules if m.startswith('headstart.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for part in ("training", "ladder", "adaptation", "methods", "reporting", "runs"):
        assert f"headstart.{part}" not in done.stdout
    assert "headstart.export.onnx" not in done.stdout


def test_a_manifest_survives_the_way_to_json_and_back(make_bundle: MakeBundle) -> None:
    accuracy = {"value": 0.95, "low": 0.9, "high": 0.98, "interval": "wilson", "n": 153}
    manifest = replace(open_bundle(make_bundle()).manifest, metrics={"accuracy": accuracy})
    assert records.from_plain(Manifest, records.to_plain(manifest), where="here") == manifest
