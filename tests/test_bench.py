"""The benchmarks run from end to end at tiny sizes, and say what they must."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import command, gpu, inputs, measure, plain
from bench.sizes import QUICK


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        place = folder / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02}.jpg")
    return folder


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    script = measure.ROOT / "bench" / "run.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_cases_from_end_to_end(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["--quick", "--only", "heads,features", "--data", str(photos), "--out", str(out)]
    done = run(asked)
    assert done.returncode == 0, done.stderr
    heads, features = (json.loads((out / f"{name}.json").read_text()) for name in ("heads", "features"))
    for case in (heads, features):
        assert case["settings"]["quick"] is True
        assert case["settings"]["repeats"] == QUICK.repeats
        assert {"processor", "cores", "versions", "load_before"} <= set(case["machine"])
        assert case["seed"] == 0
        assert all(check_row(each) for each in case["rows"])
    assert features["facts"]["images"] == 24
    assert features["facts"]["cosine_min"] > 0.998
    assert features["facts"]["below_promise"] == 0
    assert features["facts"]["probe_difference_images"] == 0
    raw = features["runs"]["ours"][0]
    assert raw["limit_rate"] == pytest.approx(1 / (1 / raw["decode_rate"] + 1 / raw["forward_rate"]))
    assert raw["seconds"] == pytest.approx(raw["scan_s"] + raw["open_s"] + raw["compute_s"])
    text = (out / "results.md").read_text()
    assert "## heads" in text
    assert "Quick" in text
    assert str(tmp_path) not in json.dumps([heads, features]) + text, "no path of this machine"
    before = (out / "heads.json").stat().st_mtime_ns
    again = run(asked)
    assert "heads: kept from before" in again.stdout
    assert (out / "heads.json").stat().st_mtime_ns == before


def check_row(each: dict[str, Any]) -> bool:
    ours, *others = each["values"]
    for way, value in each["values"].items():
        assert value["median"] == pytest.approx(np.median(value["values"]))
        assert value["low"] <= value["median"] <= value["high"]
        assert len(value["values"]) == QUICK.repeats, way
    for way in others:
        ratio = each["values"][way]["median"] / each["values"][ours]["median"]
        assert each["ratios"][way] == pytest.approx(1 / ratio if each["better"] == "more" else ratio)
    return bool(others)


def test_a_row_says_how_far_ours_is_ahead() -> None:
    fast = measure.row("x", "images/s", {"ours": [6.0, 9.0, 8.0], "plain": [2.0, 4.0, 1.0]}, more=True)
    assert fast["ratios"] == {"plain": 4.0}
    assert fast["values"]["ours"] | {"values": []} == {"median": 8.0, "low": 6.0, "high": 9.0, "values": []}
    assert measure.row("x", "s", {"ours": [2.0], "plain": [5.0]})["ratios"] == {"plain": 2.5}


def test_ways_are_measured_in_turn() -> None:
    order: list[str] = []

    def way(name: str) -> Any:
        def measured() -> dict[str, int]:
            order.append(name)
            return {"n": len(order)}

        return measured

    runs = measure.in_turn({"a": way("a"), "b": way("b")}, 3)
    assert order == list("ababab")
    assert measure.numbers(runs, "n") == {"a": [1, 3, 5], "b": [2, 4, 6]}


def test_a_process_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(measure.BenchError, match="the reason"):
        measure.call(["-c", "raise SystemExit('the reason')"], cache=tmp_path / "cache", folder=tmp_path)


def test_a_process_has_a_cache_of_its_own_and_is_measured(tmp_path: Path) -> None:
    code = (
        "import os, json; from bench.measure import peak_mb; x = bytearray(b'x') * 80_000_000;"
        "print(json.dumps({'cache': os.environ['HEADSTART_CACHE'], 'peak_mb': peak_mb()}))"
    )
    answer = measure.call(["-c", code], cache=tmp_path / "mine", folder=tmp_path)
    assert answer["cache"] == str(tmp_path / "mine")
    assert 76 < answer["peak_mb"] < 130
    assert answer["wall_s"] > 0


def test_copies_have_distinct_bytes_and_the_same_pixels(photos: Path, tmp_path: Path) -> None:
    assert inputs.replicate(photos, tmp_path / "many", copies=3, limit=5) == 15
    found = inputs.photos(tmp_path / "many")
    assert len({path.read_bytes() for path in found}) == 15
    for path in inputs.photos(tmp_path / "many" / "copy2"):
        twin = photos / path.relative_to(tmp_path / "many" / "copy2")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(twin)))


def test_small_and_large_photos(photos: Path, tmp_path: Path) -> None:
    inputs.small(photos, tmp_path / "small", count=30, side=20, share=10)
    found = inputs.photos(tmp_path / "small")
    assert len({path.read_bytes() for path in found}) == len(found) == 30
    assert {path.parent.name for path in found} == {"part0000", "part0001", "part0002"}
    assert {min(Image.open(path).size) for path in found} == {20}
    inputs.enlarge(photos, tmp_path / "large", count=2, size=(300, 200))
    assert {Image.open(path).size for path in inputs.photos(tmp_path / "large")} == {(300, 200)}


def test_labels_and_tested_photos_follow_the_folders(tmp_path: Path) -> None:
    names = ["train/ants/1.jpg", "train/bees/2.jpg", "val/ants/3.jpg", "val/bees/4.jpg"]
    found = inputs.labelled([tmp_path / name for name in names], tmp_path)
    assert found.labels == (0, 1, 0, 1)
    assert found.tested == (False, False, True, True)
    alone = inputs.labelled([tmp_path / f"ants/{number}.jpg" for number in range(10)], tmp_path)
    assert alone.tested == (True, False, False, False, False) * 2


def test_without_photos_there_are_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_TEST_DATA", raising=False)
    folder = inputs.default_data(tmp_path)
    assert len(inputs.photos(folder)) == 400
    assert len({path.parent.name for path in inputs.photos(folder)}) == 10
    with pytest.raises(ValueError, match="no JPEG"):
        inputs.photos(tmp_path / "nowhere")


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "heads,haeds"]) == 2
    assert "haeds" in capsys.readouterr().err


def test_folders_that_are_not_there_are_refused(photos: Path, tmp_path: Path) -> None:
    for asked, told in (
        (["--data", str(tmp_path / "none")], "no JPEG"),
        (["--data", str(photos), "--peers", "nowhere"], "nowhere"),
    ):
        done = run(["--only", "heads", *asked, "--out", str(tmp_path / "out")])
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_operations_are_counted_as_published() -> None:
    """ResNet-50 has 4.1e9 multiplications and additions (He et al. 2015 state 3.8e9 for the slower-striding first form)."""
    assert gpu.flops("resnet50") / 2 == pytest.approx(4.09e9, rel=0.01)
    assert gpu.product_rate("cpu", side=64) > 0


def test_head_data_is_the_same_each_time() -> None:
    first, again = (plain.head_data(rows=60, width=8, classes=3, seed=1) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert set(first[1]) == {0, 1, 2}
    assert first[0].dtype == np.float32
