"""One pass over the files."""

import csv
import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data import scan as scan_module
from headstart.data.images import Undecodable, open_rgb
from headstart.data.records import Sample
from headstart.data.scan import scan


def test_every_odd_image_as_its_manifest_says(test_data: Path) -> None:
    folder = test_data / "odd-images"
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        readable = {row["file"]: row["readable"] == "yes" for row in csv.DictReader(file)}
    result = scan([Sample(name=name, source=folder / name) for name in readable])
    assert [sample.name for sample in result.samples] == [name for name, yes in readable.items() if yes]
    assert [item.name for item in result.unreadable] == [name for name, yes in readable.items() if not yes]
    for item in result.unreadable:  # the same words as the decoder's
        with pytest.raises(Undecodable) as caught:
            open_rgb(folder / item.name)
        assert caught.value.reason == item.reason
    for sample in result.samples:
        assert isinstance(sample.source, Path)
        assert (sample.width, sample.height) == open_rgb(sample.source).size
        assert sample.digest == hashlib.sha256(sample.source.read_bytes()).hexdigest()
    assert sum(result.formats.values()) == sum(result.modes.values()) == len(result.samples)
    assert result.formats["GIF"] == 4  # one of them named .png
    assert result.modes["CMYK"] == 2


def test_same_bytes_same_digest_and_what_was_known_stays(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    first, second = scan(
        [Sample(name=n, source=tmp_path / n, labels=(3,), split="val", group="g") for n in ("a.png", "b.png")]
    ).samples
    assert first.digest == second.digest
    assert (first.labels, first.split, first.group, first.width, first.height) == ((3,), "val", "g", 7, 5)


def test_arrays_in_memory() -> None:
    flat = np.arange(12, dtype=np.uint8)
    arrays = [flat.reshape(3, 4), flat.reshape(4, 3), flat.reshape(2, 2, 3), flat.reshape(1, 3, 4), flat]
    result = scan([Sample(name=f"memory:{i}", source=array) for i, array in enumerate(arrays)])
    assert len({sample.digest for sample in result.samples}) == 4  # same bytes, other shape: another picture
    assert [(s.width, s.height) for s in result.samples] == [(4, 3), (3, 4), (2, 2), (3, 1)]
    assert (result.formats, result.modes) == ({"array": 4}, {"L": 2, "RGB": 1, "RGBA": 1})
    assert [item.name for item in result.unreadable] == ["memory:4"]
    turned = scan([Sample(name="x", source=np.ascontiguousarray(arrays[0].T).T)]).samples[0]
    assert turned.digest == result.samples[0].digest  # memory order is no content


def test_nothing_is_read_far_ahead_and_an_error_stops_the_pass() -> None:
    begun = []
    gate = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        gate.wait(5)
        if item == 20:
            raise RuntimeError("a bug")
        return item * item

    results = scan_module._ordered(work, range(1000), threads=2)
    gate.set()
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(begun) <= 9
    with pytest.raises(RuntimeError, match="a bug"):
        list(results)
    assert len(begun) < 40


def test_nothing_to_scan() -> None:
    result = scan([])
    assert (result.samples, result.unreadable, result.formats) == ((), (), {})
