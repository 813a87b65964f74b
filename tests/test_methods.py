"""Contracts over the table of methods, as docs/add/method.md promises them."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart import training
from headstart._core.clock import Clock
from headstart._core.errors import BadOption
from headstart._core.files import sha256_bytes
from headstart._core.records import field_help
from headstart.adaptation import Adapted, adapt, settle, tensor_hash
from headstart.data.records import DatasetFacts, Sample, SplitFacts
from headstart.features import FeatureStore
from headstart.methods import METHODS, Decline, Suggestion
from headstart.methods.full import BATCHNORM, FullParams
from headstart.planning import Rung
from headstart.tasks import TASKS
from headstart.training import FitResult, Pace, TrainingData
from headstart.weights import Backbone, blank

ARCHS = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext")
CLASSES = 3


def has(name: str, field: str) -> bool:
    return field in {each.name for each in fields(METHODS[name].params)}


def variants(name: str) -> list[dict[str, Any]]:
    """Parameters under which a method treats the network differently."""
    if not has(name, "batchnorm"):
        return [{}]
    return [{"batchnorm": norm, "batch_size": 16} for norm in BATCHNORM if accepts(name, batchnorm=norm)]


def accepts(name: str, **values: Any) -> bool:
    """Whether the method does not decline them: random weights have no statistics to keep frozen."""
    return isinstance(METHODS[name].suggest(facts(), None, blank("test_resnet"), values), Suggestion)


@pytest.fixture(scope="module", params=ARCHS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return blank(request.param)


def facts(n: int = 200, smallest: int | None = None) -> DatasetFacts:
    per_class = {"a": n // 3, "b": n // 3, "c": n // 3 if smallest is None else smallest}
    return DatasetFacts(
        source="here",
        task="classify",
        digest="0",
        classes=("a", "b", "c"),
        splits={split: SplitFacts(n=n, per_class=per_class, made=True) for split in ("train", "val", "test")},
        size_quantiles=(1, 1, 1, 1, 1),
        aspect_quantiles=(1, 1, 1, 1, 1),
        formats={},
        modes={},
        imbalance=1,
        unreadable=(),
        duplicates=(),
        examples={},
        notes=(),
    )


OF_CLASSES = [name for name, row in METHODS.items() if "classify" in row.tasks]
CASES = [(name, given) for name in OF_CLASSES for given in variants(name)]
NAMES = [f"{name} {given.get('batchnorm', '')}".strip() for name, given in CASES]
cases = pytest.mark.parametrize(("name", "given"), CASES, ids=NAMES)
tables = pytest.mark.parametrize("name", OF_CLASSES)


def rung(name: str, backbone: Backbone, given: dict[str, Any]) -> Rung:
    answer = METHODS[name].suggest(facts(), None, backbone, given)
    assert isinstance(answer, Suggestion)
    return Rung(method=name, params=asdict(answer.params), why="a test")


def adapted(name: str, backbone: Backbone, given: dict[str, Any]) -> Adapted:
    return adapt(rung(name, backbone, given), backbone, classes=CLASSES, seed=0)


def steps(made: Adapted, count: int = 3) -> list[float]:
    """Losses of plain gradient steps on one small batch: what any solver does to a network, at its boldest."""
    model = made.model
    tensors = [model.get_parameter(p) for g in made.applied.groups if g.trains for p in g.parameters]
    optimizer = torch.optim.SGD(tensors, lr=0.001)
    size = 160 if hasattr(model.body, "patch_embed") else 64  # a ViT insists on its own size
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2))
    truth, losses = torch.tensor([0, 1, 2, 0]), []
    model.train()
    for _ in range(count):
        loss = nn.functional.cross_entropy(model(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# The row


@tables
def test_the_row_is_whole(name: str) -> None:
    row = METHODS[name]
    assert row.name == name
    assert row.summary
    assert row.solver in ("features", "gradient")
    described = field_help(row.params)
    assert set(described) == {field.name for field in fields(row.params)}
    assert all(described.values())
    row.check(row.params())


@tables
def test_parameters_are_plain_and_frozen(name: str) -> None:
    params = METHODS[name].params()
    for field in fields(params):
        assert isinstance(getattr(params, field.name), str | int | float | bool)
    with pytest.raises(AttributeError):
        setattr(params, fields(params)[0].name, 1)


BAD: list[tuple[str, str, Any]] = [
    ("linear-probe", "folds", 1),
    ("linear-probe", "folds", 21),
    ("full", "epochs", 0),
    ("full", "batch_size", 1),
    ("full", "optimizer", "adam"),
    ("full", "learning_rate", 0.0),
    ("full", "learning_rate", float("nan")),
    ("full", "layer_decay", 0.0),
    ("full", "layer_decay", 1.5),
    ("full", "head_factor", 0.0),
    ("full", "weight_decay", -0.1),
    ("full", "warmup", 1.5),
    ("full", "label_smoothing", 1.0),
    ("full", "augment", "heavy"),
    ("full", "patience", 0),
    ("full", "batchnorm", "free"),
    ("full", "head_start", "zeros"),
    ("full", "l2sp", -1.0),
    ("full", "mixup", -0.1),
    ("full", "cutmix", -1.0),
    ("full", "ema", 1.0),
    ("depth-probe", "folds", 1),
    ("depth-probe", "pooling", "max"),
    ("partial", "unfreeze", 0),
    ("surgical", "views", 0),
    ("norm-only", "epochs", 0),
    ("bias-only", "augment", "heavy"),
    ("scratch", "batchnorm", "free"),
]


@pytest.mark.parametrize(("name", "field", "value"), BAD, ids=[f"{f}={v}" for _, f, v in BAD])
def test_check_refuses(name: str, field: str, value: Any) -> None:
    row = METHODS[name]
    with pytest.raises(BadOption, match=f"--{field.replace('_', '-')}"):
        row.check(row.params(**{field: value}))


def test_a_wrong_word_is_answered() -> None:
    with pytest.raises(BadOption, match="Did you mean 're-estimated'"):
        METHODS["full"].check(FullParams(batchnorm="reestimated"))


# What a method suggests

WISHES = {
    "folds": 3,
    "class_weights": "auto",
    "epochs": 7,
    "batch_size": 48,
    "augment": "strong",
    "learning_rate": 1e-3,
    "batchnorm": "re-estimated",
    "flip": False,
}


@tables
def test_what_the_user_gave_wins(name: str, backbone: Backbone) -> None:
    row = METHODS[name]
    given = {key: value for key, value in WISHES.items() if has(name, key)}
    answer = row.suggest(facts(), None, backbone, given)
    assert isinstance(answer, Suggestion)
    for key, value in given.items():
        assert getattr(answer.params, key) == value
    for choice in answer.choices:  # a reason may not claim credit for what was asked for
        key = {"cross-validation folds": "folds"}.get(choice.what, choice.what)
        if has(name, key):
            assert (choice.why == "asked for") is (key in given)
            assert choice.value == str(getattr(answer.params, key))
    row.check(answer.params)


@pytest.mark.parametrize("n", [6, 100, 499, 500, 5000, 100_000])
@tables
def test_every_suggestion_passes_its_own_check(name: str, n: int, backbone: Backbone) -> None:
    answer = METHODS[name].suggest(facts(n, smallest=1 if n < 10 else None), None, backbone, {})
    assert isinstance(answer, Suggestion)
    METHODS[name].check(answer.params)
    assert all(choice.why for choice in answer.choices)


@pytest.mark.parametrize(("smallest", "folds"), [(0, 2), (1, 2), (3, 3), (5, 5), (60, 5)])
def test_folds_follow_the_smallest_class(smallest: int, folds: int, backbone: Backbone) -> None:
    answer = METHODS["linear-probe"].suggest(facts(smallest=smallest), None, backbone, {})
    assert isinstance(answer, Suggestion)
    assert answer.params.folds == folds


def test_full_declines_noisy_statistics(backbone: Backbone) -> None:
    answer = METHODS["full"].suggest(facts(), None, backbone, {"batchnorm": "tuned", "batch_size": 8})
    assert isinstance(answer, Decline)
    assert "8" in answer.reason
    assert "16" in answer.reason


def test_sgd_gets_a_rate_of_its_own(backbone: Backbone) -> None:
    plain = METHODS["full"].suggest(facts(), None, backbone, {})
    sgd = METHODS["full"].suggest(facts(), None, backbone, {"optimizer": "sgd"})
    own = METHODS["full"].suggest(facts(), None, backbone, {"optimizer": "sgd", "learning_rate": 0.5})
    assert isinstance(plain, Suggestion)
    assert isinstance(sgd, Suggestion)
    assert isinstance(own, Suggestion)
    assert sgd.params.learning_rate == pytest.approx(50 * plain.params.learning_rate)
    assert own.params.learning_rate == 0.5


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_random_weights_learn_alike_at_every_depth(backbone: Backbone, task: str) -> None:
    """Rates that fall towards the input protect what pretraining left there; heads are no newer than random weights."""
    given = replace(facts(), task=task)
    tuned = METHODS["full"].suggest(given, None, backbone, {})
    scratch = METHODS["scratch"].suggest(given, None, backbone, {})
    assert isinstance(tuned, Suggestion)
    assert isinstance(scratch, Suggestion)
    assert tuned.params.layer_decay < 1 < tuned.params.head_factor
    assert (scratch.params.layer_decay, scratch.params.head_factor) == (1, 1)
    assert scratch.params.learning_rate > tuned.params.learning_rate
    assert scratch.params.epochs > tuned.params.epochs


def test_many_images_are_blended_and_long_schedules_averaged(backbone: Backbone) -> None:
    """100,000 images, 8 passes, batches of 32: 25,000 steps, of which an average remembers a twentieth, 1 / 1,250."""

    def params(name: str, n: int, **given: Any) -> tuple[float, float, float]:
        answer = METHODS[name].suggest(facts(n), None, backbone, given)
        assert isinstance(answer, Suggestion)
        told = {choice.what for choice in answer.choices}
        for field in ("ema", "mixup", "cutmix"):
            assert (field in told) is (getattr(answer.params, field) > 0), field
        return answer.params.ema, answer.params.mixup, answer.params.cutmix

    assert params("full", 200) == (0, 0, 0)
    assert params("full", 3000)[0] == pytest.approx(1 - 20 / (15 * 94), abs=1e-4)
    assert params("partial", 100_000) == pytest.approx((1 - 20 / 25_000, 0.1, 0), abs=1e-4)
    assert params("scratch", 20_000)[1:] == (0.1, 1.0)
    assert params("scratch", 5_000)[1:] == (0, 0)
    assert params("full", 200, ema=0.9, epochs=500)[0] == 0.9


# What a method does to a network


@cases
def test_every_tensor_is_in_exactly_one_group(name: str, given: dict[str, Any], backbone: Backbone) -> None:
    made = adapted(name, backbone, given)
    groups = made.applied.groups
    *parts, head = (group.name for group in groups)  # a stage may be told apart further: `stage1 norms`
    assert list(dict.fromkeys(part.partition(" ")[0] for part in parts)) == [
        stage.name for stage in backbone.stages
    ]
    assert head == "head"
    parameters = Counter(p for group in groups for p in group.parameters)
    buffers = Counter(b for group in groups for b in group.buffers)
    assert parameters == Counter(n for n, _ in made.model.named_parameters())
    assert buffers == Counter(n for n, _ in made.model.named_buffers())
    for group in groups:
        for parameter in group.parameters:
            assert made.model.get_parameter(parameter).requires_grad is group.trains
        assert (group.lr is None) is (METHODS[name].solver == "features" or not group.trains)
    known = dict(made.model.named_modules())
    assert set(made.applied.held) <= set(known)
    assert set(made.applied.reestimate) <= set(known)
    assert groups[-1].trains


@cases
def test_frozen_is_frozen(name: str, given: dict[str, Any], backbone: Backbone) -> None:
    """Bit by bit, buffers too, after training in training mode; and what may move does."""
    made = adapted(name, backbone, given)
    before = {n: t.clone() for n, t in (*made.model.named_parameters(), *made.model.named_buffers())}
    source = copy.deepcopy(backbone.module.state_dict())
    losses = steps(made)
    assert losses[-1] < losses[0]
    after = dict((*made.model.named_parameters(), *made.model.named_buffers()))
    for group in made.applied.groups:
        still = [torch.equal(before[parameter], after[parameter]) for parameter in group.parameters]
        assert not all(still) if group.trains else all(still), group.name
        if not group.buffers_may_move:
            for buffer in group.buffers:
                assert torch.equal(before[buffer], after[buffer]), buffer
    ledger = settle(made, made.model)
    assert ledger.frozen_identical
    for line, group in zip(ledger.groups, made.applied.groups, strict=True):
        moved = any(not torch.equal(before[n], after[n]) for n in (*group.parameters, *group.buffers))
        assert (line.hash_before != line.hash_after) is moved
    for key, value in backbone.module.state_dict().items():  # the backbone itself is nobody's to change
        assert torch.equal(value, source[key])


def test_tuned_statistics_do_move() -> None:
    """Else the test before would hold for a network that never trains its BatchNorm."""
    source = blank("test_resnet")
    for norm, moves in (("tuned", True), ("frozen", False), ("re-estimated", False)):
        made = adapted("full", source, {"batchnorm": norm, "batch_size": 16})
        buffer = f"body.{source.norms[-1]}.running_mean"
        before = made.model.get_buffer(buffer).clone()
        steps(made, 1)
        assert torch.equal(before, made.model.get_buffer(buffer)) is not moves
        assert bool(made.applied.reestimate) is (norm == "re-estimated")


@pytest.mark.parametrize(
    ("decay", "factor", "peak"), [(0.75, 10.0, 2e-4), (0.5, 3.0, 1e-3), (1.0, 10.0, 1e-4)]
)
def test_rates_fall_towards_the_input(decay: float, factor: float, peak: float, backbone: Backbone) -> None:
    given = {"layer_decay": decay, "head_factor": factor, "learning_rate": peak}
    *stages, head = adapted("full", backbone, given).applied.groups
    rates = [group.lr for group in stages]
    assert rates[-1] == pytest.approx(peak)
    assert head.lr == pytest.approx(factor * peak)
    for earlier, later in itertools.pairwise(rates):
        assert earlier is not None
        assert later is not None
        assert earlier / later == pytest.approx(decay)


def test_a_backbone_of_frozen_kind_needs_no_gradient(backbone: Backbone) -> None:
    made = adapted("linear-probe", backbone, {})
    assert [n for n, p in made.model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert all(not m.training for m in made.model.train().body.modules())


# Trained for real, by the method's own solver

SIDE = 32


def problem(backbone: Backbone) -> TrainingData:
    """Three classes of small pictures that differ by their colour."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(36):
        label = number % 3
        pixels = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[..., label] += 100
        digest = sha256_bytes(pixels.tobytes())
        samples.append(Sample(name=f"memory:{number}", source=pixels, labels=(label,), digest=digest))
    return TrainingData(
        train=tuple(samples[:24]),
        val=tuple(samples[24:]),
        task=TASKS["classify"],
        classes=("red", "green", "blue"),
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=0,
        refit=True,
    )


def run(name: str, folder: Path, *, stop_at: int | None = None) -> FitResult | None:
    """The method's result; None where the process was as good as killed after that many events."""
    source = blank("test_resnet")
    small = replace(source, info=replace(source.info, preprocess=source.info.preprocess.at(SIDE)))
    wishes = {"epochs": 3, "batch_size": 8, "head_start": "random", "learning_rate": 2e-3}
    given = {key: value for key, value in wishes.items() if has(name, key)}
    if has(name, "batchnorm") and not accepts(name, batchnorm="frozen"):
        given["batchnorm"] = "re-estimated"  # eight images are too few to tune statistics on
    made = adapted(name, small, given)
    events = training.fit(made, problem(small), Pace(clock=Clock(), folder=folder, every=0.0))
    count = 0
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: FitResult = end.value
            settle(made, result.model)
            return result
        count += 1
        if stop_at is not None and count >= stop_at:
            events.close()
            return None


@tables
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    """Killed after some events and begun again: the same bits; and what was learnt is better than guessing."""
    whole = run(name, tmp_path / "whole")
    assert whole is not None
    assert run(name, tmp_path / "cut", stop_at=7 if METHODS[name].solver == "gradient" else 1) is None
    if METHODS[name].solver == "gradient":  # a closed form begins anew, which costs no more
        kept = training.checkpoint_of(tmp_path / "cut")
        assert kept is not None
        assert 0 < kept.step < 9
    resumed = run(name, tmp_path / "cut")
    assert resumed is not None
    names = tuple(whole.model.state_dict())
    assert tensor_hash(whole.model.state_dict(), names) == tensor_hash(resumed.model.state_dict(), names)
    assert np.array_equal(whole.val_logits, resumed.val_logits)
    assert whole.temperature == resumed.temperature
    truth = np.array([number % 3 for number in range(24, 36)])
    assert (whole.val_logits.argmax(1) == truth).mean() > 1 / 3
