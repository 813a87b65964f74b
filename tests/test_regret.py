"""The regret bench: its sets, its rounds, the replay by the planner's own functions, and figures worked by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import regret_report, regret_run, regret_sets, regret_sizes
from bench.measure import ROOT
from bench.regret_replay import Course, Result, Stored, advised, always, auto, oracle
from bench.regret_run import About, Cell, Lab, Settings, in_rounds
from bench.regret_sets import ImageSet, Where, as_csv, spread
from headstart import data
from headstart.data.records import Sample
from headstart.evidence import Curve, CurvePoint
from headstart.evidence.records import Forecast
from headstart.features import FeatureStore
from headstart.planning import choose, expect
from headstart.tasks import TASKS
from headstart.training import TrainingData
from headstart.weights import Backbone, blank
from tests.test_decision import CLOSE, FAR, evidence, facts, probe

# Sets


def labelled(**counts: int) -> list[tuple[Path, str]]:
    return [
        (Path(f"{label}/{number}.png"), label) for label, count in counts.items() for number in range(count)
    ]


def test_every_beginning_of_a_set_has_the_shares_of_its_classes() -> None:
    order = spread(labelled(a=60, b=30, c=10))
    assert sorted(order) == sorted(labelled(a=60, b=30, c=10))
    for count in (10, 20, 50):
        labels = [label for _, label in order[:count]]
        for label, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(labels.count(label) - share * count) <= 1, "within one image of the share"
    assert order == spread(labelled(a=60, b=30, c=10)), "the same every time"


def test_a_cell_is_what_fit_reads(tmp_path: Path) -> None:
    where = Where(data=None, fashion=None, work=tmp_path)
    found = regret_sets.read_set("textures", where)
    assert found is not None
    assert found.train == (again := regret_sets.read_set("textures", where)).train  # type: ignore[union-attr]
    assert again is not None
    file = tmp_path / "cell.csv"
    file.write_text(as_csv(found, 50, tested=20))
    dataset = data.load(str(file))
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (40, 10, 20)
    assert dataset.made == ("val",), "validation images are taken out of the training images"
    smaller = as_csv(found, 25, tested=20).splitlines()
    assert set(smaller) < set(as_csv(found, 50, tested=20).splitlines()), (
        "a smaller cell is part of a larger one"
    )


def test_a_set_whose_source_is_absent_is_left_out(tmp_path: Path) -> None:
    where = Where(data=tmp_path, fashion=None, work=tmp_path / "work")
    for name in ("hymenoptera", "bccd-cells", "fashion-mnist", "imagenet-kinds"):
        assert regret_sets.read_set(name, where) is None


def test_cells_are_cut_out_with_a_margin(tmp_path: Path) -> None:
    """A box of 20 x 10 pixels gets 3 and 2 (1.5, rounded to even) more on every side; one without area is left out."""
    folder = tmp_path / "bccd"
    for place in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / place).mkdir(parents=True)
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, x, y, x2, y2 in (
            ("WBC", 30, 30, 50, 40),
            ("RBC", 5, 5, 5, 5),
            ("RBC", 0, 0, 20, 20),
            ("RBC", 9, 9, 39, 39),
        )
    )
    for name in ("one", "two"):
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>80</width><height>60</height></size>{boxes}</annotation>"
        )
        Image.new("RGB", (80, 60)).save(folder / "JPEGImages" / f"{name}.jpg")
    for part, name in (("train", "one"), ("val", "two"), ("test", "")):
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text(name)
    found = regret_sets.read_set("bccd-cells", Where(data=tmp_path, fashion=None, work=tmp_path / "work"))
    assert found is not None
    sizes = {label: Image.open(path).size for path, label in found.train}
    assert sizes["WBC"] == (26, 14)
    assert [label for _, label in found.train].count("RBC") == 1, "no more than white cells"
    assert {label for _, label in found.test} == {"RBC", "WBC"}


# Draws


def test_a_draw_is_judged_on_training_images_that_it_did_not_learn_from(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left half or right half is bright: 24 images learn that, the other 36 of the pool are all answered rightly."""
    for split, numbers in (("train", range(60)), ("test", range(60, 80))):
        for number in numbers:
            pixels = np.full((96, 96), 20 + number, np.uint8)
            pixels[:, :48] += np.uint8(140 * (number % 2))
            pixels[:, 48:] += np.uint8(140 * (1 - number % 2))
            place = tmp_path / split / "lr"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    images = ImageSet(
        name="sides",
        train=[(path, path.parent.name) for path in sorted((tmp_path / "train").rglob("*.png"))],
        test=[(path, path.parent.name) for path in sorted((tmp_path / "test").rglob("*.png"))],
    )
    monkeypatch.setattr(regret_sizes, "_LEFT", 20)
    pool = regret_sizes.pool_of(images, backbone, tmp_path / "lists")
    assert len(pool.samples) == 60
    assert not [each for each in pool.samples if "/test/" in str(each.source)]
    found = list(regret_sizes.draws(pool, {24: 2, 50: 1}))
    assert [(each["images"], each["turn"], each["train"]) for each in found] == [(24, 0, 19), (24, 1, 19)]
    for each in found:
        assert each["sizes"].keys() == {str(size) for size in pool.found}
        native = each["sizes"]["160"]
        assert native["loss"]["output"] == (0.0, 0.0)
        assert native["accuracy"]["depth-probe"] > 0.9


# Cells and rounds


def cell(images: str, count: int, asked: int) -> Cell:
    return Cell(images=images, count=count, asked=asked, weights="bundled:efficientnet_lite0")


def test_a_small_set_is_used_whole_where_that_makes_a_new_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {
        "digits": labelled(a=500, b=500),
        "textures": labelled(a=70, b=70),
        "bccd-cells": labelled(a=60, b=60),
    }
    monkeypatch.setattr(
        regret_run,
        "read_set",
        lambda name, _: ImageSet(name=name, train=sets[name], test=[]) if name in sets else None,
    )
    lab = Lab(out=tmp_path, where=Where(None, None, tmp_path), settings=Settings())
    found = lab.cells(["digits", "textures", "bccd-cells", "hymenoptera"], [100, 300, 50], ["bundled:x"])
    assert [(each.images, each.count, each.asked) for each in found] == [
        ("digits", 100, 100),
        ("textures", 100, 100),
        ("bccd-cells", 100, 100),
        ("digits", 300, 300),  # 140 and 120 images are hardly more than 100
        ("digits", 50, 50),
        ("textures", 50, 50),
        ("bccd-cells", 50, 50),
    ]


def test_tuning_at_the_size_of_the_pretraining_comes_one_round_later() -> None:
    small, large = cell("a", 100, 100), cell("a", 300, 300)
    assert in_rounds([small, large]) == [(False, small), (False, large), (True, small), (True, large)]
    assert in_rounds([small]) == [(False, small), (True, small)]
    other = cell("b", 100, 100)
    some = in_rounds([small, other, large], native=frozenset("a"))
    assert some == [(False, small), (False, other), (False, large), (True, small), (True, large)]


# Replay


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return blank("test_resnet")


def logits(right: int, count: int) -> np.ndarray[Any, Any]:
    """Answers of which the first `right` of `count` are the class 0, which is the truth."""
    out = np.zeros((count, 3))
    out[:right, 0], out[right:, 1] = 1.0, 1.0
    return out


def result(method: str, test: int, val: int = 50, *, size: int = 160, seconds: float = 10.0) -> Result:
    return Result(
        method=method,
        size=size,
        params={"epochs": 3},
        seconds=seconds,
        processor_seconds=seconds,
        ended="",
        facts={},
        val=logits(val, 60),
        test=logits(test, 100),
        crossed=None,
    )


def stored(
    backbone: Backbone, *results: Result, found: Any = CLOSE, images: str = "a", n: int = 240
) -> Stored:
    def samples(split: str, count: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(name=f"{split}{i}", source=Path(), labels=(0,), split=split) for i in range(count)
        )

    return Stored(
        about=About(cell=cell(images, 300, 300), settings=Settings(budget="10m"), address="x"),
        facts=facts(n),
        evidence=found,
        backbone=backbone,
        results=results,
        data=TrainingData(
            train=samples("train", n),
            val=samples("val", 60),
            task=TASKS["classify"],
            classes=("a", "b", "c"),
            preprocess=backbone.info.preprocess,
            store=FeatureStore(backbone),
            seed=0,
            refit=True,
        ),
        truth=np.zeros(100, np.int64),
        measuring=found.seconds,
    )


def test_auto_climbs_as_the_ladder_does(backbone: Backbone) -> None:
    """The probe leaves a third of the errors, so tuning is tried; it is kept only if the validation images say so."""
    found = evidence("far", probe("output", 0.8), images=630)

    def course_of(*results: Result) -> Course:
        course = auto(stored(backbone, *results, found=found, n=2000))
        assert course is not None
        return course

    weak = result("linear-probe", 80, 40)
    better = {name: result(name, 95, 58, seconds=40) for name in ("partial", "full")}
    course = course_of(weak, *better.values())
    assert course.climbed[0] is weak
    assert course.chosen.method in better
    assert course.seconds == pytest.approx(found.seconds + sum(each.seconds for each in course.climbed))
    course = course_of(weak, *(result(name, 95, 41) for name in ("partial", "full")))
    assert len(course.climbed) > 1
    assert course.chosen is weak, "one image of 60 more is no proof, and the test images are not looked at"
    strong = result("linear-probe", 97, 60)
    assert course_of(strong, *better.values()).climbed == (strong,), "nothing is left to gain"
    late = replace(weak, seconds=601.0, processor_seconds=601.0)
    assert course_of(late, *better.values()).climbed == (late,), "the budget of ten minutes is used up"


def test_what_others_kept_waiting_does_not_count(backbone: Backbone) -> None:
    """A probe of 10 s that waited for half of them took 5; two threads do not make it longer than the wall says."""
    waited = replace(result("linear-probe", 97, 60), processor_seconds=5.0)
    course = auto(replace(stored(backbone, waited), measuring=2.0))
    assert course is not None
    assert course.seconds == pytest.approx(7)
    assert replace(waited, processor_seconds=20.0).taken == 10


def test_a_rung_that_is_not_stored_is_named(backbone: Backbone) -> None:
    course = auto(stored(backbone, result("linear-probe", 80, 40)))
    assert course is not None
    assert course.missing
    assert all("160 px" in name for name in course.missing)
    assert auto(stored(backbone, result("scratch", 80, 40))) is None


def test_the_oracle_is_the_best_and_of_equals_the_quickest(backbone: Backbone) -> None:
    held = stored(
        backbone, result("linear-probe", 90, seconds=5), result("full", 91), result("partial", 91, seconds=7)
    )
    assert oracle(held).chosen.method == "partial"
    # The measuring has left features of all 240 training images, which the method alone would have to compute: 10 ms each.
    assert oracle(held).seconds == pytest.approx(7 + 240 * 0.01)
    fixed = always(held, "full")
    assert fixed is not None
    assert fixed.chosen.method == "full"
    assert always(held, "scratch") is None


def test_the_textbook_asks_for_size_and_similarity(backbone: Backbone) -> None:
    assert advised("small", "moderate") == "linear-probe"
    assert advised("large", "far") == "full"
    held = stored(backbone, result("linear-probe", 80), result("depth-probe", 95), found=FAR)
    row = regret_report.cell_row(held)
    assert row["strategies"]["textbook"]["chosen"] == "depth-probe at 160 px"
    assert row["strategies"]["always linear-probe"]["regret"] == pytest.approx(0.15)
    assert row["strategies"]["auto"]["regret"] == 0


# Figures


def test_regret_over_cells_by_hand() -> None:
    def row(name: str, *values: float) -> dict[str, Any]:
        pairs = zip(regret_report.STRATEGIES, values, strict=False)
        found = {key: {"regret": value, "regret_fair": value / 2} for key, value in pairs}
        return {"cell": name, "strategies": found}

    rows = [
        row("one", 0.0, 0.1, 0.2, 0.3, 0.0, 0.4),
        row("two", 0.02, 0.3, 0.0, 0.1, 0.0, 0.0),
        row("not whole", 0.5),
    ]
    found = regret_report.regret(rows)
    assert found["cells"] == 2
    assert found["auto"] == {
        "mean": pytest.approx(0.01),
        "fair": pytest.approx(0.005),
        "worst": 0.02,
        "worst_in": "two",
    }
    assert found["textbook"]["mean"] == pytest.approx(0.2)
    assert (found["textbook"]["worst"], found["textbook"]["worst_in"]) == (0.3, "two")


def test_the_paired_interval_is_that_of_the_differences(backbone: Backbone) -> None:
    """30 of 100 images better and 10 worse: 20 points with a standard error of sqrt(0.4 - 0.04) / 10 = 6 points."""
    first, second = result("depth-probe", 80), result("linear-probe", 70)
    swapped = first.test.copy()
    swapped[:10] = logits(0, 10)
    held = stored(backbone, replace(first, test=np.vstack([swapped[:90], logits(10, 10)])), second, found=FAR)
    (row,) = regret_report.depth([held])
    better, worse = 20, 10  # images 70 to 79 and 90 to 99 won, 0 to 9 lost
    gain = (better - worse) / 100
    spread_of_gain = math.sqrt((better + worse) / 100 - gain**2) / 10
    assert row["gain"] == pytest.approx(gain)
    assert row["low"] == pytest.approx(gain - 1.96 * spread_of_gain, abs=0.011)
    assert row["high"] == pytest.approx(gain + 1.96 * spread_of_gain, abs=0.011)


def curve(accuracies: list[float], forecast: list[tuple[int, float, float, float]]) -> Curve:
    none = (0.0, 0.0, 0.0)
    return Curve(
        points=tuple(
            CurvePoint(n=20 * 2**k, accuracy=value, error=0.01) for k, value in enumerate(accuracies)
        ),
        limit=1.0,
        scale=1.0,
        rate=0.5,
        twice=none,
        fourfold=none,
        forecast=tuple(Forecast(n=n, value=v, low=low, high=high) for n, v, low, high in forecast),
    )


def test_a_forecast_is_asked_at_the_number_of_images_that_came() -> None:
    """At 160 images, half way (by logarithms) between 80 and 320: 0.85 from 0.82 to 0.88."""
    steps = [(80, 0.8, 0.78, 0.82), (320, 0.9, 0.86, 0.94)]
    before = curve([0.5, 0.6, 0.7, 0.75], steps)
    for accuracy, held, loose in ((0.87, True, True), (0.883, False, True), (0.90, False, False)):
        found = regret_report._holds(before, curve([0.5, 0.6, 0.7, accuracy], steps))
        assert found[:2] == (held, loose)
        assert found[2] == pytest.approx(0.06)


def test_half_a_curve_foretells_a_curve_that_follows_the_power_law() -> None:
    law = [0.95 - 1.5 * (20 * 2**k) ** -0.5 for k in range(4)]
    whole = curve(law, [])
    inside, loose, width = regret_report._holds(regret_report._halved(whole), whole)
    assert inside
    assert loose
    assert 0.01 < width < 0.2


def test_a_set_is_far_in_effect_where_pretraining_brings_little(backbone: Backbone) -> None:
    """The last layer is right on 96 % (close) and 83.9 % (far), a random network of the fixtures on 40, guessing on 1/3."""
    held = stored(backbone, result("linear-probe", 80), found=FAR)
    row = regret_report._loss_row(held)
    assert row is not None
    assert row["loss"] == pytest.approx(1 - (0.839 - 0.4) / (2 / 3))
    assert row["errors_left"] == pytest.approx(0.161 / 0.6)
    assert row["error"] == pytest.approx(0.2)
    assert row["loss_to_best"] == 0
    near = regret_report._loss_row(stored(backbone, result("linear-probe", 96)))
    assert near is not None
    assert near["loss"] == pytest.approx(1 - (0.96 - 0.4) / (2 / 3))
    assert near["errors_left"] == pytest.approx(0.04 / 0.6)


def test_the_distance_is_compared_over_sets_and_over_cells_of_one_size(backbone: Backbone) -> None:
    """Six sets whose probes fall as their distance rises: the loss rises with it. Of each set the largest cell counts."""
    held = []
    for place in range(6):
        found = evidence("far", probe("output", 0.9 - 0.05 * place), images=600)
        away = replace(found, distance=replace(found.distance, overall=0.1 * (place + 1)))
        reached = result("linear-probe", 90 - 5 * (place // 2)), result("full", 92 + place)
        held.append(stored(backbone, *reached, found=away, images=f"set{place}"))
    larger = replace(held[0], about=replace(held[0].about, cell=cell("set0", 600, 600)))
    (row,) = regret_report.distance([*held, larger]).values()
    assert [each["set"] for each in row["sets"]] == [
        "set0 600",
        *(f"set{place} 300" for place in range(1, 6)),
    ]
    assert row["spearman"]["loss"] == pytest.approx(1)
    assert row["spearman"]["errors_left"] == pytest.approx(1)
    assert set(row["by_images"]) == {"300"}, "one cell alone has no order"
    assert row["by_images"]["300"]["sets"] == 6
    assert regret_report.distance(held[:4]) == {}


def test_sizes_are_compared_over_all_cells_of_a_set() -> None:
    def row(cell: str, method: str, gain: float, seconds: float, native: float) -> dict[str, Any]:
        return {"cell": cell, "method": method, "gain": gain, "seconds": seconds, "native_seconds": native}

    rows = [
        row("a 50", "depth-probe", 0.02, 1.0, 4.0),
        row("a 100", "linear-probe", -0.04, 2.0, 8.0),
        row("a 100", "full", 0.1, 10.0, 30.0),
        row("b 50", "full", 0.0, 1.0, 1.0),
    ]
    found = regret_report.by_set(rows)
    assert [(each["set"], each["solver"], each["pairs"]) for each in found] == [
        ("a", "features", 2),
        ("a", "gradient", 1),
        ("b", "gradient", 1),
    ]
    assert found[0]["gain"] == pytest.approx(-0.01)
    assert [each["time"] for each in found] == pytest.approx([3 / 12, 1 / 3, 1.0])


def test_the_size_rules_are_tried_and_put_back(backbone: Backbone) -> None:
    before = choose._favour, expect._SIZE_DIFFERENCE
    held = stored(backbone, result("linear-probe", 80), images="a")
    found = regret_report.size_rule(
        [held, stored(backbone, result("linear-probe", 80), images="rsscn7-satellite")]
    )
    assert list(found["cells"]) == ["a 300"], "the set on which the rule was made does not judge it"
    assert found["mean_loss"]["as measured"]["cells_that_differ"] == 0
    assert before == (choose._favour, expect._SIZE_DIFFERENCE)


# The whole


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "bench" / "regret.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_it_runs_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["run", "--quick", "--only", "digits", "--out", str(out)]
    done = run(*asked)
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "regret.json").read_text())
    (row,) = found["cells"]
    assert row["strategies"].keys() == regret_report.STRATEGIES.keys()
    assert found["regret"]["cells"] == 1
    assert all(each["regret"] >= 0 for each in row["strategies"].values())
    assert {name.partition(" ")[0] for name in row["results"]} == {
        "linear-probe",
        "depth-probe",
        "partial",
        "full",
    }
    assert "## Regret over 1 cells" in (out / "regret.md").read_text()
    assert str(tmp_path) not in (out / "regret.json").read_text(), "no path of this machine"
    lost = next(out.glob("cells/*/*/linear-probe-*.npz"))
    lost.unlink()
    again = run(*asked)
    assert again.returncode == 0, again.stderr
    assert "1 results added" in again.stdout
    assert lost.exists()


def test_an_unknown_set_is_refused(tmp_path: Path) -> None:
    done = run("run", "--only", "digitz", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "digits" in done.stderr
    assert "Traceback" not in done.stderr
