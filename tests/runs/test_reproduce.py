"""A run repeated from its folder: the same bits, or what is not the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart._core.errors import BadInput
from headstart._core.files import sha256_file
from headstart._core.records import dumps, from_plain
from headstart.cli import main
from headstart.planning import Plan
from headstart.runs.fit import fit
from headstart.runs.reproduce import _settled, reproduce
from headstart.training import Event


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, colour in (("red", (200, 60, 60)), ("blue", (60, 60, 200))):
        (root / label).mkdir()
        for place in range(20):
            pixels = np.clip(np.array(colour) + rng.normal(0, 60, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{place}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear-probe", "full"])
def test_the_same_bits_come_out_again(
    tmp_path: Path, photos: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"epochs": 1, "budget": "none"} if method == "full" else {}
    run = fit(
        photos, method=method, weights="random:test_resnet", out=str(tmp_path / "run"), **options
    ).folder
    lines = [json.loads(line) for line in (run / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 40
    assert {line["split"] for line in lines} == {"train", "val", "test"}
    assert all(sha256_file(Path(line["path"])) == line["sha256"] for line in lines)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["reproduce", str(run), "--out", str(tmp_path / "again"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["identical"], told
    assert end.value.code == 0
    assert told["largest_gap"] == 0
    assert (told["metrics"], told["surroundings"]) == ([], [])
    assert sha256_file(next((tmp_path / "again" / "bundle").glob("*.safetensors"))) == told["weights_before"]


@pytest.mark.slow
def test_what_is_not_the_same_is_told(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(photos, method="linear-probe", weights="random:test_resnet", out=str(tmp_path / "run")).folder
    manifest = run / "bundle" / "manifest.json"
    plain = json.loads(manifest.read_text(encoding="utf-8"))
    plain["sha256"], plain["versions"]["numpy"] = "0" * 64, "0.1"
    manifest.write_text(json.dumps(plain), encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["reproduce", str(run)])
    told = capsys.readouterr().out
    assert end.value.code == 1
    assert "Not the same: weights 0000000000000000" in told
    assert "numpy differs: 0.1 then" in told
    facts = json.loads((run / "facts.json").read_text(encoding="utf-8"))
    (run / "facts.json").write_text(json.dumps(facts | {"digest": "another"}), encoding="utf-8")
    with pytest.raises(BadInput, match="have changed"):
        reproduce(run)
    (run / "data.jsonl").unlink()
    with pytest.raises(BadInput, match=r"no data\.jsonl"):
        reproduce(run)


def test_a_plan_is_settled_as_it_was_carried_out(tmp_path: Path) -> None:
    events = [
        Event(event="rung_end", rung="linear-probe", kept=True),
        Event(event="note", rung="full", reason="31 s an epoch: 4 of 20 epochs planned"),
        Event(event="rung_end", rung="full", kept=True),
        Event(event="rung_end", rung="partial", kept=False),
    ]

    (tmp_path / "history.jsonl").write_text("".join(dumps(each, indent=None) + "\n" for each in events))
    (tmp_path / "evaluation.json").write_text(json.dumps({"method": "full"}))
    rungs = [
        {"method": name, "params": {"epochs": 20}, "why": "x"}
        for name in ("linear-probe", "full", "partial", "scratch")
    ]
    guide = {"size": "small", "similarity": "close", "prior": "x"}
    plain = {
        "task": "classify",
        "weights": "w",
        "seed": 0,
        "budget_seconds": 60.0,
        "decided": [],
        "rungs": rungs,
        "guide": guide,
    }
    plan, notes = _settled(from_plain(Plan, plain, where="here"), tmp_path)
    assert [(rung.method, rung.params["epochs"]) for rung in plan.rungs] == [
        ("linear-probe", 20),
        ("full", 4),
    ]
    assert plan.budget_seconds is None
    assert notes == ("full: 4 of 20 epochs, as the budget allowed then",)
