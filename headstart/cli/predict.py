"""`headstart predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headstart._core.check import in_range
from headstart._core.errors import BadOption
from headstart._core.progress import track
from headstart.cli.output import print_json_line, say
from headstart.cli.start import many_imports


def predict(
    run: Annotated[str, typer.Argument(help="A run folder or bundle.")],
    paths: Annotated[list[str], typer.Argument(help="Images, and folders of images.")],
    out: Annotated[str, typer.Option(help="Write rows to this .csv, .jsonl or .parquet file.")] = "",
    top_k: Annotated[int, typer.Option(help="How many classes to list for each image.")] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line on standard output.")
    ] = False,
) -> None:
    """Classify images with a fitted model; one row each, streamed, with the reason where an image cannot be read."""
    in_range("--top-k", top_k, low=1, high=100_000)
    suffix = Path(out).suffix.lower()
    if out and suffix not in (".csv", ".jsonl", ".parquet"):
        raise BadOption(f"--out does not know the ending {suffix!r}.", hint="Use .csv, .jsonl or .parquet.")
    with many_imports():
        from headstart import data, export
        from headstart import predict as core
        from headstart.compute import keep_memory
        from headstart.runs.rows import write_rows
    keep_memory()
    bundle = export.open_bundle(run)
    samples = data.find_images(paths)
    predictor = core.accelerated(
        bundle, bundle.model, temperature=bundle.manifest.temperature, samples=samples
    )
    answers = core.predict(predictor, track(samples, label="predicting"), top_k=top_k)
    rows = (core.as_row(answer) for answer in answers)
    if out:
        count, failed = write_rows(Path(out), rows)
        if json:
            print_json_line({"out": out, "rows": count, "errors": failed})
        else:
            unread = f"; {failed} images could not be read (column error)" if failed else ""
            say(f"{count} rows in {out}{unread}")
        return
    for row in rows:
        print_json_line(row) if json else say(_line(row))


def _line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['path']}\t-\t{row['error']}"
    others = ", ".join(f"{other['class']} {other['probability']:.1%}" for other in row["top_k"][1:3])
    return f"{row['path']}\t{row['class'] or '(none)'}\t{row['probability']:.1%}" + (
        f"\t({others})" if others else ""
    )
