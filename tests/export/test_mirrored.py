"""Answers averaged over an image and its mirror image travel with the bundle: opened, predicted, exported alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from headstart import compute
from headstart._core import records
from headstart.compute import Depths, Tap, at_depths
from headstart.data.records import Sample
from headstart.export import Manifest, check, export, open_bundle, save_bundle
from headstart.export.onnx import open_runner
from headstart.pixels import contract_pixels
from headstart.predict import accelerated
from headstart.tasks import Mirrored, Network, unmirrored
from tests.export.conftest import CLASSES, MakeBundle, fitted, picture, preprocess

ARCH = "resnet10t"


def turned_run(make_bundle: MakeBundle, *, depths: bool = False) -> Path:
    """A run whose network looks at each image twice; optionally by an inner depth."""
    run = make_bundle(ARCH, contract=preprocess(64, resize=64))
    bundle = open_bundle(run)
    model: Network = bundle.model.cpu()
    if depths:
        torch.manual_seed(3)
        model = at_depths(model, Depths(taps=(Tap(module="layer2", layout="map"),)), width=128).eval()
        with torch.no_grad():
            model.head.weight.normal_(0, 3 / 128**0.5)
    save_bundle(run / "bundle", Mirrored(model), bundle.manifest)
    return run


def test_the_mean_of_both_by_hand() -> None:
    model, _ = fitted(ARCH)
    both = Mirrored(model).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mirror = torch.from_numpy(images.numpy()[..., ::-1].copy())
    with torch.no_grad():
        torch.testing.assert_close(both(images), (model(images) + model(mirror)) / 2)
        torch.testing.assert_close(both(mirror), both(images), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(both(images), model(images), atol=1e-3)
    assert both.body is model.body
    assert both.head is model.head
    assert unmirrored(both) is model
    assert unmirrored(model) is model


@pytest.mark.parametrize("depths", [False, True], ids=["output", "depth"])
def test_the_bundle_says_so_and_answers_so(make_bundle: MakeBundle, depths: bool) -> None:
    run = turned_run(make_bundle, depths=depths)
    bundle = open_bundle(run)
    assert bundle.manifest.mirrored
    assert isinstance(bundle.model, Mirrored)
    pixels = np.stack([np.asarray(Image.fromarray(picture(64, 64, seed=n))) for n in range(3)])
    single = replace(bundle, model=unmirrored(bundle.model))
    expected = (single.logits(pixels) + single.logits(np.ascontiguousarray(pixels[:, :, ::-1]))) / 2
    np.testing.assert_allclose(bundle.logits(pixels), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(bundle.logits(pixels), single.logits(pixels), atol=1e-3)


def test_a_manifest_from_before_has_no_mirror(make_bundle: MakeBundle) -> None:
    folder = make_bundle(ARCH) / "bundle"
    plain = records.read_json(folder / "manifest.json")
    assert plain.pop("mirrored") is False
    records.save(folder / "manifest.json", plain)
    assert records.load(Manifest, folder / "manifest.json").mirrored is False
    assert not isinstance(open_bundle(folder).model, Mirrored)


@pytest.mark.parametrize("depths", [False, True], ids=["output", "depth"])
def test_the_graph_has_the_mirror_inside(make_bundle: MakeBundle, tmp_path: Path, depths: bool) -> None:
    """Parity on images of many sizes; an image and its mirror image get one answer from the file alone."""
    run = turned_run(make_bundle, depths=depths)
    sizes = ((90, 70), (70, 90), (64, 64), (33, 120))
    samples = tuple(Sample(name=f"memory:{n}", source=picture(*size, seed=n)) for n, size in enumerate(sizes))
    done = export(run, "onnx", out=tmp_path / "model.onnx", samples=samples)
    assert done.parity.passed
    assert done.parity.largest_gap < 1e-3
    running = open_runner(done.path)
    image = picture(64, 64, seed=9)  # of the contract's own shape: nothing is resampled
    one, other = running(image[None]), running(np.ascontiguousarray(image[:, ::-1])[None])
    np.testing.assert_allclose(one, other, atol=1e-5)
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["mirrored"] == "true"
    both = open_bundle(run)
    squares = tuple(Sample(name=f"memory:{n}", source=picture(64, 64, seed=n)) for n in range(3))
    assert check(both, running, squares).largest_gap < 1e-5
    assert check(replace(both, model=unmirrored(both.model)), running, squares).largest_gap > 1e-4


def test_faster_runtimes_look_twice_too(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(turned_run(make_bundle))
    monkeypatch.setattr(compute.network, "WORTH_COMPILING", 0.0)
    samples = [Sample(name=str(n), source=picture(80, 64, seed=n)) for n in range(compute.FEW)]
    fast = accelerated(bundle, bundle.model, temperature=bundle.manifest.temperature, samples=samples)
    assert fast is not bundle, "the machine's own engine would not be tested"
    pictures = [Image.fromarray(picture(80, 64, seed=n)) for n in range(8)]
    windows = np.stack([contract_pixels(each, bundle.preprocess) for each in pictures])
    np.testing.assert_allclose(fast.logits(windows), bundle.logits(windows), atol=0.05)
    assert tuple(fast.classes) == CLASSES
