"""Runs side by side: the same images or an error, differences that allow for all pairs, and a page that shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart._core import records
from headstart._core.errors import BadInput
from headstart._core.files import sha256_file
from headstart.cli import main
from headstart.data.records import Sample
from headstart.evaluation import Answers
from headstart.runs.answers import load_answers, save_answers
from headstart.runs.compare import compare
from headstart.runs.folder import Request
from headstart.runs.options import FitOptions

CLASSES = ("ants", "bees", "flies")
N = 120


@pytest.fixture
def images(tmp_path: Path) -> tuple[Sample, ...]:
    out = []
    for place in range(N):
        path = tmp_path / "images" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (2 * place, 80, 120)).save(path)
        out.append(
            Sample(name=str(path), source=path, labels=(place % 3,), split="test", digest=sha256_file(path))
        )
    return tuple(out)


def run(
    folder: Path,
    samples: tuple[Sample, ...],
    skill: float,
    *,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
) -> Path:
    """A finished run's files, as far as a comparison reads them."""
    (folder / "bundle").mkdir(parents=True)
    order = [classes.index(name) for name in CLASSES]
    truth = np.array([order[sample.labels[0]] for sample in samples])
    noise = np.random.default_rng(seed).normal(size=(len(samples), 3))
    answers = Answers(
        names=tuple(sample.name for sample in samples),
        truth=truth,
        logits=2 * (noise + skill * np.eye(3)[truth]),
    )
    save_answers(folder, answers, samples, classes=classes, temperature=2.0)
    plain = {"task": "classify", "method": "full", "weights": "w", "seconds": {"total": 9.0}}
    (folder / "evaluation.json").write_text(json.dumps(plain))
    (folder / "bundle" / "manifest.json").write_text(json.dumps({"file": "model-1.safetensors"}))
    (folder / "bundle" / "model-1.safetensors").write_bytes(bytes(2_000_000))
    records.save(
        folder / "request.json", Request(source="photos", options=FitOptions(seed=seed, out=str(folder)))
    )
    return folder


def test_answers_survive_the_disk(tmp_path: Path, images: tuple[Sample, ...]) -> None:
    kept = load_answers(run(tmp_path / "a", images, 2.0))
    assert kept.classes == CLASSES
    assert kept.digests == tuple(sample.digest for sample in images)
    assert kept.answers.names == tuple(sample.name for sample in images)
    with pytest.raises(BadInput, match=r"answers\.npz"):
        load_answers(tmp_path)
    (tmp_path / "a" / "answers.npz").write_bytes(b"PK nonsense")
    with pytest.raises(BadInput, match="damaged"):
        load_answers(tmp_path / "a")


def test_order_of_images_and_classes_does_not_matter(tmp_path: Path, images: tuple[Sample, ...]) -> None:
    one = run(tmp_path / "a", images, 2.0)
    turned = run(tmp_path / "b", images, 2.0, classes=("flies", "ants", "bees"))
    kept = load_answers(one)
    rows = np.random.default_rng(0).permutation(N)
    columns = [kept.classes.index(name) for name in ("bees", "flies", "ants")]
    mixed = tmp_path / "c"
    run(mixed, images, 0.0)
    save_answers(
        mixed,
        Answers(
            names=tuple(f"elsewhere/{images[row].name}" for row in rows),
            truth=np.array([columns.index(label) for label in kept.answers.truth[rows]]),
            logits=kept.answers.logits[rows][:, columns],
        ),
        [images[row] for row in rows],
        classes=("bees", "flies", "ants"),
        temperature=1.0,
    )
    found = compare([one, mixed])
    assert found.disagreements == 0
    assert found.pairs[0].difference == 0
    assert found.runs[0].scores == found.runs[1].scores
    assert compare([one, turned]).n == N


def test_differences_allow_for_all_pairs(tmp_path: Path, images: tuple[Sample, ...]) -> None:
    runs = [
        run(tmp_path / name, images, skill, seed=k)
        for k, (name, skill) in enumerate([("a", 3), ("b", 2.9), ("c", 0)])
    ]
    found = compare(runs)
    verdicts = {(pair.a, pair.b): pair.verdict for pair in found.pairs}
    assert verdicts == {("a", "b"): "no difference shown", ("a", "c"): "better", ("b", "c"): "better"}
    alone = compare([runs[0], runs[2]]).pairs[0]
    corrected = next(pair for pair in found.pairs if (pair.a, pair.b) == ("a", "c"))
    assert alone.p is not None
    assert corrected.p is not None
    assert corrected.p >= 2 * alone.p  # Holm: the smallest of three counts three times, the second twice
    assert found.runs[0].megabytes == 2.0
    assert found.shown
    assert all(len(entry.answers) == 3 for entry in found.shown)


def test_seeds_have_a_spread(tmp_path: Path, images: tuple[Sample, ...]) -> None:
    found = compare([run(tmp_path / f"s{seed}", images, 1.0, seed=seed) for seed in range(3)])
    values = np.array([each.scores.metrics["accuracy"].value for each in found.runs])
    (spread,) = found.spreads
    assert spread.mean == pytest.approx(values.mean())
    assert spread.deviation == pytest.approx(values.std(ddof=1))
    assert spread.high - spread.mean == pytest.approx(4.3027 * values.std(ddof=1) / np.sqrt(3), rel=1e-4)


def test_other_images_or_labels_are_refused(tmp_path: Path, images: tuple[Sample, ...]) -> None:
    one = run(tmp_path / "a", images, 2.0)
    with pytest.raises(BadInput, match="only one run"):
        compare([one])
    with pytest.raises(BadInput, match="100 of its 100"):
        compare([one, run(tmp_path / "b", images[:100], 2.0)])
    with pytest.raises(BadInput, match="another question"):
        compare([one, run(tmp_path / "c", images, 2.0, classes=("ants", "bees", "flies", "more"))])
    relabelled = (replace(images[0], labels=(1,)), *images[1:])
    with pytest.raises(BadInput, match="other labels for 1 test images"):
        compare([one, run(tmp_path / "d", relabelled, 2.0)])


def test_the_command_writes_a_page(
    tmp_path: Path, images: tuple[Sample, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(run(tmp_path / name, images, skill)) for name, skill in (("one", 3.0), ("two", 0.5))]
    page = tmp_path / "out" / "page.html"
    with pytest.raises(SystemExit) as end:
        main(["compare", *runs, "--out", str(page), "--json"])
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(page)
    assert told["pairs"][0]["verdict"] == "better"
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == len(told["shown"]) > 0
    assert "http://" not in html
    assert "https://" not in html
    with pytest.raises(SystemExit):
        main(["compare", *runs, "--out", str(page)])
    assert "one against two" in capsys.readouterr().out
