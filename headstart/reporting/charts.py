"""Small charts as inline SVG: no script, colours from the page's CSS variables, readable at a phone's width.

They are written by hand because a plotting library would add megabytes of script to each report. A chart's
coordinates are about as many as a phone has pixels, so its 12-unit text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from headstart._core.records import record
from headstart.reporting.wording import MINUS

WIDTH, HEIGHT = 420, 270
_LETTER = 9.0  # units that a bold letter of a label takes on a phone, where letters are largest
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 28, 42

Points = tuple[tuple[float, float], ...]


@record
class Line:
    """One curve.

    Attributes:
        name: for the legend; empty for a line that belongs to one before it.
        points: (x, y), in the order of x.
        tone: a colour of the page: `accent`, `warm` or `muted`.
        dots: mark each point (few points, each a measurement) instead of drawing the line alone.
        band: (low, high) for each point, drawn behind the line; empty for none.
    """

    name: str
    points: Points
    tone: str = "accent"
    dots: bool = False
    band: Points = ()


@record
class Mark:
    """A measured value with its interval: a row of `interval_chart`, or a point of `reliability_chart`.

    `x` is where the point lies (reliability only); `n` is how many images it rests on.
    """

    label: str
    value: float
    low: float
    high: float
    x: float = 0.0
    n: int = 0
    main: bool = True


def ticks(low: float, high: float, *, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers that cover [low, high], at most about `most`; whole ones where asked and the span allows.

    >>> ticks(0, 9.7)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low if high > low else max(abs(high), 1.0)
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(
        factor
        for factor in ((1, 2, 5, 10) if whole and span >= most else (1, 2, 2.5, 5, 10))
        if span / (step * factor) <= most
    )
    if whole and span >= 1:
        step = max(step, 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]


def line_chart(lines: Sequence[Line], *, x: str, y: str, percent: bool = False) -> Markup:
    """Curves over a common x axis; an empty text when there is nothing to draw."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("")
    xs = [px for line in drawn for px, _ in line.points]
    ys = [py for line in drawn for _, py in line.points] + [
        end for line in drawn for ends in line.band for end in ends
    ]
    steps = ticks(min(ys), max(ys))
    if percent and max(ys) <= 1:  # a share has no room above 100 %
        steps = [step for step in steps if step <= 1] if min(ys) < 1 else [0.9, 0.95, 1.0]
    frame = _Frame(ticks(min(xs), max(xs), whole=True), steps, x_exact=(min(xs), max(xs)))
    body = [
        frame.axes(x, y if len(drawn) > 1 else "", percent=percent)
    ]  # a single line's legend names the axis
    for line in drawn:
        body.append(_band(frame, line) + _polyline(frame, line.points, line.tone))
        if line.dots or len(line.points) == 1:
            body.extend(_dot(frame.x(px), frame.y(py), line.tone) for px, py in line.points)
    named = [(line.name, line.tone) for line in drawn if line.name]
    label = f"{y} against {x}: " + ", ".join(name for name, _ in named)
    return _svg(Markup("").join(body), label=label, legend=named)


def reliability_chart(before: Sequence[Mark], after: Sequence[Mark]) -> Markup:
    """Accuracy against stated probability, before and after temperature scaling, and the diagonal."""
    if not before and not after:
        return Markup("")
    steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    frame = _Frame(steps, steps, x_exact=(0.0, 1.0))
    body = [frame.axes("stated probability", "share that was right", percent=True)]
    body.append(_polyline(frame, ((0.0, 0.0), (1.0, 1.0)), "grid", dashed=True))
    for marks, tone in ((before, "muted"), (after, "accent")):
        largest = max((mark.n for mark in marks), default=1) or 1
        for mark in marks:
            px = frame.x(mark.x)
            if tone == "accent" or not after:  # bars of both would hide each other
                body.append(_whisker(px, frame.y(mark.low), px, frame.y(mark.high), tone))
            body.append(_dot(px, frame.y(mark.value), tone, radius=2.5 + 5.5 * math.sqrt(mark.n / largest)))
    legend = [
        (name, tone)
        for name, tone, marks in (("before scaling", "muted", before), ("after scaling", "accent", after))
        if marks
    ]
    return _svg(
        Markup("").join(body),
        label="Reliability diagram: share of right answers against stated probability",
        legend=legend,
    )


def interval_chart(rows: Sequence[Mark], *, x: str, percent: bool = True) -> Markup:
    """Values with their intervals, one row each, on one axis, so that overlap can be seen."""
    if not rows:
        return Markup("")
    steps = ticks(min(row.low for row in rows), max(row.high for row in rows))
    height = TOP + 46 * len(rows) + BOTTOM
    span = steps[-1] - steps[0]
    scale = (WIDTH - 2 * 22) / span
    body = []
    for step in steps:
        px = 22 + (step - steps[0]) * scale
        body.append(_line(px, TOP, px, height - BOTTOM, "grid"))
        body.append(_text(px, height - BOTTOM + 17, _tick(step, percent=percent), anchor="middle"))
    body.append(_text(WIDTH / 2, height - 6, x, anchor="middle", css="axis"))
    for k, row in enumerate(rows):
        py = TOP + 46 * k + 32
        tone = "accent" if row.main else "muted"
        low, mid, high = (22 + (value - steps[0]) * scale for value in (row.low, row.value, row.high))
        room = min(_LETTER * min(len(row.label), 40), WIDTH - 22.0)
        anchor, at = ("start", min(low, WIDTH - room)) if low < WIDTH / 2 else ("end", max(high, room))
        body.append(_text(at, py - 12, row.label, anchor=anchor, css="strong" if row.main else "", cut=40))
        body.append(_whisker(low, py, high, py, tone))
        body.append(_dot(mid, py, tone, radius=5.5))
    return _svg(Markup("").join(body), label=f"{x}: " + ", ".join(row.label for row in rows), height=height)


def bar_chart(rows: Sequence[tuple[str, float, str]], *, label: str) -> Markup:
    """Horizontal bars from zero: (name, length, what is written behind the bar)."""
    if not rows:
        return Markup("")
    largest = max(length for _, length, _ in rows) or 1.0
    height = 8 + 28 * len(rows)
    body = []
    for k, (name, length, shown) in enumerate(rows):
        py, wide = 6 + 28 * k, max(1.5, 200 * length / largest)
        body.append(_text(104, py + 14, name, anchor="end", cut=16))
        body.append(
            Markup('<rect class="fill accent" x="112" y="{}" width="{:.1f}" height="18" rx="3"/>').format(
                py, wide
            )
        )
        body.append(_text(112 + wide + 7, py + 14, shown))
    return _svg(Markup("").join(body), label=label, height=height)


def scale_chart(rows: Sequence[tuple[str, float, bool]], *, x: str) -> Markup:
    """Named positive values on one logarithmic axis, a row each: (name, value, whether it is the one that matters)."""
    if not rows or min(value for _, value, _ in rows) <= 0:
        return Markup("")
    low = math.floor(math.log10(min(value for _, value, _ in rows)))
    high = max(math.ceil(math.log10(max(value for _, value, _ in rows))), low + 1)
    left, height = 190, TOP + 24 * len(rows) + BOTTOM
    scale = (WIDTH - left - 52) / (high - low)
    body = []
    for power in range(low, high + 1):
        px = left + (power - low) * scale
        body.append(_line(px, TOP - 12, px, height - BOTTOM, "grid"))
        body.append(_text(px, height - BOTTOM + 17, f"{10.0**power:g}", anchor="middle"))
    body.append(_text(WIDTH / 2, height - 6, x, anchor="middle", css="axis"))
    for k, (name, value, main) in enumerate(rows):
        px, py = left + (math.log10(value) - low) * scale, TOP + 24 * k + 6
        body.append(_text(left - 14, py + 4, name, anchor="end", css="strong" if main else "", cut=28))
        body.append(_dot(px, py, "accent" if main else "muted", radius=6.5 if main else 4))
        body.append(_text(px + 11, py + 4, f"{value:.2g}", css="strong" if main else ""))
    return _svg(Markup("").join(body), label=f"{x}: " + ", ".join(name for name, _, _ in rows), height=height)


class _Frame:
    """Axes: where a value lies on the drawing."""

    def __init__(self, xs: list[float], ys: list[float], *, x_exact: tuple[float, float]) -> None:
        low, high = x_exact
        self.xs = [step for step in xs if low - 1e-9 <= step <= high + 1e-9] or [round(low, 2)]
        self.ys = ys
        self.low, self.span = low, (high - low) or 1.0

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / self.span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.ys[0]) / (self.ys[-1] - self.ys[0]) * (HEIGHT - TOP - BOTTOM)

    def axes(self, x: str, y: str, *, percent: bool) -> Markup:
        parts = []
        for step in self.ys:
            parts.append(_line(LEFT, self.y(step), WIDTH - RIGHT, self.y(step), "grid"))
            parts.append(_text(LEFT - 7, self.y(step) + 4, _tick(step, percent=percent), anchor="end"))
        for step in self.xs:
            shown = _tick(step, percent=percent and self.span <= 1 and x.startswith("stated"))
            parts.append(_text(self.x(step), HEIGHT - BOTTOM + 17, shown, anchor="middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x, anchor="middle", css="axis"))
        parts.append(_text(0, 12, y, css="axis"))
        return Markup("").join(parts)


def _tick(value: float, *, percent: bool) -> str:
    shown = f"{100 * value:.10g}%" if percent else f"{value:.6g}"
    return shown.replace("-", MINUS)


def _svg(body: Markup, *, label: str, height: int = HEIGHT, legend: Sequence[tuple[str, str]] = ()) -> Markup:
    """The drawing with its name for screen readers, and a legend in HTML, so that it wraps on a phone."""
    keys = Markup("").join(
        Markup('<span class="key {}">{}</span>').format(tone, name) for name, tone in legend
    )
    head = Markup('<p class="legend">{}</p>').format(keys) if legend else Markup("")
    drawing = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return head + drawing.format(WIDTH, height, label, body)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        css, x1, y1, x2, y2
    )


def _whisker(x1: float, y1: float, x2: float, y2: float, tone: str) -> Markup:
    return _line(x1, y1, x2, y2, f"whisker {tone}")


def _dot(x: float, y: float, tone: str, *, radius: float = 3.2) -> Markup:
    return Markup('<circle class="fill {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(tone, x, y, radius)


def _polyline(frame: _Frame, points: Points, tone: str, *, dashed: bool = False) -> Markup:
    path = " ".join(f"{frame.x(px):.1f},{frame.y(py):.1f}" for px, py in points)
    css = f"stroke {tone}{' dashed' if dashed else ''}"
    return Markup('<polyline class="{}" points="{}"/>').format(css, path) if len(points) > 1 else Markup("")


def _band(frame: _Frame, line: Line) -> Markup:
    if not line.band:
        return Markup("")
    across = [px for px, _ in line.points]
    upper = [(px, high) for px, (_, high) in zip(across, line.band, strict=True)]
    lower = [(px, low) for px, (low, _) in zip(across, line.band, strict=True)]
    path = " ".join(f"{frame.x(px):.1f},{frame.y(py):.1f}" for px, py in [*upper, *reversed(lower)])
    return Markup('<polygon class="band {}" points="{}"/>').format(line.tone, path)


def _text(x: float, y: float, words: str, *, anchor: str = "start", css: str = "", cut: int = 60) -> Markup:
    short = words if len(words) <= cut else words[: cut - 1] + "\u2026"
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        css, x, y, anchor, escape(short)
    )
