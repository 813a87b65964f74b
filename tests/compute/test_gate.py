"""The gate: what passes, what is passed over, and what is remembered."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart import compute, weights
from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart._core.table import Table
from headstart.compute import gate, kept, network, with_openvino, with_torch
from headstart.compute.engines import ENGINES, Engine
from headstart.compute.records import Job, Outputs, Pixels
from headstart.data.records import Sample
from headstart.pixels import read_pixels
from headstart.weights import Backbone

Make = Callable[[int], list[Sample]]


@pytest.fixture(autouse=True)
def _everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "WORTH_COMPILING", 0)
    monkeypatch.setattr(network, "FEW", 1)


def with_broken(monkeypatch: pytest.MonkeyPatch, opener: str) -> None:
    """Put an engine that is broken on purpose before the others."""
    row = Engine("broken", "", "float32", "", "headstart.compute.with_torch:why_not_torch", opener)
    table: Table[Engine] = Table("engine", {"broken": row, **{name: ENGINES[name] for name in ENGINES}})
    for module in (gate, kept, network):
        monkeypatch.setattr(module, "ENGINES", table)


def open_refusing(job: Job) -> with_torch.TorchRunner:
    raise RuntimeError("this compiler does not like it\nat all")


def open_wrong(job: Job) -> with_torch.TorchRunner:
    """A runner that looks at half the picture's contrast."""
    right = with_torch.open_reference(job)
    return replace(right, network=lambda images: right.network(images // 3 + 80))


def open_nan(job: Job) -> with_torch.TorchRunner:
    right = with_torch.open_reference(job)
    return replace(right, network=lambda images: tuple(each * float("nan") for each in right.network(images)))


@pytest.mark.parametrize(
    ("opener", "outcome"),
    [
        ("open_refusing", "RuntimeError: this compiler"),
        ("open_wrong", "cosine 0"),
        ("open_nan", "cosine nan"),
    ],
)
def test_a_broken_engine_is_passed_over(
    opener: str, outcome: str, monkeypatch: pytest.MonkeyPatch, backbone: Backbone, samples: Make
) -> None:
    with_broken(monkeypatch, f"{__name__}:{opener}")
    images = samples(4)
    found = compute.choose(backbone, images, backbone.info.preprocess)
    assert found.chosen.tried[0].engine == "broken"
    assert outcome in found.chosen.tried[0].outcome
    assert found.chosen.engine != "broken"
    assert found.chosen.images == 4
    (features,) = compute.run(found, images, label="testing")
    (wanted,) = compute.run(compute.open_network(backbone, backbone.info.preprocess), images, label="testing")
    assert gate.cosines(features, wanted).min() >= gate.COSINE


def test_agreement_by_hand() -> None:
    reference = np.array([[1, 0], [3, 4]], np.float32)
    turned = np.array([[1, 0], [4, 3]], np.float32)
    found = gate.agreement((reference,), (turned,), None)
    assert found.cosine_min == pytest.approx(24 / 25)
    assert "0.96" in found.fault
    logits = np.array([[2.0, 1.9], [5.0, 1.0], [1.0, 3.0]], np.float32)
    tie = gate.agreement((logits,), (logits[:, ::-1].copy(),), lambda output: output)
    assert tie.top1 == 0
    assert tie.disagreements == 2  # the first image was near a tie
    assert gate.agreement((reference,), (reference[:, :1],), None).fault
    zeros = np.zeros((1, 2), np.float32)
    assert gate.agreement((zeros,), (zeros,), None).fault == ""
    assert gate.agreement((reference[:1],), (zeros,), None).fault


def test_few_images_go_to_torch(monkeypatch: pytest.MonkeyPatch, backbone: Backbone, samples: Make) -> None:
    monkeypatch.setattr(network, "FEW", 4)
    monkeypatch.setattr(network, "device", lambda: torch.device("cpu"))
    found = compute.choose(backbone, samples(3), backbone.info.preprocess)
    assert found.chosen.engine == compute.REFERENCE
    assert "3 images" in found.chosen.reason
    monkeypatch.setattr(network, "WORTH_COMPILING", 1e15)
    assert compute.choose(backbone, samples(5), backbone.info.preprocess).chosen.engine == compute.REFERENCE


needs_openvino = pytest.mark.skipif(bool(with_openvino.why_not()), reason="needs openvino")


@pytest.fixture
def only_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    table: Table[Engine] = Table("engine", {name: ENGINES[name] for name in ("openvino", compute.REFERENCE)})
    for module in (gate, kept, network):
        monkeypatch.setattr(module, "ENGINES", table)


def no_conversion(job: Job) -> None:
    raise AssertionError("traced again")


@needs_openvino
@pytest.mark.usefixtures("only_openvino")
def test_second_start_does_neither_trace_nor_try(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, samples: Make
) -> None:
    images = samples(5)
    first = compute.choose(backbone, images, backbone.info.preprocess)
    assert first.chosen.engine == "openvino"
    before = compute.run(first, images, label="testing")
    monkeypatch.setattr(with_openvino, "_converted", no_conversion)
    monkeypatch.setattr(gate, "contest", lambda *_: pytest.fail("tried again"))
    second = compute.choose(backbone, images, backbone.info.preprocess)
    assert second.chosen == first.chosen
    np.testing.assert_array_equal(compute.run(second, images, label="testing")[0], before[0])


@needs_openvino
@pytest.mark.usefixtures("only_openvino")
def test_few_images_are_answered_by_torch_whatever_is_kept(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, samples: Make
) -> None:
    """Else a run that came before a larger one could not be repeated after it."""
    contract = backbone.info.preprocess
    assert compute.choose(backbone, samples(5), contract).chosen.engine == "openvino"
    monkeypatch.setattr(network, "WORTH_COMPILING", 1e15)
    assert compute.choose(backbone, samples(5), contract).chosen.engine == compute.REFERENCE


@needs_openvino
@pytest.mark.usefixtures("only_openvino")
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "verdict", "gone"])
def test_a_damaged_entry_is_made_again(damage: str, backbone: Backbone, samples: Make) -> None:
    images = samples(3)
    contract = backbone.info.preprocess
    before = compute.run(compute.choose(backbone, images, contract), images, label="testing")
    folder = kept.folder_of(backbone.module, contract, ())
    assert folder is not None
    (blob,) = folder.glob("*.blob")
    content = blob.read_bytes()
    if damage == "verdict":
        (folder / "verdict.json").write_text('{"engine": "warp"')
    elif damage == "gone":
        blob.unlink()
    else:
        half = len(content) // 2
        blob.write_bytes(
            {
                "cut": content[:half],
                "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
                "empty": b"",
            }[damage]
        )
    after = compute.run(compute.choose(backbone, images, contract), images, label="testing")
    np.testing.assert_array_equal(after[0], before[0])
    assert with_openvino._read(blob) is not None
    assert json.loads((folder / "verdict.json").read_text())["engine"] == "openvino"


def test_the_key_knows_what_matters(monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    contract = backbone.info.preprocess
    keys = {kept.folder_of(backbone.module, contract, ())}
    keys.add(kept.folder_of(backbone.module, contract, ("layer1",)))
    keys.add(kept.folder_of(backbone.module, contract.at(96), ()))
    changed = copy.deepcopy(backbone.module)
    next(changed.parameters()).data[0] += 1e-3
    keys.add(kept.folder_of(changed, contract, ()))
    monkeypatch.setattr(kept, "processor", lambda: "another")
    keys.add(kept.folder_of(backbone.module, contract, ()))
    assert len(keys) == 5


def test_a_cache_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backbone: Backbone, samples: Make
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    images = samples(2)
    found = compute.choose(backbone, images, backbone.info.preprocess)
    assert compute.run(found, images, label="testing")[0].shape == (2, backbone.width)


def test_old_entries_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept, "KEEP", 2)
    chosen = compute.Chosen(engine=compute.REFERENCE, precision="float32", reason="test")
    for number in range(4):
        folder = tmp_path / f"entry{number}"
        folder.mkdir()
        os.utime(folder, (number, number))
    kept.save_verdict(tmp_path / "entry3", chosen)
    assert {path.name for path in tmp_path.iterdir()} == {"entry2", "entry3"}


def _start(folder: str, cache: str, out: multiprocessing.Queue[str]) -> None:
    os.environ["HEADSTART_CACHE"] = cache
    network.WORTH_COMPILING, network.FEW = 0, 1
    backbone = weights.blank("test_resnet")
    images = [Sample(name=path.name, source=path) for path in sorted(Path(folder).glob("*.jpg"))]
    found = compute.choose(backbone, images, backbone.info.preprocess)
    out.put(f"{found.chosen.engine} {compute.run(found, images, label='testing')[0].sum():.3f}")


@pytest.mark.slow
def test_concurrent_starts_and_kills(tmp_path: Path, samples: Make) -> None:
    """Four processes fill one entry at once and one of them is killed; the others and a late one agree."""
    samples(3)
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()
    arguments = (str(tmp_path), str(tmp_path / "shared"), answers)
    victim = context.Process(target=_start, args=(*arguments[:2], context.Queue()))
    started = [context.Process(target=_start, args=arguments) for _ in range(2)]
    for process in (victim, *started):
        process.start()
    victim.join(4)
    victim.kill()
    found = {answers.get(timeout=100) for _ in started}
    for process in (victim, *started):
        process.join(30)
    _start(*arguments)
    assert {answers.get(timeout=30)} == found


def test_pass_in_order_in_pieces_and_stopped(backbone: Backbone, samples: Make) -> None:
    images = samples(11)
    contract = backbone.info.preprocess
    net = compute.open_network(backbone, contract, depths=["layer1"])
    whole = compute.run(net, images, label="testing")
    assert [each.shape for each in whole] == [(11, backbone.width), (11, 2 * 16)]
    backwards = compute.run(net, images[::-1], label="testing")
    np.testing.assert_allclose(backwards[0][::-1], whole[0], rtol=1e-4, atol=1e-5)
    clock = Clock()
    clock.stop("Ctrl-C")
    with pytest.raises(compute.Stopped, match="Ctrl-C"):
        compute.run(net, images, label="testing", clock=clock)
    with pytest.raises(BadInput, match="no images"):
        compute.run(net, [], label="testing")


def test_lanes_work_at_once(backbone: Backbone, samples: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls are inside the runner at the same time, and results still come in order."""
    meeting = threading.Barrier(2, timeout=20)

    class Runner:
        lanes, batch, precision = 2, 2, "float32"

        def __call__(self, pixels: Pixels) -> Outputs:
            meeting.wait()
            return (pixels.reshape(len(pixels), -1)[:, :3].astype(np.float32),)

    images = samples(8)
    net = compute.open_network(backbone, backbone.info.preprocess)
    monkeypatch.setattr(net, "_runner", Runner())
    (found,) = compute.run(net, images, label="testing")
    for sample, row in zip(images, found, strict=True):
        np.testing.assert_array_equal(row, read_pixels(sample.source, backbone.info.preprocess)[0, 0])


@pytest.mark.parametrize("name", ["bundled:efficientnet_lite0", "random:resnet18"])
def test_operations_are_counted_as_torch_counts_them(name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from headstart.compute.network import flops

    backbone = weights.load(name)
    contract = backbone.info.preprocess.at(64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.module(torch.zeros(1, 3, 64, 64))
    assert flops(backbone.module, contract) == counter.get_total_flops()
