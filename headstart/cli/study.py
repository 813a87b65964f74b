"""`headstart study`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart._core import records
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, percent, print_json, print_table, say
from headstart.cli.start import many_imports
from headstart.data.records import LoadOptions
from headstart.studies import STUDIES, Result, StudyOptions

if TYPE_CHECKING:  # help needs no torch
    from headstart.studies.records import Cell

_OWN = {item.name for item in fields(StudyOptions)}
_NAMES = ", ".join(f"{name}: {row.summary}" for name, row in STUDIES.items())


@with_flags(record_flags(StudyOptions, panel="Study"), record_flags(LoadOptions, panel="Data"))
def study(
    name: Annotated[str, typer.Argument(metavar="STUDY", help=f"Which one ({_NAMES}).")],
    source: Annotated[str, typer.Argument(metavar="DATA", help="Labelled images, as for fit.")],
    json: Json = False,
    **flat: Any,
) -> None:
    """A question about pretraining, answered on your images: all trainings, intervals, curves, one sentence."""
    STUDIES[name]  # a wrong name is told before torch is imported
    options = StudyOptions(**{name: value for name, value in flat.items() if name in _OWN})
    reading = LoadOptions(**{name: value for name, value in flat.items() if name not in _OWN})
    with many_imports():
        from headstart.compute import keep_memory
        from headstart.studies.run import run
    keep_memory()
    done = run(name, source, options, reading)
    if json:
        print_json(records.to_plain(done.result) | {"study": str(done.folder)})
        return
    _show(done.result)
    say(f"Page:     {done.folder / 'study.html'}")
    say(f"Figures:  {done.folder / 'study.json'}")


def _show(result: Result) -> None:
    say()
    print_table(
        f"{result.primary.replace('_', ' ')} on {result.test} test images, 95 % intervals",
        ["images", "schedule", *_arms(result), "difference", ""],
        [_row(cell) for cell in result.cells],
    )
    if result.left:
        say(f"{result.left}; the same command goes on.")
    say(result.finding)
    say(f"Known before ({result.source}): {result.known}")


def _arms(result: Result) -> list[str]:
    return [arm.arm for arm in result.cells[0].arms] if result.cells else []


def _row(cell: Cell) -> list[str]:
    out = [f"{cell.images} ({cell.fraction:.0%})", f"{cell.schedule}x, {cell.epochs} epochs"]
    out += [percent(arm.value) for arm in cell.arms]
    out.append(
        "; ".join(
            f"{100 * p.difference:+.1f} ({100 * p.low:+.1f} to {100 * p.high:+.1f})" for p in cell.pairs
        )
    )
    out.append("; ".join(pair.verdict for pair in cell.pairs))
    return out
