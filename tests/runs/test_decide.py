"""Measured, planned, edited, run: what travels between `plan`, `plan.json` and `fit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headstart import compute
from headstart._core import records
from headstart._core.errors import BadInput, BadOption, BadPlan
from headstart.data.records import DatasetFacts
from headstart.evidence import Evidence
from headstart.planning import Plan, load_plan
from headstart.runs import decide
from headstart.runs import fit as runs
from headstart.runs.decide import at_size, with_plan
from headstart.runs.options import FitOptions
from headstart.weights import blank
from tests.cli.bad_input import fruit
from tests.test_methods import facts

WEIGHTS = "random:test_resnet"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images `fruit`, and `plan.json` as `headstart plan --json` prints it."""
    folder = tmp_path_factory.mktemp("decide").resolve()
    fruit(str(folder / "fruit"), each=20)
    planned = runs.plan(folder / "fruit", weights=WEIGHTS, budget="60s")
    assert planned.evidence is not None
    plain = records.to_plain(planned.plan) | {"evidence": records.to_plain(planned.evidence)}
    (folder / "plan.json").write_text(records.dumps(plain), encoding="utf-8")
    return folder


Change = Callable[[dict[str, Any]], None]


def edited(place: Path, tmp_path: Path, change: Change) -> Path:
    plain = json.loads((place / "plan.json").read_text(encoding="utf-8"))
    change(plain)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    return path


def set_in(*keys: Any, value: Any) -> Change:
    """Puts a value into nested dictionaries and lists."""

    def change(plain: dict[str, Any]) -> None:
        inner: Any = plain
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def decided(what: str, value: str) -> Change:
    def change(plain: dict[str, Any]) -> None:
        next(line for line in plain["decided"] if line["what"] == what)["value"] = value

    return change


def twice(plain: dict[str, Any]) -> None:
    plain["rungs"] = plain["rungs"][:1] * 2


FIRST = ("rungs", 0)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (set_in("budget", value=3), BadInput, "budget"),
        (set_in(*FIRST, "parms", value={}), BadInput, "parms"),
        (set_in(*FIRST, "params", "epochs", value=3), BadPlan, "epochs has no effect on the rung linear-probe"),
        (set_in(*FIRST, "params", "fold", value=3), BadPlan, "Did you mean 'folds'"),
        (set_in(*FIRST, "params", "folds", value=1), BadOption, "--folds is 1"),
        (set_in(*FIRST, "params", "folds", value="many"), BadInput, "folds"),
        (set_in(*FIRST, "method", value="linear-prob"), BadOption, "Did you mean 'linear-probe'"),
        (set_in("rungs", value=[]), BadPlan, "has no rungs"),
        (twice, BadPlan, "has the rung linear-probe twice"),
        (set_in("prefer", value="beauty"), BadOption, "prefer does not know 'beauty'"),
        (set_in("input_size", value=2), BadOption, "input_size is 2"),
        (decided("weights", "bundled:efficientnet_lite2"), BadPlan, "`decided` only explains"),
        (decided("input size", "999 px"), BadPlan, "edit input_size"),
    ],
)  # fmt: skip
def test_an_edit_that_would_do_nothing_is_an_error(
    change: Change, kind: type[Exception], says: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        load_plan(edited(place, tmp_path, change))
    assert says in str(caught.value)


def test_a_plan_as_printed_is_taken_back(place: Path) -> None:
    plan = load_plan(place / "plan.json")
    assert plan.rungs[0].method == "linear-probe"
    assert plan.budget_seconds == 60


def test_options_that_a_plan_decides_have_no_effect_beside_it(place: Path) -> None:
    path = str(place / "plan.json")
    for more in (
        {"budget": "3m"},
        {"method": "full"},
        {"seed": 3},
        {"prefer": "size"},
        {"given": {"epochs": 3}},
    ):
        with pytest.raises(BadOption, match="has no effect with --plan"):
            with_plan(replace(FitOptions(plan=path), **more))
    chosen = with_plan(FitOptions(plan=path))
    assert (chosen.weights, chosen.seed, chosen.data.seed) == (WEIGHTS, 0, 0)


@pytest.mark.slow
def test_an_edited_plan_is_carried_out(place: Path, tmp_path: Path) -> None:
    """Another number of folds and another input size than headstart would have taken."""

    def change(plain: dict[str, Any]) -> None:
        plain["rungs"] = plain["rungs"][:1]
        plain["rungs"][0]["params"]["folds"] = 3
        plain["input_size"] = 96
        plain["decided"] = []

    path = edited(place, tmp_path, change)
    done = runs.fit(place / "fruit", plan=str(path), out=str(tmp_path / "run"))
    plan = records.load(Plan, done.folder / "plan.json")
    assert plan.rungs[0].params["folds"] == 3
    assert plan.decided[0].what == "plan"
    manifest = records.read_json(done.folder / "bundle" / "manifest.json")
    assert manifest["preprocess"]["height"] == 96
    assert not (done.folder / "evidence.json").exists()


class _Asked(Exception):
    """What the measuring was asked for."""


def test_a_run_goes_without_the_twin_and_a_plan_shows_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few images: no decision depends on it. With ten thousand it says what training from random weights may hope for."""

    def told(*_: Any, twin: bool) -> Evidence:
        raise _Asked(twin)

    monkeypatch.setattr(decide, "measure", told)
    with pytest.raises(_Asked, match="True"):
        runs.plan(place / "fruit", weights=WEIGHTS)
    with pytest.raises(_Asked, match="False"):
        runs.fit(place / "fruit", weights=WEIGHTS, out=str(tmp_path / "run"))
    assert [decide.twin_decides(facts(n)) for n in (9_999, 10_000)] == [False, True]


def test_a_head_of_another_task_is_refused_before_the_measuring(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "measure", None)  # a call would fail
    with pytest.raises(BadOption, match="--head fcos is not made for the task classify"):
        runs.fit(place / "fruit", weights=WEIGHTS, head="fcos", out=str(tmp_path / "run"))


@pytest.mark.slow
def test_measuring_and_fitting_agree_on_the_runtime(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the features of one are in another precision than the other's, and every image is computed twice."""
    counts, choose, own = set(), compute.choose, blank(WEIGHTS.partition(":")[2]).info.preprocess.height

    def seen(source: Any, samples: Any, contract: Any, **options: Any) -> compute.Network:
        if options.get("depths") and contract.height == own:
            counts.add(max(len(samples), options.get("passes", 0)))
        return choose(source, samples, contract, **options)

    monkeypatch.setattr(compute, "choose", seen)
    done = runs.fit(place / "fruit", weights=WEIGHTS, budget="20s", out=str(tmp_path / "run"))
    facts = records.load(DatasetFacts, done.folder / "facts.json")
    assert counts == {sum(split.n for split in facts.splits.values())}


@pytest.mark.slow
def test_auto_keeps_what_it_measured(place: Path, tmp_path: Path) -> None:
    done = runs.fit(place / "fruit", weights=WEIGHTS, budget="20s", out=str(tmp_path / "run"))
    found = records.load(Evidence, done.folder / "evidence.json")
    plan = records.load(Plan, done.folder / "plan.json")
    assert found.weights == plan.weights == WEIGHTS
    assert plan.guide.measured
    assert plan.rungs[0].expected is not None
    evaluation = records.read_json(done.folder / "evaluation.json")
    assert evaluation["seconds"]["measure"] == found.seconds
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="plan"' in page


@pytest.mark.slow
def test_a_resumed_run_keeps_its_plan(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the plan was written: what was measured and decided is not measured and decided again."""
    folder = tmp_path / "run"

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_climb", die)
        with pytest.raises(KeyboardInterrupt):
            runs.fit(place / "fruit", weights=WEIGHTS, budget="20s", out=str(folder))
    before = {name: (folder / name).read_bytes() for name in ("plan.json", "evidence.json")}
    runs.resume(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_size_that_the_network_does_not_take_is_told_before_the_work(place: Path, tmp_path: Path) -> None:
    def change(plain: dict[str, Any]) -> None:
        plain["weights"], plain["input_size"], plain["decided"] = "random:test_vit", 100, []

    path = edited(place, tmp_path, change)
    with pytest.raises(BadPlan, match="input_size is 100, which test_vit does not take"):
        runs.plan(place / "fruit", plan=str(path))


def test_an_input_size_changes_the_contract_alone() -> None:
    backbone = blank("test_resnet")
    assert at_size(backbone, None) is backbone
    assert at_size(backbone, backbone.info.preprocess.height) is backbone
    smaller = at_size(backbone, 96)
    assert smaller.module is backbone.module
    assert (smaller.info.preprocess.height, smaller.info.preprocess.width) == (96, 96)
    assert backbone.info.preprocess.height != 96
