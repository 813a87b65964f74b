"""Scenes from memory are the scenes from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.masks import read_mask
from headstart.data.records import Mask, Outline, Sample
from headstart.pixels import PRESETS, Chances, decoded_scene, varied_scene
from headstart.weights import blank
from tests.tasks.scenes import scene

CONTRACT = blank("test_resnet").info.preprocess.boxed(96, 64)


def on_disk(folder: Path) -> Sample:
    """A scene whose picture and mask are files, with a stripe that counts neither way and colours for classes."""
    sample = scene(5)
    assert sample.mask is not None
    labels = np.array(sample.mask.source, np.uint8)
    labels[:4] = 9
    colours = np.stack([labels * 20, labels, 255 - labels], 2)
    meaning = tuple((int(n) * 20 << 16 | n << 8 | 255 - n, n if n < 9 else -1) for n in (0, 1, 2, 9))
    Image.fromarray(np.asarray(sample.source)).save(folder / "image.jpg")
    Image.fromarray(colours.astype(np.uint8)).save(folder / "mask.png")
    mask = Mask(source=folder / "mask.png", meaning=meaning, colour=True)
    return replace(sample, source=folder / "image.jpg", mask=mask)


def outlined(folder: Path) -> Sample:
    """The same with outlines for a mask."""
    line = Outline(label=2, polygons=((8.0, 8.0, 60.0, 8.0, 60.0, 40.0, 8.0, 40.0),))
    return replace(on_disk(folder), mask=Mask(source=(line,), meaning=((0, 0), (2, 2))))


@pytest.mark.parametrize("make", [on_disk, outlined])
def test_a_decoded_sample_makes_the_same_scenes(make: object, tmp_path: Path) -> None:
    assert callable(make)
    sample = make(tmp_path)
    kept = decoded_scene(sample)
    assert isinstance(kept.source, np.ndarray)
    assert kept.mask is not None
    assert isinstance(kept.mask.source, np.ndarray)
    for file in tmp_path.iterdir():
        file.unlink()  # nothing is read again
    labels = set()
    for seed in range(6):
        found = varied_scene(kept, CONTRACT, Chances(PRESETS["strong"], True, np.random.default_rng(seed)))
        make(tmp_path)
        again = varied_scene(sample, CONTRACT, Chances(PRESETS["strong"], True, np.random.default_rng(seed)))
        assert (found.pixels == again.pixels).all()
        assert (found.boxes == again.boxes).all()
        assert found.labels is not None
        assert again.labels is not None
        assert (found.labels == again.labels).all()
        labels |= set(np.unique(found.labels).tolist())
    assert -1 in labels
    assert 2 in labels or make is on_disk


def test_values_are_looked_up_and_sorted_alike() -> None:
    """Values above the table's end are sorted instead; both say the same of the same picture."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 6, (40, 50))
    meaning = {0: 3, 1: 0, 2: -1, 4: 2}  # 3 and 5 mean nothing
    found = read_mask(Mask(source=stored.astype(np.uint8), meaning=tuple(meaning.items())), (50, 40))
    expected = np.vectorize(lambda value: meaning.get(value, -1))(stored)
    assert (found.labels == expected).all()
    assert found.labels.dtype == np.int16
    assert found.values == (3, 5)
    assert found.unknown == int(np.isin(stored, [3, 5]).sum())
    high = tuple((value * 2**14, label) for value, label in meaning.items())
    again = read_mask(Mask(source=(stored * 2**14).astype(np.int64), meaning=high), (50, 40))
    assert (again.labels == expected).all()
    assert (again.values, again.unknown) == ((3 * 2**14, 5 * 2**14), found.unknown)
