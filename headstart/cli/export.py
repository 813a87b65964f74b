"""`headstart export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart._core import records
from headstart._core.check import existing
from headstart.cli.output import Json, print_json, say

if TYPE_CHECKING:  # onnx and torch, which the help does not need
    from headstart.export.records import Parity


def export(
    run: Annotated[str, typer.Argument(help="A run folder that fit wrote.")],
    format: Annotated[str, typer.Option(help="Format of the file: onnx.")] = "onnx",  # the flag's name
    out: Annotated[
        str, typer.Option(help="The file to write; by default model.onnx in the run folder.")
    ] = "",
    json: Json = False,
) -> None:
    """Write a file to deploy: raw images in, calibrated probabilities out; checked on the run's validation images first."""
    from headstart import export as core
    from headstart.runs.fit import validation_images
    from headstart.tasks import TASKS

    core.FORMATS[format]  # a wrong name is told before the data is read
    folder = existing(run, what="The run folder")
    done = core.export(folder, format, out=Path(out) if out else None, samples=validation_images(folder))
    if json:
        print_json(records.to_plain(done) | {"path": str(done.path)})
        return
    parity = done.parity
    say(f"{done.path}: {done.bytes / 1e6:.1f} MB, written and checked in {done.seconds:.0f} s")
    task = core.open_bundle(folder).task
    if TASKS[task].places is not None:
        say(compared_places(parity, boxes=task == "detect"))
        return
    say(
        f"On {parity.n} validation images: top-1 agreement {parity.top1_agreement:.2%}, "
        f"largest probability gap {parity.largest_gap:.5f}"
    )


def compared_places(parity: Parity, *, boxes: bool) -> str:
    """What was compared of answers with places, how much of it agrees, and what was needed."""
    from headstart.export.places import SAME, SURE

    start, needed = f"On {parity.n} validation images: ", f"(needed: {parity.least_agreement:.1%})"
    if not boxes:
        return (
            f"{start}{parity.top1_agreement:.3%} of {parity.compared:,} pixels have the same class {needed}"
        )
    if not parity.compared:
        return f"{start}no box has a score of {SURE:g} or more, so there was none to compare"
    return (
        f"{start}{parity.top1_agreement:.2%} of {parity.compared:,} boxes (the file's and the bundle's, with a score of "
        f"{SURE:g} or more) have a partner of their class at an overlap of {SAME:g} or more {needed}; largest difference of "
        f"a score {parity.largest_gap:.5f} (allowed: {parity.greatest_gap:g})"
    )
