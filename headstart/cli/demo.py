"""`headstart demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart._core import records
from headstart.cli.fit import summary
from headstart.cli.output import Json, print_json, say
from headstart.cli.start import many_imports


def demo(
    out: Annotated[
        str, typer.Option(help="Run folder; by default the next free one under headstart-runs/.")
    ] = "",
    budget: Annotated[str, typer.Option(help="Time for the climb.")] = "90s",
    json: Json = False,
) -> None:
    """Fit scikit-learn's handwritten digits, offline: pretrained on photographs, used on 8 x 8 scans."""
    with many_imports():
        from headstart.compute import keep_memory
        from headstart.runs.fit import fit
    keep_memory()
    if not json:
        say("A network that has only seen photographs learns handwritten digits from 8 x 8 scans.")
        say(
            "First it is measured at which depth it sees them best; a head goes there, and if it pays, more is tuned.\n"
        )
    fitted = fit("digits", out=out, budget=budget)
    if json:
        print_json(records.read_json(fitted.folder / "evaluation.json") | {"run": str(fitted.folder)})
    else:
        summary(fitted.folder)
