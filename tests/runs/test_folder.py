"""Run folders: where they may be, and that their pictures never become data."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart import data
from headstart.data.records import LoadOptions
from headstart.runs.folder import as_request, new_folder
from headstart.runs.options import FitOptions
from tests.cli.bad_input import fruit, image


def test_runs_among_the_images_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fruit()
    image("fruit/headstart-runs/fruit-1/gallery/mistake-0.png")
    image("fruit/mine/gallery/mistake-0.png")
    for name in ("request.json", "facts.json"):
        (tmp_path / "fruit/mine" / name).write_text("{}", encoding="utf-8")
    assert data.load("fruit").classes == ("apple", "pear")
    (tmp_path / "fruit/mine/facts.json").unlink()  # an ordinary folder that holds some JSON
    image("fruit/mine/2.png")
    image("fruit/mine/3.png")
    assert data.load("fruit").classes == ("apple", "mine", "pear")


def test_two_runs_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [str(new_folder("photos/my cats", "")) for _ in range(2)]
    assert found == ["headstart-runs/my-cats-1", "headstart-runs/my-cats-2"]


def test_a_request_means_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "digits", "w.pth", "held"):
        (tmp_path / name).mkdir()
    options = FitOptions(weights="file:w.pth", arch="resnet18", data=LoadOptions(test="held"))
    request = as_request("photos", options)
    assert request.source == str(tmp_path / "photos")
    assert request.options.weights == f"file:{tmp_path / 'w.pth'}"
    assert request.options.data.test == str(tmp_path / "held")
    assert request.options.data.val == ""
    assert as_request("digits", options).source == "digits", (
        "the built-in data, although a folder has its name"
    )
