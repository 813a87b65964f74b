"""What commands print: a table or JSON on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from headstart._core.records import dumps

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")
]


def print_json(value: Any) -> None:
    """Print a record or plain value as JSON on standard output."""
    _as_utf8()
    sys.stdout.write(dumps(value) + "\n")


def print_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    _as_utf8()
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _as_utf8() -> None:
    """JSON is UTF-8, whatever the terminal's own encoding is (RFC 8259)."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(encoding="utf-8")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers come formatted."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(highlight=False, markup=False).print(table)


def say(text: str = "") -> None:
    """Print a line of the result on standard output."""
    sys.stdout.write(text + "\n")


def percent(metric: Mapping[str, Any] | Any) -> str:
    """`95.4 % (90.9-97.8)` of a metric record or its plain form."""
    value, low, high = (
        (metric["value"], metric["low"], metric["high"])
        if isinstance(metric, Mapping)
        else (metric.value, metric.low, metric.high)
    )
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def shown_metric(name: str, metric: Mapping[str, Any]) -> str:
    """A metric in its plain form with its interval: rates as percentages, losses and errors as plain numbers."""
    if name in ("log_loss", "calibration_error", "calibration_error_before"):
        return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"
    return percent(metric)
