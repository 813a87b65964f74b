"""What a run and the command line make of an audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headstart._core import records
from headstart.auditing import Audit
from headstart.cli.fit import summary
from headstart.runs.fit import fit
from tests.auditing.pictures import COPIES, jpeg, scene
from tests.cli.bad_input import call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright pictures in train and test; two of the test pictures are mirrored copies of training pictures."""
    root = tmp_path_factory.mktemp("leaky")
    for split, count in (("train", 40), ("test", 20)):
        for number in range(count):
            label = number % 2
            seed = number + (100 if split == "test" else 0)
            image = scene(number if split == "test" and number < 2 else seed, size=72)
            image = COPIES["bright"](image) if label else image.point(lambda value: value * 0.4)
            image = COPIES["mirror"](image) if split == "test" else image
            place = root / split / ("night", "day")[label] / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(jpeg(image, quality=90))
    return root


def test_a_run_tells_accuracy_with_and_without_leaks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(folder, method="linear-probe", weights="random:test_resnet", out=str(tmp_path / "run")).folder
    summary(run)
    assert "without the 2 of them that training (nearly) shows: accuracy" in capsys.readouterr().out
    audit = records.load(Audit, run / "audit.json")
    assert {Path(name).stem for name in audit.leaked()} == {"0", "1"}
    assert {Path(leak.twin).stem for leak in audit.leaks} >= {"0", "1"}
    splits = records.read_json(run / "evaluation.json")["splits"]
    assert (splits["test"]["n"], splits["test_without_leaks"]["n"]) == (20, 18)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Is the data what it says?" in page
    assert "Without those that leak" in page
    assert "2 of 20" in page


def test_words_json_and_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", str(folder), "--quick"]
    assert call(words) == 0
    told = capsys.readouterr().out
    assert "test images (nearly) seen in training: 2 of 20" in told
    assert "Next: remove one of each pair" in told
    assert "Nothing was deleted" in told
    assert call([*words, "--check"]) == 3
    capsys.readouterr()
    assert call([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["test"]["n"] == 20
    assert len(found["audit"]["leaks"]) >= 2
    assert call([*words, "--export-labels", "x.csv"]) == 2


def test_reviewed_labels_of_a_clean_set(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "labels.csv"
    words = ["audit", str(folder), "--weights", "random:test_resnet", "--export-labels", str(file)]
    assert call(words) == 0
    assert f"--labels {file}" in capsys.readouterr().out
    assert file.read_text(encoding="utf-8").startswith("path,label,given,suggested,")
