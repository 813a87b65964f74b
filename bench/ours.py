"""Our way, through the functions that the commands themselves call; each role in a fresh process.

    python -m bench.ours ROLE JSON

The last line of the output is the role's answer as JSON.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # imports count, as in the plain way

import json  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import numpy as np  # noqa: E402

from bench.measure import peak_mb  # noqa: E402
from bench.plain import head_data, timed  # noqa: E402
from headstart import compute, weights  # noqa: E402
from headstart._core.log import LOGGER  # noqa: E402
from headstart._core.records import to_plain  # noqa: E402
from headstart.data.find import find_images  # noqa: E402
from headstart.data.records import Sample  # noqa: E402
from headstart.data.scan import scan  # noqa: E402
from headstart.features import FeatureStore  # noqa: E402
from headstart.pixels import Batch, ahead, batches, in_order, read_pixels  # noqa: E402
from headstart.weights import Backbone  # noqa: E402

if TYPE_CHECKING:  # what a role does not need, it must not pay for
    from headstart.adaptation import Adapted
    from headstart.training.records import TrainingData

Answer = dict[str, Any]

_HELD = 256  # decoded images that are kept to measure forward passes alone


def save_weights(*, name: str, out: str) -> Answer:
    """The network's name in timm, after writing its tensors to `out` in timm's form, for the plain way."""
    from safetensors.torch import save_file

    backbone = weights.load(name)
    save_file({key: value.contiguous() for key, value in backbone.module.state_dict().items()}, out)
    return {"arch": backbone.info.arch}


def features(*, folder: str, name: str, out: str = "", limits: bool = False, parts: int = 0) -> Answer:
    """Seconds from files to features with the cache as it is; and of decoding and computing alone, where `limits`.

    Args:
        folder: of images.
        name: of the weights.
        out: file for the features and names.
        limits: whether to measure the limits too.
        parts: only the first so many subfolders; 0 for all.
    """
    compute.keep_memory()
    backbone = weights.load(name)
    began = time.perf_counter()
    places = sorted(Path(folder).iterdir())[:parts] if parts else [Path(folder)]
    samples = scan(find_images(places)).samples
    scanned = time.perf_counter()
    store = FeatureStore(backbone, among=samples)
    store.get(samples[:1])  # chooses, compiles and tries the runtime
    opened = time.perf_counter()
    found = store.get(samples)
    ended = time.perf_counter()
    if out:
        names = [
            Path(sample.source).relative_to(folder).as_posix()
            for sample in samples
            if isinstance(sample.source, Path)
        ]
        np.savez(out, features=found, names=names)
    count, runtime = len(samples), store.runtime
    answer = {
        "images": count,
        "seconds": ended - began,
        "rate": count / (ended - began),
        "import_s": began - STARTED,
        "scan_s": scanned - began,
        "open_s": opened - scanned,
        "compute_s": ended - opened,
        "compute_rate": count / (ended - opened),
        "peak_mb": peak_mb(),
        "runtime": to_plain(runtime) if runtime else {},
    }
    if limits and runtime:
        answer |= _limits(backbone, samples, runtime.engine)
    return answer


def _limits(backbone: Backbone, samples: Sequence[Sample], engine: str) -> Answer:
    """Images/s of decoding alone, of forward passes alone, and of one after the other."""
    contract = backbone.info.preprocess
    network = compute.open_network(backbone, contract, engine=engine)
    runner = network.runner
    began = time.perf_counter()
    held: list[Any] = []
    stream = batches(
        samples,
        lambda _, sample: read_pixels(sample.source, contract),
        groups=in_order(len(samples), runner.batch),
    )
    for batch in stream:
        if runner.batch * len(held) < _HELD:
            held.append(batch.rows.copy())
    decode = len(samples) / (time.perf_counter() - began)
    full = [rows for rows in held if len(rows) == runner.batch] or held
    turns = -(-max(len(samples), 4 * len(full[0])) // len(full[0]))
    list(ahead(runner, full[: 2 * runner.lanes], workers=runner.lanes, waiting=runner.lanes + 2))
    began = time.perf_counter()
    work = (full[turn % len(full)] for turn in range(turns))
    done = sum(len(one[0]) for one in ahead(runner, work, workers=runner.lanes, waiting=runner.lanes + 2))
    forward = done / (time.perf_counter() - began)
    return {"decode_rate": decode, "forward_rate": forward, "limit_rate": 1 / (1 / decode + 1 / forward)}


def step(*, name: str, batch: int, seconds: float, classes: int = 10) -> Answer:
    """Images/s of the steps that full fine-tuning makes, on decoded images in memory."""
    import torch

    from headstart.adaptation import adapt
    from headstart.methods.full import FullParams
    from headstart.planning import Rung
    from headstart.training.engine import Engine, default_micro
    from headstart.training.feed import Pixels
    from headstart.training.folding import twin_of
    from headstart.training.gradient import Loop
    from headstart.training.schedule import make_optimizer

    compute.keep_memory()
    backbone, device = weights.load(name), compute.device()
    params = FullParams(batch_size=batch)
    rung = Rung(method="full", params=to_plain(params), why="bench")
    adapted = adapt(rung, backbone, classes=classes, seed=0)
    held = _no_images(backbone, classes)
    height, width = held.preprocess.height, held.preprocess.width
    model = adapted.model.to(device).to(memory_format=torch.channels_last)
    engine = Engine(
        twin=twin_of(model, (height, width)),
        device=device,
        lower=torch.bfloat16 if compute.native_bfloat16(device) else None,
        micro=default_micro(device, batch, moving=False, stored=False),
        moving=False,
    )
    loop = Loop(
        adapted=adapted,
        data=held,
        engine=engine,
        feed=Pixels(data=held, augment="none", flip=False, views=None, device=device),
        optimizer=make_optimizer(adapted),
        weights=None,
        per_epoch=10**6,
        steps=10**6,
        anchor=None,
    )
    engine.network.train()
    rows = torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8)
    images = Batch(pixels=rows.permute(0, 3, 1, 2), positions=tuple(range(batch)))
    targets = torch.arange(batch) % classes

    def settle(_: object) -> None:
        torch.stack(loop.pending).tolist()
        loop.pending.clear()

    answer = timed(
        lambda: loop.step(0, images, targets), settle, batch=batch, seconds=seconds, device=device.type
    )
    return answer | {"precision": str(engine.lower or torch.float32), "micro": engine.micro}


def _no_images(backbone: Backbone, classes: int) -> TrainingData:
    from headstart.tasks import TASKS
    from headstart.training.records import TrainingData

    return TrainingData(
        train=(),
        val=(),
        task=TASKS["classify"],
        classes=tuple(map(str, range(classes))),
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=0,
        refit=False,
    )


def epochs(*, folder: str, name: str, method: str, count: int, work: str) -> Answer:
    """Seconds an epoch, with its validation, through the real training loop, and what came before the first step."""
    from headstart import data, planning
    from headstart.adaptation import adapt
    from headstart.tasks import TASKS
    from headstart.training.records import TrainingData

    compute.keep_memory()
    backbone = weights.load(name)
    dataset = data.load(folder)
    given = {"epochs": count, "patience": count}
    wishes = planning.Wishes(method=method, budget_seconds=None, seed=0, given=given)
    plan = planning.make_plan(data.describe(dataset, folder), None, backbone=backbone, wishes=wishes)
    held = TrainingData(
        train=dataset.train,
        val=dataset.val,
        task=TASKS[dataset.task],
        classes=dataset.classes,
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone, among=dataset.samples),
        seed=0,
        refit="val" in dataset.made,
    )
    adapted = adapt(plan.rungs[0], backbone, classes=len(dataset.classes), seed=0)
    return _timed_epochs(adapted, held, Path(work)) | {"train": len(held.train), "val": len(held.val)}


def _timed_epochs(adapted: Adapted, held: TrainingData, work: Path) -> Answer:
    from headstart import training
    from headstart._core.clock import Clock
    from headstart.training.records import Pace

    began = time.perf_counter()
    first, ends, accuracy = 0.0, [], []
    for event in training.fit(adapted, held, Pace(clock=Clock(), folder=work, every=1e9)):
        now = time.perf_counter() - began
        if event.event == "step" and not first:
            first = now
        if event.event == "validation" and event.step:
            ends.append(now)
            accuracy.append(event.metrics[held.task.primary])
    return {
        "prepare_s": first,
        "epoch_s": np.diff(ends).tolist(),
        "epoch_median_s": float(np.median(np.diff(ends))),
        "val_accuracy": accuracy[-1],
    }


def heads(*, rows: int, width: int, classes: int, folds: int, seed: int, strengths: int) -> Answer:
    """Seconds of the whole regularisation path with all its folds, and the held-out accuracy of its best head."""
    from headstart.heads.probe import STRENGTHS, Problem, walk

    values, truth = head_data(rows=rows, width=width, classes=classes, seed=seed)
    problem = Problem(values, truth, np.arange(rows), classes, None)
    began = time.perf_counter()
    path = walk(problem, strengths=STRENGTHS[:strengths], count=folds, seed=seed)
    seconds = time.perf_counter() - began
    right = (path.logits[path.chosen].argmax(1) == truth).mean()
    return {
        "seconds": seconds,
        "accuracy": float(right),
        "strengths": len(path.strengths),
        "chosen": path.best,
    }


def ridge(*, rows: int, width: int, classes: int, folds: int, seed: int, strengths: int) -> Answer:
    """Seconds of the whole ridge path with all its folds, and its held-out accuracy."""
    from headstart.scores import fold_numbers, ridge_path

    values, truth = head_data(rows=rows, width=width, classes=classes, seed=seed)
    penalties = tuple(float(10.0**power) for power in np.linspace(-3, 1.5, strengths))
    began = time.perf_counter()
    found = ridge_path(values, truth, folds=fold_numbers(truth, count=folds, seed=seed), strengths=penalties)
    return {"seconds": time.perf_counter() - began, "accuracy": found.accuracy, "chosen": found.alpha}


def share(*, folder: str, name: str, first: int, count: int, out: str = "") -> Answer:
    """How many images had to be computed for `count` of the folder's images from `first` on (round the end).

    Says `computing` as soon as the images are scanned: from then on a process may be killed.
    """
    backbone = weights.load(name)
    everything = scan(find_images([folder])).samples
    chosen = [everything[(first + turn) % len(everything)] for turn in range(count)]
    computed, stream, damage = 0, compute.stream, _Damage()
    LOGGER.addHandler(damage)

    def counting(network: compute.Network, samples: Sequence[Sample], **more: Any) -> Any:
        nonlocal computed
        for places, found in stream(network, samples, **more):
            computed += len(places)
            yield places, found

    compute.stream = counting  # what `FeatureStore` calls
    print("computing", flush=True)
    rows = FeatureStore(backbone, among=everything).get(chosen)
    if out:
        np.save(out, rows)
    return {"images": count, "computed": computed, "damaged": damage.told}


class _Damage(logging.Handler):
    """Counts warnings of damaged files in the cache."""

    told = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count it, if it is one."""
        self.told += "is damaged" in record.getMessage()


def infer(*, name: str, batch: int, seconds: float) -> Answer:
    """Images/s of forward passes of decoded images that lie in the host's memory, in the fastest engine here."""
    backbone = weights.load(name)
    contract = backbone.info.preprocess
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, contract.height, contract.width, 3), np.uint8)
    engine = next(each.name for each in compute.ENGINES.values() if not each.available())
    network = compute.open_network(backbone, contract, engine=engine)
    runner = network.runner
    device = compute.device().type
    found = timed(lambda: runner(pixels), lambda _: None, batch=batch, seconds=seconds, device=device)
    return found | {"engine": engine}


_ROLES: tuple[Callable[..., Answer], ...] = (save_weights, features, step, epochs, heads, ridge, share, infer)
ROLES = {each.__name__: each for each in _ROLES}

if __name__ == "__main__":
    answer = ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps({"peak_mb": peak_mb()} | answer))
