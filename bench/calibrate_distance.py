"""The distances of known image domains from the bundled networks' pretraining domain, as JSON.

    python bench/calibrate_distance.py "ImageNet photos=DATA/imagenet-sample" "ants and bees=DATA/hymenoptera" > scale.json

Each argument is NAME=PATH, with a folder of images or an IDX file of MNIST's kind (`train-images-idx3-ubyte.gz`). Sets that
are made here (noise, spectrograms of synthetic chirps, scikit-learn's handwritten digits) are always measured, so it runs
anywhere. The table KNOWN in headstart/similarity/scale.py is copied from its answer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart import weights
from headstart.data.find import find_images
from headstart.data.records import Sample
from headstart.similarity import domain_distance, reference_statistics, save_reference
from headstart.weights.catalog import BUNDLED

Pixels = NDArray[np.uint8]

IMAGES = 128
SIDE = 224


def noise(count: int) -> list[Pixels]:
    """Independent uniform pixels (224, 224, 3)."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(count)]


def spectrograms(count: int) -> list[Pixels]:
    """Log-power spectrograms (128, 128), gray, of one to three chirps with harmonics in noise."""
    rng, rate, window, step, frames = np.random.default_rng(1), 8000, 256, 64, 128
    time_axis = np.arange(window + step * (frames - 1)) / rate
    out = []
    for _ in range(count):
        sound = rng.normal(0, rng.uniform(0.02, 0.3), len(time_axis))
        for _ in range(rng.integers(1, 4)):
            start, slope = rng.uniform(200, 2500), rng.uniform(-1500, 2500)
            phase = 2 * np.pi * (start * time_axis + slope * time_axis**2 / 2)
            envelope = np.exp(-(((time_axis - rng.uniform(0, time_axis[-1])) / rng.uniform(0.1, 0.6)) ** 2))
            sound += envelope * sum(np.sin(order * phase) / order for order in range(1, rng.integers(2, 5)))
        pieces = np.lib.stride_tricks.sliding_window_view(sound, window)[::step]
        power = np.abs(np.fft.rfft(pieces * np.hanning(window), axis=1))[:, : window // 2] ** 2
        decibel = 10 * np.log10(power.T[::-1] + 1e-8)
        top = decibel.max()
        out.append((np.clip((decibel - top + 80) / 80, 0, 1) * 255).astype(np.uint8))
    return out


def digits(count: int) -> list[Pixels]:
    """scikit-learn's handwritten digits (8, 8), gray."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    return [(images[place] * 15.9375).astype(np.uint8) for place in spread(len(images), count)]


GENERATED: dict[str, Callable[[int], list[Pixels]]] = {
    "uniform noise": noise,
    "spectrograms": spectrograms,
    "handwritten digits": digits,
}


def spread(total: int, count: int) -> list[int]:
    """`count` positions out of `total`, evenly spaced."""
    places: list[int] = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()
    return places


def read(path: Path, count: int) -> list[Sample]:
    """Samples of a folder or an IDX file, evenly spaced over the sorted names (so over classes in folders)."""
    if path.name.endswith(("ubyte.gz", "ubyte")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        shape = tuple(np.frombuffer(content, ">i4", content[3], offset=4).tolist())
        images = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
        return in_memory([images[place] for place in spread(len(images), count)])
    found = find_images([path])
    return [found[place] for place in spread(len(found), count)]


def in_memory(images: Sequence[Pixels]) -> list[Sample]:
    """Samples of arrays."""
    return [Sample(name=f"memory:{place}", source=image) for place, image in enumerate(images)]


def measure(
    name: str, samples: list[Sample], backbone: weights.Backbone, *, images: int
) -> dict[str, object]:
    """One row of the answer."""
    started = time.monotonic()
    found = domain_distance(backbone, [replace(each, labels=()) for each in samples], limit=images)
    row = {
        key: getattr(found, key)
        for key in ("overall", "low", "high", "early", "middle", "late", "n", "reason")
    }
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    return {
        "domain": name,
        "weights": backbone.info.name,
        **rounded,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Measure everything that was asked for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("domains", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--weights", action="append", help="may be repeated; default: all bundled ones")
    parser.add_argument("--images", type=int, default=IMAGES, help="of each domain")
    parser.add_argument(
        "--skip-generated", action="store_true", help="only what is named on the command line"
    )
    parser.add_argument(
        "--reference",
        metavar="PATH",
        help="first make and store reference statistics of each network from this folder",
    )
    options = parser.parse_args()
    rows = []
    for name in options.weights or [f"bundled:{name}" for name in BUNDLED]:
        backbone = weights.load(name)
        if options.reference:
            photos = read(Path(options.reference), options.images)
            made = f"{len(photos)} images of {Path(options.reference).name}"
            save_reference(backbone, reference_statistics(backbone, photos, made=made))
        sets = (
            {}
            if options.skip_generated
            else {key: in_memory(make(options.images)) for key, make in GENERATED.items()}
        )
        for each in options.domains:
            domain, _, path = each.partition("=")
            sets[domain] = read(Path(path), options.images)
        for domain, samples in sets.items():
            rows.append(measure(domain, samples, backbone, images=options.images))
            print(json.dumps(rows[-1]), file=sys.stderr)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    print(
        json.dumps(
            {"images": options.images, "versions": versions, "machine": platform.machine(), "rows": rows},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
