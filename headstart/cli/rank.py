"""`headstart rank`."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer

from headstart._core.clock import parse_duration
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, print_json, print_table, say
from headstart.cli.start import many_imports
from headstart.data.records import LoadOptions
from headstart.metrics import told_share
from headstart.metrics.claims import direction
from headstart.ranking import Ranking, RankOptions, Scores

_SHARES = ("measured",)
_TABLES = {
    "measured": {"probe": "probe", "knn": "k-NN"},
    "scores without a unit": {"log_me": "LogME", "leep": "LEEP", "h_score": "H-score"},
}
"""Title of a table -> field of `Scores` -> head of its column."""

_OWN = {item.name for item in fields(RankOptions)}


@with_flags(record_flags(RankOptions, panel="Ranking"), record_flags(LoadOptions, panel="Data"))
def rank(
    source: Annotated[
        str, typer.Argument(metavar="DATA", help="Class folders, a CSV or Parquet file, or a built-in name.")
    ],
    pilot: Annotated[
        str, typer.Option(help="Also tune those that are tied, for so long in all: 2m.", show_default=False)
    ] = "",
    json: Json = False,
    **flat: Any,
) -> None:
    """Which pretrained weights suit your images: what is known of them, corrected by what is measured on your data."""
    with many_imports():
        from headstart import data, ranking
        from headstart.compute import keep_memory
    options = RankOptions(**{name: value for name, value in flat.items() if name in _OWN})
    seconds = parse_duration(pilot, flag="--pilot") if pilot else None
    keep_memory()
    reading = {name: value for name, value in flat.items() if name not in _OWN or name == "seed"}
    dataset = data.load(source, LoadOptions(**reading))
    found = ranking.rank(dataset, options)
    if pilot:
        from headstart.runs.pilot import with_pilots

        facts = data.describe(dataset, source)
        found = with_pilots(found, dataset, facts, options=options, seconds=seconds)
    print_json(found) if json else _show(found, source)


def _show(found: Ranking, source: str) -> None:
    say(f"{source}: measured on {found.images} of {found.of} training images, in {found.seconds:.0f} s")
    several = sum(row.tied for row in found.rows) > 1
    print_table(
        "",
        ["weights", "expected accuracy", "best", "ms/image", "million"],
        [
            (
                row.weights,
                f"{row.expected:.1%} ({row.low:.1%} to {row.high:.1%})",
                f"{row.best:.0%}{' tie' if row.tied and several else ''}",
                f"{row.latency:.0f}",
                f"{row.parameters / 1e6:.1f}",
            )
            for row in found.rows
        ],
    )
    for title, names in _TABLES.items():
        shown = [
            (row.weights, *(_told(row.scores, name, share=title in _SHARES) for name in names))
            for row in found.rows
        ]
        print_table(f"{title} ({direction(lower=False)})", ["weights", *names.values()], shown)
    _show_pilots(found)
    for row in found.rows:
        say(f"{row.weights}: {row.why}")
    for left in found.skipped:
        say(f"left out: {left.weights}: {left.why}")
    if found.offers:
        say("\nNot on this machine; a download (--download, or --weights NAME) would allow:")
    for offer in found.offers:
        say(f"- {offer.weights} ({offer.parameters / 1e6:.0f} million, {offer.licence}): {offer.why}")
    say(f"\n{found.reason}")
    say(f"Use it:  headstart fit {source} --weights {found.chosen}")


def _show_pilots(found: Ranking) -> None:
    if not found.pilots:
        return
    first = found.pilots[0]
    rows = [
        (
            each.weights,
            f"{told_share(each.accuracy, each.images)}{' tie' if each.tied else ''}",
            each.steps,
            f"{each.seconds:.0f} s",
        )
        for each in found.pilots
    ]
    title = f"tuned for a short time on {first.trained} training images, judged on {first.images} others"
    print_table(title, ["weights", "right answers", "steps", "time"], rows)


def _told(found: Scores, name: str, *, share: bool) -> str:
    """A score with its 95 % interval; empty where it does not apply."""
    value = getattr(found, name)
    if value is None:
        return ""
    low, high = found.intervals[name]
    form = ".1%" if share else ".3f"
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
