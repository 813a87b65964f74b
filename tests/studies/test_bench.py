"""The bench of studies keeps figures and a drawing, and no path of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import study
from headstart._core import records
from headstart.studies import StudyOptions
from tests.studies.made import NETWORK, images_of, result


def test_the_drawing_stands_alone() -> None:
    text = study.drawing(records.to_plain(result()))
    root = ElementTree.fromstring(text)
    charts = root.findall("{http://www.w3.org/2000/svg}svg")
    assert [(chart.get("x"), chart.get("width")) for chart in charts] == [("40", "420"), ("500", "420")]
    assert "var(" not in text
    used = {css for part in root.iter() for css in (part.get("class") or "").split()}
    assert {"accent", "warm", "muted", "band", "grid"} <= used


def test_figures_have_the_name_of_the_set_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images_of("segment", tmp_path)
    small = {"fractions": "1", "schedules": "1", "rates": "1", "weights": NETWORK}
    monkeypatch.setattr(study, "StudyOptions", lambda **given: StudyOptions(**(given | small)))
    asked = [f"{data}:96:1", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    study.main(asked)
    plain = json.loads((tmp_path / "out/masks.json").read_text(encoding="utf-8"))
    assert plain["settings"]["source"] == "masks"
    assert plain["load_before"] >= 0
    assert len(plain["cells"]) == 1
    for ending in ("json", "md", "svg"):
        assert str(tmp_path) not in (tmp_path / f"out/masks.{ending}").read_text(encoding="utf-8")
