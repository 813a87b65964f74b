"""Ranking: the judge by hand-worked cases, the sample, who takes part, and tiny networks of which one is right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import norm
from torch import nn

import headstart.ranking as ranking
import headstart.weights as weights
from headstart import data, scores
from headstart._core import records
from headstart._core.clock import Clock
from headstart._core.errors import BadOption, BadWeights
from headstart.compute import Stopped
from headstart.data.records import Dataset, LoadOptions, Sample, SealedSplit
from headstart.ranking import RankOptions
from headstart.ranking.candidates import candidates
from headstart.ranking.judge import judge, masked_gap
from headstart.ranking.measure import latency, measure, sample
from headstart.weights import WeightsInfo
from tests.cli.bad_input import call
from tests.tiny import make_nets, make_tints

PLAIN = replace(weights.info("random:test_resnet"), objective="supervised")
RNG = np.random.default_rng(5)


def known(top1: float | None) -> WeightsInfo:
    return replace(PLAIN, top1=top1, top1_by="classifier" if top1 else "")


def flips(n: int, *rates: float) -> np.ndarray:
    """(n, K) correctness with exactly these rates, in an order of its own for each."""
    out = np.zeros((n, len(rates)))
    for column, rate in enumerate(rates):
        out[RNG.permutation(n)[: round(rate * n)], column] = 1
    return out


# The judge


def test_a_clear_winner_is_called_one() -> None:
    found = judge(flips(400, 0.5, 0.9, 0.7), [known(None)] * 3)
    assert found.best.argmax() == 1
    assert found.best[1] > 0.999
    assert found.tied.tolist() == [False, True, False]
    assert found.expected == pytest.approx([0.5, 0.9, 0.7], abs=0.01)
    assert found.trust.tolist() == [1, 1, 1]


def test_the_same_network_twice_is_a_tie() -> None:
    one = flips(200, 0.8)
    found = judge(np.hstack([one, one]), [known(None)] * 2)
    assert found.best.tolist() == [0.5, 0.5]
    assert found.tied.all()


def test_without_a_prior_it_is_the_bootstrap() -> None:
    correct = flips(150, 0.82, 0.86, 0.6)
    found = judge(correct, [known(None)] * 3)
    assert found.best == pytest.approx(scores.bootstrap_best(correct), abs=1e-9)
    assert found.tied.tolist() == scores.tied(correct).tolist()


def test_intervals_of_the_accuracy_are_those_of_a_share() -> None:
    """Of 500 images 80 %: the standard error is sqrt(0.8 * 0.2 / 500)."""
    found = judge(flips(500, 0.8), [known(None)])
    reach = norm.ppf(0.95) * np.sqrt(0.8 * 0.2 / 500)
    assert found.low[0] == pytest.approx(0.8 - reach, abs=0.004)
    assert found.high[0] == pytest.approx(0.8 + reach, abs=0.004)
    assert found.best.tolist() == [1.0]


def test_a_prior_breaks_a_tie_and_yields_to_many_images() -> None:
    rows = [known(0.70), known(0.80)]
    few, many = flips(40, 0.8), flips(4000, 0.8)
    some = judge(np.hstack([few, flips(40, 0.8)]), rows)
    assert some.expected[1] > some.expected[0] + 0.02
    assert some.best[1] > 0.6
    assert some.trust[0] < 0.8
    none = judge(np.hstack([many, flips(4000, 0.8)]), rows)
    assert abs(none.expected[1] - none.expected[0]) < 0.002
    assert none.trust[0] > 0.99


def test_the_prior_is_weighed_by_hand() -> None:
    """Two candidates, independent images, N = 300: the posterior of log-odds by precisions, on their difference."""
    n, shares, top1 = 300, np.array([0.75, 0.80]), np.array([0.85, 0.70])
    correct = np.zeros((n, 2))
    both = round(n * shares[0] * shares[1])  # as often right together as by chance: no correlation
    correct[: round(n * shares[0]), 0] = 1
    correct[:both, 1] = 1
    correct[-(round(n * shares[1]) - both) :, 1] = 1
    found = judge(correct, [known(float(top1[0])), known(float(top1[1]))])
    odds = np.log(shares / (1 - shares))
    # the variance of a log-odds is 1 / (n p (1 - p)); half of the difference has a quarter of the variance of both
    doubt = (1 / (n * shares * (1 - shares))).sum() / 4
    trust = 0.25 / (0.25 + doubt)
    prior = np.log(top1 / (1 - top1))
    wanted = trust * odds + (1 - trust) * (prior + (odds - prior).mean())
    assert found.trust == pytest.approx([trust, trust], abs=0.01)
    assert found.expected == pytest.approx(1 / (1 + np.exp(-wanted)), abs=0.005)


def test_the_prior_of_a_zero_shot_number_is_weaker() -> None:
    correct = np.hstack([flips(60, 0.8), flips(60, 0.7)])
    firm = judge(correct, [known(0.7), known(0.8)])
    loose = judge(correct, [known(0.7), replace(known(0.8), top1_by="zero-shot")])
    assert loose.trust[1] > firm.trust[1]


def test_masked_image_weights_are_not_judged_by_the_probe_alone() -> None:
    """MAE ViT-B: 67.8 % by a linear probe, 83.664 % fine-tuned: log-odds of 0.745 and 1.633."""
    mae = weights.info("timm:vit_base_patch16_224.mae")
    assert masked_gap(mae) == pytest.approx(1.633 - 0.745, abs=0.001)
    assert masked_gap(replace(mae, tuned=None)) == pytest.approx(masked_gap(mae), abs=0.01)
    assert masked_gap(known(0.8)) == 0
    correct = np.hstack([flips(1000, 0.70), flips(1000, 0.76)])
    alone = judge(correct, [known(None), known(None)])
    found = judge(correct, [replace(known(None), objective="masked image"), known(None)])
    assert alone.best[0] < 0.05
    assert not alone.tied[0]
    assert 0.3 < found.best[0] < 0.9, "fine-tuned it may well be the better one"
    assert found.tied.all()
    assert 0.70 < found.expected[0] < 1 / (1 + np.exp(-(np.log(0.7 / 0.3) + 0.89)))


def test_perfect_and_hopeless_candidates_have_finite_odds() -> None:
    found = judge(np.array([[1.0, 0.0]] * 30), [known(0.8), known(0.9)])
    assert np.isfinite(found.expected).all()
    assert found.expected[0] > 0.9 > 0.3 > found.expected[1]


# The sample


def fruit(counts: dict[str, int], *, split: str = "train", groups: bool = False) -> Dataset:
    """Samples without pixels: label k of so many, each with a digest of its own."""
    out = [
        Sample(
            name=f"{name}-{number}",
            source=Path(f"{name}-{number}.png"),
            labels=(label,),
            split=split,
            digest=f"{name}-{number}",
            group=f"{name}-{number // 4}" if groups else "",
        )
        for label, (name, count) in enumerate(counts.items())
        for number in range(count)
    ]
    return Dataset(
        root=".", task="classify", classes=tuple(counts), samples=tuple(out), test=SealedSplit(tuple(out[:3]))
    )


def test_a_sample_keeps_the_classes_shares() -> None:
    drawn = sample(fruit({"apple": 600, "pear": 300, "fig": 100}), count=100, seed=0)
    assert np.bincount(drawn.targets) == pytest.approx([60, 30, 10], abs=1)
    assert len({each.name for each in drawn.samples}) == len(drawn.samples) == 100
    again = sample(fruit({"apple": 600, "pear": 300, "fig": 100}), count=100, seed=0)
    assert [each.name for each in again.samples] == [each.name for each in drawn.samples]
    other = sample(fruit({"apple": 600, "pear": 300, "fig": 100}), count=100, seed=1)
    assert other.samples != drawn.samples


def test_few_images_are_all_taken_and_validation_is_left_alone() -> None:
    whole = fruit({"apple": 12, "pear": 9})
    moved = tuple(replace(each, split="val") if n % 3 == 0 else each for n, each in enumerate(whole.samples))
    mixed = replace(whole, samples=moved)
    drawn = sample(mixed, count=1000, seed=0)
    assert drawn.samples == mixed.train
    assert mixed.test.opened == 0


def test_of_very_many_classes_some_are_left_out_so_that_the_others_have_ten_images() -> None:
    drawn = sample(fruit({f"kind{number}": 20 for number in range(200)}), count=100, seed=0)
    counts = np.bincount(drawn.targets)
    assert len(counts[counts > 0]) == 10
    assert set(counts[counts > 0]) <= {9, 10, 11}


def test_groups_are_held_out_whole() -> None:
    drawn = sample(fruit({"apple": 40, "pear": 40}, groups=True), count=1000, seed=0)
    assert len(drawn.divisions) == 3
    for division in drawn.divisions:
        folds: dict[str, set[int]] = {}
        for each, fold in zip(drawn.samples, division, strict=True):
            folds.setdefault(each.group, set()).add(int(fold))
        assert all(len(places) == 1 for places in folds.values())
        assert len(set(division.tolist())) == 5


def test_many_images_are_divided_once_and_few_in_several_ways() -> None:
    assert len(sample(fruit({"apple": 700, "pear": 400}), count=1000, seed=0).divisions) == 1
    first, second, third = sample(fruit({"apple": 70, "pear": 40}), count=1000, seed=0).divisions
    assert (first != second).any()
    assert (second != third).any()


# Who takes part


def names(options: RankOptions) -> list[str]:
    return [row.name for row in candidates(options).candidates]


BUNDLED = [f"bundled:efficientnet_lite{number}" for number in range(3)]


def test_by_default_what_is_here_takes_part_and_better_ones_are_offered() -> None:
    field = candidates(RankOptions())
    assert [row.name for row in field.candidates] == BUNDLED
    offered = {offer.weights: offer for offer in field.offers}
    assert "timm:convnext_tiny.in12k_ft_in1k" in offered
    assert "84.5% on ImageNet (classifier) against 77.6%" in offered["timm:convnext_tiny.in12k_ft_in1k"].why
    assert not {"timm:resnet18.a1_in1k", *BUNDLED} & set(offered), "worse than what is here"
    assert "timm:vit_base_patch16_224.mae" not in offered, "not for commerce"
    assert "made for satellite" in offered["timm:vit_large_patch16_dinov3.sat493m"].why


def test_offers_keep_to_the_limits() -> None:
    for options in (RankOptions(max_parameters=25), RankOptions(commercial=True, max_parameters=90)):
        for offer in candidates(options).offers:
            row = weights.info(offer.weights)
            assert row.parameters <= options.max_parameters * 1e6
            assert row.commercial is not False
            assert row.commercial or not options.commercial


def test_without_a_hub_nothing_is_fetched_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    field = candidates(RankOptions(download=True))
    assert [row.name for row in field.candidates] == BUNDLED
    assert {each.weights for each in field.skipped} >= {"timm:convnext_tiny.in12k_ft_in1k"}
    assert all("cannot be reached" in each.why for each in field.skipped)
    assert "timm:convnext_tiny.in12k_ft_in1k" in {offer.weights for offer in field.offers}


def test_with_a_hub_a_handful_of_different_kinds_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.ranking.candidates.hub_reachable", lambda: True)
    field = candidates(RankOptions(download=True, max_parameters=90))
    fetched = [row for row in field.candidates if row.name not in BUNDLED]
    assert len(fetched) == 3
    assert {row.objective for row in fetched} == {"supervised", "self-supervised", "contrastive text-image"}
    assert not {row.name for row in fetched} & {offer.weights for offer in field.offers}


def test_limits_leave_out_with_a_reason() -> None:
    asked = "bundled:efficientnet_lite0,timm:vit_base_patch16_224.mae, timm:vit_base_patch14_dinov2.lvd142m"
    field = candidates(RankOptions(weights=asked, max_parameters=50))
    assert [row.name for row in field.candidates] == ["bundled:efficientnet_lite0"]
    why = {each.weights: each.why for each in field.skipped}
    assert "cc-by-nc-4.0) forbids commercial use" in why["timm:vit_base_patch16_224.mae"]
    assert "86.6 million parameters, more than the 50 million" in why["timm:vit_base_patch14_dinov2.lvd142m"]
    allowed = RankOptions(weights="timm:vit_base_patch16_224.mae", non_commercial=True)
    assert names(allowed) == ["timm:vit_base_patch16_224.mae"]


def test_an_unknown_licence_is_no_leave(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(weights.blank("test_resnet").module.state_dict(), path)
    asked = RankOptions(weights=f"file:{path}", arch="test_resnet")
    assert names(asked) == [f"file:{path}"]
    (left,) = candidates(replace(asked, commercial=True)).skipped
    assert "not known to allow" in left.why


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": "bundled:efficientnet_lite0,bundled:efficientnet_lite0"}, BadOption, "twice"),
        ({"weights": "efficientnet_lite0"}, BadOption, "Did you mean 'bundled:efficientnet_lite0'?"),
        ({"weights": "timm:resnet5o"}, BadWeights, "Did you mean 'resnet50"),
        ({"weights": "bundled:efficientnet_lite0", "arch": "resnet50"}, BadOption, "has no effect"),
        ({"arch": "resnet50"}, BadOption, "no effect without --weights"),
    ],
)
def test_what_cannot_be_meant(options: dict[str, str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("?", r"\?")):
        candidates(RankOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prefer": "luck"}, "--prefer is 'luck'"),
        ({"max_latency": -1.0}, "--max-latency is -1"),
        ({"max_parameters": float("nan")}, "--max-parameters is nan"),
        ({"images": 3}, "--images is 3"),
        ({"commercial": True, "non_commercial": True}, "exclude each other"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        RankOptions(**options)  # type: ignore[arg-type]


# Tiny networks: red tints against blue ones, told apart by colour alone


@pytest.fixture(scope="module")
def tints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tints(tmp_path_factory.mktemp("tints"))


@pytest.fixture(scope="module")
def dataset(tints: Path) -> Dataset:
    return data.load(str(tints), LoadOptions())


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_nets(tmp_path_factory.mktemp("nets"))


def asking(nets: dict[str, str], *which: str, **more: object) -> RankOptions:
    return RankOptions(weights=",".join(nets[name] for name in which), arch="test_resnet", **more)  # type: ignore[arg-type]


def test_the_network_that_is_right_is_found(dataset: Dataset, nets: dict[str, str]) -> None:
    found = ranking.rank(dataset, asking(nets, "blind", "nothing", "sees"))
    first, second = found.rows
    assert (first.weights, second.weights) == (nets["sees"], nets["blind"])
    assert first.best > 0.999
    assert first.scores.probe > 0.95
    assert second.scores.probe < 0.8
    assert not second.tied
    assert found.chosen == nets["sees"]
    assert "shown to be better than every other" in found.reason
    assert sum(row.best for row in found.rows) == pytest.approx(1)
    (left,) = found.skipped
    assert (left.weights, "the same for all images" in left.why) == (nets["nothing"], True)
    assert (found.images, found.of, found.task) == (len(dataset.train), len(dataset.train), "classify")
    assert "first by k-NN, LogME" in first.why
    assert dataset.test.opened == 0


def test_twins_are_a_tie_that_the_preference_settles(dataset: Dataset, nets: dict[str, str]) -> None:
    found = ranking.rank(dataset, asking(nets, "sees", "twin"))
    assert [row.tied for row in found.rows] == [True, True]
    assert [row.best for row in found.rows] == [0.5, 0.5]
    assert "A tie with" in found.reason
    assert "cannot tell them apart" in found.reason
    quick = ranking.rank(dataset, asking(nets, "sees", "twin", prefer="speed"))
    assert quick.chosen == min(quick.rows, key=lambda row: row.latency).weights
    assert "quickest of them" in quick.reason


def test_named_weights_that_cannot_be_had_are_left_out(
    dataset: Dataset, nets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    asked = replace(asking(nets, "sees"), weights=f"timm:test_resnet,{nets['sees']}")
    found = ranking.rank(dataset, asked)
    assert [row.weights for row in found.rows] == [nets["sees"]]
    assert found.skipped[0].why == "not on this machine, and the hub cannot be reached"


def test_a_ranking_is_json_and_back(dataset: Dataset, nets: dict[str, str], tmp_path: Path) -> None:
    found = ranking.rank(dataset, asking(nets, "sees"))
    records.save(tmp_path / "ranking.json", found)
    assert records.load(ranking.Ranking, tmp_path / "ranking.json") == found


def test_latency_is_a_limit(dataset: Dataset, nets: dict[str, str]) -> None:
    with pytest.raises(BadOption, match=r"No weights are left to rank: .*more than the 0\.001 ms allowed"):
        ranking.rank(dataset, asking(nets, "sees", max_latency=0.001))


def test_latency_is_measured_in_milliseconds() -> None:
    """A network that sleeps for 20 ms takes 20 ms and something."""
    import time

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return images.mean((2, 3)) + self.weight

    backbone = replace(weights.blank("test_resnet"), module=Slow().eval(), width=3)
    assert 20 <= latency(backbone) < 200


def test_scores_are_those_of_the_scores_themselves(dataset: Dataset) -> None:
    backbone = weights.blank("test_resnet")
    head = nn.Linear(backbone.width, 7)
    backbone = replace(backbone, classifier=head, info=replace(backbone.info, objective="supervised"))
    images = sample(dataset, count=1000, seed=0)
    found, correct = measure(backbone, images)
    with torch.no_grad():
        from headstart.features import FeatureStore

        rows = FeatureStore(backbone).get(images.samples)
        answers = torch.softmax(head.double()(torch.from_numpy(rows).double()), 1).numpy()
    assert found.leep == pytest.approx(scores.leep(answers, images.targets), abs=1e-6)
    assert found.knn == scores.knn_accuracy(rows, images.targets)
    assert found.log_me == scores.log_me(rows, images.targets)
    assert found.h_score == scores.regularised_h_score(rows, images.targets)
    paths = [scores.ridge_path(rows, images.targets, folds=each) for each in images.divisions]
    assert found.probe == pytest.approx(np.mean([path.accuracy for path in paths]))
    assert correct == pytest.approx(np.mean([path.correct for path in paths], axis=0))
    assert found.probe_error == pytest.approx(np.std(correct, ddof=1) / np.sqrt(len(correct)))
    intervals = found.intervals
    assert set(intervals) == {"probe", "knn", "log_me", "leep", "h_score"}
    assert all(low - 1e-9 <= getattr(found, name) <= high + 1e-9 for name, (low, high) in intervals.items())
    sure = scores.log_me_estimate(rows, images.targets)
    assert intervals["log_me"] == pytest.approx(
        (sure.value - 1.96 * sure.error, sure.value + 1.96 * sure.error)
    )
    textual = replace(backbone, info=replace(backbone.info, objective="contrastive text-image"))
    assert measure(textual, images)[0].leep is None, "a projection into text space names no classes"


def test_several_labels_an_image(dataset: Dataset, nets: dict[str, str]) -> None:
    several = replace(
        dataset,
        task="multilabel",
        samples=tuple(
            replace(each, labels=(*each.labels, 2) if number % 2 else each.labels)
            for number, each in enumerate(dataset.samples)
        ),
        classes=(*dataset.classes, "odd"),
    )
    (row,) = ranking.rank(several, asking(nets, "sees")).rows
    assert (row.scores.knn, row.scores.leep, row.scores.h_score) == (None, None, None)
    assert set(row.scores.intervals) == {"probe", "log_me"}
    assert 0.5 < row.scores.probe < 1


def test_a_stop_ranks_what_was_measured(dataset: Dataset, nets: dict[str, str]) -> None:
    clock = Clock()
    clock.stop("Ctrl-C")
    with pytest.raises(Stopped):
        ranking.rank(dataset, asking(nets, "sees", "blind"), clock=clock)
    found = ranking.rank(dataset, asking(nets, "sees", "blind"), clock=Clock(1e-9))
    assert found.reason.startswith(f"The only one that was measured is {nets['sees']}: ")
    assert "probability" not in found.reason
    assert [row.weights for row in found.rows] == [nets["sees"]]
    assert "time was up" in found.skipped[0].why


def test_weights_are_chosen_with_a_reason(dataset: Dataset, nets: dict[str, str]) -> None:
    found = ranking.choose_weights(dataset, asking(nets, "blind", "sees"))
    assert found.weights.name == nets["sees"]
    assert found.ranking is not None
    assert found.reason == found.ranking.reason
    alone = ranking.choose_weights(dataset, asking(nets, "nothing"))
    assert (alone.weights.name, alone.ranking) == (nets["nothing"], None), (
        "a single candidate is not measured"
    )
    with pytest.raises(BadOption, match="No weights are left"):
        ranking.choose_weights(dataset, asking(nets, "nothing", "sees", max_parameters=1e-3))


def test_the_command_prints_one_json_object_or_tables(
    tints: Path,
    nets: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no cell is folded
    words = ["rank", str(tints), "--weights", f"{nets['sees']},{nets['blind']}", "--arch", "test_resnet"]
    assert call([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"] == nets["sees"]
    assert [row["weights"] for row in found["rows"]] == [nets["sees"], nets["blind"]]
    assert call(words) == 0
    shown = capsys.readouterr().out
    assert f"--weights {nets['sees']}" in shown
    assert "LogME" in shown
    low, high = found["rows"][0]["scores"]["intervals"]["h_score"]
    assert low < found["rows"][0]["scores"]["h_score"] < high
    assert f"({low:.3f} to {high:.3f})" in shown.split("scores without a unit")[1]
    assert "would allow" in shown
    assert call(["rank", str(tints), "--prefer", "luck"]) == 2
