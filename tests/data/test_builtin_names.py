"""The built-in names: scikit-learn's digits and torchvision's datasets, from a local server."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from headstart._core.errors import BadInput
from headstart.data.readers.torchvision_sets import SETS
from tests.data.test_readers import listed, picture


def test_digits() -> None:
    listing = listed("digits")
    assert len(listing.samples) == 1797
    assert listing.classes == tuple("0123456789")
    sample = listing.samples[17]
    assert (sample.name, sample.labels) == ("digits:17", (7,))
    assert isinstance(sample.source, np.ndarray)
    assert sample.source.shape == (8, 8)
    assert sample.source.dtype == np.uint8
    # its first rows, from the UCI file: 0 0 1 8 15 10 0 0 / 0 3 13 15 14 14 0 0
    assert sample.source[0].tolist() == [round(v * 255 / 16) for v in (0, 0, 1, 8, 15, 10, 0, 0)]
    assert max(int(np.asarray(one.source).max()) for one in listing.samples) == 255


def idx(values: np.ndarray) -> bytes:
    """MNIST's file format, compressed."""
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.tobytes(), mtime=0)


@pytest.fixture
def mnist_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A local server with five training and three test images in MNIST's format."""
    from torchvision import datasets

    rng = np.random.default_rng(0)
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for part, count in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 255, (count, 28, 28), np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8))):
            file = folder / f"{part}-{name}-ubyte.gz"
            file.write_bytes(idx(values))
            resources.append((file.name, hashlib.md5(file.read_bytes()).hexdigest()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield folder
    server.shutdown()
    server.server_close()


def test_torchvision(mnist_mirror: Path, tmp_path: Path) -> None:
    listing = listed("torchvision:mnist")  # case does not matter
    assert [sample.split for sample in listing.samples] == ["train"] * 5 + ["test"] * 3
    assert listing.classes == tuple("0123456789")
    assert listing.samples[6].name == "MNIST:test/1"
    assert listing.samples[6].labels == (1,)
    expected = np.random.default_rng(0).integers(0, 255, (5, 28, 28), np.uint8)
    assert np.array_equal(np.asarray(listing.samples[2].source), expected[2])
    assert (tmp_path / "cache/datasets/MNIST/raw").is_dir()
    for file in mnist_mirror.iterdir():
        file.unlink()
    assert len(listed("torchvision:MNIST").samples) == 8  # a second time there is no download


def test_torchvision_checks_what_it_downloads(mnist_mirror: Path) -> None:
    (mnist_mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(
        BadInput, match=r"MNIST is not in .*cache/datasets and could not be downloaded"
    ) as caught:
        listed("torchvision:MNIST")
    assert "t10k" in caught.value.hint


def test_torchvision_names() -> None:
    with pytest.raises(BadInput) as caught:
        listed("torchvision:CIFAR11")
    assert "Did you mean 'CIFAR10" in caught.value.hint


@pytest.mark.parametrize("name", SETS)
def test_torchvision_rows_fit_torchvision(name: str) -> None:
    import inspect

    from torchvision import datasets

    known = inspect.signature(getattr(datasets, name).__init__).parameters
    assert "download" in known
    for split, arguments in SETS[name].parts.items():
        assert split in ("", "train", "val", "test")
        assert set(arguments) <= set(known)
    if "train" in SETS[name].parts:
        assert "test" in SETS[name].parts


class _Held:
    """What torchvision's objects keep, without the download."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


def test_torchvision_images_in_memory() -> None:
    data = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    for held in (
        _Held(data=data, targets=[4, 2]),  # CIFAR
        _Held(data=data.transpose(0, 3, 1, 2), labels=np.array([4, 2])),  # SVHN, STL10
    ):
        items = list(SETS["CIFAR10"].items(held))
        assert [label for _, label in items] == [4, 2]
        assert np.array_equal(np.asarray(items[1][0]), data[1])


def test_torchvision_images_in_files(tmp_path: Path) -> None:
    for kind in ("Forest", "River"):
        picture(tmp_path / f"cache/datasets/eurosat/2750/{kind}/{kind}_1.jpg")
    listing = listed("torchvision:EuroSAT")
    assert [(Path(s.name).name, s.labels, s.split) for s in listing.samples] == [
        ("Forest_1.jpg", (0,), ""),
        ("River_1.jpg", (1,), ""),
    ]
    for split in ("train", "val", "test"):
        labels = tmp_path / f"cache/datasets/dtd/dtd/labels/{split}1.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(f"dotted/{split}_a.jpg\nlined/{split}_b.jpg\n")
        picture(tmp_path / f"cache/datasets/dtd/dtd/images/dotted/{split}_a.jpg")
    listing = listed("torchvision:DTD")
    assert listing.classes == ("dotted", "lined")
    assert sorted({sample.split for sample in listing.samples}) == ["test", "train", "val"]
    assert sum(Path(sample.name).is_file() for sample in listing.samples) == 3
    for number in (1, 2):
        picture(tmp_path / f"cache/datasets/caltech101/101_ObjectCategories/crab/image_{number:04d}.jpg")
    (tmp_path / "cache/datasets/caltech101/101_ObjectCategories/BACKGROUND_Google").mkdir()
    (tmp_path / "cache/datasets/caltech101/Annotations").mkdir()
    listing = listed("torchvision:Caltech101")
    assert listing.classes == ("crab",)
    assert all(Path(sample.name).is_file() for sample in listing.samples)
