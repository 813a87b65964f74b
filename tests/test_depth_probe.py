"""The depth probe: what it reads, how it chooses, and that nothing is lost on the way to a smaller file."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart import training
from headstart._core import records
from headstart._core.clock import Clock
from headstart._core.errors import BadInput, BadOption
from headstart._core.files import sha256_bytes
from headstart.adaptation import adapt, settle
from headstart.compute import DepthClassifier, Depths, Tap, at_depths, trimmed
from headstart.compute.taps import read_depths
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.explanation import grad_cam
from headstart.export import Manifest, open_bundle, save_bundle
from headstart.features import FeatureStore
from headstart.heads.logistic import LinearHead
from headstart.methods import METHODS
from headstart.methods.depth_probe import DepthProbeParams, read_wish
from headstart.planning import Rung
from headstart.tasks import TASKS, Classifier
from headstart.training import FitResult, Pace, TrainingData
from headstart.training.depths import Scaling, Search, _grow
from headstart.weights import Backbone, blank

ARCHS = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext", "torchvision/resnet18")
SIDE = 64


def contract(backbone: Backbone) -> Preprocess:
    return backbone.info.preprocess if "vit" in backbone.info.arch else backbone.info.preprocess.at(SIDE)


def at_stage(backbone: Backbone, *numbers: int, output: bool = False) -> DepthClassifier:
    """A classifier that reads mean and deviation of these stages, with a head of random weights."""
    body = copy.deepcopy(backbone.module)
    modules = tuple(backbone.stages[number].output for number in numbers)
    readings = read_depths(body, contract(backbone), modules)
    taps = [
        Tap(module=name, layout=reading.layout, skip=reading.skip, deviation=True)
        for name, reading in readings.items()
    ]
    taps += [Tap(module="output")] if output else []
    model = Classifier(body, backbone.width, 3)
    widths = dict.fromkeys(modules, 0)
    handles = [
        body.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: widths.update({name: out.shape[-1 if out.ndim == 3 else 1]})
        )
        for name in modules
    ]
    images = torch.zeros(1, 3, contract(backbone).height, contract(backbone).width)
    with torch.no_grad():
        body(images)
    for handle in handles:
        handle.remove()
    width = 2 * sum(widths.values()) + (backbone.width if output else 0)
    torch.manual_seed(0)
    return at_depths(model, Depths(taps=tuple(taps)), width=width).eval()


def images_for(backbone: Backbone, count: int = 3) -> torch.Tensor:
    size = contract(backbone)
    return torch.randn(count, 3, size.height, size.width, generator=torch.Generator().manual_seed(1))


# What is read


class Small(nn.Module):
    """Two maps of two channels, then their pooled mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(images)).mean((2, 3))
        return out


def test_columns_by_hand() -> None:
    taps = (
        Tap(module="first", layout="map", deviation=True),
        Tap(module="second", layout="map"),
        Tap(module="output"),
    )
    body = Small()
    model = at_depths(Classifier(body, 2, 4), Depths(taps=taps), width=8).eval()
    images = torch.randn(3, 3, 5, 6)
    with torch.no_grad():
        found = model(images).numpy()
        first = nn.functional.conv2d(images, body.first.weight, body.first.bias)
        second = nn.functional.conv2d(first, body.second.weight, body.second.bias).numpy()
    one = first.numpy().reshape(3, 2, -1)
    mean = second.reshape(3, 2, -1).mean(2)
    columns = np.concatenate([one.mean(2), one.std(2), mean, mean], 1)
    weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    assert np.allclose(found, columns @ weight.T + bias, atol=1e-5)


def test_a_copy_reads_its_own_network() -> None:
    """A hook that still wrote to the original would make the copy answer for the wrong weights, or not at all."""
    source = at_stage(blank("test_resnet"), 1, 2)
    twin = copy.deepcopy(source)
    with torch.no_grad():
        for parameter in twin.body.parameters():
            parameter.mul_(0.5)
    images = images_for(blank("test_resnet"))
    with torch.no_grad():
        assert not torch.allclose(twin(images), source(images))
        assert not source._seen
        assert not twin._seen


def test_threads_do_not_mix_their_images() -> None:
    backbone = blank("test_resnet")
    model = at_stage(backbone, 0, 1, 2)
    batches = [images_for(backbone, 4) + number for number in range(8)]
    with torch.no_grad():
        alone = [model(batch) for batch in batches]

    def answer(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(batch)
        return out

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = list(pool.map(answer, batches))
            for mine, other in zip(alone, together, strict=True):
                assert torch.allclose(mine, other, atol=1e-5)


# What is cut off


@pytest.mark.parametrize("arch", ARCHS)
def test_what_lies_behind_is_cut_off(arch: str) -> None:
    backbone = blank(arch)
    model = at_stage(backbone, 0, 1)
    images = images_for(backbone)
    small = trimmed(model, contract(backbone))
    with torch.no_grad():
        assert torch.allclose(small(images), model(images), atol=1e-5)
    left = {name for name, _ in small.named_parameters()}
    needed = {f"body.{name}" for stage in backbone.stages[:2] for name in stage.parameters}
    late = {f"body.{name}" for stage in backbone.stages[2:] for name in stage.parameters}
    assert needed <= left
    assert not left & late
    assert {name for name, _ in model.named_parameters()} >= late  # the model itself stays whole


def test_an_output_keeps_everything() -> None:
    backbone = blank("test_resnet")
    model = at_stage(backbone, 1, output=True)
    assert trimmed(model, contract(backbone)) is model


class Weighs(nn.Module):
    """A network that cannot do without its last layer: what comes behind it wants another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
        self.register_buffer("scale", torch.ones(6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(images)).mean((2, 3)) * self.scale
        return out


def test_a_network_that_cannot_be_cut_stays_whole() -> None:
    model = Classifier(Weighs(), 6, 2)
    read = at_depths(model, Depths(taps=(Tap(module="first", layout="map"),)), width=4).eval()
    assert trimmed(read, blank("test_resnet").info.preprocess.at(8)) is read


# The bundle


def saved(folder: Path, arch: str = "test_resnet", *numbers: int) -> tuple[DepthClassifier, Backbone]:
    backbone = blank(arch)
    model = at_stage(backbone, *(numbers or (0, 1)))
    manifest = Manifest(
        task="classify",
        classes=("a", "b", "c"),
        arch=arch,
        width=backbone.width,
        preprocess=contract(backbone),
        weights=backbone.info,
        method="depth-probe",
    )
    save_bundle(folder, model, manifest)
    return model, backbone


@pytest.mark.parametrize("arch", ARCHS)
def test_a_bundle_gives_the_same_answers(arch: str, tmp_path: Path) -> None:
    model, backbone = saved(tmp_path / "bundle", arch)
    opened = open_bundle(tmp_path)
    assert opened.manifest.depths is not None
    assert opened.manifest.depths.cut
    assert opened.manifest.width == model.head.in_features
    images = images_for(backbone)
    with torch.no_grad():
        assert torch.allclose(opened.model.cpu()(images), model(images), atol=1e-5)
    whole = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert (tmp_path / "bundle" / opened.manifest.file).stat().st_size < 0.9 * whole


def test_a_bundle_of_before_opens(tmp_path: Path) -> None:
    backbone = blank("test_resnet")
    model = Classifier(backbone.module, backbone.width, 2).eval()
    manifest = Manifest(
        task="classify",
        classes=("a", "b"),
        arch="test_resnet",
        width=backbone.width,
        preprocess=contract(backbone),
        weights=backbone.info,
        method="linear-probe",
    )
    save_bundle(tmp_path, model, manifest)
    plain = records.read_json(tmp_path / "manifest.json")
    assert plain.pop("depths") is None
    records.save(tmp_path / "manifest.json", plain)
    opened = open_bundle(tmp_path)
    assert type(opened.model) is Classifier


def test_depths_that_the_network_lacks_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    plain = records.read_json(tmp_path / "manifest.json")
    plain["depths"]["taps"][0]["module"] = "layer9"
    records.save(tmp_path / "manifest.json", plain)
    with pytest.raises(BadInput, match="layer9"):
        open_bundle(tmp_path)


# The choice


def test_the_head_folds_the_scaling() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(50, 4)) * [1, 100, 1e-3, 0] + [0, 5, 2, 7]).astype(np.float32)
    scaling = Scaling.of(rows)
    ready = scaling(rows)
    assert np.allclose(ready.mean(0), 0, atol=1e-4)
    assert np.allclose(ready[:, :3].std(0), 1, atol=1e-3)
    assert np.allclose(ready[:, 3], 0)  # a constant column says nothing, and must not blow up
    head = LinearHead(weight=rng.normal(size=(3, 4)), bias=rng.normal(size=3))
    assert np.allclose(scaling.folded(head)(rows), head(ready), atol=1e-3)


def search(rows: dict[str, np.ndarray], targets: np.ndarray) -> Search:
    data = TrainingData(
        train=(),
        val=(),
        task=TASKS["classify"],
        classes=("a", "b", "c", "d"),
        preprocess=blank("test_resnet").info.preprocess,
        store=None,  # type: ignore[arg-type]  # the rows are here
        seed=0,
        refit=False,
    )
    return Search(
        rows={name: each.astype(np.float32) for name, each in rows.items()},
        targets=targets,
        groups=np.arange(len(targets)),
        data=data,
        pace=Pace(clock=Clock(), folder=Path()),
        weights=None,
        folds=4,
    )


def planted(*, second: float) -> Search:
    """Four classes: one depth tells the first bit, another the second where `second` > 0; the third is noise."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 240)
    noise = rng.normal(size=(3, 240, 4))
    one, two, three = noise
    one[:, 0] += 3.0 * (truth % 2)
    two[:, 1] += second * (truth // 2)
    return search({"one": one, "two": two, "three": three}, truth)


def options() -> dict[str, tuple[Tap, ...]]:
    return {name: (Tap(module=name, layout="vector", deviation=True),) for name in ("three", "one", "two")}


def test_two_depths_that_complete_each_other_are_both_read() -> None:
    found = _grow(planted(second=3.0), options())
    assert found.name == "one+two"  # in forward order, whichever was found first
    assert found.accuracy > 0.7


def test_depths_that_add_nothing_are_left_out() -> None:
    looked = planted(second=0.0)
    assert _grow(looked, options()).name == "one"
    assert {each.name for each in looked.tried} >= {"one", "two", "three", "one+two", "three+one"}


def test_when_time_is_up_the_best_so_far_is_taken() -> None:
    looked = planted(second=3.0)
    looked.pace = Pace(clock=Clock(0.0), folder=Path())
    assert len(_grow(looked, options()).taps) == 1
    assert len(looked.tried) == 1


def test_wishes() -> None:
    stages = blank("test_resnet").stages
    names = tuple(stage.name for stage in stages)
    assert read_wish("auto", stages) == ((*names, "output"), False)
    assert read_wish("stage2+stage1", stages) == (("stage1", "stage2"), True)
    assert read_wish("output, stage1", stages) == (("stage1", "output"), False)
    with pytest.raises(BadOption, match="stage9"):
        read_wish("stage9", stages)
    with pytest.raises(BadOption, match="--pooling"):
        METHODS["depth-probe"].check(DepthProbeParams(pooling="max"))


# The whole solver


def problem(backbone: Backbone) -> TrainingData:
    """Textures of equal mean: the deviation of early layers tells them apart at once."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(48):
        label = number % 3
        spread = (10, 40, 90)[label]
        pixels = np.clip(rng.normal(128, spread, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        digest = sha256_bytes(pixels.tobytes())
        samples.append(Sample(name=f"memory:{number}", source=pixels, labels=(label,), digest=digest))
    return TrainingData(
        train=tuple(samples[:30]),
        val=tuple(samples[30:]),
        task=TASKS["classify"],
        classes=("calm", "grainy", "wild"),
        preprocess=backbone.info.preprocess,
        store=FeatureStore(backbone),
        seed=0,
        refit=False,
    )


def solved(given: dict[str, Any]) -> tuple[FitResult, TrainingData, training.Event]:
    source = blank("test_resnet")
    source = replace(source, info=replace(source.info, preprocess=contract(source)))
    data = problem(source)
    params = DepthProbeParams(folds=3, views=2, **given)
    rung = Rung(method="depth-probe", params=asdict(params), why="a test")
    made = adapt(rung, source, classes=3, seed=0)
    events = training.fit(made, data, Pace(clock=Clock(), folder=Path()))
    first = next(events)
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: FitResult = end.value
            break
    ledger = settle(made, result.model)
    assert ledger.frozen_identical
    assert [line.verified for line in ledger.groups[:-1]] == [True] * len(source.stages)
    return result, data, first


def test_the_model_gives_the_answers_that_were_judged() -> None:
    result, data, first = solved({"depths": "stage1+stage2", "pooling": "mean+deviation"})
    assert isinstance(result.model, DepthClassifier)
    assert result.facts["depths"] == "stage1+stage2"
    assert "stage1 (mean+deviation) and stage2 (mean+deviation)" in first.reason
    from headstart import compute

    direct = compute.forward(result.model, data.val, data.preprocess, label="testing")
    assert np.allclose(direct, result.val_logits, atol=1e-3)
    truth = np.array([sample.labels[0] for sample in data.val])
    assert (result.val_logits.argmax(1) == truth).mean() > 0.9


def test_the_search_tells_what_it_tried() -> None:
    result, _, _ = solved({})
    tried = result.facts["depths_tried"]
    assert {"stem", "stage1", "output"} <= {each["name"] for each in tried}
    best = min(tried, key=lambda each: each["log_loss"] if "+" not in each["name"] else np.inf)
    assert result.facts["depths"].split("+").count(best["name"]) == 1
    assert all(each["standard_error"] > 0 for each in tried)


def test_the_picture_is_taken_where_the_head_reads() -> None:
    backbone = blank("test_resnet")
    model = at_stage(backbone, 1)
    layers = [model.get_submodule(f"body.{stage.output}") for stage in reversed(backbone.stages)]
    shapes: list[torch.Size] = []
    handle = model.body.get_submodule(backbone.stages[1].output).register_forward_hook(
        lambda _m, _i, out: shapes.append(out.shape)
    )
    maps = grad_cam(model, images_for(backbone), answers=[0, 1, 2], layers=layers)
    handle.remove()
    assert maps.shape[1:] == tuple(shapes[0][2:])
    assert maps.max() > 0


def test_a_channel_without_variation_does_not_spoil_the_picture() -> None:
    """The slope of a deviation of 0 is infinite."""
    body = Small()
    with torch.no_grad():
        body.first.weight[0] = 0
    model = at_depths(
        Classifier(body, 2, 2), Depths(taps=(Tap(module="first", layout="map", deviation=True),)), width=4
    ).eval()
    maps = grad_cam(model, torch.randn(2, 3, 5, 5), answers=[0, 1], layers=[body.first])
    assert np.isfinite(maps).all()
    assert maps.max() > 0
