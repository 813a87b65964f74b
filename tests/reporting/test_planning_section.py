"""The page on the decision: there when something was measured, and it says what the files say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.metrics import wilson
from headstart.reporting import write_report
from headstart.reporting.charts import scale_chart
from headstart.reporting.folder import read_run
from headstart.reporting.planning_section import planning_section
from tests.reporting.conftest import write
from tests.reporting.test_report import Page, edit

RunOf = Callable[[str], Path]


def evidence_of() -> dict[str, Any]:
    def probe(name: str, accuracy: float, random: float | None, outputs: int = 1) -> dict[str, Any]:
        return {
            "name": name, "outputs": [name] * outputs, "width": 640, "accuracy": accuracy, "error": 0.012, "random": random,
        }  # fmt: skip

    return {
        "weights": "bundled:efficientnet_lite0",
        "images": 630,
        "distance": {"overall": 0.112},
        "standing": "far (0.11): between satellite scenes (0.11) and enlarged 32-pixel pictures (0.31)",
        "depths": [
            probe("stem", 0.62, 0.55),
            probe("stage3", 0.936, 0.61),
            probe("output", 0.839, 0.5),
            probe("stage2+stage3", 0.94, None, outputs=2),
        ],
        "sizes": [
            {"size": 160, "accuracy": 0.8, "error": 0.016, "seconds_per_image": 0.02},
            {"size": 224, "accuracy": 0.839, "error": 0.015, "seconds_per_image": 0.04},
        ],
        "curve": {
            "points": [{"n": n, "accuracy": a, "error": 0.02} for n, a in ((79, 0.7), (157, 0.75), (315, 0.8), (630, 0.84))],
            "forecast": [
                {"n": 630, "value": 0.84, "low": 0.82, "high": 0.86},
                {"n": 1260, "value": 0.87, "low": 0.83, "high": 0.9},
                {"n": 10_080, "value": 0.9, "low": 0.8, "high": 0.97},
            ],
        },
        "findings": [],
        "flips": {"images": 195, "keeps": False, "told": "a mirror changes what the images mean: 93.6% against 41.0%"},
        "seconds": 9.0,
        "skipped": ["No learning curve of the twin."],
    }  # fmt: skip


def measured(run: Path) -> Path:
    """The run, as if `--method auto` had measured before it planned."""

    def change(plan: dict[str, Any]) -> None:
        plan["guide"] = {
            "size": "small",
            "similarity": "far",
            "prior": "feature extraction from earlier layers",
            "measured": ["on block 3 it is right on 93.6% (91.0% to 95.5%), <b>9.7</b> points more"],
            "therefore": "depth-probe (expected 93.6%)",
            "distance": 0.112,
            "known": {"photos of all kinds": 0.0107, "blood cells": 0.34, "uniform noise": 2.64},
        }
        plan["input_size"] = 224
        for rung, accuracy in zip(plan["rungs"][1:], (0.936, 0.95), strict=True):
            rung["expected"] = {
                "accuracy": accuracy, "low": accuracy - 0.04, "high": 0.99, "seconds": 12.0, "because": [],
            }  # fmt: skip

    edit(run, "plan.json", change)
    write(run / "evidence.json", evidence_of())
    return run


@pytest.fixture
def run(run_of: RunOf) -> Path:
    return measured(run_of("ants-and-bees"))


def test_without_evidence_there_is_no_such_section(run_of: RunOf) -> None:
    folder = run_of("ten")
    assert planning_section(read_run(folder)) == {}
    html = write_report(folder).read_text(encoding="utf-8")
    assert 'id="plan"' not in html
    assert 'href="#plan"' not in html


def test_the_page_has_the_section_and_a_way_to_it(run: Path) -> None:
    page = Page(write_report(run))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert ids.index("plan") == ids.index("decisions") + 1
    assert "#plan" in {attrs["href"] for attrs in page.all("a")}
    for words in (
        "The textbook says: Feature extraction from earlier layers.",
        "On block 3 it is right on 93.6% (91.0% to 95.5%), <b>9.7</b> points more.",  # as text: nothing in a file is markup
        "Therefore: Depth-probe (expected 93.6%).",
        "exchanged in training? A mirror changes what the images mean: 93.6% against 41.0%.",
        "630 training images were looked at",
        "160 px",
        "No learning curve of the twin.",
    ):
        assert words in page.text, words


def plain(words: str) -> str:
    """With an ordinary space and hyphen."""
    return words.replace("\u00a0", " ").replace("\u2013", "-")


def test_the_table_marks_this_data_once(run: Path) -> None:
    section = planning_section(read_run(run))
    marked = [
        (row["size"], level)
        for row in section["table"]
        for level, cell in zip(section["levels"], row["cells"], strict=True)
        if cell["here"]
    ]
    assert marked == [("fewer than 1,000", "far")]
    assert Page(write_report(run)).text.count("your images") >= 1


def test_the_depth_curve_has_single_depths_alone(run: Path) -> None:
    """Three single depths, each with a dot, of the network and of its untrained twin; the pair is in the table only."""
    section = planning_section(read_run(run))
    assert section["depths"].count("<circle") == 6
    assert [row["name"] for row in section["depth_rows"]] == ["stem", "stage3", "output", "stage2+stage3"]


def test_the_gap_to_the_untrained_network_is_told_where_there_is_one(run: Path) -> None:
    assert "The gap to the untrained network" in Page(write_report(run)).text
    path = run / "evidence.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    for probe in found["depths"]:
        probe["random"] = None
    path.write_text(json.dumps(found), encoding="utf-8")
    assert "The gap to the untrained network" not in Page(write_report(run)).text


def test_the_forecast_ends_at_four_times_the_labels(run: Path) -> None:
    chart = planning_section(read_run(run))["curve"]
    assert "foretold" in chart
    lines = re.findall(r'<polyline class="stroke (\w+)" points="([^"]*)"', chart)
    assert {tone: len(points.split()) for tone, points in lines} == {"accent": 4, "warm": 2}


def test_expected_stands_beside_reached(run: Path) -> None:
    section = planning_section(read_run(run))
    rows = {row["name"]: row for row in section["rungs"]}
    # its rung_end in the history has no interval, as of old: Wilson's for the validation images
    images = read_run(run).facts["splits"]["val"]["n"]
    low, high = wilson(0.951 * images, images)
    assert plain(rows["linear probe"]["reached"]) == f"95.1 % ({100 * low:.1f}-{100 * high:.1f} %)"
    # 0.95 with a half width of 0.04 at 90 %: 0.0477 at 95 %
    assert plain(rows["full fine-tuning"]["expected"]) == "95.0 % (90.2-99.8 %)"
    assert section["ladder"].count("whisker") == 4


def test_what_a_rung_reached_has_the_interval_of_the_history(run: Path) -> None:
    text = (run / "history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()[:-1]]  # the last one was cut off
    for line in lines:
        if line.get("event") == "rung_end" and line["rung"] == "full":
            line["intervals"] = {"accuracy": [0.91, 0.99]}
    (run / "history.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    rows = {row["name"]: row for row in planning_section(read_run(run))["rungs"]}
    assert plain(rows["full fine-tuning"]["reached"]) == "96.7 % (91.0-99.0 %)"


def test_no_accuracy_without_its_interval(run: Path) -> None:
    """Right answers, of the untrained twin too, are Wilson's intervals for the images that explain the error."""
    section = planning_section(read_run(run))
    stem, best = section["depth_rows"][0], section["depth_rows"][1]
    n = 0.936 * 0.064 / 0.012**2
    low, high = wilson(0.936 * n, n)
    assert plain(best["accuracy"]) == f"93.6 % ({100 * low:.1f}-{100 * high:.1f} %)"
    low, high = wilson(0.55 * 630, 630)
    assert plain(stem["random"]) == f"55.0 % ({100 * low:.1f}-{100 * high:.1f} %)"
    assert section["depths"].count('class="band') == 2
    assert all("(" in row["accuracy"] for row in section["sizes"])
    assert "±" not in Page(write_report(run)).text


def test_a_rung_that_was_not_climbed_says_so(run: Path) -> None:
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[:-1] if json.loads(line).get("rung") != "full"]
    (run / "history.jsonl").write_text("\n".join(kept), encoding="utf-8")
    rows = {row["name"]: row for row in planning_section(read_run(run))["rungs"]}
    assert rows["full fine-tuning"]["reached"] == "not climbed"


def test_half_an_evidence_is_no_error(run: Path) -> None:
    """No probes (too few images), no curve, no distance: the rest is laid out."""
    write(run / "evidence.json", {"images": 6, "seconds": 0.4, "depths": [], "sizes": [], "curve": None})
    edit(run, "plan.json", lambda plan: plan["guide"].update(distance=None))
    section = planning_section(read_run(run))
    assert not section["depths"]
    assert not section["curve"]
    assert not section["distance"]
    write_report(run)


def test_a_logarithmic_scale_by_hand() -> None:
    """0.01, 0.1 and 1 lie at equal steps, inside the drawing, in the order given."""
    chart = scale_chart([("near", 0.01, False), ("mine", 0.1, True), ("far", 1.0, False)], x="distance")
    xs = [float(value) for value in re.findall(r'cx="([\d.]+)"', chart)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert 0 < xs[0] < xs[2] < 420
    assert scale_chart([("nothing", 0.0, True)], x="distance") == ""
