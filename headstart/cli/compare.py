"""`headstart compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart._core import records
from headstart.cli.output import Json, percent, print_json, print_table, say

if TYPE_CHECKING:
    from headstart.runs.compare import Compared


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Run folders that fit wrote.")],
    out: Annotated[str, typer.Option(help="The page to write.")] = "compare.html",
    json: Json = False,
) -> None:
    """Finished runs side by side on the same test images: paired intervals, disagreements, cost."""
    from headstart.runs import compare as core
    from headstart.runs.comparison import write_page

    found = core.compare(runs)
    page = write_page(Path(out), found, runs[0])
    if json:
        print_json(records.to_plain(found) | {"page": str(page)})
        return
    _show(found)
    say(f"Page:     {page}")


def _show(found: Compared) -> None:
    say(f"{len(found.runs)} runs on the same {found.n} test images")
    metric = next(iter(found.runs[0].scores.metrics))
    rows = [
        (
            run.name,
            run.method,
            run.weights,
            percent(run.scores.metrics[metric]),
            f"{run.seconds:.0f}",
            f"{run.megabytes:.1f}",
        )
        for run in found.runs
    ]
    print_table("", ["run", "method", "weights", f"{metric.replace('_', ' ')} (95 %)", "seconds", "MB"], rows)
    several = ", p corrected for the number of pairs" if len(found.pairs) > 1 else ""
    for pair in found.pairs:
        p = "" if pair.p is None else f", p = {pair.p:.3f}"
        say(
            f"{pair.a} against {pair.b}: {pair.difference:+.1%} ({pair.low:+.1%} to {pair.high:+.1%}{p}{several}): "
            f"{pair.verdict}"
        )
    for spread in found.spreads:
        say(
            f"Seeds of {', '.join(spread.runs)}: mean {spread.mean:.1%} ({spread.low:.1%} to {spread.high:.1%}), "
            f"standard deviation {100 * spread.deviation:.1f} points"
        )
    say(f"{found.disagreements} of these {found.n} images are answered differently")
