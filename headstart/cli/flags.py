"""Flags out of records: a field's name, type, default and description are written once, in its record."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_type_hints

import typer

from headstart._core.records import field_help


def record_flags(
    cls: type[Any], *, leave_out: tuple[str, ...] = (), panel: str
) -> dict[str, inspect.Parameter]:
    """One optional flag for each simple field of a record; a flag that is not given is None.

    Args:
        cls: a record whose docstring describes its fields.
        leave_out: fields without a flag.
        panel: heading in the help text.
    """
    hints, told = get_type_hints(cls), field_help(cls)
    out: dict[str, inspect.Parameter] = {}
    for item in fields(cls):
        if item.name in leave_out or hints[item.name] not in (str, int, float, bool):
            continue
        default = False if item.default in (MISSING, "") else str(item.default)
        option = typer.Option(help=_plain(told[item.name]), rich_help_panel=panel, show_default=default)
        kind = hints[item.name] | None
        out[item.name] = inspect.Parameter(
            item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
        )
    return out


def with_flags(*groups: dict[str, inspect.Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts flags in the place of a command's `**flat`; it receives those that were given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]
        extra: dict[str, inspect.Parameter] = {}
        for group in groups:
            extra |= {name: flag for name, flag in group.items() if name not in extra}

        def run(**values: Any) -> None:
            mine = {p.name: values.pop(p.name) for p in own}
            command(**mine, **{name: value for name, value in values.items() if value is not None})

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + list(extra.values())
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def _plain(text: str) -> str:
    """A description without the backticks of docstrings."""
    return text.replace("`", "").rstrip(".")
