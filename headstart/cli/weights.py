"""`headstart weights list|show|check`."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart._core import records
from headstart.cli.output import Json, percent, print_json, print_table, say
from headstart.weights import SOURCES, catalog_rows, info

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def show_list(json: Json = False) -> None:
    """List the weights of the catalog, and the sources of all others."""
    rows = catalog_rows()
    if json:
        print_json({"weights": [records.to_plain(row) for row in rows], "sources": list(SOURCES)})
        return
    columns = ["name", "million parameters", "input", "licence", "pretrained on", "ImageNet top-1"]
    print_table(
        "",
        columns,
        [
            (
                r.name,
                f"{r.parameters / 1e6:.1f}" if r.parameters else "",
                r.preprocess.height,
                r.licence,
                f"{r.data}, {r.objective}",
                f"{r.top1:.1%}" if r.top1 else "",
            )
            for r in rows
        ],
    )
    say(
        "Always there, without a network: the bundled ones. Others: "
        + ", ".join(f"{name}:…" for name in SOURCES)
    )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="source:id, as in the list.")],
    arch: Annotated[str, typer.Option(help="Architecture, for file: and some hf: weights.")] = "",
    json: Json = False,
) -> None:
    """Show what is known of some weights: licence, source, size, preprocessing."""
    found = info(name, arch=arch)
    if json:
        print_json(found)
        return
    plain = records.to_plain(found)
    contract = plain.pop("preprocess")
    print_table(
        "",
        ["", ""],
        [(key, "unknown" if value is None else value) for key, value in plain.items() if value != ""],
    )
    print_table("preprocessing", ["", ""], list(contract.items()))


@app.command("check")
def check(
    data: Annotated[str, typer.Argument(help="Folder with images and classes.csv (columns index, file).")],
    name: Annotated[
        list[str] | None, typer.Option(help="Weights to check; by default all bundled ones.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the pretraining classifier itself on ImageNet photos: proof that weights and preprocessing fit together."""
    from headstart.compute import keep_memory
    from headstart.runs.check import check_weights

    keep_memory()
    names = name or [row.name for row in catalog_rows() if row.name.startswith("bundled:")]
    results = {each: check_weights(each, data) for each in names}
    if json:
        print_json({each: records.to_plain(metric) for each, metric in results.items()})
        return
    print_table(
        "",
        ["weights", "top-1 (95 % interval)", "images"],
        [(each, percent(m), m.n) for each, m in results.items()],
    )
