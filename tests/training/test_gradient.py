"""The gradient loop: what it computes, and that neither interruption nor lack of memory changes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headstart import weights
from headstart._core.clock import Clock
from headstart._core.errors import BadPlan
from headstart.adaptation import Adapted, adapt, settle
from headstart.compute import FastDepthwise
from headstart.data import from_arrays
from headstart.features import FeatureStore
from headstart.planning import Rung
from headstart.tasks import TASKS, Classifier, Network
from headstart.training import CHECKPOINT, Event, FitResult, Pace, TrainingData, fit
from headstart.training.engine import Engine, default_micro, out_of_memory
from headstart.training.folding import Folded, twin_of
from headstart.weights import Backbone

SIZE = 32
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """A tiny network whose norms are far from neutral, as after pretraining."""
    found = weights.load("random:test_efficientnet")
    draw = torch.Generator().manual_seed(0)
    for name in found.norms:
        norm: Any = found.module.get_submodule(name)
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            change = torch.rand(value.shape, generator=draw)
            value.data.mul_(0.8 + 0.4 * change).add_(0.1 * change)
    small = replace(found.info.preprocess, height=SIZE, width=SIZE, resize=SIZE)
    return replace(found, info=replace(found.info, preprocess=small))


@pytest.fixture(scope="module")
def data(backbone: Backbone) -> TrainingData:
    """48 images of stripes, across or upright."""
    draw = np.random.default_rng(0)
    images, labels = [], []
    for number in range(48):
        stripes = np.tile(np.repeat(np.arange(SIZE // 4) % 2 * 120, 4), (SIZE, 1))
        stripes = stripes if number % 2 else stripes.T
        noise = draw.integers(0, 120, (SIZE, SIZE, 3))
        images.append((stripes[..., None] + noise).astype(np.uint8))
        labels.append(number % 2)
    dataset = from_arrays(images, np.array(labels), classes=("across", "upright"))
    return TrainingData(
        train=dataset.train,
        val=dataset.val,
        task=TASKS["classify"],
        classes=dataset.classes,
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=3,
        refit=False,
    )


def rung(method: str, **params: Any) -> Rung:
    usual = {
        "epochs": 3,
        "batch_size": 16,
        "head_start": "random",
        "augment": "medium",
        "learning_rate": 1e-3,
        "patience": 9,
    }
    return Rung(method=method, params=usual | params, why="")


def prepared(backbone: Backbone, method: str, **params: Any) -> Adapted:
    return adapt(rung(method, **params), backbone, classes=2, seed=3)


def run(adapted: Adapted, data: TrainingData, pace: Pace) -> tuple[list[Event], FitResult]:
    events: list[Event] = []
    stream = fit(adapted, data, pace)
    while True:
        try:
            events.append(next(stream))
        except StopIteration as done:
            return events, done.value


def until(stream: Iterator[Event], step: int) -> None:
    """Take events until that step is done, then drop the loop, as a killed process would."""
    for event in stream:
        if event.event == "step" and event.step == step:
            next(stream)  # the checkpoint is written when the loop is asked for the next event
            return


def same(first: Network, second: Network) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("method", ["full", "partial"])
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_killed_run_ends_with_the_same_bits(
    backbone: Backbone, data: TrainingData, tmp_path: Path, method: str, step: int
) -> None:
    _, whole = run(prepared(backbone, method), data, Pace(clock=Clock(), folder=tmp_path / "whole"))
    pace = Pace(clock=Clock(), folder=tmp_path / "cut", every=0.0)
    until(fit(prepared(backbone, method), data, pace), step)
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    events, resumed = run(prepared(backbone, method), data, pace)
    assert events[0].reason.startswith("resumed at step")
    assert same(whole.model, resumed.model)
    np.testing.assert_array_equal(whole.val_logits, resumed.val_logits)


@pytest.mark.parametrize("method", ["full", "partial"])
@pytest.mark.parametrize("batchnorm", ["frozen", "tuned", "re-estimated"])
def test_loss_falls_and_the_frozen_stays(
    backbone: Backbone, data: TrainingData, tmp_path: Path, method: str, batchnorm: str
) -> None:
    adapted = prepared(backbone, method, batchnorm=batchnorm, epochs=6, learning_rate=3e-3, augment="none")
    events, result = run(adapted, data, Pace(clock=Clock(), folder=tmp_path))
    losses = [event.loss for event in events if event.event == "validation" and event.loss is not None]
    # Not the last: statistics that are estimated anew after each pass make so small a network's loss jump, by processor.
    assert min(losses[1:]) < 0.8 * losses[0]
    ledger = settle(adapted, result.model)
    frozen = [line for line in ledger.groups if not line.trains]
    assert len(frozen) == (0 if method == "full" else 4)
    # Re-estimated statistics are new in the tuned stages only.
    assert all(line.hash_before == line.hash_after for line in frozen)


def test_one_step_is_that_of_plain_torch(backbone: Backbone, data: TrainingData, tmp_path: Path) -> None:
    """The loop's first step against a loop of ten lines that knows nothing of twins and micro-batches."""
    options = {"epochs": 1, "batch_size": 48, "augment": "none", "flip": False, "class_weights": "across=3"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headstart.training.gradient.native_bfloat16", lambda _: False)
        _, result = run(prepared(backbone, "full", **options), data, Pace(clock=Clock(), folder=tmp_path))
    adapted = prepared(backbone, "full", **options)
    model = adapted.model.train()
    pixels = np.stack([np.asarray(sample.source) for sample in data.train])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (data.preprocess.mean, data.preprocess.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    truth = torch.tensor([sample.labels[0] for sample in data.train])
    counts = torch.bincount(truth).double()
    scale = len(truth) / (3 * counts[0] + counts[1])
    weight = torch.stack([3 * scale, scale]).float()
    groups = [g for g in adapted.applied.groups if g.trains]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "lr": g.lr, "weight_decay": g.weight_decay if p.ndim > 1 else 0.0}
            for g in groups
            for p in map(model.get_parameter, g.parameters)
        ]
    )
    nn.functional.cross_entropy(model(images), truth, weight=weight, label_smoothing=0.1).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    slopes = {name: p.grad.abs() for name, p in model.named_parameters() if p.grad is not None}
    optimizer.step()
    for name, expected in model.named_parameters():
        # AdamW's first step is the sign of the slope: it says nothing where the slope is rounding noise.
        sure = slopes[name] > 1e-5
        found = result.model.get_parameter(name)[sure] - before[name][sure]
        torch.testing.assert_close(found, (expected - before[name])[sure], rtol=2e-3, atol=1e-8)


def test_tuned_norms_see_the_whole_batch() -> None:
    assert default_micro(CPU, 64, moving=True, stored=False) == 64
    assert default_micro(CPU, 64, moving=False, stored=False) < 64


class _Greedy(nn.Module):
    """A network that cannot take more than `most` images at a time."""

    def __init__(self, inner: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.most, self.error = inner, most, error

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and len(images) > self.most:
            raise self.error
        out: Tensor = self.inner(images)
        return out


_FULL = RuntimeError(
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), _FULL])
@pytest.mark.parametrize("method", ["full", "partial"])
def test_too_little_memory_halves_the_micro_batch_and_keeps_the_step(
    backbone: Backbone, data: TrainingData, tmp_path: Path, method: str, error: Exception
) -> None:
    options = {"epochs": 2, "batch_size": 32}
    adapted = prepared(backbone, method, **options)
    _, plain = run(adapted, data, Pace(clock=Clock(), folder=tmp_path / "plain"))
    with pytest.MonkeyPatch.context() as patch:
        from headstart.training import gradient

        class Small(Engine):
            def _attempt(self, *args: Any) -> Tensor:
                if self.micro > 4:
                    raise error
                return super()._attempt(*args)

        patch.setattr(gradient, "Engine", Small)
        events, result = run(
            prepared(backbone, method, **options), data, Pace(clock=Clock(), folder=tmp_path / "small")
        )
    notes = [event.reason for event in events if event.event == "note" and "memory ran out" in event.reason]
    assert notes[-1] == "memory ran out: 4 images at a time from here on, still 32 for each step"
    assert result.facts["micro_batch"] == 4
    assert result.facts["steps"] == plain.facts["steps"]
    one, two = plain.val_logits, result.val_logits
    assert np.abs(one - two).max() < 0.05 * np.abs(one).max()  # rounding, in bfloat16 where the chip has it


def test_a_step_is_redone_from_the_same_state(backbone: Backbone) -> None:
    """Gradients after running out of memory half way are those of a run that never did."""
    adapted = prepared(backbone, "full", batchnorm="tuned")
    images, truth = torch.randn(32, 3, SIZE, SIZE), torch.arange(32) % 2
    slopes, buffers = [], []
    for fails in (False, True):
        model = copy.deepcopy(adapted.model).train()
        engine = _engine(model, micro=32 if fails else 16, moving=True)
        body: Any = engine.network.body
        if fails:  # fails behind the norms, whose statistics have moved by then
            engine.network.head = _Greedy(engine.network.head, 16, MemoryError())
        engine.backward(lambda rows: images[rows], truth, loss=_mean_loss(32), seed=1)
        slopes.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        buffers.append([b.clone() for b in body.buffers()])
    assert len(slopes[0]) == len(slopes[1]) == len(list(adapted.model.parameters()))
    assert all(torch.equal(one, two) for one, two in zip(*slopes, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(*buffers, strict=True))


def test_tuned_norms_refuse_tiny_micro_batches(backbone: Backbone) -> None:
    model = prepared(backbone, "full", batchnorm="tuned").model.train()
    engine = _engine(model, micro=32, moving=True)
    engine.network.head = _Greedy(engine.network.head, 8, MemoryError())
    images, truth = torch.randn(32, 3, SIZE, SIZE), torch.arange(32) % 2
    with pytest.raises(BadPlan, match="at least 16 images") as caught:
        engine.backward(lambda rows: images[rows], truth, loss=_mean_loss(32), seed=1)
    assert "--batchnorm frozen" in str(caught.value)


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def _mean_loss(count: int) -> Any:
    return lambda logits, rows: nn.functional.cross_entropy(logits, rows) * (len(rows) / count)


def _engine(model: Network, *, micro: int, moving: bool) -> Engine:
    twin = twin_of(model, (SIZE, SIZE))
    engine = Engine(twin=twin, device=CPU, lower=None, micro=micro, moving=moving)
    engine.network.train()
    return engine


@pytest.mark.parametrize(
    ("arch", "all_folded"),
    [
        ("test_efficientnet", True),
        ("test_resnet", True),
        ("mobilenetv3_small_050", True),
        ("densenet121", False),  # its norms stand before their convolutions
        ("test_vit", True),  # it has none
    ],
)
def test_the_twin_has_the_same_gradients(arch: str, all_folded: bool) -> None:
    """Forward and backward against the network itself, for networks built in different ways."""
    found = weights.load(f"random:{arch}")
    draw = torch.Generator().manual_seed(0)
    for name in found.norms:
        norm: Any = found.module.get_submodule(name)
        norm.running_mean.add_(0.1 * torch.randn(norm.running_mean.shape, generator=draw))
        norm.running_var.mul_(0.5 + torch.rand(norm.running_var.shape, generator=draw))
    contract = found.info.preprocess
    size = (contract.height, contract.width) if arch == "test_vit" else (64, 64)
    model = Classifier(found.module, found.width, 3)
    model.held = tuple(f"body.{name}" for name in found.norms)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = twin_of(model, size)
    twin.network.train()
    assert (len(twin.pairs) == len(found.norms)) == all_folded
    images, truth = torch.randn(4, 3, *size, generator=draw), torch.tensor([0, 1, 2, 0])
    nn.functional.cross_entropy(model(images), truth).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = None
    twin.push()
    with FastDepthwise():
        nn.functional.cross_entropy(twin.network(images), truth).backward()
    twin.pull()
    for name, parameter in model.named_parameters():
        slope, wanted = parameter.grad, expected[name]
        assert (slope is None) == (wanted is None), name
        if slope is not None and wanted is not None:
            assert float((slope - wanted).norm()) <= 2e-3 * float(wanted.norm()) + 1e-6, name


class _TwoReaders(nn.Module):
    """A convolution whose output goes to its norm and past it: folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        values = self.conv(images)
        out: Tensor = (self.norm(values) + values).mean((2, 3))
        return out


def test_a_convolution_with_two_readers_is_not_folded() -> None:
    model = Classifier(_TwoReaders(), 4, 2)
    model.held = ("body.norm",)
    twin = twin_of(model, (8, 8))
    assert twin.pairs == ()
    assert isinstance(twin, Folded)
    assert torch.equal(twin.network.eval()(torch.ones(1, 3, 8, 8)), model.eval()(torch.ones(1, 3, 8, 8)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("size", "step", "pad"), [(3, 2, 1), (5, 1, 2), (5, 2, 0), (5, 2, 2), (7, 1, 3)])
def test_depthwise_gradients_are_torchs(dtype: torch.dtype, size: int, step: int, pad: int) -> None:
    draw = torch.Generator().manual_seed(0)
    images = (
        torch.randn(2, 16, 15, 14, generator=draw).to(dtype).contiguous(memory_format=torch.channels_last)
    )
    weight, bias = torch.randn(16, 1, size, size, generator=draw).to(dtype), torch.randn(16, generator=draw)
    found = []
    for exact in (True, False):
        kind = torch.float64 if exact else dtype
        one, two, three = leaves = [value.to(kind).requires_grad_() for value in (images, weight, bias)]
        if exact:
            out = torch.conv2d(one, two, three, step, pad, 1, 16)
        else:
            with FastDepthwise():
                out = torch.conv2d(one, two, three, step, pad, 1, 16)
            assert "Depthwise" in str(out.grad_fn) or (dtype == torch.float32 and step == 2)
        slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        out.backward(slope.to(kind))
        found.append([leaf.grad for leaf in leaves])
    for expected, mine in zip(*found, strict=True):
        assert expected is not None
        assert mine is not None
        assert mine.dtype == dtype
        error = float((mine.double() - expected).norm() / expected.norm())
        assert error < (1e-2 if dtype == torch.bfloat16 else 1e-5)
