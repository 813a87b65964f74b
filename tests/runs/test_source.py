"""Which weights a run uses: named ones, the images' choice, those of its plan; and what pilots may change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart.ranking as ranking
from headstart import TransferLearner, compute, data
from headstart._core import records
from headstart._core.errors import BadOption, BadPlan
from headstart.data.records import LoadOptions, Sample
from headstart.planning import Plan
from headstart.ranking import Choice, Pilot, Ranked, Ranking, RankOptions, Scores
from headstart.runs import fit as runs
from headstart.runs.decide import with_plan
from headstart.runs.folder import as_request
from headstart.runs.options import DEFAULT_WEIGHTS, FitOptions
from headstart.runs.pilot import _parts, finalists, settle, with_pilots
from headstart.runs.source import choose_source
from headstart.weights import info
from tests.cli.bad_input import call
from tests.tiny import make_nets, make_tints


@pytest.fixture(scope="module")
def tints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tints(tmp_path_factory.mktemp("tints"))


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_nets(tmp_path_factory.mktemp("nets"))


def several(nets: dict[str, str], *which: str) -> dict[str, Any]:
    return {"weights": ",".join(nets[name] for name in which), "arch": "test_resnet"}


def no_ranking(*_: Any, **__: Any) -> Choice:
    raise AssertionError("the weights were ranked")


# Who is asked


def test_a_fit_ranks_nothing_unless_it_is_asked(tints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "choose_weights", no_ranking)
    assert (
        FitOptions().weights == TransferLearner().weights == DEFAULT_WEIGHTS == "bundled:efficientnet_lite0"
    )
    assert runs.plan(tints, method="linear-probe").plan.weights == DEFAULT_WEIGHTS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "auto", "arch": "resnet50"}, "--arch 'resnet50' has no effect with --weights auto"),
        ({"max_parameters": 5.0}, "--max-parameters has no effect: --weights bundled:efficientnet_lite0"),
        ({"commercial": True, "weights": "random:test_resnet"}, "--commercial has no effect"),
        ({"weights": "random:test_resnet,random:test_resnet"}, "names random:test_resnet twice"),
        ({"weights": "random:test_resnet,nope"}, "'nope' does not say where the weights come from"),
        ({"weights": "auto", "max_latency": -1.0}, "--max-latency is -1"),
        ({"weights": "auto", "commercial": True, "non_commercial": True}, "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_told_before_the_data_is_read(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption) as caught:
        runs.plan("no/such/folder", **options)
    assert said in str(caught.value)


def test_auto_may_fetch_weights_only_where_the_budget_allows(
    tints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RankOptions] = []

    def choose(_: Any, options: RankOptions, **__: Any) -> Choice:
        asked.append(options)
        return Choice(weights=info("random:test_resnet"), reason="it was asked for", ranking=None)

    monkeypatch.setattr(ranking, "choose_weights", choose)
    more = {"weights": "auto", "method": "linear-probe", "max_parameters": 7.0, "prefer": "size", "seed": 3}
    planned = [runs.plan(tints, **more, budget=budget) for budget in ("60s", "10m", "none")]
    assert [each.download for each in asked] == [False, True, True]
    assert {(each.weights, each.max_parameters, each.prefer, each.seed) for each in asked} == {
        ("", 7.0, "size", 3)
    }
    for each in planned:
        assert each.plan.weights == "random:test_resnet"
        assert (each.plan.decided[0].what, each.plan.decided[0].why) == ("weights", "it was asked for")


def test_each_named_file_is_found_again_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.pth").touch()
    (tmp_path / "c.pth").touch()
    for named, wanted in (
        ("file:a,b.pth", f"file:{tmp_path}/a,b.pth"),
        ("bundled:x, file:c.pth", f"bundled:x,file:{tmp_path}/c.pth"),
        ("auto", "auto"),
    ):
        assert as_request("data", FitOptions(weights=named)).options.weights == wanted


# What is chosen, and what becomes of it


def test_the_choice_and_those_left_out_stand_in_the_plan(
    tints: Path, nets: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="headstart")
    planned = runs.plan(tints, method="linear-probe", **several(nets, "blind", "nothing", "sees"))
    first, second, *others = planned.plan.decided
    assert planned.plan.weights == first.value == nets["sees"]
    assert first.what == "weights"
    assert "with probability 100%" in first.why
    assert (second.what, second.value) == (f"weights {nets['nothing']}", "left out")
    assert "the same for all images" in second.why
    assert "weights" not in {each.what for each in others}
    assert f"weights left out: {nets['nothing']}" in caplog.text
    assert f"weights: {first.why}" in caplog.text


def test_a_limit_leaves_out(tints: Path, nets: dict[str, str]) -> None:
    with pytest.raises(BadOption, match="No weights are left"):
        runs.plan(tints, **several(nets, "sees", "blind"), max_parameters=1e-3)


def test_from_the_choice_to_the_report_and_back(
    tints: Path, nets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flow: fit by the command line, resume, and carry out its plan; only the first ranks."""
    out, asked = tmp_path / "run", several(nets, "blind", "sees")
    words = ["fit", str(tints), "--weights", asked["weights"], "--arch", "test_resnet", "--out", str(out)]
    assert call([*words, "--method", "linear-probe"]) == 0
    found = records.load(Ranking, out / "ranking.json")
    assert found.chosen == records.load(Plan, out / "plan.json").weights == nets["sees"]
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation["weights"] == nets["sees"]
    assert evaluation["seconds"]["rank"] > 0
    assert "with probability 100%" in (out / "report.html").read_text()

    monkeypatch.setattr(ranking, "choose_weights", no_ranking)
    (out / "report.md").unlink()  # as if it had been killed before its last step
    assert runs.resume(out).evaluation.weights == nets["sees"]
    assert records.load(Ranking, out / "ranking.json") == found

    again = runs.fit(tints, plan=str(out / "plan.json"), arch="test_resnet", out=str(tmp_path / "again"))
    assert again.evaluation.weights == nets["sees"]
    assert not (again.folder / "ranking.json").exists()
    kept = [each for each in records.load(Plan, again.folder / "plan.json").decided if each.what == "weights"]
    assert [each.why for each in kept] == [found.reason]


def test_limits_have_no_effect_beside_a_plan(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="--max-latency has no effect with --plan"):
        with_plan(FitOptions(plan=str(tmp_path / "plan.json"), limits=ranking.Limits(max_latency=20.0)))


def test_no_feature_is_computed_twice(
    tints: Path, nets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    stream = compute.stream

    def count(network: compute.Network, samples: Sequence[Sample], **more: Any) -> Iterator[Any]:
        if more.get("loader") is None:  # the images themselves, not changed views of them
            seen.update(each.name for each in samples)
        return stream(network, samples, **more)

    monkeypatch.setattr(compute, "stream", count)
    runs.fit(tints, method="linear-probe", out=str(tmp_path / "run"), **several(nets, "sees", "blind"))
    train = {each.name for each in data.load(str(tints), LoadOptions()).train}
    assert len(seen) == 80
    assert {seen[name] for name in train} == {2}, "once by each network"
    assert {number for name, number in seen.items() if name not in train} == {1}, "by the chosen one alone"


def test_the_learner_may_let_the_images_choose(nets: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(60, 160, (40, 32, 32, 1)).repeat(3, axis=3).astype(np.uint8)
    labels = np.arange(40) % 2
    images[labels == 0, ..., 0] += 60
    images[labels == 1, ..., 2] += 60
    asked = several(nets, "blind", "sees")
    learner = TransferLearner(weights=asked["weights"], params={"arch": "test_resnet"}).fit(images, labels)
    assert learner.bundle_.manifest.weights.name == nets["sees"]
    assert learner.score([Image.fromarray(each) for each in images], labels) > 0.9


# Pilots


def row(name: str, **changes: Any) -> Ranked:
    plain = Ranked(
        weights=name,
        parameters=10,
        licence="mit",
        commercial=True,
        pretraining="ImageNet-1k, supervised",
        objective="supervised",
        top1=0.8,
        latency=20.0,
        scores=Scores(probe=0.9, probe_error=0.01, log_me=0.1),
        expected=0.9,
        low=0.88,
        high=0.92,
        best=0.4,
        tied=True,
        why="",
    )
    return replace(plain, **changes)


def ranked(*rows: Ranked) -> Ranking:
    return Ranking(
        task="classify",
        images=100,
        of=100,
        rows=rows,
        skipped=(),
        offers=(),
        chosen=rows[0].weights,
        reason="The ranking's reason.",
        seconds=1.0,
    )


def flown(name: str, accuracy: float, *, tied: bool = True) -> Pilot:
    return Pilot(
        weights=name,
        accuracy=accuracy,
        error=0.01,
        images=200,
        trained=300,
        steps=60,
        seconds=5.0,
        tied=tied,
    )


def test_where_pilots_show_nothing_the_ranking_stands() -> None:
    found = ranked(row("a"), row("b"))
    chosen, why = settle(found, [flown("a", 0.90), flown("b", 0.91)], prefer="accuracy")
    assert chosen == "a"
    assert why == (
        "The ranking's reason. Short fine-tunings, judged on 200 training images held out (a 90.0% (85.1% to 93.4%), "
        "b 91.0% (86.2% to 94.2%)), do not contradict it."
    )


def test_who_is_shown_to_be_behind_is_out() -> None:
    found = ranked(row("a"), row("b"), row("c", latency=1.0))
    flights = [flown("a", 0.80, tied=False), flown("b", 0.91), flown("c", 0.90)]
    chosen, why = settle(found, flights, prefer="accuracy")
    assert chosen == "b"
    assert why.startswith("The features alone spoke for a, but short")
    assert why.endswith("show it to be behind: b it is.")
    assert settle(found, flights, prefer="speed")[0] == "c"
    found = ranked(row("a"), row("b"), row("c", parameters=1))
    assert settle(found, flights, prefer="size")[0] == "c"


def test_masked_images_are_judged_by_pilots() -> None:
    """What the ranking says of them is a guess: a tie goes to another, a win is theirs from any place."""
    masked = row("mae", objective="masked image")
    chosen, why = settle(ranked(masked, row("b")), [flown("mae", 0.92), flown("b", 0.91)], prefer="accuracy")
    assert chosen == "b"
    assert "of masked-image weights the ranking only guesses" in why
    won = [flown("b", 0.85, tied=False), flown("mae", 0.92)]
    assert settle(ranked(row("b"), masked), won, prefer="accuracy")[0] == "mae"


def test_finalists_are_the_chosen_one_and_the_next_that_are_tied_or_nearly_so() -> None:
    rows = [
        row("a"),
        row("b", tied=False, best=0.03),
        row("c", tied=False, best=0.0),
        row("d"),
        row("e", latency=1.0),
        row("f", objective="none"),
    ]
    assert [each.weights for each in finalists(ranked(*rows))] == ["a", "b", "d"]
    assert [each.weights for each in finalists(replace(ranked(*rows), chosen="e"))] == ["a", "b", "e"]
    assert [each.weights for each in finalists(ranked(row("a"), row("f", objective="none")))] == ["a"]


def test_no_pilot_where_nothing_is_tied(tints: Path) -> None:
    dataset = data.load(str(tints), LoadOptions())
    found = ranked(row("a", best=1.0), row("b", tied=False, best=0.0))
    facts = data.describe(dataset, "tints")
    told = with_pilots(found, dataset, facts, options=RankOptions(), seconds=1.0)
    assert (told.chosen, told.pilots) == ("a", ())
    assert told.reason.endswith("No pilots: there is nothing to tell apart.")


def test_who_judges_a_pilot_was_never_trained_on(tints: Path) -> None:
    dataset = data.load(str(tints), LoadOptions())
    grouped = replace(
        dataset,
        samples=tuple(replace(each, group=f"g{number // 3}") for number, each in enumerate(dataset.samples)),
    )
    parts = _parts(grouped, 0)
    train = {each.name for each in grouped.train}
    names = [each.name for part in (parts.train, parts.val, parts.held) for each in part]
    assert sorted(names) == sorted(train)
    others = {each.group for each in (*parts.train, *parts.val)}
    assert not others & {each.group for each in parts.held}
    assert {each.labels for each in parts.train} == {each.labels for each in parts.held}
    assert len(parts.held) > len(train) / 4
    assert dataset.test.opened == 0


@pytest.mark.parametrize(
    ("options", "flies"),
    [
        ({"budget": "10m"}, False),
        ({"budget": "20m"}, True),
        ({"budget": "none", "method": "full"}, True),
        ({"budget": "none", "method": "linear-probe"}, False),
    ],
)
def test_pilots_fly_where_time_is_ample_and_tuning_may_follow(
    options: dict[str, Any],
    flies: bool,
    tints: Path,
    nets: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float | None] = []

    def fly(found: Ranking, *_: Any, seconds: float | None, **__: Any) -> Ranking:
        asked.append(seconds)
        return replace(found, chosen=nets["twin"], reason="the pilot said so")

    monkeypatch.setattr("headstart.runs.pilot.with_pilots", fly)
    dataset = data.load(str(tints), LoadOptions())
    given = FitOptions(**options, **several(nets, "sees", "twin"))
    source = choose_source(dataset, data.describe(dataset, "tints"), given, None)
    assert asked == ([{"20m": 120.0, "none": 180.0}[options["budget"]]] if flies else [])
    assert (source.because == "the pilot said so") == flies
    assert not flies or source.backbone.info.name == nets["twin"]


@pytest.mark.slow
def test_pilots_of_tiny_networks(
    tmp_path: Path, nets: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """By the features, a blind and a seeing network are called tied here; tuning shows which one sees."""
    folder = make_tints(tmp_path / "many", each=100)
    dataset = data.load(str(folder), LoadOptions())
    rows = (row(nets["blind"]), row(nets["sees"]))
    options, facts = RankOptions(arch="test_resnet"), data.describe(dataset, "tints")
    found = with_pilots(ranked(*rows), dataset, facts, options=options, seconds=60.0)
    blind, sees = found.pilots
    assert sees.accuracy > 0.95
    assert blind.accuracy < sees.accuracy
    assert (blind.images, blind.trained) == (sees.images, sees.trained)
    assert (blind.tied, sees.tied) == (False, True)
    assert found.chosen == nets["sees"]
    assert found.seconds > 1.0 + blind.seconds + sees.seconds - 0.01
    assert dataset.test.opened == 0

    words = ["rank", str(folder), "--weights", f"{nets['sees']},{nets['twin']}", "--arch", "test_resnet"]
    assert call([*words, "--pilot", "5s", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [each["weights"] for each in told["pilots"]] == [each["weights"] for each in told["rows"]]
    assert all(each["tied"] for each in told["pilots"]), "the same network twice"
    assert call([*words, "--pilot", "soon"]) == 2
    assert "--pilot does not understand 'soon'" in capfd.readouterr().err


def test_a_pilot_that_fails_is_named(
    tints: Path, nets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BadPlan("The training loss is nan.", hint="")

    monkeypatch.setattr("headstart.runs.pilot._fly", fail)
    monkeypatch.setattr("headstart.runs.pilot._FEWEST", 10)
    dataset = data.load(str(tints), LoadOptions())
    facts = data.describe(dataset, "tints")
    found = with_pilots(ranked(row("a"), row("b")), dataset, facts, options=RankOptions(), seconds=None)
    assert (found.chosen, found.pilots) == ("a", ())
    assert "no pilot of b: The training loss is nan." in found.reason
