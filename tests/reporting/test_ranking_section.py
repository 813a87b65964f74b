"""The page on the choice of the weights: there when they were chosen, and it says what the file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.reporting import write_report
from headstart.reporting.folder import read_run
from headstart.reporting.ranking_section import ranking_section
from tests.reporting.conftest import write
from tests.reporting.test_report import Page

RunOf = Callable[[str], Path]


def candidate(name: str, expected: float, best: float, *, tied: bool) -> dict[str, Any]:
    return {
        "weights": name, "expected": expected, "low": expected - 0.03, "high": expected + 0.03, "best": best, "tied": tied,
        "latency": 21.4, "parameters": 3_371_000, "licence": "Apache-2.0", "why": "probe 90% on 195 images; <i>more</i>",
    }  # fmt: skip


def ranking_of(**changes: Any) -> dict[str, Any]:
    return {
        "images": 195,
        "of": 244,
        "rows": [
            candidate("bundled:efficientnet_lite2", 0.95, 0.61, tied=True),
            candidate("bundled:efficientnet_lite0", 0.94, 0.31, tied=True),
            candidate("random:test_resnet", 0.6, 0.0, tied=False),
        ],
        "skipped": [
            {"weights": "timm:vit_base_patch16_224.mae", "why": "its licence forbids commercial use"}
        ],
        "offers": [{"weights": "timm:convnext_tiny.in12k_ft_in1k", "why": "84.5% on ImageNet"}],
        "chosen": "bundled:efficientnet_lite2",
        "reason": "the best of 3 is bundled:efficientnet_lite2",
        "seconds": 14.0,
        "pilots": [],
    } | changes


def test_without_a_choice_there_is_no_such_section(run_of: RunOf) -> None:
    folder = run_of("ten")
    assert ranking_section(read_run(folder)) == {}
    assert 'href="#weights"' not in write_report(folder).read_text(encoding="utf-8")


def test_the_page_shows_who_was_to_choose_from(run_of: RunOf) -> None:
    folder = run_of("ants-and-bees")
    write(folder / "ranking.json", ranking_of())
    section = ranking_section(read_run(folder))
    assert [row["chosen"] for row in section["rows"]] == [True, False, False]
    assert [row["tied"] for row in section["rows"]] == [True, True, False]
    assert "31" in section["rows"][1]["best"]
    page = Page(write_report(folder))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert ids.index("weights") == ids.index("decisions") + 1
    assert "#weights" in {attrs["href"] for attrs in page.all("a")}
    for words in (
        "3 candidates were measured on 195 of 244 training images",
        "The best of 3 is bundled:efficientnet_lite2.",
        "21 ms",
        "3.4",
        "<i>more</i>",  # as text: nothing in a file is markup
        "timm:vit_base_patch16_224.mae: its licence forbids commercial use",
        "timm:convnext_tiny.in12k_ft_in1k: 84.5% on ImageNet",
    ):
        assert words in page.text, words
    assert "Tuned for a short time" not in page.text


def test_pilots_are_shown(run_of: RunOf) -> None:
    folder = run_of("ants-and-bees")
    flown = [
        {
            "weights": row["weights"], "accuracy": 0.912, "error": 0.014, "images": 78, "trained": 97, "steps": 18,
            "seconds": 6.0, "tied": True,
        }
        for row in ranking_of()["rows"][:2]
    ]  # fmt: skip
    write(folder / "ranking.json", ranking_of(pilots=flown))
    page = Page(write_report(folder))
    assert "Tuned on 97 training images, judged on 78 others." in page.text
    assert "91.2" in page.text
