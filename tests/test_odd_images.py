"""The collection of odd images: each is read, or refused with a reason, as its manifest says."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headstart import data
from headstart.data.images import Undecodable, open_rgb
from headstart.data.preprocess import Preprocess
from headstart.data.records import Sample
from headstart.data.scan import scan
from headstart.predict import as_row, predict


class Constant:
    """A predictor that always says the same: what is tested is the way to it."""

    task = "classify"
    classes = ("even", "odd")
    preprocess = Preprocess(
        height=8, width=8, resize=9, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert pixels.shape[1:] == (8, 8, 3)
        return np.tile(np.array([0.0, 1.0], np.float32), (len(pixels), 1))


@pytest.fixture(scope="module")
def manifest(test_data: Path) -> dict[Path, bool]:
    """Path -> whether it must be readable."""
    folder = test_data / "odd-images"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) > 40
    assert {row["readable"] for row in rows} == {"yes", "no"}
    return {folder / row["file"]: row["readable"] == "yes" for row in rows}


def _samples(manifest: dict[Path, bool]) -> Sequence[Sample]:
    return [Sample(name=str(path), source=path) for path in manifest]


def test_decoding(manifest: dict[Path, bool]) -> None:
    wrong = []
    for path, readable in manifest.items():
        try:
            image = open_rgb(path)
        except Undecodable as error:
            if readable or not error.reason:
                wrong.append((path.name, error.reason))
            continue
        if not readable or image.mode != "RGB" or min(image.size) < 1:
            wrong.append((path.name, f"decoded as {image.mode} {image.size}"))
    assert not wrong


def test_scan_lists_the_unreadable_with_a_reason(manifest: dict[Path, bool]) -> None:
    found = scan(_samples(manifest))
    assert {sample.name for sample in found.samples} == {str(path) for path, good in manifest.items() if good}
    assert {bad.name for bad in found.unreadable} == {
        str(path) for path, good in manifest.items() if not good
    }
    assert all(bad.reason for bad in found.unreadable)


def test_predict_has_a_row_for_each(manifest: dict[Path, bool]) -> None:
    rows = {row["path"]: row for row in map(as_row, predict(Constant(), _samples(manifest)))}
    assert list(rows) == [str(path) for path in manifest], "one row for each image, in order"
    for path, readable in manifest.items():
        row = rows[str(path)]
        assert list(row) == ["path", "class", "probability", "top_k", "error", "set", "unlike", "novelty"]
        if readable:
            assert (row["class"], row["error"]) == ("odd", None), path.name
        else:
            assert (row["class"], row["probability"], row["top_k"]) == (None, None, []), path.name
            assert row["error"], path.name


def test_find_images_takes_hidden_files_only_by_name(manifest: dict[Path, bool]) -> None:
    folder = next(iter(manifest)).parent
    found = {sample.name for sample in data.find_images([folder])}
    assert found == {str(path) for path in manifest if not path.name.startswith(".")}
    hidden = folder / ".hidden.jpg"
    assert [sample.source for sample in data.find_images([hidden])] == [hidden]
