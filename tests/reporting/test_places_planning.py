"""What the page says of single places and of durations: only what the files hold."""

from __future__ import annotations

from typing import Any

from headstart.reporting.planning_section import _place_rows, depth_chart, places_chart


def found(gain: float | None = 0.34) -> dict[str, Any]:
    def probe(stride: int, value: float) -> dict[str, Any]:
        recall = {"value": value, "error": 0.005, "gain": gain, "gain_error": None if gain is None else 0.015}
        return {
            "name": f"stage{stride}", "outputs": ["a"], "width": 112, "accuracy": 0.88, "error": 0.006, "stride": stride,
            "recall": recall,
        }  # fmt: skip

    return {"places": 3607, "depths": [probe(4, 0.82), probe(16, 0.93), probe(0, 0.934)]}


def test_maps_are_drawn_with_and_without_pretraining() -> None:
    chart = str(places_chart(found()))
    assert "the same, untrained" in chart
    assert "places named rightly" in chart
    assert "1/16" in chart
    assert "untrained" not in str(places_chart(found(None)))
    assert depth_chart(found()) == ""  # that one is about whole images


def test_rows_hold_values_with_their_errors() -> None:
    rows = _place_rows(found())
    assert [row["name"] for row in rows] == ["1/4", "1/16", "all together"]
    assert rows[1]["recall"].startswith("93")
    assert all("(" in row[key] for row in rows for key in ("recall", "accuracy"))
    assert rows[1]["gain"] == "+34.0 points (+31.1 to +36.9)"  # an error of 1.5
    assert all(row["gain"] == "" for row in _place_rows(found(None)))


def test_tasks_of_whole_images_have_none() -> None:
    whole = found() | {"places": 0}
    assert places_chart(whole) == ""
    assert _place_rows(whole) == []
