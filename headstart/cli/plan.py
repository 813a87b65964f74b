"""`headstart plan`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headstart._core import records
from headstart.cli.fit import FLAGS
from headstart.cli.flags import with_flags
from headstart.cli.output import Json, print_json, print_table, say


@with_flags(*FLAGS)
def plan(
    train: Annotated[
        str, typer.Argument(help="Class folders, a CSV or Parquet file, or a built-in name such as digits.")
    ],
    json: Json = False,
    **flat: Any,
) -> None:
    """Print what fit would do, and why."""
    from headstart.runs import fit as runs

    facts, decided = runs.plan(train, **flat)
    if json:
        print_json(records.to_plain(decided))
        return
    counts = ", ".join(f"{name} {split.n}" for name, split in facts.splits.items())
    say(f"{train}: {len(facts.classes)} classes; images: {counts}")
    say(f"Textbook for this size ({decided.guide.size}): {decided.guide.prior}")
    budget = "no limit" if decided.budget_seconds is None else f"{decided.budget_seconds:.0f} s"
    print_table("", ["rung", "why"], [(rung.method, rung.why) for rung in decided.rungs])
    print_table(
        "",
        ["decided", "value", "why"],
        [(choice.what, choice.value, choice.why) for choice in decided.decided],
    )
    say(f"Budget: {budget}. A rung replaces the one before only if the validation images say so.")
    say(f"Do it:  headstart fit {train}")
