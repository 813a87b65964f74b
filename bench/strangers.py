"""Does a fitted model notice images unlike those it was trained on? The area under the ROC curve of its novelty score.

python bench/strangers.py RUN --like FOLDER --unlike NAME=FOLDER … [--images 200] [--out bench/results/strangers.json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench.measure import machine  # noqa: E402
from headstart import data, export  # noqa: E402
from headstart.data.records import Sample  # noqa: E402
from headstart.metrics import wilson  # noqa: E402
from headstart.predict import predict  # noqa: E402

_REPEATS = 1000

Floats = NDArray[np.float64]


def auroc(like: Floats, unlike: Floats) -> float:
    """How often an unlike image scores above a like one; ties count half."""
    above = unlike[:, None] > like[None, :]
    equal = unlike[:, None] == like[None, :]
    return float(above.mean() + 0.5 * equal.mean())


def scores(bundle: export.Bundle, samples: Sequence[Sample]) -> Floats:
    """Novelty scores (N,) of the images that can be read."""
    found = [row.novelty for row in predict(bundle, samples)]
    return np.array([score for score in found if score is not None], np.float64)


def noise(count: int) -> list[Sample]:
    """Images of uniform noise and of single colours, half each."""
    rng = np.random.default_rng(0)
    out = []
    for place in range(count):
        size = (224, 224, 3) if place % 2 else (1, 1, 3)
        pixels = rng.integers(0, 256, size, dtype=np.uint8)
        source = pixels if place % 2 else np.broadcast_to(pixels, (224, 224, 3)).copy()
        out.append(Sample(name=f"noise {place}", source=source))
    return out


def measured(like: Floats, unlike: Floats, threshold: float) -> dict[str, Any]:
    """The area with its bootstrap interval, and the share that is called unlike."""
    rng = np.random.default_rng(0)
    areas = [auroc(rng.choice(like, len(like)), rng.choice(unlike, len(unlike))) for _ in range(_REPEATS)]
    flagged = int((unlike > threshold).sum())
    return {
        "n": len(unlike),
        "auroc": auroc(like, unlike),
        "auroc_95": [float(end) for end in np.quantile(areas, [0.025, 0.975])],
        "called_unlike": flagged / len(unlike),
        "called_unlike_95": wilson(flagged, len(unlike)),
    }


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Up to `count` of the images, evenly spread."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), count)).astype(int))
    return [samples[place] for place in places]


def main() -> None:
    """Measure, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder or bundle with a novelty score")
    parser.add_argument(
        "--like", type=Path, required=True, help="images like the training images, not among them"
    )
    parser.add_argument("--unlike", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--images", type=int, default=200, help="of each, evenly spread over the folder")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "strangers.json")
    given = parser.parse_args()
    bundle = export.open_bundle(given.run)
    novelty = bundle.manifest.novelty
    if novelty is None:
        sys.exit(f"{given.run} has no novelty score.")
    like = scores(bundle, spread(list(data.find_images([str(given.like)])), given.images))
    flagged = int((like > novelty.threshold).sum())
    result: dict[str, Any] = {
        "machine": machine(),
        "weights": bundle.manifest.weights.name,
        "method": bundle.manifest.method,
        "calibrated_on": novelty.n,
        "like": {
            "n": len(like),
            "called_unlike": flagged / len(like),
            "called_unlike_95": wilson(flagged, len(like)),
        },
        "unlike": {"noise": measured(like, scores(bundle, noise(given.images)), novelty.threshold)},
    }
    for name, _, folder in (text.partition("=") for text in given.unlike):
        found = spread(list(data.find_images([folder])), given.images)
        result["unlike"][name] = measured(like, scores(bundle, found), novelty.threshold)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {
                name: (row["auroc"], row["auroc_95"], row["called_unlike"])
                for name, row in result["unlike"].items()
            }
        )
    )
    print(result["like"])


if __name__ == "__main__":
    main()
