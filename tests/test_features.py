"""Features by content: computed once, kept between runs, in the order asked for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from headstart import compute, features
from headstart._core.clock import Clock
from headstart._core.errors import BadInput
from headstart._core.places import cache_folder, cache_root
from headstart._core.store import row_keys
from headstart.data.images import open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.data.scan import scan
from headstart.features import FeatureStore
from headstart.pixels import contract_pixels
from headstart.weights import Backbone, Stage
from headstart.weights.records import WeightsInfo

WIDTH = 6
HALF = (0.5, 0.5, 0.5)
CONTRACT = Preprocess(height=8, width=8, resize=8, interpolation="bicubic", mean=HALF, std=HALF)


def backbone(*, seed: int = 0, contract: Preprocess = CONTRACT) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Conv2d(3, WIDTH, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    info = WeightsInfo(name="x", arch="tiny", licence="none", source="none", preprocess=contract)
    return Backbone(info=info, module=module.eval(), stages=(), norms=(), width=WIDTH)


def images(numbers: Sequence[int]) -> tuple[Sample, ...]:
    """Scanned samples in memory, one picture for each number."""
    pictures = (np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8) for number in numbers)
    return scan([Sample(name=str(n), source=p) for n, p in zip(numbers, pictures, strict=True)]).samples


def row_of(sample: Sample) -> list[float]:
    return [float(byte) for byte in bytes.fromhex(sample.digest)[:WIDTH]]


class Counted:
    """Takes the place of `compute.stream`: rows made of the digests, and a note of who was asked for."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.before: Callable[[], None] = lambda: None

    @property
    def names(self) -> list[str]:
        return [name for call in self.calls for name in call]

    def __call__(
        self,
        network: compute.Network,
        samples: Sequence[Sample],
        *,
        label: str,
        clock: Clock | None,
        loader: Any,
    ) -> Iterator[tuple[tuple[int, ...], tuple[NDArray[np.float32], ...]]]:
        self.calls.append([])
        for start in range(0, len(samples), 2):
            part = samples[start : start + 2]
            self.before()
            self.calls[-1] += [sample.name for sample in part]
            yield tuple(range(start, start + len(part))), (np.array([row_of(s) for s in part], np.float32),)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    out = Counted()
    monkeypatch.setattr(compute, "stream", out)
    monkeypatch.setattr(features, "PIECE", 4)
    return out


def right(found: NDArray[np.float32], samples: Sequence[Sample]) -> bool:
    return found.dtype == np.float32 and found.tolist() == [row_of(sample) for sample in samples]


def test_the_rows_are_those_of_the_network() -> None:
    samples, network = images(range(70)), backbone()
    expected = compute.forward(network.module, samples, CONTRACT, label="x")
    np.testing.assert_allclose(FeatureStore(network).get(samples), expected, rtol=1e-5, atol=1e-6)
    again = FeatureStore(backbone()).get(samples[::-1])
    assert (again[::-1] == FeatureStore(network).get(samples)).all()


def test_order_and_duplicates(counted: Counted) -> None:
    samples = images([5, 3, 5, 9, 1, 3, 3, 0, 7, 5])
    assert right(FeatureStore(backbone()).get(samples), samples)
    assert sorted(counted.names) == sorted("53910" + "7")
    assert right(FeatureStore(backbone()).get(samples[::-1]), samples[::-1])
    assert len(counted.names) == 6


def test_ten_new_images_cost_ten(counted: Counted) -> None:
    FeatureStore(backbone()).get(images(range(20)))
    counted.calls.clear()
    more = images([*range(25, 30), *range(20), *range(20, 25)])
    assert right(FeatureStore(backbone()).get(more), more)
    assert sorted(counted.names, key=int) == [str(number) for number in range(20, 30)]


def test_no_images_no_rows(counted: Counted) -> None:
    assert FeatureStore(backbone()).get(()).shape == (0, WIDTH)


def test_other_weights_and_other_preprocessing_have_rows_of_their_own(counted: Counted) -> None:
    samples = images(range(3))
    others = [
        backbone(seed=1),
        backbone(contract=CONTRACT.at(16)),
        replace(backbone(), info=replace(backbone().info, arch="other")),
    ]
    for each in (backbone(), *others):
        FeatureStore(each).get(samples)
    assert len(counted.names) == 12
    FeatureStore(replace(backbone(), info=replace(backbone().info, name="y", source="elsewhere"))).get(
        samples
    )
    assert len(counted.names) == 12, "where weights come from does not matter, only what they are"


def test_every_tensor_of_the_weights_counts() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    hashes = [compute.content_hash(network), compute.content_hash(copy.deepcopy(network))]
    assert hashes[0] == hashes[1]
    for tensor in (*network.parameters(), *network.buffers()):
        with torch.no_grad():
            tensor.add_(1)
        hashes.append(compute.content_hash(network))
    assert len(set(hashes)) == len(hashes) - 1 == 8


def test_an_interrupted_pass_keeps_what_was_computed(counted: Counted) -> None:
    def stop() -> None:
        if len(counted.names) == 14:  # in the middle of a piece
            raise compute.Stopped("Ctrl-C")

    counted.before, samples = stop, images(range(20))
    with pytest.raises(compute.Stopped):
        FeatureStore(backbone()).get(samples)
    counted.before = lambda: None
    assert right(FeatureStore(backbone()).get(samples), samples)
    assert len(counted.names) == len(set(counted.names)) == 20


def test_a_killed_process_loses_the_piece_in_hand(counted: Counted) -> None:
    """What is on disk at any moment is all but fewer than a piece of what was computed."""
    samples, lost = images(range(20)), []

    def look() -> None:
        found = FeatureStore(backbone())._pass(samples, (), None).rows["output"]
        lost.append(len(counted.names) - int(found.has(row_keys(s.digest for s in samples)).sum()))

    counted.before = look
    FeatureStore(backbone()).get(samples)
    assert lost == [0, 2] * 5


def test_what_another_process_finishes_meanwhile_is_taken(counted: Counted) -> None:
    samples = images(range(20))

    def another() -> None:
        counted.before = lambda: None
        FeatureStore(backbone()).get(samples[4:])

    counted.before = another
    assert right(FeatureStore(backbone()).get(samples), samples)
    assert len(counted.names) <= 24, "the piece in hand may be computed twice, nothing else"


def test_two_processes_do_not_walk_in_step(counted: Counted) -> None:
    for number in range(8):
        FeatureStore(backbone(seed=number)).get(images(range(42)))
    assert len({call[0] for call in counted.calls}) > 1
    batches = {tuple(call[at : at + 2]) for call in counted.calls for at in range(0, 42, 2)}
    assert len(batches) == 21, "the same images share a batch in any order"


def test_several_depths_in_one_pass() -> None:
    """Each depth: mean and deviation over the places, as NumPy makes them of the module's own output."""
    samples, network = images(range(5)), backbone()
    pixels = np.stack([contract_pixels(open_rgb(sample.source), CONTRACT) for sample in samples])
    normal = torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    inner = network.module.get_submodule("0")(normal).detach().numpy()
    expected = np.concatenate([inner.mean((2, 3)), inner.std((2, 3))], 1)
    for _ in range(2):
        found = FeatureStore(network).get_depths(samples, ["0"])
        np.testing.assert_allclose(found["0"], expected, atol=1e-6)
        np.testing.assert_allclose(found["output"], inner.mean((2, 3)), atol=1e-6)


def test_depths_are_computed_once_and_share_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    stream = compute.stream

    def counting(network: compute.Network, samples: Sequence[Sample], **more: Any) -> Any:
        asked.append(len(samples))
        return stream(network, samples, **more)

    monkeypatch.setattr(compute, "stream", counting)
    samples = images(range(6))
    FeatureStore(backbone()).get_depths(samples[:4], ["0"])
    FeatureStore(backbone()).get(samples[:4])
    FeatureStore(backbone()).get_depths(samples, ["0"])
    FeatureStore(backbone()).get_depths(samples, ["0"])
    assert asked == [4, 2]


def test_the_first_call_chooses_the_runtime_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    choose = compute.choose

    def counting(source: Backbone, samples: Sequence[Sample], *more: Any, **named: Any) -> compute.Network:
        asked.append(len(samples))
        return choose(source, samples, *more, **named)

    monkeypatch.setattr(compute, "choose", counting)
    store = FeatureStore(backbone())
    store.get(images(range(4)))
    store.get(images(range(4, 9)))
    FeatureStore(backbone(), among=images(range(9))).get(images(range(2)))
    assert asked == [4, 9]


def test_a_tapped_store_answers_everything_by_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another set of depths is another compiled network; what is answered and kept is the same, and nothing more."""
    asked: list[tuple[str, ...]] = []
    choose = compute.choose

    def counting(*more: Any, depths: Sequence[str], **named: Any) -> compute.Network:
        asked.append(tuple(depths))
        return choose(*more, depths=depths, **named)

    monkeypatch.setattr(compute, "choose", counting)
    stages = tuple(Stage(name=f"stage{n}", modules=(n,), parameters=(), output=n) for n in ("0", "1"))
    samples, source = images(range(5)), replace(backbone(), stages=stages)
    every = [stage.output for stage in source.stages]
    store = FeatureStore(source, tapped=True)
    plain = store.get(samples)
    inner = store.get_depths(samples, every[:1])
    assert asked == [tuple(every)]
    assert list(inner) == ["output", every[0]]
    own = FeatureStore(source)
    np.testing.assert_array_equal(plain, own.get(samples))
    np.testing.assert_array_equal(inner[every[0]], own.get_depths(samples, every[:1])[every[0]])


@pytest.mark.parametrize(("precision", "passes"), [("float32", 1), ("mixed", 2)])
def test_below_float32_rows_are_those_of_one_set_of_depths(
    precision: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else is read decides there which layers are fused: rows of two sets differ in the last digits."""
    choose, stream, asked = compute.choose, compute.stream, [0]

    def lower(*more: Any, **named: Any) -> compute.Network:
        network = choose(*more, **named)
        network.chosen = replace(network.chosen, precision=precision)
        return network

    def counting(network: compute.Network, samples: Sequence[Sample], **more: Any) -> Any:
        asked[0] += len(samples)
        return stream(network, samples, **more)

    monkeypatch.setattr(compute, "choose", lower)
    monkeypatch.setattr(compute, "stream", counting)
    samples, source = images(range(5)), backbone()
    FeatureStore(source).get_depths(samples, ["0"])
    FeatureStore(source).get(samples)
    assert asked == [5 * passes]


def test_without_a_disk_rows_are_still_computed_once(counted: Counted) -> None:
    cache_root().mkdir(parents=True)
    cache_folder("features").write_text("a file in the folder's place")
    samples, store = images(range(10)), FeatureStore(backbone())
    for _ in range(2):
        assert right(store.get(samples), samples)
    assert len(counted.names) == 10


def test_a_file_that_changed_since_it_was_scanned_is_not_kept(counted: Counted, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    samples = scan([Sample(name=path.name, source=path) for path in paths]).samples
    Image.new("RGB", (9, 9), (99, 0, 0)).save(paths[2])
    paths[4].unlink()
    FeatureStore(backbone()).get(samples)
    counted.calls.clear()
    FeatureStore(backbone()).get(samples)
    assert sorted(counted.names) == ["2.png", "4.png"]


def test_an_unscanned_image_is_refused() -> None:
    with pytest.raises(BadInput, match="no digest"):
        FeatureStore(backbone()).get([Sample(name="x", source=np.zeros((9, 9, 3), np.uint8))])


def test_the_digest_is_the_one_of_the_files_bytes(tmp_path: Path) -> None:
    """The cache trusts this: it compares a file's hash with the digest of its sample."""
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    (sample,) = scan([Sample(name="x", source=tmp_path / "x.png")]).samples
    assert sample.digest == hashlib.sha256((tmp_path / "x.png").read_bytes()).hexdigest()


# views -----------------------------------------------------------------------------------------------------


def test_the_first_view_is_the_mirror_image() -> None:
    samples = images(range(3))
    turned = [replace(s, source=np.asarray(s.source)[:, ::-1].copy(), digest="") for s in samples]
    mirrored = scan(turned).samples
    _, mirror = features.views(2, flip=True)
    store = FeatureStore(backbone())
    assert np.allclose(store.get(samples, view=mirror), store.get(mirrored), atol=1e-5)


def test_views_are_the_same_in_any_company_and_kept_apart() -> None:
    samples = images(range(5))
    kinds = features.views(4, flip=True)
    first = {kind: FeatureStore(backbone()).get(samples, view=kind) for kind in kinds}
    backwards = FeatureStore(backbone()).get(samples[::-1], view=kinds[3])[::-1]
    assert np.array_equal(first[kinds[3]], backwards)
    rows = {each.tobytes() for each in first.values()}
    assert len(rows) == len(kinds)
    unflipped = features.views(2, flip=False)[1]
    assert not np.array_equal(FeatureStore(backbone()).get(samples, view=unflipped), first[kinds[1]])


def test_a_view_is_computed_once(counted: Counted) -> None:
    samples = images(range(4))
    _, view = features.views(2, flip=True)
    for _ in range(2):
        FeatureStore(backbone()).get(samples, view=view)
    assert len(counted.names) == 4
