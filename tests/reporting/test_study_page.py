"""The page of a study: its figures, its claims, nothing from anywhere."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from headstart._core import records
from headstart.reporting.study_page import write_study
from headstart.reporting.wording import DASH
from headstart.studies import STUDIES, Result
from tests.studies.made import result

STUDY = STUDIES["scratch"]


def write(folder: Path, found: Result) -> tuple[str, str]:
    """The page and the card."""
    arms = [{"name": arm.name, "words": arm.words, "tone": arm.tone} for arm in STUDY.arms]
    page = write_study(folder, records.to_plain(found), arms, STUDY.question)
    assert page == folder / "study.html"
    read = [(folder / name).read_text(encoding="utf-8") for name in ("study.html", "study.md")]
    return read[0].replace("\u00a0", " "), read[1]


def test_the_page_shows_every_cell_and_claims_what_intervals_allow(tmp_path: Path) -> None:
    page, card = write(tmp_path, result())
    assert page.count('<svg class="chart"') == 4  # two sizes, by length and by epoch
    assert page.count('class="band warm"') == 2 * (1 + 3)  # by length, and by epoch one of each schedule
    rows = re.findall(r"<tr><th scope=\"row\">(?:82|164) \(.*?</tr>", page)
    assert len(rows) == 6
    assert f"62.0 % <small>57.0{DASH}67.0 %</small>" in rows[3]
    assert "+14.0 <small>+11.0 to +17.0</small>" in rows[3]
    assert 'class="badge good">better' in rows[3]
    assert 'class="badge plain">no difference shown' in rows[5]  # 66 against 64
    assert "arXiv 1811.08883" in page
    assert "instead of 8, which the budget does not allow" in page
    assert "the highest of the rates is chosen" in page
    assert "the loss was no number" in page
    assert result().finding.replace("\u00a0", " ") in html.unescape(page)
    assert card.count("| no difference shown |") == 1
    assert (
        len([line for line in card.splitlines() if line.startswith("| 82 ") or line.startswith("| 164 ")])
        == 6
    )


def test_each_arm_has_one_entry_in_a_legend(tmp_path: Path) -> None:
    page, _ = write(tmp_path, result())
    legends = re.findall(r'<p class="legend">(.*?)</p>', page)
    assert [legend.count("random weights") for legend in legends] == [1, 1, 1, 1]
    assert all('"></span>' not in legend for legend in legends)


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page, card = write(tmp_path, result())
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert "<b>streets</b>" not in page + card  # a folder's name is text
    assert "not recorded" not in page + card


@pytest.mark.parametrize("cells", [0, 1])
def test_an_unfinished_study_has_a_page(tmp_path: Path, cells: int) -> None:
    whole = result()
    found = replace(
        whole, cells=whole.cells[:cells], reaches=(), left="9 of 12 trainings were not begun: no time"
    )
    page, card = write(tmp_path, found)
    assert "9 of 12 trainings were not begun: no time. The same command goes on." in page
    assert "9 of 12 trainings were not begun" in card
    assert page.count("<svg") == 2 * cells
