"""`headstart audit`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart._core import records
from headstart._core.errors import BadOption
from headstart._core.records import record
from headstart.cli.flags import record_flags, with_flags
from headstart.cli.output import Json, print_json, print_table, say
from headstart.cli.start import many_imports
from headstart.data.records import DatasetFacts, LoadOptions

if TYPE_CHECKING:  # help needs no torch
    from headstart.auditing import Audit

_FOUND = 3  # exit code of --check
_SHOWN = 5  # lines of each kind; --json has all
_RULES = {
    "prefix": "the beginning of their names",
    "word": "the first word of their names",
    "folder": "their folder",
    "burst": "the moment they were taken",
    "place": "the place where they were taken",
}


@record
class AuditOptions:
    """Options of `audit` beside those of reading data.

    Attributes:
        export_labels: write the labels worth a look to this CSV file, to be reviewed and given to `--labels`.
        export_groups: write the first proposed group column to this CSV file, to be given to `--labels`.
        weights: network whose features are used, by default the one that fit starts with.
        arch: its architecture, for weights that do not say.
        quick: use no network: labels and shift are not checked.
        sheet: write a picture of some training images with their boxes or masks to this .jpg or .png file.
        check: end with exit code 3 where accuracy would be wrong: leaks, contradicting labels, technical confounds.
    """

    export_labels: str = ""
    export_groups: str = ""
    weights: str = ""
    arch: str = ""
    quick: bool = False
    sheet: str = ""
    check: bool = False


@with_flags(record_flags(AuditOptions, panel="Audit"), record_flags(LoadOptions, panel="Data"))
def audit(
    source: Annotated[
        str, typer.Argument(metavar="DATA", help="Class folders, a table, boxes, masks, or a built-in name.")
    ],
    json: Json = False,
    **flat: Any,
) -> None:
    """Is the data what it says? Counts, damaged files, leaks, doubtful labels, groups, confounds, shift."""
    own = {item.name for item in fields(AuditOptions)}
    asked = AuditOptions(**{name: value for name, value in flat.items() if name in own})
    reading = LoadOptions(**{name: value for name, value in flat.items() if name not in own})
    useless = [name for name in ("export_labels", "weights", "arch") if asked.quick and getattr(asked, name)]
    if useless:
        raise BadOption(
            f"--{useless[0].replace('_', '-')} has no effect with --quick.", hint="Leave one of them out."
        )
    with many_imports():
        from headstart.compute import keep_memory
        from headstart.runs import audit as runs
    keep_memory()
    facts, found = runs.audit_data(
        source, reading, weights_name=asked.weights, arch=asked.arch, quick=asked.quick
    )
    if asked.sheet:
        from headstart.runs.places import write_sheet

        write_sheet(asked.sheet, source, reading)
    written = runs.write_labels(asked.export_labels, found) if asked.export_labels else 0
    if json:
        print_json(records.to_plain(facts) | {"audit": records.to_plain(found)})
    else:
        show_facts(facts)
        show_audit(found, source)
        if asked.export_labels:
            say(f"\n{written} labels to review in {asked.export_labels}: correct the column `label`, then")
            say(f"  headstart fit {source} --labels {asked.export_labels}")
    if asked.export_groups:
        grouped = runs.write_groups(asked.export_groups, found)
        if not json:
            say(f"\n{grouped} images with their group in {asked.export_groups}: look at it, then")
            say(f"  headstart fit {source} --labels {asked.export_groups}")
    if asked.check and found.serious:
        raise typer.Exit(_FOUND)


def show_facts(facts: DatasetFacts) -> None:
    """Print what loading the data has told."""
    say(f"{facts.source}: {facts.task}, {len(facts.classes)} classes")
    names = list(facts.splits)
    titles = [f"{name}{' (made)' if facts.splits[name].made else ''}" for name in names]
    rows = [
        (label, *(facts.splits[name].per_class.get(label, 0) for name in names))
        for label in facts.classes[:50]
    ]
    print_table("", ["class", *titles], [*rows, ("all", *(facts.splits[name].n for name in names))])
    _show_places(facts)
    if len(facts.classes) > 50:
        say(f"… and {len(facts.classes) - 50} more classes (--json lists all)")
    low, _, middle, _, high = facts.size_quantiles
    say(
        f"Short side {low:.0f} to {high:.0f} pixels, median {middle:.0f}; "
        f"formats {_counts(facts.formats)}; modes {_counts(facts.modes)}"
    )
    say(f"Largest class / smallest class in training: {facts.imbalance:.1f}")
    for note in facts.notes:
        say(f"Note: {note}")
    if facts.unreadable:
        print_table(
            f"{len(facts.unreadable)} unreadable",
            ["file", "reason"],
            [(bad.name, bad.reason) for bad in facts.unreadable],
        )
    if facts.duplicates:
        rows = [
            (", ".join(same.names), ", ".join(sorted(set(same.splits))), same.action)
            for same in facts.duplicates
        ]
        print_table(
            f"{len(facts.duplicates)} groups of identical files", ["files", "splits", "what was done"], rows
        )
    if not facts.unreadable and not facts.duplicates:
        say("Every image is readable; no two files are identical.")


def _show_places(facts: DatasetFacts) -> None:
    """Boxes of each class, shares of the pixels, and what was wrong with either."""
    names = list(facts.splits)
    for title, told in (("boxes", "boxes"), ("share of the pixels", "pixels")):
        tables = [getattr(facts.splits[name], told) for name in names]
        if any(tables):
            rows = [
                (label, *(_amount(table.get(label, 0)) for table in tables)) for label in facts.classes[:50]
            ]
            print_table(title, ["class", *names], rows)
    if facts.flaws:
        shown = [(flaw.name, flaw.what, flaw.action) for flaw in facts.flaws[:20]]
        print_table(f"{len(facts.flaws)} flaws of annotations", ["image", "what", "what was done"], shown)


def _amount(value: float) -> str:
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def show_audit(found: Audit, source: str) -> None:
    """Print what the audit found, counts first, and the next move for each finding."""
    say("\nWhat the audit found")
    _show_leaks(found)
    _show_labels(found, source)
    _show_groups(found, source)
    _show_confounds(found)
    _show_shift(found)
    for line in found.skipped:
        say(f"  {line}")
    say("  Nothing was deleted or changed. --json lists everything.")


def _show_leaks(found: Audit) -> None:
    if found.removed:
        say(
            f"  Identical files in two splits: {found.removed} left out of training (the held-out one stays)."
        )
    for split in ("test", "val"):
        leaks = [leak for leak in found.leaks if leak.split == split]
        if split not in found.images:
            continue
        say(f"  {split} images (nearly) seen in training: {len(leaks)} of {found.images[split]}")
        for leak in leaks[:_SHOWN]:
            say(f"    {leak.name}  is  {leak.twin} ({leak.twin_split}), {leak.score:.0%} alike")
        _more(len(leaks))
        if leaks and split == "test":
            say("    Next: remove one of each pair; fit tells the accuracy with and without these images.")
    inside = len(found.pairs) - len(found.leaks)
    say(f"  near duplicates in all: {len(found.pairs)} pairs" + (f", {inside} others" if found.leaks else ""))
    if found.series:
        sizes = ", ".join(str(len(each.names)) for each in found.series[:_SHOWN])
        say(f"  series (three or more alike): {len(found.series)}, of {sizes} images")
    say(f"  contradicting labels among duplicates: {len(found.conflicts)}")
    for pair in found.conflicts[:_SHOWN]:
        say(f"    {pair.names[0]}: {pair.labels[0]}  |  {pair.names[1]}: {pair.labels[1]}")
    _more(len(found.conflicts))
    if found.conflicts:
        say("    Next: decide on one label for both, or leave them out.")


def _show_labels(found: Audit, source: str) -> None:
    if not found.checked:
        return
    share = len(found.suspects) / found.checked
    say(f"  labels worth a look: {len(found.suspects)} of {found.checked} ({share:.1%})")
    for each in found.suspects[:_SHOWN]:
        say(
            f"    {each.name}: {each.given} ({each.confidence:.0%} believed), "
            f"more like {each.suggested} ({each.against:.0%})"
        )
    _more(len(found.suspects))
    if found.suspects:
        say(f"    Next: headstart audit {source} --export-labels labels.csv, and look at them.")


def _show_groups(found: Audit, source: str) -> None:
    for place, each in enumerate(found.groups):
        say(
            f"  images that belong together by {_RULES[each.rule]}: {each.groups} groups hold {each.images} images "
            f"(up to {each.largest}), such as {each.example[0]}"
        )
        say(f"    evidence: {each.evidence}")
        say(
            f"    images of one group are closer than others of the class in {each.alike:.0%} of cases "
            f"({each.low:.0%} to {each.high:.0%})"
        )
        if each.torn:
            say(f"    {each.torn} of the groups lie in more than one split: the accuracy would be flattered.")
        if not each.members:
            say(
                f"    Next, if they are one patient, video or place each: headstart fit {source} --group {each.rule}"
            )
        elif place == 0:
            say(f"    Next: headstart audit {source} --export-groups groups.csv writes them as a column.")


def _show_confounds(found: Audit) -> None:
    for each in found.confounds:
        say(
            f"  the label can be predicted from the {each.trait} alone with {each.accuracy:.0%} "
            f"({each.low:.0%} to {each.high:.0%}; always the largest class: {each.majority:.0%})"
        )
        say(f"    {each.told}")
        if each.technical:
            say(
                "    Next: find out why; a model may learn that instead of the subject. Save all files alike."
            )
        else:
            say("    Next: fine where it is part of the subject; if not, vary how the pictures are taken.")


def _show_shift(found: Audit) -> None:
    each = found.shift
    if each is not None:
        told = f"{each.auc:.2f} ({each.low:.2f} to {each.high:.2f}; 0.5: cannot be told apart)"
        say(f"  training against test images: {told}")
        if each.shown:
            say("    Next: is the test what the model will meet? Then train on such images too.")
    moved = found.label_shift
    if moved is not None:
        say(
            f"  classes have other shares in test than in training: {moved.distance:.0%} of the images, most of all "
            f"{moved.label} ({moved.train:.0%} in training, {moved.test:.0%} in test); by chance: {_p(moved.p)}"
        )
        say("    Next: make the shares those that the model will meet.")


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def _more(count: int) -> None:
    if count > _SHOWN:
        say(f"    … and {count - _SHOWN} more")


def _counts(table: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in table.items())
