"""Exports that are handed out only after they gave the bundle's answers on the user's own images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart._core import records
from headstart._core.errors import BadInput, BadPlan, MissingPackage
from headstart._core.files import atomic, sha256_file, writable_folder
from headstart._core.progress import track
from headstart._core.table import load
from headstart.data.images import open_rgb
from headstart.data.records import Sample
from headstart.export.bundle import FOLDER, Bundle, find_bundle, open_bundle
from headstart.export.formats import FORMATS
from headstart.export.records import Exported, Format, Parity, Runner
from headstart.pixels import contract_pixels
from headstart.tasks import TASKS

LEAST_AGREEMENT = 0.995
GREATEST_GAP = 0.02
GREATEST_NOVELTY_GAP = 0.5  # standard deviations over images like the training images

_BATCH = 8  # images of one size that go through the exported file together
_BATCH_PIXELS = 8_000_000  # and no more pixels than this, so that memory stays bounded

Pixels = NDArray[np.uint8]


def check(bundle: Bundle, runner: Runner, samples: Sequence[Sample]) -> Parity:
    """How far the exported file is from the bundle on these images, each at its original size.

    Raises:
        BadInput: when there is no image to compare on, or one cannot be read.
    """
    if not samples:
        raise BadInput(
            "There is no image to check the exported file on.", hint="Give the validation images of the run."
        )
    ours, theirs, novelty = [], [], []
    for images in _same_size(track(samples, label="comparing answers")):
        windows = np.stack([contract_pixels(Image.fromarray(pixels), bundle.preprocess) for pixels in images])
        ours.append(bundle.probabilities(windows))
        theirs.append(runner(np.stack(images)))
        if (gap := _novelty_gap(bundle, runner, windows, np.stack(images))) is not None:
            novelty.append(gap)
    found = _compare(bundle.task, np.concatenate(ours), np.concatenate(theirs))
    if not novelty:
        return found
    return replace(
        found, novelty_gap=max(novelty), passed=found.passed and bool(max(novelty) <= GREATEST_NOVELTY_GAP)
    )


def _novelty_gap(bundle: Bundle, runner: Runner, windows: Pixels, images: Pixels) -> float | None:
    """Largest difference of the novelty scores of these images; None where one side has none."""
    judge = getattr(runner, "novelty", None)  # a format need not carry it
    theirs = None if judge is None else judge(images)
    scores, novelty = bundle.judged(windows)[1], bundle.manifest.novelty
    if theirs is None or scores is None or novelty is None:
        return None
    return float(np.abs(scores.astype(np.float64) - novelty.threshold - theirs).max())


def export(run: Path, format: str, *, out: Path | None = None, samples: Sequence[Sample]) -> Exported:
    """The exported file of a run or bundle folder, checked on `samples` before it takes its place.

    Beside it comes `export-FORMAT.json` with the parity figures and the hashes of both files.

    Args:
        run: a run folder or a bundle folder.
        format: a name of `FORMATS`.
        out: a file, or a folder for `model.SUFFIX`; by default the run folder.
        samples: images to compare the answers on, usually the validation images of the run.

    Raises:
        BadOption: for an unknown format.
        MissingPackage: when the format needs a package that is not installed.
        BadPlan: when the file's answers differ too much from the bundle's; nothing is left behind.
    """
    row = FORMATS[format]
    for package in row.needs:
        if find_spec(package) is None:
            raise MissingPackage(package, needed_for=f"Export to {row.name}", extra=row.extra)
    folder = find_bundle(run)
    home = folder.parent if folder.name == FOLDER else folder
    target = out if out is not None else home
    if target.is_dir():
        target = target / f"model{row.suffix}"
    writable_folder(target.parent)
    bundle = open_bundle(folder)
    started = time.perf_counter()
    with atomic(target) as temporary:
        parity = _write_checked(bundle, row, temporary, samples)
    done = Exported(
        path=target,
        format=row.name,
        parity=parity,
        bytes=target.stat().st_size,
        seconds=time.perf_counter() - started,
    )
    _note(done, bundle)
    return done


def _write_checked(bundle: Bundle, row: Format, path: Path, samples: Sequence[Sample]) -> Parity:
    if TASKS[bundle.task].places is not None:
        if not row.places:
            raise BadPlan(f"{row.name} has no form for {bundle.task}.", hint="Deploy the bundle itself.")
        load(f"{row.places}:write")(bundle, path)
        parity: Parity = load(f"{row.places}:check")(bundle, load(f"{row.places}:open_runner")(path), samples)
    else:
        load(row.write)(bundle, path)
        parity = check(bundle, load(row.open)(path), samples)
    if not parity.passed:
        raise BadPlan(
            f"The {row.name} file does not give the bundle's answers: on {parity.n} images "
            f"they agree on {parity.top1_agreement:.2%} (needed: {parity.least_agreement:.1%}) and the "
            f"largest probability gap is {parity.largest_gap:.4f} (at most {parity.greatest_gap:g} allowed). "
            "No file was written.",
            hint="Deploy the bundle itself, and report the architecture "
            f"{bundle.manifest.arch!r} with these figures as a bug of headstart.",
        )
    return parity


def _note(done: Exported, bundle: Bundle) -> None:
    """Write `export-FORMAT.json` beside the file."""
    facts = asdict(done) | {
        "path": done.path.name,
        "sha256": sha256_file(done.path),
        "bundle": bundle.manifest.sha256,
    }
    records.save(done.path.parent / f"export-{done.format}.json", facts)


def _same_size(samples: Iterator[Sample]) -> Iterator[list[Pixels]]:
    """Runs of neighbouring images of one size, so that batches are checked too where there are any."""
    waiting: list[Pixels] = []
    for sample in samples:
        pixels = np.asarray(open_rgb(sample.source))
        full = len(waiting) == _BATCH or sum(other.size for other in waiting) > 3 * _BATCH_PIXELS
        if waiting and (full or waiting[0].shape != pixels.shape):
            yield waiting
            waiting = []
        waiting.append(pixels)
    if waiting:
        yield waiting


def _compare(task: str, ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> Parity:
    decode = TASKS[task].decode
    same = [mine == other for mine, other in zip(decode(ours), decode(theirs), strict=True)]
    gaps = np.abs(ours.astype(np.float64) - theirs)
    agreement, largest = float(np.mean(same)), float(gaps.max())
    return Parity(
        n=len(same),
        top1_agreement=agreement,
        largest_gap=largest,
        mean_gap=float(gaps.mean()),
        least_agreement=LEAST_AGREEMENT,
        greatest_gap=GREATEST_GAP,
        passed=bool(agreement >= LEAST_AGREEMENT and largest <= GREATEST_GAP),  # a NaN fails both
    )
