"""`headstart plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart._core import records
from headstart.cli.fit import FLAGS
from headstart.cli.flags import with_flags
from headstart.cli.output import Json, print_json, print_table, say
from headstart.cli.start import many_imports

if TYPE_CHECKING:  # help needs no torch
    from headstart.evidence import Evidence


@with_flags(*FLAGS)
def plan(
    train: Annotated[
        str,
        typer.Argument(
            help="Class folders, a CSV or Parquet file; boxes (VOC, COCO, YOLO, CSV); images with masks; or a built-in name."
        ),
    ],
    json: Json = False,
    **flat: Any,
) -> None:
    """Measure the images, print what fit would do, and why."""
    with many_imports():
        from headstart.runs import fit as runs
    planned = runs.plan(train, **flat)
    if json:
        found = None if planned.evidence is None else records.to_plain(planned.evidence)
        print_json(records.to_plain(planned.plan) | {"evidence": found})
        return
    facts, decided = planned.facts, planned.plan
    counts = ", ".join(f"{name} {split.n}" for name, split in facts.splits.items())
    say(f"{train}: {len(facts.classes)} classes; images: {counts}")
    if planned.evidence is not None:
        _tell_evidence(planned.evidence)
    guide = decided.guide
    say("\nThe decision")
    alike = f", {guide.similarity} to the pretraining images" if guide.measured else ""
    say(f"  The textbook, for this many images ({guide.size}{alike}): {guide.prior}.")
    for line in guide.measured:
        say(f"  Measured: {line}.")
    if guide.therefore:
        say(f"  Therefore: {guide.therefore}.")
    print_table("", ["rung", "why"], [(rung.method, rung.why) for rung in decided.rungs])
    print_table(
        "",
        ["decided", "value", "why"],
        [(choice.what, choice.value, choice.why) for choice in decided.decided],
    )
    budget = "no limit" if decided.budget_seconds is None else f"{decided.budget_seconds:.0f} s"
    say(f"Budget: {budget}. A rung replaces the one before only if the validation images say so.")
    say(f"Do it:  headstart fit {train}")
    say(
        f"Change it:  headstart plan {train} --json > plan.json, edit the rungs, headstart fit {train} --plan plan.json"
    )


def _tell_evidence(found: Evidence) -> None:
    """What was measured, in words for somebody who never met any of it."""
    from headstart.metrics import told_around
    from headstart.planning import place_words, told_probe, told_size, told_twin

    say(f"\nLooked at {found.images} training images with {found.weights} for {found.seconds:.0f} s")
    say(f"  How unlike are they to the pictures that the network learnt from? {sentence(found.standing)}")
    _tell_maps(found)
    rows = [
        (
            place_words(probe.name),
            told_probe(probe, found),
            told_twin(probe, found),
        )
        for probe in found.depths
        if probe.recall is None
    ]
    if rows:
        say(
            "  How much of the answer can be read off at each depth of the network, and off one that learnt nothing?"
        )
        print_table("", ["depth", "right answers", "untrained network"], rows)
    if len(found.sizes) > 1:
        say("  Does it need large pictures?")
        print_table(
            "",
            ["input size", "right answers", "time an image"],
            [
                (
                    f"{each.size} px",
                    told_size(each, found),
                    f"{1000 * each.seconds_per_image:.0f} ms",
                )
                for each in found.sizes
            ],
        )
    if found.flips is not None:
        say(f"  May left and right be exchanged in training? {sentence(found.flips.told)}")
    if found.curve is not None:
        say("  What do labels buy?")
        steps = [
            (f"{each.n} images", told_around(each.accuracy, each.error, found.images))
            for each in found.curve.points
        ]
        for times, (value, low, high) in (("twice", found.curve.twice), ("four times", found.curve.fourfold)):
            steps.append((f"{times} as many", f"about {value:.1%} ({low:.1%} to {high:.1%})"))
        print_table("", ["training images", "right answers"], steps)
    for line in (*found.findings, *found.skipped):
        say(f"  Note: {line}")


def _tell_maps(found: Evidence) -> None:
    """What each map knows of single places, where images have boxes or masks."""
    from headstart.metrics import told_around, told_points
    from headstart.planning import told_probe

    maps = [
        (
            f"1/{probe.stride} of the size" if probe.stride else "all maps together",
            told_around(probe.recall.value, probe.recall.error, found.images),
            ""
            if probe.recall.gain is None
            else told_points(probe.recall.gain, probe.recall.gain_error or 0.0),
            told_probe(probe, found),
        )
        for probe in found.depths
        if probe.recall is not None
    ]
    if maps:
        say(f"  How many of {found.places} places of these images can be named from what a map shows there?")
        head = ["map", "named rightly, classes alike", "more than untrained", "by area or number"]
        print_table("", head, maps)


def sentence(words: str) -> str:
    """The words with a capital letter and a full stop.

    >>> sentence("far (0.11): nearer than blood cells (0.34)")
    'Far (0.11): nearer than blood cells (0.34).'
    """
    return words[:1].upper() + words[1:].rstrip(".") + "." if words else words
