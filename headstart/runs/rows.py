"""Prediction rows in files: CSV, JSON lines or Parquet, written as they come, whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from headstart._core.files import atomic

COLUMNS = ("path", "class", "probability", "top_k", "error", "set", "unlike", "novelty")
Row = dict[str, Any]
_GROUP = 1000  # rows of a Parquet row group


def write_rows(path: Path, rows: Iterable[Row]) -> tuple[int, int]:
    """(rows written, rows with an error); the file's ending says its format."""
    count = failed = 0

    def counted() -> Iterator[Row]:
        nonlocal count, failed
        for row in rows:
            count += 1
            failed += row["error"] is not None
            yield row

    with atomic(path) as temporary:
        _WRITERS[path.suffix.lower()](temporary, counted())
    return count, failed


def _csv(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for row in rows:
            lists = {
                name: json.dumps(row[name], ensure_ascii=False)
                for name in ("top_k", "set")
                if row[name] is not None
            }
            writer.writerow(row | lists)


def _jsonl(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def _parquet(path: Path, rows: Iterator[Row]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    ranked = pa.list_(pa.struct([("class", pa.string()), ("probability", pa.float64())]))
    kinds = [
        ("path", pa.string()),
        ("class", pa.string()),
        ("probability", pa.float64()),
        ("top_k", ranked),
        ("error", pa.string()),
        ("set", pa.list_(pa.string())),
        ("unlike", pa.bool_()),
        ("novelty", pa.float64()),
    ]
    schema = pa.schema(kinds)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


_WRITERS: dict[str, Callable[[Path, Iterator[Row]], None]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
