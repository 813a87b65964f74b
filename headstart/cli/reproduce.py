"""`headstart reproduce`."""

from __future__ import annotations

from typing import Annotated

import typer

from headstart.cli.output import Json, print_json, say

_LAST_DIGITS = 1e-5


def reproduce(
    run: Annotated[str, typer.Argument(help="A run folder that fit wrote.")],
    out: Annotated[
        str, typer.Option(help="Keep the second run in this folder; by default it is removed.")
    ] = "",
    json: Json = False,
) -> None:
    """Repeat a finished run from its folder, with its seeds, and say whether it came out the same.

    Exit code 1 where it did not.
    """
    from headstart.compute import keep_memory
    from headstart.runs import reproduce as core

    keep_memory()
    found = core.reproduce(run, out=out)
    if json:
        print_json(found)
    else:
        for note in found.notes:
            say(note)
        if found.identical:
            say(f"Bit-identical: weights {found.weights_now[:16]}… and the answers to every test image.")
        else:
            say(f"Not the same: weights {found.weights_before[:16]}… then, {found.weights_now[:16]}… now.")
            say(f"Largest difference of a probability on the test images: {found.largest_gap:.2g}")
            if found.largest_gap < _LAST_DIGITS:
                say(
                    "  Last digits alone: features from the cache may have been computed in other batches than now."
                )
            for change in found.metrics:
                say(f"  {change.what}: {change.before} then, {change.now} now")
        for change in found.surroundings:
            say(f"  {change.what} differs: {change.before} then, {change.now} now")
        if not found.identical and not found.surroundings and found.largest_gap >= _LAST_DIGITS:
            say("  Versions, machine and runtime are the same: please report this as a defect of headstart.")
    if not found.identical:
        raise typer.Exit(1)
