"""`headstart report`."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart._core.check import existing
from headstart.cli.output import Json, print_json, say


def report(
    run: Annotated[str, typer.Argument(help="A run folder that fit wrote.")],
    json: Json = False,
) -> None:
    """Write a run's report page again, from the files in its folder."""
    from headstart.reporting import write_report

    page = write_report(existing(run, what="The run folder"))
    if json:
        print_json({"report": str(page)})
    else:
        say(f"Report:   {page}")
