"""Boxes and masks from data to a deployed file: fit, evaluate, predict, export, report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench import places as bench
from headstart import export
from headstart._core import records
from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart.cli import main
from headstart.cli.export import compared_places
from headstart.data.records import Sample
from headstart.export import places as exported
from headstart.export.records import Parity
from headstart.pixels import contract_pixels
from headstart.runs.evaluate import evaluate
from headstart.runs.fit import fit, validation_images
from tests.tasks.scenes import scene, write

NETWORK = "random:test_resnet"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_from_data_to_a_deployed_file(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", 16)[task == "segment"]
    asked = {"precision": 0.4} if task == "detect" else {}
    done = fit(data, out=str(tmp_path / "run"), weights=NETWORK, epochs=2, budget="none", **asked)
    result = records.read_json(done.folder / "evaluation.json")
    assert result["task"] == task
    assert [rung["method"] for rung in records.read_json(done.folder / "plan.json")["rungs"]] == [
        "frozen",
        "full",
    ]
    assert result["places"]["per_class"]
    for metric in result["splits"]["test"]["metrics"].values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
    frozen = records.read_json(done.folder / "checkpoint/frozen/outcome.json")["ledger"]["groups"]
    assert all(group["verified"] for group in frozen if group["name"] != "head")  # bit-identical
    again = evaluate(done.folder, data)
    assert again.splits["test"].metrics.keys() == result["splits"]["test"]["metrics"].keys()
    for name, metric in again.splits["test"].metrics.items():
        assert metric.value == pytest.approx(result["splits"]["test"]["metrics"][name]["value"], abs=1e-6)
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "The images it did worst on" in page
    assert page.count("data:image/jpeg") >= 2
    _check_export(done.folder, task, capsys)
    if task == "detect":
        _check_trust(done.folder, result["places"]["trust"])
    _check_odd_sizes(done.folder)
    _check_predictions(done.folder, tmp_path, task)


def _check_export(run: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was compared is told, and on the test images file and bundle agree too, as COCO's numbers and pycocotools' do."""
    with pytest.raises(SystemExit) as left:
        main(["export", str(run)])
    assert left.value.code == 0
    said = capsys.readouterr().out
    kept = json.loads((run / "export-onnx.json").read_text())["parity"]
    assert kept["passed"]
    if task == "segment":
        assert kept["compared"] == 96 * 64 * len(validation_images(run))
        assert f"of {kept['compared']:,} pixels have the same class (needed: 99.5%)" in said
    else:  # after two epochs some machine's boxes are sure and another's are not
        told = f"of {kept['compared']:,} boxes" if kept["compared"] else "none to compare"
        assert told in said
    measured = bench.measured(run)
    assert measured["images"] == 4
    assert measured["parity"]["passed"]
    assert task == "segment" or measured["coco"]["largest_difference"] < 1e-12


def test_what_was_compared_is_told() -> None:
    parity = Parity(
        n=8,
        top1_agreement=0.9985,
        largest_gap=0.0123,
        mean_gap=0.001,
        least_agreement=0.995,
        greatest_gap=0.02,
        passed=True,
        compared=1334,
    )
    told = compared_places(parity, boxes=True)
    assert "On 8 validation images: 99.85% of 1,334 boxes" in told
    assert "a score of 0.3 or more) have a partner of their class at an overlap of 0.95 or more" in told
    assert "(needed: 99.5%); largest difference of a score 0.01230 (allowed: 0.02)" in told


def _check_trust(run: Path, trust: dict[str, Any]) -> None:
    """What scores mean and what is shown is the same in evaluation, bundle and exported file."""
    manifest = records.read_json(run / "bundle/manifest.json")
    assert (manifest["precision"], trust["asked"]) == (0.4, 0.4)
    assert tuple(manifest["calibration"]) == (trust["slope"], trust["offset"])
    metadata = {p.key: p.value for p in onnx.load(run / "model.onnx").metadata_props}
    assert metadata["threshold_for"] == "a precision of 40.0% on the validation images"
    assert float(metadata["threshold"]) == manifest["threshold"]
    calibrated = export.open_bundle(run)
    calibrated = replace(calibrated, manifest=replace(calibrated.manifest, calibration=(0.7, -0.4)))
    exported.write(calibrated, run / "other.onnx")
    runner = exported.open_runner(run / "other.onnx")
    samples = [scene(number) for number in range(3)]
    assert exported.check(calibrated, runner, samples).top1_agreement == 1
    plain = replace(calibrated, manifest=replace(calibrated.manifest, calibration=(1.0, 0.0)))
    pixels = np.stack([np.asarray(sample.source) for sample in samples])
    sizes = [(sample.width, sample.height) for sample in samples]
    ours = [
        plain.answers(frame_of(p, plain)[None], [size], threshold=0.0)[0]
        for p, size in zip(pixels, sizes, strict=True)
    ]
    for found, one in zip(runner(pixels), ours, strict=True):
        odds = 0.7 * np.log(one[:, 4] / (1 - one[:, 4])) - 0.4
        assert np.sort(found[:, 4]) == pytest.approx(np.sort(1 / (1 + np.exp(-odds))), abs=1e-3)


def frame_of(pixels: NDArray[np.uint8], bundle: export.Bundle) -> NDArray[np.uint8]:
    """The letterbox of an image."""
    return contract_pixels(Image.fromarray(pixels), bundle.preprocess)


def _check_odd_sizes(run: Path) -> None:
    """The exported file's answers to images that the letterbox must shrink, enlarge and pad."""
    bundle = export.open_bundle(run)
    runner = exported.open_runner(run / "model.onnx")
    sizes = ((96, 64), (64, 96), (150, 40), (37, 41))
    samples = [scene(number, size) for number, size in enumerate(sizes)]
    assert exported.check(bundle, runner, samples).top1_agreement >= 0.99


def _check_predictions(run: Path, folder: Path, task: str) -> None:
    names = [str(folder / "data/0.png"), str(folder / "data/1.png")]
    out = folder / ("found.json" if task == "detect" else "found")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(run), *names, "--out", str(out), "--draw", str(folder / "drawn")])
    assert left.value.code == 0
    assert len(list((folder / "drawn").glob("*.jpg"))) == 2
    if task == "segment":
        assert (out / "classes.txt").read_text().split() == ["ground", "red", "blue"]
        assert {Image.open(path).size for path in out.glob("*.png")} == {(96, 64)}
        return
    content = json.loads(out.read_text())
    assert [row["file_name"] for row in content["images"]] == names
    assert [row["name"] for row in content["categories"]] == ["blue", "red"]
    for row in content["annotations"]:
        left_side, top, width, height = row["bbox"]
        assert min(left_side, top, width, height) >= 0
        assert left_side + width <= 96.01


@pytest.mark.slow
def test_a_resumed_detector_is_the_same(tmp_path: Path) -> None:
    """Training that was cut between two epochs ends with the bits of one that was not."""
    data = write(tmp_path / "data", 12)[0]
    folders = []
    for number, cut in enumerate((False, True)):
        out = tmp_path / f"run{number}"
        options = {"weights": NETWORK, "epochs": 3, "method": "full", "budget": "none", "checkpoint_every": 0}
        if cut:
            _cut(data, out, options)
        else:
            fit(data, out=str(out), **options)
        folders.append(out)
    manifests = [records.read_json(folder / "bundle/manifest.json")["sha256"] for folder in folders]
    assert manifests[0] == manifests[1]


def _cut(data: Path, out: Path, options: dict[str, object]) -> None:
    """A run that is stopped in its second epoch and goes on."""
    from headstart.runs import fit as runs
    from headstart.training import gradient

    real, calls = gradient._validate, []

    def stop(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "_validate", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(data, out=str(out), **options)
    runs.resume(out)


def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", 8)[0]
    for option, value in (("mixup", 0.2), ("label_smoothing", 0.2), ("class_weights", "auto")):
        with pytest.raises(BadPlan, match="has no effect on detect"):
            fit(data, weights=NETWORK, out=str(tmp_path / "run"), method="full", **{option: value})
    masks = write(tmp_path / "masks", 8)[1]
    with pytest.raises(BadOption, match="--precision has no effect on segment"):
        fit(masks, weights=NETWORK, out=str(tmp_path / "run"), precision=0.9)
    with pytest.raises(BadOption, match="--precision"):
        fit(data, weights=NETWORK, out=str(tmp_path / "run"), precision=1.5)
    with pytest.raises(BadPlan, match="is not made for the task detect"):
        fit(data, weights=NETWORK, out=str(tmp_path / "run"), method="linear-probe")
    with pytest.raises(BadOption, match="ranks weights by whole images"):
        fit(data, weights="auto", out=str(tmp_path / "run"))


def test_an_edited_plan_is_checked_for_the_task(tmp_path: Path) -> None:
    from headstart.runs.fit import plan

    data = write(tmp_path / "data", 8)[0]
    made = records.to_plain(plan(data, weights=NETWORK, method="full").plan)
    edits: list[tuple[str, dict[str, object]]] = [
        (
            "has no effect on detect",
            {"rungs": [made["rungs"][0] | {"params": made["rungs"][0]["params"] | {"mixup": 0.2}}]},
        ),
        ("frame is", {"frame": [100, 64]}),
        ("but frame is 128x96 px", {"frame": [128, 96]}),
    ]
    for words, edit in edits:
        (tmp_path / "plan.json").write_text(json.dumps(made | edit))
        with pytest.raises(BadPlan, match=words):
            plan(data, plan=str(tmp_path / "plan.json"))


def test_a_classifier_has_no_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(6):
            sample = scene(number + 10 * (name == "b"))
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(np.asarray(sample.source)).save(tmp_path / name / f"{number}.png")
    done = fit(tmp_path, out=str(tmp_path / "run"), weights=NETWORK, method="linear-probe")
    bundle = export.open_bundle(done.folder)
    with pytest.raises(BadInput, match="says nothing about places"):
        bundle.places([np.zeros((8, 8, 3), np.uint8)])
    assert isinstance(validation_images(done.folder)[0], Sample)


def test_a_sheet_of_what_annotations_say(tmp_path: Path) -> None:
    from headstart.data.records import LoadOptions
    from headstart.runs.places import write_sheet

    boxes, masks = write(tmp_path / "data", 12)
    for name, data in (("boxes.png", boxes), ("masks.png", masks)):
        write_sheet(tmp_path / name, str(data), LoadOptions())
        sheet = Image.open(tmp_path / name)
        assert sheet.width == 4 * 96 + 3 * 6
        assert np.asarray(sheet).std() > 10
