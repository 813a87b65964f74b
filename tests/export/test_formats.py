"""Every row of `FORMATS`: raw images in, the bundle's calibrated probabilities out, or no file at all."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import headstart
from headstart._core.errors import BadInput, BadOption, BadPlan, MissingPackage
from headstart._core.table import load
from headstart.data.records import Sample
from headstart.export import FORMATS, Runner, check, export, open_bundle, parity
from headstart.pixels import contract_pixels
from headstart.runs.fit import validation_images
from tests.export.conftest import CLASSES, MakeBundle, picture, preprocess

ONE_OF_EACH = [("resnet10t", "classify"), ("test_vit", "multilabel")]


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    for package in FORMATS[request.param].needs:
        pytest.importorskip(package)
    return str(request.param)


@pytest.mark.parametrize(("arch", "task"), ONE_OF_EACH)
def test_the_file_answers_as_the_bundle_does(
    name: str, make_bundle: MakeBundle, samples: tuple[Sample, ...], arch: str, task: str
) -> None:
    size = 160 if arch == "test_vit" else 224
    run = make_bundle(arch, task=task, contract=preprocess(size))
    done = export(run, name, samples=samples)
    assert done.path == run / f"model{FORMATS[name].suffix}"
    assert done.bytes == done.path.stat().st_size
    assert done.parity.n == len(samples)
    assert done.parity.passed
    assert done.parity.top1_agreement == 1
    assert done.parity.largest_gap < 1e-3
    runner, bundle = load(FORMATS[name].open)(done.path), open_bundle(run)
    batch = np.stack([picture(70, 50, seed) for seed in range(5)])
    windows = np.stack([contract_pixels(Image.fromarray(image), bundle.preprocess) for image in batch])
    ours, theirs = bundle.probabilities(windows), runner(batch)
    assert theirs.shape == (5, len(CLASSES))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.ptp(ours, axis=0).max() > 1e-2, "answers must differ for this test to mean anything"
    sums = theirs.sum(1)
    assert np.allclose(sums, 1, atol=1e-5) == (task == "classify")


def test_the_figures_are_kept_beside_the_file(
    name: str, make_bundle: MakeBundle, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    done = export(make_bundle(), name, out=tmp_path / "out" / "my.model", samples=samples)
    kept = json.loads((tmp_path / "out" / f"export-{name}.json").read_text())
    assert kept["parity"] == asdict(done.parity)
    assert kept["path"] == "my.model"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"export-{name}.json", "my.model"]


def test_a_file_with_other_answers_is_not_handed_out(
    name: str, make_bundle: MakeBundle, samples: tuple[Sample, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_bundle()
    write = load(FORMATS[name].write)

    def wrong(bundle, path):
        write(replace(bundle, manifest=replace(bundle.manifest, temperature=0.2)), path)

    monkeypatch.setattr(parity, "load", lambda path: wrong if path == FORMATS[name].write else load(path))
    with pytest.raises(BadPlan, match=r"largest probability gap is 0\.\d+"):
        export(run, name, samples=samples)
    assert [path.name for path in run.iterdir()] == ["bundle"]


def test_a_missing_package_names_its_install_line(
    name: str, make_bundle: MakeBundle, samples: tuple[Sample, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not FORMATS[name].needs:
        pytest.skip("this format needs no optional package")
    monkeypatch.setattr(parity, "find_spec", lambda _: None)
    with pytest.raises(MissingPackage, match=r"pip install 'headstart\["):
        export(make_bundle(), name, samples=samples)


def test_bad_requests_are_refused_before_the_work(
    make_bundle: MakeBundle, samples: tuple[Sample, ...]
) -> None:
    with pytest.raises(BadOption, match="Did you mean 'onnx'"):
        export(make_bundle(), "onxx", samples=samples)
    with pytest.raises(BadInput, match="no image to check"):
        check(open_bundle(make_bundle()), lambda images: np.zeros((len(images), 3), np.float32), samples=())


@pytest.mark.parametrize(
    ("task", "shift", "passes", "agreement"),
    [("classify", 0.019, True, 1.0), ("classify", 0.021, False, 1.0), ("multilabel", 0.0, True, 1.0)],
)
def test_the_thresholds_are_the_promised_ones(
    task: str, shift: float, passes: bool, agreement: float
) -> None:
    ours = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = parity._compare(task, ours, ours + np.array([[-shift, shift], [0, 0]]))
    assert (found.passed, found.top1_agreement) == (passes, agreement)
    assert found.largest_gap == pytest.approx(shift)
    assert found.mean_gap == pytest.approx(shift / 2)


def test_agreement_counts_whole_answers() -> None:
    ours = np.array([[0.501, 0.7], [0.2, 0.8]])
    theirs = np.array([[0.499, 0.7], [0.2, 0.8]])
    assert parity._compare("multilabel", ours, theirs).top1_agreement == 0.5
    assert parity._compare("classify", ours, theirs).top1_agreement == 1.0
    assert not parity._compare("multilabel", ours, theirs).passed
    assert not parity._compare("classify", ours, theirs * np.nan).passed


def test_onnx_metadata_tell_what_a_user_of_the_file_needs(
    make_bundle: MakeBundle, samples: tuple[Sample, ...]
) -> None:
    onnx = pytest.importorskip("onnx")
    done = export(make_bundle(), "onnx", samples=samples[:1])
    model = onnx.load(str(done.path))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found["classes"]) == list(CLASSES)
    assert (found["licence"], found["task"], found["weights"]) == ("Apache-2.0", "classify", "timm:resnet10t")
    assert json.loads(found["preprocess"])["resize"] == 256
    assert float(found["temperature"]) == 1.7
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim] == [
        "N",
        "H",
        "W",
        3,
    ]


def test_a_network_that_cannot_be_written_is_named(
    make_bundle: MakeBundle, samples: tuple[Sample, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    import torch

    def fails(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nmore")

    monkeypatch.setattr(torch.onnx, "export", fails)
    run = make_bundle()
    with pytest.raises(BadPlan, match="'resnet10t' as ONNX: no such operator"):
        export(run, "onnx", samples=samples)
    assert [path.name for path in run.iterdir()] == ["bundle"]


def test_pretrained_photos_agree(test_data: Path, make_bundle: MakeBundle) -> None:
    pytest.importorskip("onnxruntime")
    run = make_bundle("tf_efficientnet_lite0", contract=preprocess(224, mean=(0.5,) * 3, std=(0.5,) * 3))
    files = sorted((test_data / "hymenoptera" / "val").rglob("*.jpg"))[::20]
    photos = tuple(Sample(name=file.name, source=file) for file in files)
    found = export(run, "onnx", samples=photos).parity
    assert found.top1_agreement == 1
    assert found.largest_gap < 0.01


def test_one_image_in_two_hundred_may_be_answered_otherwise() -> None:
    ours = np.tile([0.501, 0.499], (400, 1))
    for different, passes in ((2, True), (3, False)):
        theirs = ours.copy()
        theirs[:different] = ours[:different, ::-1]  # a gap of 0.002 is no reason to fail
        found = parity._compare("classify", ours, theirs)
        assert (found.passed, found.top1_agreement) == (passes, 1 - different / 400)


def test_a_file_that_was_there_survives_a_failed_export(
    name: str, make_bundle: MakeBundle, samples: tuple[Sample, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_bundle()
    old = run / f"model{FORMATS[name].suffix}"
    old.write_bytes(b"the old one")

    def swapped(_: Path) -> Runner:
        return lambda images: np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(images), 1))

    monkeypatch.setattr(parity, "load", lambda path: swapped if path == FORMATS[name].open else load(path))
    with pytest.raises(BadPlan, match=r"they agree on \d+\.\d+% \(needed: 99\.5%\)"):
        export(run, name, samples=samples)
    assert old.read_bytes() == b"the old one"
    assert sorted(path.name for path in run.iterdir()) == ["bundle", old.name]


@pytest.mark.parametrize("batchnorm", ["tuned", "re-estimated"])
def test_moved_batchnorm_statistics_are_in_the_file(name: str, tmp_path: Path, batchnorm: str) -> None:
    """After a real fine-tuning the statistics are no longer those of the checkpoint, and the file has the new ones."""
    digits = load_digits()
    for number in range(48):
        folder = tmp_path / "photos" / ("odd" if digits.target[number] % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(folder / f"{number}.png")
    done = headstart.fit(
        tmp_path / "photos",
        method="full",
        weights="random:test_resnet",
        epochs=2,
        batch_size=16,
        augment="none",
        batchnorm=batchnorm,
        out=str(tmp_path / "run"),
    )
    bundle = open_bundle(done.folder)
    moved = [
        buffer
        for place, buffer in bundle.model.named_buffers()
        if place.endswith("running_mean") and buffer.abs().max() > 1e-3
    ]
    assert moved, "a blank network starts with means of zero"
    found = export(done.folder, name, samples=validation_images(done.folder)).parity
    assert found.top1_agreement == 1
    assert found.largest_gap < 1e-3
