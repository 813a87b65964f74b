"""`headstart cache info|clear`."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart._core import cache, records
from headstart._core.check import one_of
from headstart._core.places import KINDS, cache_root, feature_limit, told_size
from headstart.cli.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True)

_MADE_AGAIN = ("features", "compute")


@app.command("info")
def show_info(json: Json = False) -> None:
    """Show where the cache is and how much it holds."""
    found = {kind: cache.usage(kind) for kind in KINDS}
    total, limit = sum(each.bytes for each in found.values()), feature_limit()
    if json:
        plain = {kind: records.to_plain(each) for kind, each in found.items()}
        print_json({"path": str(cache_root()), "bytes": total, "feature_limit": limit, "kinds": plain})
        return
    rows = [(kind, told_size(u.bytes), f"{u.entries:,}", KINDS[kind]) for kind, u in found.items()]
    print_table("", ["kind", "size", "entries", "what"], rows)
    say(f"{cache_root()}: {told_size(total)}.")
    say(f"Features may take {told_size(limit)} (HEADSTART_CACHE_LIMIT); the least recently used leave first.")


@app.command("clear")
def clear(
    kind: Annotated[
        str,
        typer.Option(
            help=f"What to delete: {', '.join(KINDS)} or all. Without it: {' and '.join(_MADE_AGAIN)}, "
            "which are made again without a network."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Delete what is in the cache; runs at work are not disturbed."""
    freed = {each: cache.clear(each) for each in _named(kind)}
    total = sum(each.bytes for each in freed.values())
    if json:
        plain = {name: records.to_plain(each) for name, each in freed.items()}
        print_json({"path": str(cache_root()), "bytes_freed": total, "kinds": plain})
        return
    for name, each in freed.items():
        say(f"{name}: {each.entries:,} entries, {told_size(each.bytes)} freed.")


def _named(kind: str) -> tuple[str, ...]:
    if not kind:
        return _MADE_AGAIN
    return tuple(KINDS) if one_of("--kind", kind, (*KINDS, "all")) == "all" else (kind,)
