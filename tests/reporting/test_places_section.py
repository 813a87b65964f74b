"""What the page and the card say of boxes that are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.reporting import write_report
from tests.reporting.conftest import metric


@pytest.mark.parametrize("asked", [0.0, 0.9])
def test_page_and_card_say_what_is_shown_and_what_scores_mean(
    run_of: Callable[[str], Path], asked: float
) -> None:
    run = run_of("ants-and-bees")
    path = run / "evaluation.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    trust = {
        "slope": 1.2,
        "offset": 0.3,
        "asked": asked,
        "before": metric(0.12, 72),
        "after": metric(0.03, 72),
    }
    trust |= {"precision": metric(0.873, 72), "recall": metric(0.912, 72)}
    plain["task"] = "detect"
    plain["places"] = {
        "per_class": {"ant": {"ap": metric(0.5, 30), "ap50": metric(0.8, 30)}},
        "errors": {"right": 30, "missed": 3},
        "threshold": 0.41,
        "trust": trust,
    }
    path.write_text(json.dumps(plain), encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8").replace("\u202f", " ").replace("\xa0", " ")
    card = (run / "report.md").read_text(encoding="utf-8").replace("\u202f", " ").replace("\xa0", " ")
    for told in (page, card):
        assert "87.3 %" in told
        assert "91.2 %" in told
        assert "0.41" in told
    assert "the network's own scores by" in page
    assert "12.0 %" in page
    assert ("lowest with a precision of 90" in page) == bool(asked)
    assert ("for the best F1" in card) == (not asked)
    assert ("for a precision of 90" in card) == bool(asked)
