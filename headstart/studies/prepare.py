"""What is settled before a study trains: its folder, the network's frame, what all arms have in common, its length."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headstart import weights
from headstart._core import log, records
from headstart._core.check import in_range, one_of
from headstart._core.errors import BadInput, BadOption
from headstart.data.annotations import DENSE
from headstart.data.records import DatasetFacts
from headstart.evidence.sizes import takes
from headstart.pixels import PRESETS
from headstart.runs.decide import at_size
from headstart.runs.folder import REQUEST, RUNS
from headstart.studies.arm import Ground, measure_speed, params_of, shared_of
from headstart.studies.grid import Work, fitting, part_of, slots
from headstart.studies.records import Grid, Settings, Speed, StudyOptions
from headstart.tasks import TASKS, Task, head_of, task_of
from headstart.tasks.pyramid import fitting as letterbox
from headstart.weights import Backbone

SETTINGS = "settings.json"

_WHOLE_BATCH, _DENSE_BATCH, _MANY = 32, 16, 128
_LOOKS = 13  # about as often training looks at the validation images where answers have places
_SHOWN = ("weight_decay", "warmup", "label_smoothing", "optimizer", "head_start")
_OWN = ("batchnorm", "layer_decay", "head_factor")


def check_options(options: StudyOptions) -> None:
    """Nothing, if the numbers can be meant; told before the data is read."""
    in_range("--epochs", options.epochs, low=0, high=10_000)
    in_range("--batch-size", options.batch_size, low=0, high=65_536)
    in_range("--input-size", options.input_size, low=0, high=2048)
    if options.augment:
        one_of("--augment", options.augment, PRESETS)
    in_range("--checkpoint-every", options.checkpoint_every, low=0, high=86_400)
    weights.info(options.weights, arch=options.arch)


def folder_of(name: str, source: str, out: str) -> Path:
    """Where the study is kept; not where a fit is, or the images are.

    Raises:
        BadInput: for a folder that holds something else.
    """
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(source).name).strip("-.") or "data"
    folder = Path(out).expanduser() if out else Path(RUNS) / f"study-{name}-{stem}"
    if (folder / REQUEST).exists():
        raise BadInput(f"{folder} holds a run of headstart fit.", hint="Choose another folder with --out.")
    if Path(source).is_dir() and folder.resolve() == Path(source).resolve():
        raise BadInput(
            f"--out {folder} is the folder of the images.", hint="Choose another folder with --out."
        )
    return folder


def framed(backbone: Backbone, facts: DatasetFacts, size: int) -> Backbone:
    """The network with the contract for what all arms are shown.

    Raises:
        BadOption: for a size that the network does not take.
    """
    places = TASKS[facts.task].places
    if places is not None:
        frame = letterbox(facts.aspect_quantiles, long_side=size) if size else places.frame(facts)[0]
        contract = backbone.info.preprocess.boxed(*frame)
        return replace(backbone, info=replace(backbone.info, preprocess=contract))
    if size and not takes(backbone, size):
        raise BadOption(
            f"--input-size is {size}, which {backbone.info.arch} does not take.",
            hint=f"Its own size is {backbone.info.preprocess.height}; leave --input-size away.",
        )
    return at_size(backbone, size or None)


def task_for(facts: DatasetFacts, backbone: Backbone, head: str) -> Task:
    """The task with the head that all networks get, fitted to the data where it has something to fit.

    Raises:
        BadOption: for a head that is not one of the task.
    """
    row, contract = head_of(facts.task, head), backbone.info.preprocess
    settings, _ = row.fit(facts, (contract.width, contract.height))
    return task_of(facts.task, row.spec(settings))


def settle_settings(ground: Ground, options: StudyOptions, grid: Grid, budget: float | None) -> Settings:
    """What all trainings have in common: of the study in the folder, or found out now.

    Raises:
        BadInput: when the folder holds a study with other settings.
    """
    path = ground.folder / SETTINGS
    fresh = _wished(ground, options, grid)
    if path.exists():
        before = records.load(Settings, path)
        now = replace(fresh, epochs=before.epochs, wished=before.wished, speed=before.speed)
        differ = [name for name, value in asdict(before).items() if asdict(now)[name] != value]
        if differ:
            name = differ[0]
            raise BadInput(
                f"{ground.folder} holds a study with another {name}: {_short(getattr(before, name))}, now "
                f"{_short(getattr(now, name))}.",
                hint="Ask as before to go on with it, or choose another folder with --out.",
            )
        return before
    log.say("timing a few steps of each arm")
    fresh = replace(fresh, speed=measure_speed(ground, fresh))
    every = slots(grid, ground.study.arms, longest=True)
    epochs = fitting(every, work_of(ground, fresh, grid), wished=fresh.wished, budget=budget)
    if epochs < fresh.wished:
        log.say(
            f"1x is {epochs} epochs instead of {fresh.wished}, and the other schedules with it: what --budget "
            f"{options.budget} allows"
        )
    return replace(fresh, epochs=epochs)


def _short(value: object) -> str:
    words = str(value)
    return words if len(words) <= 60 else words[:60] + "…"


def _wished(ground: Ground, options: StudyOptions, grid: Grid) -> Settings:
    """The settings before anything is timed."""
    facts, backbone, study = ground.facts, ground.backbone, ground.study
    smallest = len(part_of(ground.dataset.train, grid.fractions[0], seed=grid.seeds[0]))
    usual_batch = _WHOLE_BATCH if facts.task not in DENSE and smallest >= _MANY else _DENSE_BATCH
    given: dict[str, Any] = {"batch_size": options.batch_size or usual_batch, "flip": options.flip}
    if options.augment:
        given["augment"] = options.augment
    if options.epochs:
        given["epochs"] = options.epochs
    first = params_of(study.arms[0], facts, backbone, given)
    settings = Settings(
        study=study.name,
        source=facts.source,
        data=facts.digest,
        task=facts.task,
        weights=backbone.info.name,
        asked=options.epochs,
        epochs=first.epochs,
        wished=first.epochs,
        batch_size=first.batch_size,
        augment=first.augment,
        flip=first.flip,
        head=ground.task.head.name,
        head_settings=records.to_plain(ground.task.head)["settings"],  # as it is read back
        frame=(backbone.info.preprocess.width, backbone.info.preprocess.height),
        usual={},
        shared={},
        own={},
        speed=Speed(train={}, forward=0.0),
    )
    params = {
        arm.name: asdict(params_of(arm, facts, backbone, shared_of(settings) | {"epochs": first.epochs}))
        for arm in study.arms
    }
    alike = [name for name in (*_SHOWN, *_OWN) if len({str(each[name]) for each in params.values()}) == 1]
    return replace(
        settings,
        usual={name: each["learning_rate"] for name, each in params.items()},
        shared={name: str(next(iter(params.values()))[name]) for name in alike},
        own={
            arm: {name: str(each[name]) for name in (*_SHOWN, *_OWN) if name not in alike}
            for arm, each in params.items()
        },
    )


def work_of(ground: Ground, settings: Settings, grid: Grid) -> Work:
    """What the time of every training depends on."""
    train_ = ground.dataset.train
    return Work(
        images={each: len(part_of(train_, each, seed=grid.seeds[0])) for each in grid.fractions},
        val=len(ground.dataset.val),
        test=len(ground.dataset.test),
        speed=settings.speed,
        looks=_LOOKS if settings.task in DENSE else None,
    )
