"""`headstart predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart._core.check import in_range
from headstart._core.errors import BadOption
from headstart._core.progress import track
from headstart.cli.output import print_json_line, say
from headstart.cli.start import many_imports
from headstart.data.records import Sample

if TYPE_CHECKING:  # torch, which the help does not need
    from headstart.export import Bundle


def predict(
    run: Annotated[str, typer.Argument(help="A run folder or bundle.")],
    paths: Annotated[list[str], typer.Argument(help="Images, and folders of images.")],
    out: Annotated[
        str,
        typer.Option(
            help="Write rows to this .csv, .jsonl or .parquet file; boxes to .json (COCO) or .csv; masks into this folder."
        ),
    ] = "",
    draw: Annotated[
        str, typer.Option(help="Write each image with its boxes or its mask into this folder.")
    ] = "",
    threshold: Annotated[
        float,
        typer.Option(help="Least score of a box; by default the one that suited the validation images."),
    ] = -1.0,
    top_k: Annotated[int, typer.Option(help="How many classes to list for each image.")] = 5,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line on standard output.")
    ] = False,
) -> None:
    """Classify images with a fitted model, or find boxes or masks in them; with the reason where one cannot be read."""
    in_range("--top-k", top_k, low=1, high=100_000)
    in_range("--threshold", threshold, low=-1, high=1)
    with many_imports():
        from headstart import data, export
        from headstart import predict as core
        from headstart.compute import keep_memory
        from headstart.runs.rows import write_rows
        from headstart.tasks import TASKS
    keep_memory()
    bundle = export.open_bundle(run)
    if TASKS[bundle.task].places is not None:
        wish = _Wish(out=out, draw=draw, threshold=threshold, json=json)
        _places(bundle, data.find_images(paths), wish)
        return
    suffix = Path(out).suffix.lower()
    if out and suffix not in (".csv", ".jsonl", ".parquet"):
        raise BadOption(f"--out does not know the ending {suffix!r}.", hint="Use .csv, .jsonl or .parquet.")
    for flag, given in (("--draw", draw), ("--threshold", threshold >= 0)):
        if given:
            raise BadOption(f"{flag} has no effect on {bundle.task}.", hint="It is for boxes and masks.")
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
        return None
    for row in rows:
        print_json_line(row) if json else say(_line(row))


@dataclass(frozen=True)
class _Wish:
    """What is to become of boxes and masks."""

    out: str
    draw: str
    threshold: float
    json: bool


def _places(bundle: Bundle, samples: Sequence[Sample], wish: _Wish) -> None:
    """Find boxes or masks, draw and write them; without a file, one line an image."""
    from headstart import predict as core
    from headstart.runs import places

    boxes = bundle.task == "detect"
    if not boxes and wish.threshold >= 0:
        raise BadOption("--threshold has no effect on masks.", hint="Leave it away.")
    if boxes and wish.out and Path(wish.out).suffix.lower() not in (".json", ".csv"):
        raise BadOption(
            f"--out does not know the ending {Path(wish.out).suffix!r}.", hint="Boxes go to .json or .csv."
        )
    if wish.threshold >= 0:
        bundle = replace(bundle, manifest=replace(bundle.manifest, threshold=wish.threshold))
    found = core.predict_places(bundle, track(samples, label="predicting"))
    if wish.draw:
        found = places.drawn_into(Path(wish.draw), found, bundle.classes)
    if wish.out:
        write = places.write_boxes if boxes else places.write_masks
        count, failed = write(Path(wish.out), found, bundle.classes)
        if wish.json:
            print_json_line({"out": wish.out, "images": count, "errors": failed})
        else:
            say(f"{count} images in {wish.out}" + (f"; {failed} could not be read" if failed else ""))
        return
    for each in found:
        told = "" if each.answer is None else places.described(each.answer, bundle.classes, scores=True)
        if wish.json:
            print_json_line(places.as_row(each, bundle.classes))
        else:
            say(f"{each.path}\t{told or f'-{chr(9)}{each.error}'}")


def _line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['path']}\t-\t{row['error']}"
    others = ", ".join(f"{other['class']} {other['probability']:.1%}" for other in row["top_k"][1:3])
    return f"{row['path']}\t{row['class'] or '(none)'}\t{row['probability']:.1%}" + (
        f"\t({others})" if others else ""
    )
