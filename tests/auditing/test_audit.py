"""The whole audit on planted trouble, and the way of reviewed labels back into the data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from headstart import data
from headstart._core import records
from headstart._core.errors import BadInput, BadOption
from headstart.auditing import Audit, Material, audit
from headstart.auditing.looks import look_at
from headstart.data.records import LoadOptions
from headstart.runs.audit import audit_data, write_labels
from tests.auditing.pictures import COPIES, jpeg, saved, scene


def trouble(folder: Path) -> Material:
    """Training images 0 to 9; test images 20 to 29, of which 20 is a mirrored training image with another label."""
    pictures = {f"train{seed}.jpg": jpeg(scene(seed)) for seed in range(10)}
    pictures |= {f"test{seed}.jpg": jpeg(scene(seed)) for seed in range(21, 30)}
    pictures["test20.jpg"] = jpeg(COPIES["mirror"](scene(4)), quality=60)
    splits = {name: name.rstrip(".jpg0123456789") for name in pictures}
    samples = saved(folder, pictures, split=splits)
    labels = {sample.name: (int(sample.name == "test20.jpg"),) for sample in samples}
    samples = saved(folder, pictures, split=splits, labels=labels)  # type: ignore[arg-type]
    return Material(samples=samples, classes=("cat", "dog"), task="classify")


def test_a_leak_is_found_named_and_contradicts(tmp_path: Path) -> None:
    found = audit(trouble(tmp_path))
    assert found.leaked() == {"test20.jpg"}
    leak = found.leaks[0]
    assert (leak.twin, leak.twin_split, leak.label, leak.twin_label) == ("train4.jpg", "train", "dog", "cat")
    assert [pair.labels for pair in found.conflicts] == [("cat", "dog")]
    assert found.pairs[0].mirrored
    assert found.serious
    assert found.images == {"train": 10, "test": 10}
    assert found.leaked("val") == frozenset()
    assert any("no frozen features" in line for line in found.skipped)


def test_it_goes_to_json_and_back(tmp_path: Path) -> None:
    found = audit(trouble(tmp_path / "images"))
    records.save(tmp_path / "audit.json", found)
    assert records.load(Audit, tmp_path / "audit.json") == found


def test_series_of_three(tmp_path: Path) -> None:
    shots = [COPIES[kind](scene(7)) for kind in ("same", "crop", "bright")]
    pictures = {f"shot{number}.jpg": jpeg(image) for number, image in enumerate(shots)}
    pictures |= {f"other{seed}.jpg": jpeg(scene(seed)) for seed in range(5)}
    samples = saved(tmp_path, pictures)
    material = Material(samples=samples, classes=("a", "b"), task="multilabel")
    found = audit(material)
    assert [each.names for each in found.series] == [("shot0.jpg", "shot1.jpg", "shot2.jpg")]
    assert not found.leaks
    assert any("several labels" in line for line in found.skipped)


def test_looks_of_files(tmp_path: Path) -> None:
    """Quality, size and border are those of the file; a second look reads the cache and not the file."""
    flat = COPIES["same"](scene(1))
    flat.paste((255, 0, 0), (0, 0, flat.width, 10))
    samples = saved(tmp_path, {"a.jpg": jpeg(scene(1), quality=50), "b.jpg": jpeg(flat, quality=92)})
    looks = look_at(samples)
    np.testing.assert_allclose(looks.quality, [50, 92], atol=1)
    assert looks.bytes.tolist() == [len((tmp_path / name).read_bytes()) for name in ("a.jpg", "b.jpg")]
    assert looks.border[1, 0] > looks.border[0, 0]
    for sample in samples:
        (tmp_path / sample.name).unlink()
    np.testing.assert_array_equal(look_at(samples).thumbs, looks.thumbs)


def test_a_file_that_went_away_is_like_no_other(tmp_path: Path) -> None:
    material = trouble(tmp_path)
    (tmp_path / "train4.jpg").unlink()
    (tmp_path / "train5.jpg").write_bytes(b"no picture")
    found = audit(material)
    assert not found.pairs
    assert look_at(material.samples).thumbs[4].max() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 30 images: one dark, one bright, two of them in the wrong folder."""
    root = tmp_path_factory.mktemp("labels")
    for number in range(60):
        label = number % 2
        image = COPIES["bright"](scene(number)) if label else scene(number).point(lambda value: value * 0.3)
        place = root / ("ab"[label] if number not in (10, 31) else "ba"[label])
        place.mkdir(exist_ok=True)
        (place / f"s{number % 6}_{number:02}.jpg").write_bytes(jpeg(image))
    return root


def test_wrong_labels_are_found_written_and_read_back(folder: Path, tmp_path: Path) -> None:
    _, found = audit_data(str(folder), LoadOptions(), weights_name="random:test_resnet")
    assert {Path(each.name).stem[-2:] for each in found.suspects[:2]} == {"10", "31"}
    assert found.checked == 60
    assert found.shift is not None
    file = tmp_path / "labels.csv"
    assert write_labels(file, found) == len(found.suspects)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["label"] == rows[0]["given"] != rows[0]["suggested"]
    before = {sample.name: sample.labels for sample in _all(data.load(str(folder)))}
    untouched = data.load(str(folder), LoadOptions(labels=str(file)))
    assert {sample.name: sample.labels for sample in _all(untouched)} == before
    rows[0]["label"], rows[1]["label"] = rows[0]["suggested"], ""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    corrected = data.load(str(folder), LoadOptions(labels=str(file)))
    after = {sample.name: sample.labels for sample in _all(corrected)}
    assert set(before) - set(after) == {rows[1]["path"]}
    assert [name for name in after if after[name] != before[name]] == [rows[0]["path"]]
    assert f"{file} changes the labels of 1 images and leaves out 1." in corrected.notes


def _all(dataset: data.Dataset) -> tuple[data.Sample, ...]:
    return (*dataset.samples, *dataset.test.open())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\nnowhere.jpg,a\n", "which is not among the images"),
        ("path,label\n{image},c\n", "which is no class of the data"),
        ("path,label\n{image},a\n{image},b\n", "two labels"),
        ("file,label\n{image},a\n", "has no column 'path'"),
    ],
)
def test_labels_that_do_not_fit(folder: Path, tmp_path: Path, content: str, message: str) -> None:
    image = next((folder / "a").iterdir())
    file = tmp_path / "labels.csv"
    file.write_text(content.replace("{image}", str(image)), encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        data.load(str(folder), LoadOptions(labels=str(file)))


TAGS = ("cat", "dog", "sun")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 30 images with several labels each."""
    root = tmp_path_factory.mktemp("tags")
    lines = ["path,label"]
    for number in range(30):
        (root / f"{number:02}.jpg").write_bytes(jpeg(scene(number, size=48)))
        told = [tag for place, tag in enumerate(TAGS) if number % (place + 2) == 0]
        lines.append(f"{number:02}.jpg,{';'.join(told) or 'sun'}")
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "table.csv"


def test_labels_of_images_that_have_several(album: Path, tmp_path: Path) -> None:
    """One set lacks a label that the probe sees, another has one too many; reviewed, they come back."""
    dataset = data.load(str(album), LoadOptions(separator=";"))
    samples = _all(dataset)
    assert dataset.task == "multilabel"
    true = np.zeros((30, 3))
    for number, sample in enumerate(samples):
        true[number, list(sample.labels)] = 1
    believed = true.copy()
    believed[3, (lacks := int(np.flatnonzero(true[3] == 0)[0]))] = 1
    believed[7, (wrong := int(np.flatnonzero(true[7])[0]))] = 0
    probability = np.where(believed > 0, 0.9, 0.1)
    material = Material(samples=samples, classes=dataset.classes, task="multilabel", probability=probability)
    found = audit(material)
    assert {each.name for each in found.suspects} == {samples[3].name, samples[7].name}
    assert found.checked == 30
    told = {each.name: each for each in found.suspects}
    assert dataset.classes[lacks] in told[samples[3].name].suggested.split("|")
    assert dataset.classes[lacks] not in told[samples[3].name].given.split("|")
    assert dataset.classes[wrong] not in told[samples[7].name].suggested.split("|")
    file = tmp_path / "labels.csv"
    assert write_labels(file, found) == 2
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    unchanged = data.load(str(album), LoadOptions(separator=";", labels=str(file)))
    assert {each.name: each.labels for each in _all(unchanged)} == {
        each.name: each.labels for each in samples
    }
    for row in rows:
        row["label"] = row["suggested"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    corrected = {
        each.name: each.labels
        for each in _all(data.load(str(album), LoadOptions(separator=";", labels=str(file))))
    }
    assert set(corrected[samples[3].name]) == {*samples[3].labels, lacks}
    assert set(corrected[samples[7].name]) == {*samples[7].labels} - {wrong}


def test_the_probe_of_several_labels_is_cross_fitted(album: Path) -> None:
    _, found = audit_data(str(album), LoadOptions(separator=";"), weights_name="random:test_resnet")
    assert found.checked == 30
    assert not any("Labels were not checked" in line for line in found.skipped)


def test_groups_of_names_keep_images_together(folder: Path) -> None:
    dataset = data.load(str(folder), LoadOptions(group="word"))
    splits: dict[str, set[str]] = {}
    for sample in _all(dataset):
        splits.setdefault(Path(sample.name).stem.split("_")[0], set()).add(sample.split)
    assert len(splits) == 6
    assert all(len(each) == 1 for each in splits.values())
    with pytest.raises(BadOption, match="--group does not know 'wrod'"):
        data.load(str(folder), LoadOptions(group="wrod"))
