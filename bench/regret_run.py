"""The costly half of `bench/regret.py`: every method to its end in every cell, each result kept as soon as it is there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure import machine
from bench.regret_sets import TEST, Where, as_csv, read_set
from headstart import compute, data, evidence, training, weights
from headstart._core import records
from headstart._core.clock import Clock, parse_duration
from headstart._core.errors import BadPlan
from headstart._core.files import atomic, sha256_bytes, write_text
from headstart._core.records import record
from headstart.adaptation import adapt
from headstart.data.records import Dataset, DatasetFacts, LoadOptions, Sample
from headstart.evidence import Evidence
from headstart.evidence.depths import depth_names
from headstart.features import FeatureStore
from headstart.methods import METHODS, Decline
from headstart.planning import Rung, make_plan
from headstart.runs.decide import at_size, measure, twin_decides, wishes_of
from headstart.runs.options import FitOptions
from headstart.tasks import TASKS, Network
from headstart.training import FitResult, Pace, TrainingData
from headstart.training.rows import rows_of
from headstart.weights import Backbone

FORMAT = 1
"""Raised when results that were kept would come out differently: they are then measured again."""

FACTS, EVIDENCE, LABELS, ABOUT = "facts.json", "evidence.json", "labels.npz", "cell.json"
BUSY = "measuring.json"  # processor seconds of the measuring: the evidence has those by the wall
MACHINE = "machine.json"

_SHARED = (
    "compute",
    "reference",
    "weights",
)  # of the cache: what a first run on a machine leaves for all later ones
_NEVER = 1e9  # seconds between checkpoints: a method that is interrupted starts anew


@record
class Settings:
    """How the cells are measured; part of the address of every result.

    Attributes:
        budget: of `fit`, for each cell and for each method in it.
        seed: of everything random.
        tested: test images, at most.
        given: values for parameters of all methods that have them.
    """

    budget: str = "3m"
    seed: int = 0
    tested: int = TEST
    given: dict[str, Any] = field(default_factory=dict)


@record
class Cell:
    """A set with a number of its training images, and weights.

    Attributes:
        images: name of the set.
        count: of images; validation images are taken out of them.
        asked: the number that was asked for, where the set has fewer.
        weights: name of the network.
    """

    images: str
    count: int
    asked: int
    weights: str

    @property
    def name(self) -> str:
        """The name of its folder, such as `cifar10-5k-0100-efficientnet_lite0`."""
        return f"{self.images}-{self.count:04}-{self.weights.partition(':')[2]}"


@record
class About:
    """`cell.json`: what a folder of results holds; `address` is its name and changes with all that they depend on."""

    cell: Cell
    settings: Settings
    address: str


@dataclass(frozen=True)
class Job:
    """A method at an input size with its parameters."""

    method: str
    size: int
    params: dict[str, Any]

    @property
    def file(self) -> str:
        """The name of its result in the folder of the cell."""
        told = json.dumps(asdict(self), sort_keys=True)
        return f"{self.method}-{self.size}-{sha256_bytes(told.encode())[:8]}.npz"


@dataclass(frozen=True)
class Ready:
    """A cell whose images were read and measured, in the folder of its results."""

    about: About
    folder: Path
    dataset: Dataset
    test: tuple[Sample, ...]
    facts: DatasetFacts
    evidence: Evidence
    backbone: Backbone

    @property
    def native(self) -> int:
        """The input size of the pretraining."""
        contract = self.backbone.info.preprocess
        return min(contract.height, contract.width)

    @property
    def cache(self) -> Path:
        """The cache folder as the measuring left it."""
        return self.folder / "cache"

    def training_data(self, size: int) -> TrainingData:
        """What training may see, at an input size; as `fit` makes it."""
        backbone = at_size(self.backbone, size)
        dataset = self.dataset
        return TrainingData(
            train=dataset.train,
            val=dataset.val,
            task=TASKS[dataset.task],
            classes=dataset.classes,
            preprocess=backbone.info.preprocess,
            store=FeatureStore(
                backbone,
                among=dataset.samples,
                passes=len(dataset.samples) + len(self.test),
                tapped=True,
            ),
            seed=self.about.settings.seed,
            refit="val" in dataset.made,
        )


@dataclass(frozen=True)
class Lab:
    """Where results go, where images come from, how cells are measured.

    Attributes:
        native: sets whose tuning is measured at the size of the pretraining too; None: all.
    """

    out: Path
    where: Where
    settings: Settings
    native: frozenset[str] | None = None

    def cells(self, names: Sequence[str], sizes: Sequence[int], weights_names: Sequence[str]) -> list[Cell]:
        """The cells, all sets at the first size first. A set with fewer images is used whole, if that makes a new cell."""
        found = {name: each for name in names if (each := read_set(name, self.where)) is not None}
        out: list[Cell] = []
        for weight in weights_names:
            for size in sizes:
                smaller = max((other for other in sizes if other < size), default=0)
                for name, each in found.items():
                    count = min(size, len(each.train))
                    if count == size or count > 1.5 * smaller:
                        out.append(Cell(images=name, count=count, asked=size, weights=weight))
        return list(dict.fromkeys(out))

    def run(self, cells: Sequence[Cell], methods: Sequence[str]) -> int:
        """How many results were added, each written as soon as it is there."""
        records.save(self.out / MACHINE, machine())
        began, added = time.monotonic(), 0
        rounds = in_rounds(cells, native=self.native)
        for turn, (native, cell) in enumerate(rounds):
            ready = self.prepare(cell)
            for job in self._jobs(ready, methods, native=native):
                file = ready.folder / job.file
                if file.exists():
                    continue
                started = time.monotonic()
                self._measure(ready, job, file)
                added += 1
                now = time.monotonic()
                print(f"  {cell.name}: {job.method} at {job.size} px, {now - started:.0f} s", flush=True)
            spent = time.monotonic() - began
            left = spent / (turn + 1) * (len(rounds) - turn - 1)
            print(
                f"{turn + 1}/{len(rounds)} {cell.name}, {_minutes(spent)}, <= {_minutes(left)} left",
                flush=True,
            )
        return added

    def prepare(self, cell: Cell) -> Ready:
        """The cell with its images read as `fit` reads them and measured as `fit --method auto` measures them, once."""
        place, settings = self.out / "cells" / cell.name, self.settings
        found = read_set(cell.images, self.where)
        if found is None:
            raise ValueError(f"The images of {cell.images} are not there.")
        listing = place / "images.csv"
        write_text(listing, as_csv(found, cell.count, tested=settings.tested))
        dataset = data.load(str(listing), LoadOptions(seed=settings.seed))
        facts = data.describe(dataset, cell.images)
        told = json.dumps([FORMAT, facts.digest, asdict(cell), asdict(settings)], sort_keys=True)
        about = About(cell=cell, settings=settings, address=sha256_bytes(told.encode())[:10])
        backbone = weights.load(cell.weights)
        folder = place / about.address
        file = folder / EVIDENCE
        if not file.exists():
            shutil.rmtree(folder, ignore_errors=True)
            options = FitOptions(budget=settings.budget, seed=settings.seed, given=settings.given)
            with self._cached(folder / "cache"):
                busy = time.process_time()
                measured = measure(dataset, facts, backbone, options, twin=twin_decides(facts))
                busy = time.process_time() - busy
                measured = with_twin(measured, dataset, facts, backbone, seed=settings.seed)
            write_text(folder / BUSY, json.dumps({"processor_seconds": busy}))
            records.save(file, measured)
        test = dataset.test.open()
        ready = Ready(about, folder, dataset, test, facts, records.load(Evidence, file), backbone)
        self._write_labels(ready)
        return ready

    def _write_labels(self, ready: Ready) -> None:
        """What a replay needs to know of the images: facts and labels; `cell.json` comes last."""
        dataset = ready.dataset
        kept = {
            split: np.array([each.labels[0] for each in samples], np.int64)
            for split, samples in (("train", dataset.train), ("val", dataset.val), ("test", ready.test))
        }
        with atomic(ready.folder / LABELS) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **kept)
        records.save(ready.folder / FACTS, ready.facts)
        records.save(ready.folder / ABOUT, ready.about)

    def _jobs(self, ready: Ready, methods: Sequence[str], *, native: bool) -> Iterator[Job]:
        """What is measured in a cell: closed forms at every size that was probed, tuning at the plan's size.

        Args:
            ready: the cell.
            methods: names of `METHODS`.
            native: tuning at the size of the pretraining instead, where that is another one.
        """
        settings = ready.about.settings
        options = FitOptions(budget=settings.budget, seed=settings.seed, given=settings.given)
        plan = make_plan(ready.facts, ready.evidence, backbone=ready.backbone, wishes=wishes_of(options))
        chosen = plan.input_size or ready.native
        tried = sorted({probe.size for probe in ready.evidence.sizes} | {ready.native}, reverse=True)
        closed = [name for name in methods if METHODS[name].solver == "features"]
        tuned = [name for name in methods if METHODS[name].solver != "features"]
        wanted = [(name, size) for size in tried for name in closed] + [(name, chosen) for name in tuned]
        if native:
            wanted = [(name, ready.native) for name in tuned if chosen != ready.native]
        for name, size in wanted:
            params = suggested(name, ready.facts, ready.evidence, ready.backbone, settings.given)
            if params is not None:
                yield Job(name, size, params)

    def _measure(self, ready: Ready, job: Job, file: Path) -> None:
        """Run the method alone, from the cache that the measuring left, and keep what came of it."""
        with tempfile.TemporaryDirectory(dir=self.out) as name:
            place = Path(name)
            shutil.copytree(ready.cache, place / "cache", symlinks=True)
            with self._cached(place / "cache"):
                held = ready.training_data(job.size)
                result, seconds, processor, failed = _climb(ready, job, held, place / "checkpoint")
            with self._cached(self.out / "cache"):
                answers = None if result is None else _tested(ready, job, result)
        meta = {
            "method": job.method,
            "size": job.size,
            "params": job.params,
            "seconds": seconds,
            "processor_seconds": processor,
            "ended": failed if result is None else result.ended,
            "facts": {} if result is None else result.facts,
        }
        rows = {"meta": np.array(json.dumps(meta))}
        if result is not None and answers is not None:
            rows |= {"val": result.val_logits, "test": answers.astype(np.float64)}
            rows |= {} if result.crossed is None else {"crossed": result.crossed}
        with atomic(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **rows)

    @contextmanager
    def _cached(self, folder: Path) -> Iterator[None]:
        """A cache folder for features, beside what a machine that has run headstart before has in its cache anyway."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind in _SHARED:
            common = (self.out / "machine" / kind).resolve()
            common.mkdir(parents=True, exist_ok=True)
            if not (folder / kind).is_symlink():
                (folder / kind).symlink_to(common)
        before = os.environ.get("HEADSTART_CACHE")
        os.environ["HEADSTART_CACHE"] = str(folder)
        try:
            yield
        finally:
            os.environ.pop("HEADSTART_CACHE")
            if before is not None:
                os.environ["HEADSTART_CACHE"] = before


def with_twin(
    measured: Evidence, dataset: Dataset, facts: DatasetFacts, backbone: Backbone, *, seed: int
) -> Evidence:
    """The evidence with the transfer gain at each depth, where `fit` goes without; the seconds stay those of `fit`.

    Everything but the twin is in the cache, so it is asked again and thrown away.
    """
    if measured.twin_images:
        return measured
    again = evidence.measure(
        backbone,
        dataset.train,
        store=FeatureStore(
            backbone, among=dataset.samples, passes=len(dataset.samples) + len(dataset.test), tapped=True
        ),
        facts=facts,
        options=evidence.Options(seed=seed, sizes=(backbone.info.preprocess.height,), cost=False),
    )
    return replace(measured, depths=again.depths, twin_images=again.twin_images)


def in_rounds(cells: Sequence[Cell], *, native: frozenset[str] | None = None) -> list[tuple[bool, Cell]]:
    """(whether tuning at the size of the pretraining is meant, cell): that of one number of images comes after the next.

    It is meant for the sets named in `native`; None: for all.

    So an interrupted run has looked at every set with a few images, and has what the plans need before what they are
    compared with.
    """
    counts = list(dict.fromkeys(cell.asked for cell in cells))
    groups = [[cell for cell in cells if cell.asked == count] for count in counts]
    out = []
    for group, before in zip([*groups, []], [[], *groups], strict=True):
        out += [(False, cell) for cell in group]
        out += [(True, cell) for cell in before if native is None or cell.images in native]
    return out


def suggested(
    name: str, facts: DatasetFacts, evidence: Evidence, backbone: Backbone, given: dict[str, Any]
) -> dict[str, Any] | None:
    """The parameters that the method proposes for this data; None where it declines."""
    own = {key: value for key, value in given.items() if key in METHODS[name].params.__dataclass_fields__}
    answer = METHODS[name].suggest(facts, evidence, backbone, own)
    return None if isinstance(answer, Decline) else asdict(answer.params)


def _climb(
    ready: Ready, job: Job, held: TrainingData, folder: Path
) -> tuple[FitResult | None, float, float, str]:
    """The method's result, seconds by the wall and by the processor, and why there is no result."""
    began, busy = time.monotonic(), time.process_time()
    method, settings = METHODS[job.method], ready.about.settings
    clock = Clock(None if method.solver == "features" else parse_duration(settings.budget))
    rung = Rung(method=job.method, params=job.params, why="bench")
    result, failed = None, ""
    try:
        adapted = adapt(
            rung, at_size(ready.backbone, job.size), classes=len(held.classes), seed=settings.seed
        )
        result = result_of(training.fit(adapted, held, Pace(clock=clock, folder=folder, every=_NEVER)))
    except BadPlan as error:
        failed = str(error)
    return result, time.monotonic() - began, time.process_time() - busy, failed


def result_of(events: Generator[training.Event, None, FitResult]) -> FitResult:
    """What training returns at its end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            found: FitResult = end.value
            return found


def _tested(ready: Ready, job: Job, result: FitResult) -> NDArray[np.floating]:
    """Logits (N, classes) on the test images; frozen features of all depths come from the common cache."""
    held = ready.training_data(job.size)
    model: Network = result.model
    if METHODS[job.method].solver != "features":
        return compute.forward(model, ready.test, held.preprocess, label="testing")
    held.store.get_depths(ready.test, depth_names(ready.backbone))
    head = model.head
    features = rows_of(model, held.store, ready.test)
    out: NDArray[np.floating] = (
        features @ head.weight.detach().cpu().numpy().T + head.bias.detach().cpu().numpy()
    )
    return out


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
