"""Records to JSON and back: strict, versioned, atomic."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from headstart._core.errors import BadInput
from headstart._core.files import write_text

T = TypeVar("T")

FORMAT = 1
"""The version of the run folder's files; raised when a reader of the old ones would misread the new."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """A frozen, keyword-only dataclass whose JSON form refuses unknown fields."""
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]  # read by pydantic's TypeAdapter
    return dataclass(frozen=True, kw_only=True)(cls)


def to_plain(value: Any) -> dict[str, Any]:
    """A record as dictionaries and lists; numbers that JSON cannot hold (NaN, infinities) become None."""
    return _finite(asdict(value))  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any, *, indent: int | None = 1) -> str:
    """JSON text of plain values or of a record, with `format` as its first key where it is a mapping."""
    plain = to_plain(value) if hasattr(value, "__dataclass_fields__") else _finite(value)
    if isinstance(plain, dict):
        plain = {"format": FORMAT} | plain
    return json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)


def save(path: Path, value: Any) -> None:
    """Write a record or a plain mapping as JSON, atomically."""
    write_text(path, dumps(value) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, without its `format` key.

    Raises:
        BadInput: when the file is missing, is not JSON, or was written by a newer version.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(
            f"{path} does not exist.", hint="Is this a run folder that `headstart fit` wrote?"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is not JSON: {error}.", hint="The file was damaged or edited; run fit again."
        ) from error
    if plain.pop("format", FORMAT) > FORMAT:
        raise BadInput(f"{path} was written by a newer headstart.", hint="Upgrade: pip install -U headstart")
    return plain  # type: ignore[no-any-return]


def from_plain(cls: type[T], plain: Any, *, where: str) -> T:
    """A record out of plain values, with unknown fields and wrong types refused.

    Raises:
        BadInput: listing every field that does not fit.
    """
    from pydantic import TypeAdapter, ValidationError  # 0.1 s that a command without records need not pay

    try:
        return TypeAdapter(cls).validate_python(plain)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}" for item in error.errors()]
        raise BadInput(
            f"{where} does not fit {cls.__name__}: {'; '.join(lines)}.",
            hint="Correct or remove these fields.",
        ) from error


def load(cls: type[T], path: Path) -> T:
    """The record that `save` wrote to that path."""
    return from_plain(cls, read_json(path), where=str(path))


def field_help(cls: type[Any]) -> dict[str, str]:
    """Field name -> its description in the record's docstring (`Attributes:`), on one line.

    The command line makes its flags from this, so that a field is described in one place only: a record built on another
    describes what it adds.
    """
    out: dict[str, str] = {}
    for base in cls.__mro__[1:]:
        if hasattr(base, "__dataclass_fields__"):
            out |= field_help(base)
            break
    name = ""
    for line in inspect.cleandoc(cls.__doc__ or "").partition("Attributes:")[2].splitlines():
        head, colon, rest = line.strip().partition(":")
        if (
            colon
            and line.startswith("    ")
            and not line.startswith("     ")
            and head in cls.__dataclass_fields__
        ):
            name = head
            out[name] = rest.strip()
        elif name and line.strip():
            out[name] += " " + line.strip()
    return out
