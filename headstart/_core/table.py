"""`Table`: the only registry. A plug-in point is a literal table of frozen records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from headstart._core.check import one_of

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """Name -> frozen record, with an answer to a wrong name.

    Rows hold plain facts and, for what is heavy, the dotted path `package.module:attribute`, so that the table
    can be read (for help, checks and documentation) without importing torch.
    """

    def __init__(self, what: str, rows: Mapping[str, Row]) -> None:
        self.what = what
        self._rows = dict(rows)

    def __getitem__(self, name: str) -> Row:
        """The row of that name; a wrong name is a `BadOption` with the closest right one."""
        return self._rows[one_of(self.what, name, self._rows)]

    def __contains__(self, name: object) -> bool:
        """Whether there is a row of that name."""
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        """The names in the order they were written."""
        return iter(self._rows)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)


def load(path: str) -> Any:
    """The object that a dotted path `package.module:attribute` names, imported now.

    >>> load("math:hypot")(3, 4)
    5.0
    """
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
