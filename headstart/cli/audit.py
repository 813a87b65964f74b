"""`headstart audit`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, print_json, print_table, say
from headstart.data.records import DatasetFacts, LoadOptions


@with_flags(record_flags(LoadOptions, panel="Data"))
def audit(
    source: Annotated[
        str, typer.Argument(metavar="DATA", help="Class folders, a CSV or Parquet file, or a built-in name.")
    ],
    json: Json = False,
    **flat: Any,
) -> None:
    """Look at a dataset: counts, sizes, unreadable files, duplicates, and the splits that fit would use."""
    from headstart import data

    dataset = data.load(source, LoadOptions(**flat))
    facts = data.describe(dataset, source)
    print_json(facts) if json else _show(facts)


def _show(facts: DatasetFacts) -> None:
    say(f"{facts.source}: {facts.task}, {len(facts.classes)} classes")
    names = list(facts.splits)
    titles = [f"{name}{' (made)' if facts.splits[name].made else ''}" for name in names]
    rows = [
        (label, *(facts.splits[name].per_class.get(label, 0) for name in names))
        for label in facts.classes[:50]
    ]
    print_table("", ["class", *titles], [*rows, ("all", *(facts.splits[name].n for name in names))])
    if len(facts.classes) > 50:
        say(f"… and {len(facts.classes) - 50} more classes (--json lists all)")
    low, _, middle, _, high = facts.size_quantiles
    say(
        f"Short side {low:.0f} to {high:.0f} pixels, median {middle:.0f}; "
        f"formats {_counts(facts.formats)}; modes {_counts(facts.modes)}"
    )
    say(f"Largest class / smallest class in training: {facts.imbalance:.1f}")
    for note in facts.notes:
        say(f"Note: {note}")
    if facts.unreadable:
        print_table(
            f"{len(facts.unreadable)} unreadable",
            ["file", "reason"],
            [(bad.name, bad.reason) for bad in facts.unreadable],
        )
    if facts.duplicates:
        rows = [
            (", ".join(same.names), ", ".join(sorted(set(same.splits))), same.action)
            for same in facts.duplicates
        ]
        print_table(
            f"{len(facts.duplicates)} groups of identical files", ["files", "splits", "what was done"], rows
        )
    if not facts.unreadable and not facts.duplicates:
        say("Every image is readable; no two files are identical.")


def _counts(table: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in table.items())
