"""The same run once more, from its folder alone: does it come out bit for bit?"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart._core import records
from headstart._core.check import existing
from headstart._core.errors import BadInput
from headstart._core.files import writable_folder
from headstart._core.places import KINDS, cache_root
from headstart._core.records import record
from headstart.data.records import DatasetFacts
from headstart.export import Manifest
from headstart.export.bundle import find_bundle
from headstart.planning import Plan
from headstart.runs.answers import IMAGES, load_answers
from headstart.runs.fit import resume
from headstart.runs.folder import REQUEST, History, Request
from headstart.tasks import TASKS

_PLANNED = re.compile(r"(\d+) of (\d+) epochs planned")
_AGAIN = ("features",)  # what the cache holds of the run itself, and what has to be computed anew


@record
class Changed:
    """Something that is not as it was: in words, before and now."""

    what: str
    before: str
    now: str


@record
class Reproduced:
    """What came out of the second run.

    Attributes:
        run: the folder that was repeated.
        again: the folder of the second run.
        identical: whether weights and answers are the same to the last bit.
        weights_before: SHA-256 of the model's tensors.
        weights_now: of the second run's.
        largest_gap: largest difference of any probability on the test images.
        metrics: test metrics that are not the same.
        surroundings: versions, machine and runtime that are not the same: they explain a difference, they are none.
        notes: what the folder could not tell.
    """

    run: str
    again: str
    identical: bool
    weights_before: str
    weights_now: str
    largest_gap: float
    metrics: tuple[Changed, ...]
    surroundings: tuple[Changed, ...]
    notes: tuple[str, ...]


def reproduce(run: str | Path, *, out: str = "") -> Reproduced:
    """What comes of repeating a finished run from its folder: same request, same seeds, same plan, features computed anew.

    The plan is taken as it stands in the folder, because what led to it includes timings; epochs are those that the budget
    allowed then, and only rungs that were kept are climbed, without a budget.

    Args:
        run: the folder.
        out: where the second run goes; empty: a temporary folder that is removed.

    Raises:
        BadInput: when the run is unfinished, or its images or labels have changed.
    """
    folder = existing(run, what="The run folder")
    for needed in (REQUEST, "plan.json", "facts.json", "evaluation.json", IMAGES):
        if not (folder / needed).is_file():
            raise BadInput(
                f"{folder} cannot be repeated: there is no {needed} in it.",
                hint="Give the folder of a finished fit; an unfinished one goes on with: headstart fit --resume RUN",
            )
    if out:
        return _reproduce(folder, writable_folder(out))
    with tempfile.TemporaryDirectory(prefix="headstart-again-") as place:
        return _reproduce(folder, Path(place))


def _reproduce(folder: Path, again: Path) -> Reproduced:
    request = records.load(Request, folder / REQUEST)
    plan, notes = _settled(records.load(Plan, folder / "plan.json"), folder)
    options = replace(request.options, weights=plan.weights, out=str(again), plan="")
    if (again / REQUEST).exists():
        raise BadInput(f"{again} already holds a run.", hint="Choose another folder with --out.")
    records.save(again / "plan.json", plan)
    records.save(again / "facts.json", records.load(DatasetFacts, folder / "facts.json"))
    records.save(again / REQUEST, replace(request, options=options))
    with _fresh_features():
        resume(again)
    return _judged(folder, again, notes)


def _settled(plan: Plan, folder: Path) -> tuple[Plan, tuple[str, ...]]:
    """The plan without a budget, as it was carried out: its kept rungs with the epochs that there was time for."""
    events = History(folder).read()
    final = records.read_json(folder / "evaluation.json")["method"]
    ended = {event["rung"] for event in events if event["event"] == "rung_end"}
    kept = {event["rung"] for event in events if event["event"] == "rung_end" and event.get("kept")}
    names = {rung.method for rung in plan.rungs}
    wanted = kept if final in names else ended
    rungs, notes = [], []
    for rung in plan.rungs:
        if rung.method not in wanted:
            continue
        found = [
            match
            for event in events
            if event["rung"] == rung.method and (match := _PLANNED.search(event.get("reason") or ""))
        ]
        if found and found[-1][1] != found[-1][2]:
            rung = replace(rung, params=rung.params | {"epochs": int(found[-1][1])})
            notes.append(
                f"{rung.method}: {found[-1][1]} of {found[-1][2]} epochs, as the budget allowed then"
            )
        rungs.append(rung)
    return replace(plan, rungs=tuple(rungs), budget_seconds=None), tuple(notes)


@contextmanager
def _fresh_features() -> Iterator[None]:
    """A cache of its own, so that nothing which the first run computed is read; what was downloaded stays within reach."""
    before, root = os.environ.get("HEADSTART_CACHE"), cache_root()
    with tempfile.TemporaryDirectory(prefix="headstart-cache-") as place:
        for kind in KINDS:
            if kind not in _AGAIN and (root / kind).is_dir():
                (Path(place) / kind).symlink_to((root / kind).absolute(), target_is_directory=True)
        os.environ["HEADSTART_CACHE"] = place
        try:
            yield
        finally:
            if before is None:
                del os.environ["HEADSTART_CACHE"]
            else:
                os.environ["HEADSTART_CACHE"] = before


def _judged(folder: Path, again: Path, notes: tuple[str, ...]) -> Reproduced:
    one, two = (records.load(Manifest, find_bundle(place) / "manifest.json") for place in (folder, again))
    first, second = load_answers(folder), load_answers(again)
    probabilities = TASKS[one.task].probabilities
    same_images = first.digests == second.digests
    gap = (
        float(np.abs(probabilities(first.answers.logits) - probabilities(second.answers.logits)).max())
        if same_images and first.answers.logits.shape == second.answers.logits.shape
        else 1.0
    )
    equal = same_images and np.array_equal(first.answers.logits, second.answers.logits)
    return Reproduced(
        run=str(folder),
        again=str(again),
        identical=one.sha256 == two.sha256 and equal,
        weights_before=one.sha256,
        weights_now=two.sha256,
        largest_gap=gap,
        metrics=_changed(_metrics(folder), _metrics(again)),
        surroundings=_changed(
            one.versions | {"machine": one.machine} | _runtimes(folder),
            two.versions | {"machine": two.machine} | _runtimes(again),
        ),
        notes=notes,
    )


def _metrics(folder: Path) -> dict[str, str]:
    found = records.read_json(folder / "evaluation.json")["splits"]["test"]["metrics"]
    return {name: repr(metric["value"]) for name, metric in found.items()}


def _runtimes(folder: Path) -> dict[str, str]:
    """Rung -> engine and precision that computed its features."""
    out = {}
    for path in sorted((folder / "checkpoint").glob("*/outcome.json")):
        runtime = (records.read_json(path).get("facts") or {}).get("runtime") or {}
        if runtime:
            out[f"runtime of {path.parent.name}"] = f"{runtime.get('engine')} {runtime.get('precision')}"
    return out


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[Changed, ...]:
    """What both have, but not alike; and of metrics and versions what only one has."""
    return tuple(
        Changed(what=name, before=before.get(name, "absent"), now=now.get(name, "absent"))
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and not (name.startswith("runtime") and name not in now)
    )
