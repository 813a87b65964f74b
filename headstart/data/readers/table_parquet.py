"""Parquet files with the same columns as a CSV; a label cell may also be a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart._core.errors import BadInput
from headstart.data.readers import columns
from headstart.data.readers.labels import shown
from headstart.data.readers.records import Listing, Reader
from headstart.data.records import LoadOptions


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a file that ends in .parquet or .pq."""
    path = Path(source).expanduser()
    return path.suffix.lower() in (".parquet", ".pq") and path.is_file()


def read(source: str, options: LoadOptions) -> Listing:
    """The rows of a Parquet file.

    Raises:
        BadInput: for a file that is no Parquet or lacks a column.
    """
    # 0.1 s that only those who have a Parquet file should pay
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = Path(source).expanduser()
    try:
        # Opened as one file: a name like `split=train.parquet` must not be taken for a partition.
        table = pq.ParquetFile(file).read()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(
            f"{shown(file)} is not a readable Parquet file: {error}.", hint="Write it again, or give a CSV."
        ) from error
    cells = {name: [_cell(value) for value in table[name].to_pylist()] for name in table.column_names}
    return columns.listing(file, cells, options)


def _cell(value: Any) -> columns.Cell:
    """A value as it would stand in a CSV; a list stays a list."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return tuple(str(_cell(item)) for item in value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        # pandas makes floats of whole numbers with gaps, and NaN of the gaps
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


READER = Reader(
    name="parquet",
    looks_like="a Parquet file with the columns path, label and, if wanted, split and group",
    matches=matches,
    read=read,
    options=columns.OPTIONS,
)
