"""The report on abstaining, sets, slices and choosing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.reporting import write_report
from headstart.reporting.folder import read_run
from headstart.reporting.trust_section import abstaining_section, selection_note, slices_section
from tests.reporting.conftest import metric, picture


def with_trust(run: Path, *, found: bool) -> Path:
    path = run / "evaluation.json"
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    plain["risks"] = [
        {"coverage": share, "confidence": 1 - share / 2, "risk": metric(share / 20, int(150 * share))}
        for share in (0.2, 0.5, 0.8, 1.0)
    ]
    plain["sets"] = {
        "asked": 0.95,
        "calibrated_on": 244,
        "coverage": metric(0.961, 153),
        "size": {"value": 1.08, "low": 1.03, "high": 1.15, "interval": "bootstrap", "n": 153},
        "single": metric(0.92, 153),
    }
    weak = {
        "name": "brightness: darkest quarter (brightness up to 0.2)",
        "accuracy": metric(0.7, 38),
        "rest": metric(0.96, 115),
        "p": 0.004,
        "examples": ["dark <b>.jpg"],
        "thumbnails": ["gallery/slice-0.jpg"],
    }
    plain["slices"] = {"looked": 12, "lowest_p": 0.004 if found else 0.31, "found": [weak] if found else []}
    plain["selection"] = {"candidates": 3, "plain": metric(0.97, 49), "corrected": metric(0.95, 49)}
    path.write_text(json.dumps(plain), encoding="utf-8")
    picture(run / "gallery" / "slice-0.jpg", 5)
    return run


def test_everything_is_told_with_its_interval(run_of: Callable[[str], Path]) -> None:
    run = with_trust(run_of("ants-and-bees"), found=True)
    page = write_report(run).read_text(encoding="utf-8")
    assert "Where does it fail more often?" in page
    assert "darkest quarter" in page
    assert "dark &lt;b&gt;.jpg" in page
    folder = read_run(run)
    told = abstaining_section(folder)
    assert len(told["words"]) == 3
    assert all("%" in line and "n" in line for line in told["words"])
    assert "96.1" in told["sets"][0]
    assert "244 images" in told["sets"][2]
    (row,) = slices_section(folder)["rows"]
    assert row["images"][0][0].startswith("data:image/jpeg")
    assert "chosen among 3" in selection_note(folder)


def test_nothing_found_is_said_with_how_much_was_looked_at(run_of: Callable[[str], Path]) -> None:
    run = with_trust(run_of("ants-and-bees"), found=False)
    told = slices_section(read_run(run))
    assert told["none"].startswith("None found: 12 parts")
    assert "p = 0.31" in told["none"]
    assert "None found" in write_report(run).read_text(encoding="utf-8")


def test_an_older_run_has_no_empty_sections(run_of: Callable[[str], Path]) -> None:
    page = write_report(run_of("ants-and-bees")).read_text(encoding="utf-8")
    assert 'id="abstaining"' not in page
    assert 'id="slices"' not in page
