"""What happens behind the last rung: the average of tuned networks, and answers averaged over a mirror image."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart import compute, ladder
from headstart._core import records
from headstart._core.clock import Clock
from headstart.ladder import MIRROR, SOUP, Climb, Climbed, Kept, Outcome, climb
from headstart.methods import METHODS
from headstart.planning import Guide, Plan, Rung
from headstart.tasks import Mirrored
from headstart.training import Event, TrainingData
from headstart.training.soup import Soup, average
from headstart.weights import Backbone
from tests.test_methods import has
from tests.training.test_gradient import backbone, data, rung, same

__all__ = ["backbone", "data"]  # fixtures


def plan_of(*methods: str, prefer: str = "accuracy", **params: Any) -> Plan:
    rungs = []
    for name in methods:
        made = rung(name, epochs=1, **params)
        own = {key: value for key, value in made.params.items() if has(name, key)}
        rungs.append(Rung(method=name, params=asdict(METHODS[name].params(**own)), why="a test"))
    return Plan(
        task="classify",
        weights="",
        seed=3,
        budget_seconds=None,
        decided=(),
        rungs=tuple(rungs),
        guide=Guide(size="small", similarity="close", prior=""),
        prefer=prefer,
    )


@pytest.fixture
def task(backbone: Backbone, data: TrainingData, tmp_path: Path) -> Climb:
    return Climb(plan_of(), backbone, data, clock=Clock(), folder=tmp_path / "checkpoint", every=1e9)


def run(task: Climb) -> tuple[list[Event | Kept], tuple[Climbed, ...]]:
    seen: list[Event | Kept] = []
    steps = climb(task)
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def told(seen: list[Event | Kept], rung: str) -> list[Event]:
    events = [each for each in seen if isinstance(each, Event)]
    return [each for each in events if each.rung == rung and each.event != "ladder_end"]


def right(data: TrainingData) -> np.ndarray[Any, Any]:
    """Perfect answers to the validation images."""
    targets = np.asarray(data.task.targets(data.val, len(data.classes)), np.int64)
    return np.eye(len(data.classes))[targets] * 4.0


@pytest.fixture
def tasty(monkeypatch: pytest.MonkeyPatch, data: TrainingData) -> None:
    """An average of all that validation likes: what greedy would find on better data."""

    def all_of(states: list[dict[str, torch.Tensor]], *_: Any, **__: Any) -> Soup:
        return Soup(tuple(range(len(states))), average(states), right(data), tried=len(states) - 1)

    monkeypatch.setattr(ladder, "greedy", all_of)
    monkeypatch.setattr(ladder, "_mirror", _no_mirror)
    monkeypatch.setattr(ladder, "chance_of_gain", lambda *_, **__: 1.0)  # the probe leaves nothing to gain


def _no_mirror(*_: Any, **__: Any) -> Any:
    yield from ()
    return None


# The soup


@pytest.mark.usefixtures("tasty")
def test_the_average_of_two_tuned_networks(task: Climb) -> None:
    seen, climbed = run(replace(task, plan=plan_of("linear-probe", "partial", "full")))
    best = climbed[0]
    assert best.outcome.method == SOUP
    assert best.outcome.facts["members"] == ["linear-probe", "partial", "full"]
    members = {each.outcome.method: each for each in climbed[1:]}
    assert list(members) == ["linear-probe", "partial", "full"]
    state = best.model.state_dict()
    for name, value in state.items():
        parts = [each.model.state_dict()[name] for each in members.values()]
        expected = torch.stack([part.double() for part in parts]).mean(0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
        if torch.equal(parts[0], parts[1]) and torch.equal(parts[1], parts[2]):
            assert torch.equal(value, parts[0]), name
    start, end = told(seen, SOUP)
    assert (start.event, end.event, end.kept) == ("rung_start", "rung_end", True)
    assert "linear-probe, partial, full" in start.reason
    assert "the average of linear-probe, partial, full: accuracy 100.0%" in end.reason
    assert "asked of each of 4 rungs" not in end.reason
    assert isinstance(seen[-2], Kept)
    assert seen[-2].climbed is best


@pytest.mark.usefixtures("tasty")
def test_its_ledger_says_what_moved(task: Climb) -> None:
    """What partial and the probe froze moves with full; of the probe and partial together the first stages stay."""
    _, climbed = run(replace(task, plan=plan_of("linear-probe", "partial", "full")))
    ledger = climbed[0].outcome.ledger
    assert ledger.method == SOUP
    assert all(line.trains and line.hash_before != line.hash_after for line in ledger.groups)
    assert all(line.lr is None and line.weight_decay is None for line in ledger.groups)
    other = replace(
        task, plan=plan_of("partial", "surgical", stage="stage4"), folder=task.folder.parent / "b"
    )
    _, climbed = run(other)
    assert climbed[0].outcome.method == SOUP
    frozen = [line for line in climbed[0].outcome.ledger.groups if not line.trains]
    assert frozen
    assert all(line.verified and line.hash_before == line.hash_after for line in frozen)
    assert climbed[0].outcome.ledger.frozen_identical


@pytest.mark.usefixtures("tasty")
def test_a_resumed_climb_reads_it_back(task: Climb, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(task, plan=plan_of("partial", "full"))
    seen, first = run(asked)
    monkeypatch.setattr(ladder, "greedy", None)  # a call would fail
    again, second = run(asked)
    assert second[0].outcome == first[0].outcome
    assert second[0].outcome == records.load(Outcome, task.folder / SOUP / "outcome.json")
    assert same(first[0].model, second[0].model)
    np.testing.assert_array_equal(first[0].val_logits, second[0].val_logits)
    assert told(again, SOUP) == told(seen, SOUP), "told again: the history was cleared of it"


def test_more_tries_must_be_surer(task: Climb, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rungs, one of them a challenger, and one average that was tasted: two tries."""
    asked: list[int] = []
    judge = ladder.judge

    def spy(*args: Any, candidates: int = 1) -> tuple[bool, str]:
        asked.append(candidates)
        return judge(*args, candidates=candidates)

    def all_of(states: list[dict[str, torch.Tensor]], *_: Any, **__: Any) -> Soup:
        return Soup((0, 1), average(states), right(data), tried=1)

    monkeypatch.setattr(ladder, "judge", spy)
    monkeypatch.setattr(ladder, "greedy", all_of)
    run(replace(task, plan=plan_of("partial", "full")))
    assert asked == [1, 1, 2, 3]  # both rungs, the average, the mirror


@pytest.mark.parametrize(
    "methods", [("linear-probe", "full"), ("depth-probe", "full"), ("full", "scratch"), ("full",)]
)
def test_one_tuned_network_is_no_soup(methods: tuple[str, ...], task: Climb) -> None:
    """A single one, or one beside another start: nothing is told and nothing is left behind."""
    given = {"batchnorm": "re-estimated"} if "scratch" in methods else {}
    seen, _ = run(replace(task, plan=plan_of(*methods, **given)))
    assert told(seen, SOUP) == []
    assert not (task.folder / SOUP).exists()


def test_a_true_soup_is_tasted_on_validation_images(task: Climb) -> None:
    """Nothing replaced: what is saved gives the answers that it was judged by."""
    _, climbed = run(replace(task, plan=plan_of("partial", "full", learning_rate=5e-3)))
    outcome = records.load(Outcome, task.folder / SOUP / "outcome.json")
    plain = json.loads((task.folder / SOUP / "outcome.json").read_text(encoding="utf-8"))
    assert plain["facts"]["tried"] == 1
    found = [each for each in climbed if each.outcome == outcome]
    if len(plain["facts"]["members"]) == 1:
        assert not outcome.kept
        assert "no average has a lower loss" in outcome.reason
        assert found == [], "a rung under another name is no rival"
        return
    said = compute.forward(found[0].model, task.data.val, task.data.preprocess, label="testing")
    np.testing.assert_allclose(said, found[0].val_logits, atol=1e-4)


# The mirror


def liked(monkeypatch: pytest.MonkeyPatch, data: TrainingData) -> None:
    """Mirror images that are always answered rightly, and surely."""
    monkeypatch.setattr(ladder, "_turned", lambda *_: right(data) * 1e3)
    monkeypatch.setattr(ladder, "chance_of_gain", lambda *_, **__: 1.0)


@pytest.mark.parametrize("method", ["linear-probe", "full", "depth-probe"])
def test_a_mirror_that_helps_is_kept(method: str, task: Climb, monkeypatch: pytest.MonkeyPatch) -> None:
    liked(monkeypatch, task.data)
    seen, climbed = run(replace(task, plan=plan_of(method)))
    (best,) = climbed
    assert isinstance(best.model, Mirrored)
    assert best.outcome.method == method
    assert best.outcome.facts["mirrored"] is True
    assert best.outcome.metrics == {"accuracy": 1.0}
    (end,) = told(seen, MIRROR)
    assert (end.event, end.kept) == ("rung_end", True)
    assert "in twice the time" in end.reason
    assert isinstance(seen[-2], Kept)
    assert seen[-2].climbed is best


@pytest.mark.parametrize("method", ["linear-probe", "full", "depth-probe"])
@pytest.mark.parametrize("refit", [True, False])
def test_answers_are_those_of_a_network_that_has_not_seen_the_images(
    method: str, refit: bool, task: Climb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over both by plain torch; where the final head has seen the validation images, by the one before."""
    monkeypatch.setattr(ladder, "chance_of_gain", lambda *_, **__: 1.0)
    task = replace(task, plan=plan_of(method), data=replace(task.data, refit=refit))
    _, (best,) = run(task)
    assert isinstance(best.model, Mirrored)
    before = torch.load(task.folder / method / "model.pt", weights_only=True)
    inner = best.model.inner
    if before["head"] is not None:
        assert refit
        assert not torch.allclose(inner.head.weight, before["head"][0].float(), atol=1e-6)
        with torch.no_grad():
            inner.head.weight.copy_(before["head"][0])
            inner.head.bias.copy_(before["head"][1])
    pixels = np.stack([np.asarray(sample.source) for sample in task.data.val])
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (task.data.preprocess.mean, task.data.preprocess.std)
    )
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        both = torch.stack([inner(images), inner(torch.from_numpy(images.numpy()[..., ::-1].copy()))])
    np.testing.assert_allclose(both.mean(0).numpy(), best.val_logits, atol=2e-3)


@pytest.mark.parametrize(
    ("prefer", "flip", "tried"), [("accuracy", True, True), ("speed", True, False), ("size", False, False)]
)
def test_where_it_is_not_even_tried(
    prefer: str, flip: bool, tried: bool, task: Climb, monkeypatch: pytest.MonkeyPatch
) -> None:
    liked(monkeypatch, task.data)
    seen, climbed = run(replace(task, plan=plan_of("linear-probe", prefer=prefer, flip=flip)))
    assert isinstance(climbed[0].model, Mirrored) is tried
    assert bool(told(seen, MIRROR)) is tried


def test_a_tie_keeps_the_single_answer(task: Climb, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirror says what the image says: no gain, so not twice the time."""
    monkeypatch.setattr(ladder, "_turned", lambda climbed, _: climbed.val_logits)
    seen, climbed = run(replace(task, plan=plan_of("linear-probe")))
    assert not isinstance(climbed[0].model, Mirrored)
    (note,) = told(seen, MIRROR)
    assert note.event == "note"
    assert "linear-probe stays" in note.reason
