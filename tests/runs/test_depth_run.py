"""The depth probe from images to a deployed file, and back from an interrupted climb."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart import export, ladder
from headstart._core import records
from headstart._core.clock import Clock
from headstart.compute import DepthClassifier
from headstart.ladder import Climb, Climbed
from headstart.planning import Guide, Plan, Rung
from headstart.runs.evaluate import evaluate
from headstart.runs.fit import fit, validation_images
from headstart.weights import blank
from tests.test_depth_probe import contract, problem

KINDS = {"calm": 8, "grainy": 40, "wild": 90}


def pictures(folder: Path, count: int) -> Path:
    """Textures that differ by their contrast alone, in class folders."""
    rng = np.random.default_rng(0)
    for name, spread in KINDS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(128, spread, (72, 80, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def climbed(folder: Path) -> Climbed:
    """The rung's result: trained where the folder is empty, read where it is not."""
    source = blank("test_resnet")
    source = replace(source, info=replace(source.info, preprocess=contract(source)))
    params = {"folds": 3, "views": 1, "depths": "stem,stage1"}
    rung = Rung(method="depth-probe", params=params, why="a test")
    plan = Plan(
        task="classify",
        weights="random:test_resnet",
        seed=0,
        budget_seconds=None,
        decided=(),
        rungs=(rung,),
        guide=Guide(size="small", similarity="unknown", prior="none"),
    )
    task = Climb(plan=plan, backbone=source, data=problem(source), clock=Clock(), folder=folder, every=20.0)
    steps = ladder.climb(task)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            (best,) = end.value
            assert isinstance(best, Climbed)
            return best


def test_a_rung_that_had_ended_is_read_back(tmp_path: Path) -> None:
    trained, again = climbed(tmp_path), climbed(tmp_path)
    assert isinstance(trained.model, DepthClassifier)
    assert isinstance(again.model, DepthClassifier)
    assert again.model.depths == trained.model.depths
    assert again.outcome == trained.outcome
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.model(images), trained.model(images))


@pytest.mark.slow
def test_from_images_to_a_deployed_file(tmp_path: Path) -> None:
    data = pictures(tmp_path / "images", 24)
    run = fit(
        data,
        method="depth-probe",
        depths="stage1+stage2",
        pooling="mean+deviation",
        views=1,
        weights="random:test_resnet",
        out=str(tmp_path / "run"),
    ).folder
    told = records.read_json(run / "evaluation.json")
    assert told["method"] == "depth-probe"
    assert told["splits"]["test"]["metrics"]["accuracy"]["value"] > 0.8
    ledger = records.read_json(run / "ledger.json")
    assert ledger["frozen_identical"]
    assert [line["name"] for line in ledger["groups"]] == [
        *(stage.name for stage in blank("test_resnet").stages),
        "head",
    ]
    bundle = export.open_bundle(run)
    assert isinstance(bundle.model, DepthClassifier)
    assert "layer4" in bundle.manifest.depths.cut if bundle.manifest.depths else False
    assert not any(name.startswith("body.layer4") for name in bundle.model.state_dict())
    paths = sorted((data / "wild").glob("*.png"))[:4]
    assert [row.answer for row in bundle.predict(paths)].count("wild") >= 3
    again = evaluate(run, data)  # all images: what was seen in training too
    assert again.splits["test"].metrics["accuracy"].value > 0.8
    done = export.export(run, "onnx", samples=validation_images(run))
    assert done.parity.passed
    assert done.parity.largest_gap < 1e-3
    whole = sum(p.nbytes for p in blank("test_resnet").module.parameters())
    assert done.path.stat().st_size < 0.6 * whole + 200_000  # the graph of the resizing is in it too
