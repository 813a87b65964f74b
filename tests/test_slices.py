"""Where it fails: planted weak spots are found, none is invented, and the report shows both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from headstart import evaluation
from headstart._core.files import sha256_bytes
from headstart.data.records import Sample
from headstart.evaluation import Answers, Aside
from headstart.evaluation.slices import clusters, find_slices

N = 240


def answers(groups: tuple[str, ...] | None = None) -> Answers:
    return Answers(
        names=tuple(map(str, range(N))), truth=np.zeros(N, np.int64), logits=np.zeros((N, 2)), groups=groups
    )


def looks(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(N) for name in ("short side", "brightness", "sharpness", "contrast")}


def test_a_dark_corner_is_found_with_examples() -> None:
    seen = looks()
    dark = seen["brightness"] < 0.25
    right = np.where(
        dark, np.random.default_rng(1).random(N) < 0.4, np.random.default_rng(2).random(N) < 0.95
    )
    found = find_slices(answers(), right.astype(float), Aside(looks=seen), seed=0)
    assert found.looked == 8
    (weak,) = found.found
    assert weak.name.startswith("brightness: darkest quarter")
    assert weak.accuracy.high < weak.rest.low
    assert weak.p < 0.001
    assert all(dark[int(name)] and not right[int(name)] for name in weak.examples)


def test_nothing_is_invented_where_mistakes_fall_at_random() -> None:
    said = 0
    for seed in range(100):
        right = (np.random.default_rng(seed).random(N) < 0.85).astype(float)
        said += bool(find_slices(answers(), right, Aside(looks=looks(seed + 1000)), seed=seed).found)
    assert said <= 9  # at most 5 expected


def test_a_group_that_fails_is_named() -> None:
    groups = tuple(f"site {place % 6}" for place in range(N))
    right = np.array([0.0 if group == "site 3" and place % 2 else 1.0 for place, group in enumerate(groups)])
    found = find_slices(answers(groups), right, Aside(), seed=0)
    assert [part.name for part in found.found] == ["group site 3"]


def test_clusters_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 20))
    rows = (centres[np.arange(N) % 3] + 0.2 * rng.normal(size=(N, 20))).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    theirs = KMeans(3, n_init=5, random_state=0).fit_predict(unit)
    assert adjusted_rand_score(theirs, clusters(rows, 3, seed=0)) == pytest.approx(1.0)


def test_looks_of_pictures_made_for_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(noise).resize((20, 14)).resize((300, 200)))
    dark = tmp_path / "dark.jpg"
    Image.new("RGB", (400, 200), (20, 20, 20)).save(dark)
    samples = [
        Sample(name=name, source=source, digest=sha256_bytes(name.encode()), width=width, height=200)
        for name, source, width in (("noise", noise, 300), ("blurred", blurred, 300), ("dark", dark, 400))
    ]
    samples.append(Sample(name="gone", source=tmp_path / "gone.png"))
    found = evaluation.look_at(samples)
    assert found["sharpness"][0] > 3 * found["sharpness"][1]
    assert found["brightness"][2] == pytest.approx(20 / 255, abs=0.01)
    assert np.isnan(found["sharpness"][2])  # one colour is neither sharp nor blurred
    assert found["width / height"][:3] == pytest.approx([1.5, 1.5, 2.0])
    assert np.isnan([values[3] for values in found.values()]).all()


def test_the_whole_evaluation_carries_them() -> None:
    truth = np.arange(N) % 2
    given = replace(answers(), truth=truth, logits=4.0 * np.eye(2)[truth])
    about = evaluation.About(
        task="classify", classes=("a", "b"), method="m", weights="w", temperature=1.0, seed=0, seconds={}
    )
    out = evaluation.evaluate(given, val=None, baselines={}, about=about, aside=Aside(looks=looks()))
    assert out.slices is not None
    assert (out.slices.found, out.slices.lowest_p) == ((), 1.0)
    assert out.risks[-1].coverage == 1.0
