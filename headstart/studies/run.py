"""A whole study: read, time, plan, train every arm, open the test split at the end, write the page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headstart import weights
from headstart._core import files, records
from headstart._core.clock import Clock, parse_duration
from headstart.data.annotations import DENSE
from headstart.data.records import LoadOptions
from headstart.export.bundle import machine, versions
from headstart.reporting.study_page import write_study
from headstart.runs.fit import read
from headstart.runs.folder import locked
from headstart.runs.stopping import stopping
from headstart.studies import STUDIES
from headstart.studies.arm import Ground
from headstart.studies.grid import check_parts, read_grid
from headstart.studies.judge import Judge, judged
from headstart.studies.prepare import (
    SETTINGS,
    check_options,
    folder_of,
    framed,
    settle_settings,
    task_for,
    work_of,
)
from headstart.studies.progress import Running
from headstart.studies.records import Cell, Reach, Result, StudyOptions

RESULT = "study.json"


class Studied(NamedTuple):
    """A study's folder and what is in its `study.json`."""

    folder: Path
    result: Result


def run(name: str, source: str | Path, options: StudyOptions, reading: LoadOptions) -> Studied:
    """The study, after going on with what its folder holds of it.

    Args:
        name: a row of `STUDIES`.
        source: labelled images, as for `fit`.
        options: of the study.
        reading: how the data is read.

    Raises:
        BadOption: for an unknown study, and values outside their range.
        BadInput: for data that is too small, and a folder that holds something else.
        BadPlan: when the budget is too little.
        Interrupted: when somebody asked to stop; what is done stays.
    """
    study, grid = STUDIES[name], read_grid(options)
    budget = parse_duration(options.budget)
    check_options(options)
    folder = folder_of(name, str(source), options.out)
    place = Path(source).expanduser()
    dataset, facts = read(str(files.absolute(place)) if place.exists() else str(source), reading)
    check_parts(grid, dataset.train, dataset.classes, whole=dataset.task not in DENSE)
    backbone = framed(weights.load(options.weights, arch=options.arch), facts, options.input_size)
    task = task_for(facts, backbone, options.head)
    ground = Ground(study, dataset, facts, backbone, task, folder, options.checkpoint_every)
    settings = settle_settings(ground, options, grid, budget)
    files.writable_folder(folder)
    with locked(folder), stopping("all that is trained so far") as stopper:
        records.save(folder / SETTINGS, settings)
        clock = Clock(budget)
        stopper.watch(clock)
        running = Running(ground, settings, grid, clock, work_of(ground, settings, grid))
        left = running.train_all()
        result = _result(running, left)
        records.save(folder / RESULT, result)
        arms = [{"name": arm.name, "words": arm.words, "tone": arm.tone} for arm in study.arms]
        write_study(folder, records.to_plain(result), arms, study.question)
        running.tidy(running.complete())
    return Studied(folder, result)


def _result(running: Running, left: str) -> Result:
    """What the test images say, which are opened here, after every training."""
    ground, grid, study = running.ground, running.grid, running.ground.study
    complete = running.complete()
    running.make_answerable(complete)
    cells: tuple[Cell, ...] = ()
    reaches: tuple[Reach, ...] = ()
    if complete:  # else there is nothing to look at them for
        judge = Judge(ground, ground.dataset.test.open(), grid.seeds[0])
        cells, reaches = judged(running, judge, complete)
    primary = ground.task.primary
    return Result(
        settings=running.settings,
        grid=grid,
        primary=primary,
        train=len(ground.dataset.train),
        val=len(ground.dataset.val),
        test=len(ground.dataset.test),
        cells=cells,
        reaches=reaches,
        finding=study.finding(cells, reaches, primary),
        known=study.known,
        source=study.source,
        left=left,
        seconds=sum(each.seconds for each in running.trained.values()),
        machine=machine(),
        versions=versions(),
        notes=ground.dataset.notes,
    )
