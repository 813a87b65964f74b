"""`headstart export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart._core import records
from headstart._core.check import existing
from headstart.cli.output import Json, print_json, say


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
    if TASKS[core.open_bundle(folder).task].places is not None:
        say(
            f"On {parity.n} validation images: {parity.top1_agreement:.2%} of the sure boxes, or of the pixels, agree; "
            f"largest difference of a score {parity.largest_gap:.5f}"
        )
        return
    say(
        f"On {parity.n} validation images: top-1 agreement {parity.top1_agreement:.2%}, "
        f"largest probability gap {parity.largest_gap:.5f}"
    )
