"""Charts put values where they belong."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from headstart.reporting.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    Mark,
    bar_chart,
    interval_chart,
    line_chart,
    reliability_chart,
    ticks,
)


def dots(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg)]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.953, 0.967), (1, 12), (-3, 8), (5, 5), (0, 0), (1e-6, 3e-6), (0, 123456)]
)
def test_ticks_are_round_cover_the_range_and_are_few(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low + 1e-9
    assert found[-1] >= high - 1e-9
    assert 2 <= len(found) <= 7
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}


def test_whole_ticks_for_epochs() -> None:
    assert ticks(1, 12, whole=True) == [0, 5, 10, 15]
    assert ticks(1, 2, whole=True) == [1, 2]


def test_lines_span_the_frame_and_grow_upward() -> None:
    svg = str(
        line_chart([Line(name="loss", points=((0, 0), (5, 0.5), (10, 1)), dots=True)], x="epoch", y="loss")
    )
    (x0, y0), (x1, y1), (x2, y2) = dots(svg)
    assert (x0, x2) == (LEFT, WIDTH - RIGHT)
    assert (y0, y2) == (HEIGHT - BOTTOM, TOP)
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.98, 1.0), (0.5, 0.93)])
def test_a_share_has_no_room_above_all(values: tuple[float, float]) -> None:
    line = Line(name="accuracy", points=tuple(enumerate(values)), dots=True)
    svg = str(line_chart([line], x="epoch", y="accuracy", percent=True))
    shown = [float(label) for label in re.findall(r">([\d.]+)%<", svg)]
    assert max(shown) <= 100
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in dots(svg))


def test_a_band_runs_along_its_line_and_back() -> None:
    line = Line(name="a", points=((0, 1), (1, 2)), band=((0.5, 1.5), (1.5, 2.5)))
    polygon = re.search(
        r'<polygon class="band accent" points="([^"]+)"', str(line_chart([line], x="n", y="v"))
    )
    assert polygon is not None
    corners = [tuple(map(float, pair.split(","))) for pair in polygon[1].split()]
    assert [x for x, _ in corners] == [LEFT, WIDTH - RIGHT, WIDTH - RIGHT, LEFT]
    assert corners[0][1] < corners[3][1]


def test_perfect_reliability_lies_on_the_diagonal() -> None:
    marks = [Mark(label="", value=v, low=v, high=v, x=v, n=10) for v in (0.25, 0.5, 1.0)]
    svg = str(reliability_chart([], marks))
    for (x, y), v in zip(dots(svg), (0.25, 0.5, 1.0), strict=True):
        assert (x - LEFT) / (WIDTH - LEFT - RIGHT) == pytest.approx(v, abs=1e-3)
        assert (HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM) == pytest.approx(v, abs=1e-3)
    assert "after scaling" in svg
    assert "before scaling" not in svg


def test_interval_dots_lie_inside_their_whiskers_in_order() -> None:
    rows = [
        Mark(label="a", value=0.9, low=0.8, high=0.95),
        Mark(label="b", value=0.5, low=0.5, high=0.5, main=False),
    ]
    svg = str(interval_chart(rows, x="accuracy"))
    ends = [
        (float(a), float(b))
        for a, b in re.findall(r'whisker \w+" x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', svg)
    ]
    for (x, _), (low, high) in zip(dots(svg), ends, strict=True):
        assert low <= x <= high
    assert dots(svg)[0][0] > dots(svg)[1][0]


def test_bars_are_in_proportion_and_names_are_escaped() -> None:
    svg = str(bar_chart([("<i>", 10.0, "10 s"), ("b", 5.0, "5 s")], label="time"))
    wide = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert wide == [200, 100]
    assert "&lt;i&gt;" in svg
    assert "<i>" not in svg


def test_nothing_to_draw_is_an_empty_text() -> None:
    assert line_chart([Line(name="a", points=())], x="x", y="y") == ""
    assert reliability_chart([], []) == interval_chart([], x="x") == bar_chart([], label="x") == ""
