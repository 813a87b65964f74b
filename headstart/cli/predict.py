"""`headstart predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart._core.check import in_range
from headstart._core.errors import BadOption
from headstart._core.progress import track
from headstart._core.records import record
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import print_json_line, say
from headstart.cli.start import many_imports
from headstart.data.records import Sample

if TYPE_CHECKING:  # torch, which the help does not need
    from headstart.export import Bundle


@record
class PredictOptions:
    """Options of `predict`.

    Attributes:
        out: write rows to this .csv, .jsonl or .parquet file; boxes to .json (COCO) or .csv; masks into this folder.
        draw: write each image with its boxes or its mask into this folder.
        threshold: least score of a box; by default (-1) the one that suited the validation images.
        top_k: how many classes to list for each image.
        coverage: how often the set of classes (column set) should hold the true one.
    """

    out: str = ""
    draw: str = ""
    threshold: float = -1.0
    top_k: int = 5
    coverage: float = 0.95


@with_flags(record_flags(PredictOptions, panel="Options"))
def predict(
    run: Annotated[str, typer.Argument(help="A run folder or bundle.")],
    paths: Annotated[list[str], typer.Argument(help="Images, and folders of images.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line on standard output.")
    ] = False,
    **flat: Any,
) -> None:
    """Classify images with a fitted model, or find boxes or masks in them; with the reason where one cannot be read."""
    asked = PredictOptions(**flat)
    in_range("--coverage", asked.coverage, low=0.001, high=0.999)
    in_range("--top-k", asked.top_k, low=1, high=100_000)
    in_range("--threshold", asked.threshold, low=-1, high=1)
    with many_imports():
        from headstart import data, export
        from headstart import predict as core
        from headstart.compute import keep_memory
        from headstart.runs.rows import write_rows
        from headstart.tasks import TASKS
    keep_memory()
    bundle = export.open_bundle(run)
    if TASKS[bundle.task].places is not None:
        _places(bundle, data.find_images(paths), asked, json=json)
        return
    suffix = Path(asked.out).suffix.lower()
    if asked.out and suffix not in (".csv", ".jsonl", ".parquet"):
        raise BadOption(f"--out does not know the ending {suffix!r}.", hint="Use .csv, .jsonl or .parquet.")
    for flag, given in (("--draw", asked.draw), ("--threshold", asked.threshold >= 0)):
        if given:
            raise BadOption(f"{flag} has no effect on {bundle.task}.", hint="It is for boxes and masks.")
    samples = data.find_images(paths)
    predictor = core.accelerated(
        bundle, bundle.watched or bundle.model, temperature=bundle.manifest.temperature, samples=samples
    )
    answers = core.predict(
        predictor, track(samples, label="predicting"), top_k=asked.top_k, coverage=asked.coverage
    )
    rows = (core.as_row(answer) for answer in answers)
    if asked.out:
        count, failed = write_rows(Path(asked.out), rows)
        if json:
            print_json_line({"out": asked.out, "rows": count, "errors": failed})
        else:
            unread = f"; {failed} images could not be read (column error)" if failed else ""
            say(f"{count} rows in {asked.out}{unread}")
        return
    for row in rows:
        print_json_line(row) if json else say(_line(row))


def _places(bundle: Bundle, samples: Sequence[Sample], wish: PredictOptions, *, json: bool) -> None:
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
        if json:
            print_json_line({"out": wish.out, "images": count, "errors": failed})
        else:
            say(f"{count} images in {wish.out}" + (f"; {failed} could not be read" if failed else ""))
        return
    for each in found:
        told = "" if each.answer is None else places.described(each.answer, bundle.classes, scores=True)
        if json:
            print_json_line(places.as_row(each, bundle.classes))
        else:
            say(f"{each.path}\t{told or f'-{chr(9)}{each.error}'}")


def _line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['path']}\t-\t{row['error']}"
    strange = "\tunlike anything it was trained on" if row["unlike"] else ""
    others = ", ".join(f"{other['class']} {other['probability']:.1%}" for other in row["top_k"][1:3])
    return (
        f"{row['path']}\t{row['class'] or '(none)'}\t{row['probability']:.1%}"
        + (f"\t({others})" if others else "")
        + strange
    )
