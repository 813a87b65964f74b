"""What an input size costs, and what its quick probe says of that: many small draws out of training images alone, as JSON.

    python bench/regret_sizes.py --data FOLDER --fashion FOLDER --out FOLDER

A single cell of `bench/regret.py` cannot tell input sizes apart: on 300 test images two heads differ by two points of luck,
and with 50 training images the choice of these matters as much. Here each set is drawn from many times: so many images to
learn from, measured as the planner measures them, and the closed-form methods at each size judged on other images of the
training split. Test images are never read. `sizes.json` keeps every draw, so that rules for the input size can be compared
in seconds; a set that it holds already is kept. `--sizes 96,128,160,224 --pool 1400 --draws 100:4,300:4` asks about others.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in the place of bench/ itself

import numpy as np

from bench.regret_run import result_of
from bench.regret_sets import SETS, ImageSet, Where, as_csv, read_set, spread
from headstart import data, training, weights
from headstart._core.clock import Clock
from headstart._core.files import writable_folder, write_text
from headstart._core.records import dumps, read_json
from headstart.adaptation import adapt
from headstart.data.records import Dataset, Sample
from headstart.evidence.depths import Found, depth_names, judge_depths
from headstart.evidence.probing import Probing, choose_images, mean_and_error
from headstart.evidence.sizes import candidate_sizes
from headstart.features import FeatureStore
from headstart.methods import METHODS
from headstart.methods.depth_probe import DepthProbeParams
from headstart.methods.linear_probe import LinearProbeParams
from headstart.planning import Rung
from headstart.runs.decide import at_size
from headstart.tasks import TASKS, Network
from headstart.training import Pace, TrainingData
from headstart.training.rows import rows_of
from headstart.weights import Backbone

Answer = dict[str, Any]

POOL = 400
"""Training images of a set that are drawn from, at most."""

DRAWS = {50: 4, 100: 2}
"""Images to learn from -> draws; every draw leaves the rest of the pool to judge by."""

_LEFT = 100  # images to judge by, at least
_SEALED = 20  # test images on the list, so that none is taken out of the training images; nothing reads them
_VAL = 0.2  # share of a draw that is validation images, as `fit` takes them
_PARAMS = {"linear-probe": LinearProbeParams(), "depth-probe": DepthProbeParams()}


@dataclass(frozen=True)
class Pool:
    """A set's training images with their features at each input size.

    Attributes:
        found: size -> features of all samples at every depth.
    """

    dataset: Dataset
    samples: tuple[Sample, ...]
    backbone: Backbone
    found: Mapping[int, Found]

    def store(self, size: int) -> FeatureStore:
        """The features at that size, as training reads them."""
        return FeatureStore(at_size(self.backbone, size), among=self.samples)


def pool_of(
    images: ImageSet, backbone: Backbone, place: Path, *, limit: int = POOL, asked: Sequence[int] = ()
) -> Pool:
    """The first images of the set, scanned, with their features at the sizes asked for, or those the planner would try."""
    listing = place / f"{images.name}.csv"
    write_text(listing, as_csv(images, limit, tested=_SEALED))
    dataset = data.load(str(listing))
    held = tuple(each for each in dataset.samples if each.split in ("train", "val"))
    contract = backbone.info.preprocess
    sizes = asked or candidate_sizes(contract, [min(each.width, each.height) for each in held])
    stores = {size: FeatureStore(at_size(backbone, size), among=held) for size in sizes}
    found = {size: store.get_depths(held, depth_names(backbone)) for size, store in stores.items()}
    return Pool(dataset, held, backbone, found)


def draws(pool: Pool, counts: Mapping[int, int]) -> Iterator[Answer]:
    """One draw after the other: what was measured, and what the methods then reached on the other images."""
    labelled = [(Path(str(number)), str(each.labels[0])) for number, each in enumerate(pool.samples)]
    for count, repeats in counts.items():
        if count > len(pool.samples) - _LEFT:
            continue
        for turn in range(repeats):
            order = [int(path.name) for path, _ in spread(labelled, seed=1000 * count + turn)]
            yield {"images": count, "turn": turn} | _draw(pool, order[:count], order[count:])


def _draw(pool: Pool, places: Sequence[int], others: Sequence[int]) -> Answer:
    n_val = round(_VAL * len(places))
    val, train = places[:n_val], places[n_val:]
    native, sizes = max(pool.found), sorted(pool.found)
    task = TASKS[pool.dataset.task]
    samples = [pool.samples[place] for place in train]
    probing = choose_images(samples, task, classes=len(pool.dataset.classes), limit=len(samples), seed=0)
    number = {sample.name: place for place, sample in enumerate(pool.samples)}
    rows = [number[sample.name] for sample in probing.samples]
    probes = {size: _probes(pool, size, probing, rows) for size in sizes}
    return {
        "train": len(train),
        "sizes": {
            str(size): {
                "probe": {name: float(right.mean()) for name, right in probes[size].items()},
                "loss": {
                    name: mean_and_error(probes[native][name] - probes[size][name])
                    for name in probes[native]
                    if name in probes[size]
                },
                "accuracy": {
                    name: _reached(pool, name, size, train=train, val=val, others=others) for name in _PARAMS
                },
            }
            for size in sizes
        },
    }


def _probes(pool: Pool, size: int, probing: Probing, rows: Sequence[int]) -> dict[str, Any]:
    """Name of a depth or a set of depths -> correctness (N,) of the quick probe at that size."""
    found = {name: each[np.asarray(rows)] for name, each in pool.found[size].items()}
    judged = judge_depths(pool.backbone, probing, found)
    return {each.name or "+".join(each.names): each.correct for each in judged}


def _reached(
    pool: Pool, method: str, size: int, *, train: Sequence[int], val: Sequence[int], others: Sequence[int]
) -> float:
    """Accuracy of the method on the other images."""
    backbone = at_size(pool.backbone, size)
    held = TrainingData(
        train=tuple(pool.samples[place] for place in train),
        val=tuple(pool.samples[place] for place in val),
        task=TASKS[pool.dataset.task],
        classes=pool.dataset.classes,
        preprocess=backbone.info.preprocess,
        store=pool.store(size),
        seed=0,
        refit=True,
    )
    rung = Rung(method=method, params=_params(method), why="bench")
    adapted = adapt(rung, backbone, classes=len(held.classes), seed=0)
    result = result_of(training.fit(adapted, held, Pace(clock=Clock(None), folder=Path())))
    judged = [pool.samples[place] for place in others]
    model: Network = result.model
    weight, bias = (part.detach().numpy() for part in (model.head.weight, model.head.bias))
    logits = rows_of(model, held.store, judged) @ weight.T + bias
    return float((logits.argmax(1) == np.array([each.labels[0] for each in judged])).mean())


def _params(method: str) -> dict[str, Any]:
    own = METHODS[method].params
    return {name: getattr(_PARAMS[method], name) for name in own.__dataclass_fields__}


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _pairs(text: str) -> dict[int, int]:
    return {int(count): int(times) for count, times in (each.split(":") for each in text.split(","))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw from every set that was asked for and write `sizes.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the public sets, each in a folder of its own")
    parser.add_argument("--fashion", type=Path, help="folder with the IDX files of Fashion-MNIST")
    parser.add_argument("--only", default=",".join(SETS), help="names of sets; default: all")
    parser.add_argument("--weights", default="bundled:efficientnet_lite0")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for sizes.json, features and made sets"
    )
    parser.add_argument("--sizes", type=_numbers, default=[], help="input sizes; default: as the planner")
    parser.add_argument("--pool", type=int, default=POOL, help="training images that are drawn from")
    parser.add_argument("--draws", type=_pairs, default=DRAWS, help="images to learn from:draws, …")
    options = parser.parse_args(arguments)
    out = writable_folder(options.out)
    os.environ.setdefault("HEADSTART_CACHE", str(out / "cache"))
    file, backbone = out / "sizes.json", weights.load(options.weights)
    sets: dict[str, list[Answer]] = read_json(file)["sets"] if file.exists() else {}
    for name in options.only.split(","):
        images = None if name in sets else read_set(name, Where(options.data, options.fashion, out / "sets"))
        if images is None:
            continue
        pool = pool_of(images, backbone, out / "lists", limit=options.pool, asked=options.sizes)
        sets[name] = list(draws(pool, options.draws))
        write_text(file, dumps({"weights": backbone.info.name, "sets": sets}) + "\n")
        print(f"{name}: {len(sets[name])} draws", flush=True)


if __name__ == "__main__":
    main()
