"""`headstart evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headstart._core import records
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, percent, print_json, print_table, say, shown_metric
from headstart.cli.start import many_imports
from headstart.data.records import LoadOptions

_NEEDLESS = ("val", "test", "val_fraction", "test_fraction", "seed")  # nothing is split here


@with_flags(record_flags(LoadOptions, leave_out=_NEEDLESS, panel="Data"))
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder or bundle.")],
    source: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled images; classes are matched by name.")
    ],
    out: Annotated[str, typer.Option(help="Also write the evaluation to this JSON file.")] = "",
    json: Json = False,
    **flat: Any,
) -> None:
    """Measure a fitted model on labelled images."""
    with many_imports():
        from headstart.compute import keep_memory
        from headstart.runs import evaluate as runs
    keep_memory()
    result = runs.evaluate(run, source, options=LoadOptions(**flat))
    if out:
        records.save(Path(out), result)
    if json:
        print_json(result)
        return
    split = result.splits["test"]
    say(f"{source}: {split.n} images")
    print_table(
        "",
        ["metric", "value (95 % interval)"],
        [(name, shown_metric(name, records.to_plain(metric))) for name, metric in split.metrics.items()],
    )
    if result.places is not None:
        columns = list(next(iter(result.places.per_class.values()), {}))
        cells = [
            (name, *(percent(scores[column]) for column in columns))
            for name, scores in result.places.per_class.items()
        ]
        print_table("", ["class", *columns], cells)
        return
    rows = [(row.name, percent(row.precision), percent(row.recall), row.support) for row in result.per_class]
    print_table("", ["class", "precision", "recall", "images"], rows)
