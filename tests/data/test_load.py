"""From a source to a dataset: the whole way in, and every wrong input on it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from headstart import data
from headstart._core.errors import BadInput, BadOption
from headstart.data.records import Dataset, LoadOptions
from tests.data.test_readers import PATHS, picture, table


def folders(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
    """Class folders with that many different pictures each."""
    for name, count in counts.items():
        for number in range(count):
            start += 1
            picture(root / name / f"{number:02d}.png", start)
    return root


def sizes(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.val), len(dataset.test)


@pytest.mark.parametrize(
    ("name", "expected", "made"),
    [
        ("hymenoptera", (244, 153), ("val",)),
        ("rsscn7-satellite", (630, 280), ("val",)),
        ("cifar10-5k", (4000, 1000), ("val",)),
    ],
)
def test_real_data(test_data: Path, name: str, expected: tuple[int, int], made: tuple[str, ...]) -> None:
    dataset = data.load(str(test_data / name))
    train, val, test = sizes(dataset)
    assert (train + val, test) == expected
    assert dataset.made == made
    assert val == pytest.approx(0.2 * expected[0], abs=len(dataset.classes))
    assert not dataset.unreadable
    assert dataset.formats == {"JPEG": sum(expected)}
    seen = {sample.name for sample in dataset.samples}
    assert not seen & {sample.name for sample in dataset.test.open()}


def test_made_splits_and_formats(tmp_path: Path) -> None:
    dataset = data.load(str(folders(tmp_path, {"cat": 10, "dog": 20})))
    assert sizes(dataset) == (19, 5, 6)
    assert dataset.made == ("test", "val")
    assert (dataset.formats, dataset.modes) == ({"PNG": 30}, {"RGB": 30})
    assert all(sample.digest and sample.width == 8 for sample in dataset.samples)


def test_seed_and_fraction(tmp_path: Path) -> None:
    root = str(folders(tmp_path, {"cat": 20, "dog": 20}))
    first, again, other = (data.load(root, LoadOptions(seed=seed)) for seed in (1, 1, 2))
    assert first.samples == again.samples
    assert {sample.name for sample in first.val} != {sample.name for sample in other.val}
    assert len(data.load(root, LoadOptions(test_fraction=0.5)).test) == 20


def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    folders(tmp_path, {"cat": 30, "dog": 30})
    (tmp_path / "cat/text.jpg").write_text("hello")
    dataset = data.load(str(tmp_path))
    assert [Path(bad.name).name for bad in dataset.unreadable] == ["text.jpg"]
    assert sum(sizes(dataset)) == 60
    with pytest.raises(BadInput, match=r"1 of 61 images cannot be read \(--strict allows none\)"):
        data.load(str(tmp_path), LoadOptions(strict=True))
    for number in range(12):
        (tmp_path / f"dog/bad{number}.png").touch()
    with pytest.raises(BadInput, match="13 of 73 images cannot be read") as caught:
        data.load(str(tmp_path))
    assert caught.value.message.count("\n") == 11
    assert caught.value.message.endswith("and 3 more")


def test_a_table_of_missing_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="4 of 4 images cannot be read") as caught:
        data.load(str(table(tmp_path / "t.csv", {"path": PATHS, "label": list("abab")})))
    assert "file does not exist" in caught.value.message
    assert "relative to the table's folder" in caught.value.hint


def test_a_leak_is_taken_out_of_training(tmp_path: Path) -> None:
    folders(tmp_path / "train", {"cat": 6, "dog": 6})
    folders(tmp_path / "test", {"cat": 2, "dog": 2}, start=100)
    shutil.copy(tmp_path / "test/cat/00.png", tmp_path / "train/cat/leak.png")
    dataset = data.load(str(tmp_path))
    assert "leak.png" not in {Path(sample.name).name for sample in dataset.samples}
    assert len(dataset.test) == 4
    assert "removed" in dataset.duplicates[0].action


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cat": 9}, "one class only: 'cat'"),
        ({"cat": 1, "dog": 1}, "Too few different images"),
        ({"cat": 9, "dog": 1}, "'dog'"),
    ],
)
def test_too_little(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        data.load(str(folders(tmp_path, counts)))


def test_a_class_only_in_test(tmp_path: Path) -> None:
    folders(tmp_path / "a/train", {"cat": 4, "dog": 4})
    folders(tmp_path / "a/test", {"cat": 4, "cow": 1}, start=50)
    with pytest.raises(BadInput, match="No training image has class 'cow'"):
        data.load(str(tmp_path / "a"))
    with pytest.raises(BadInput, match="'cow'"):
        data.load(str(tmp_path / "a/train"), LoadOptions(test=str(tmp_path / "a/test")))


def test_no_training_images(tmp_path: Path) -> None:
    folders(tmp_path / "test", {"cat": 4, "dog": 4})
    folders(tmp_path / "val", {"cat": 4, "dog": 4}, start=50)
    with pytest.raises(BadInput, match="no training images"):
        data.load(str(tmp_path))


def test_classes_of_separate_sources_are_matched_by_name(tmp_path: Path) -> None:
    folders(tmp_path / "a", {"cat": 6, "dog": 6, "eel": 6})
    folders(tmp_path / "b", {"dog": 2, "eel": 3}, start=50)
    dataset = data.load(str(tmp_path / "a"), LoadOptions(test=str(tmp_path / "b")))
    assert dataset.test.per_class(dataset.classes) == {"cat": 0, "dog": 2, "eel": 3}
    assert dataset.made == ("val",)


def test_a_fraction_without_effect(tmp_path: Path) -> None:
    folders(tmp_path / "train", {"cat": 6, "dog": 6})
    folders(tmp_path / "test", {"cat": 2, "dog": 2}, start=50)
    with pytest.raises(BadOption, match=r"--test-fraction 0\.3 has no effect"):
        data.load(str(tmp_path), LoadOptions(test_fraction=0.3))


# in memory -------------------------------------------------------------------------------------------------


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (8, 8), np.uint8) for _ in range(count)]


def test_arrays(tmp_path: Path) -> None:
    file = picture(tmp_path / "x.png")
    dataset = data.from_arrays([*images(19), file], np.arange(20) % 2, classes=["a", "b"])
    assert sizes(dataset) == (16, 4, 0)
    assert dataset.made == ("val",)
    assert {sample.name for sample in dataset.samples} == {*(f"memory:{i}" for i in range(19)), str(file)}
    assert all(
        sample.labels == (int(sample.name[7:]) % 2,) for sample in dataset.samples if "mem" in sample.name
    )


def test_arrays_with_several_labels() -> None:
    targets = np.stack([np.arange(20) % 2, np.arange(20) % 4 < 2], axis=1)
    dataset = data.from_arrays(images(20), targets, classes=["a", "b"])
    assert dataset.task == "multilabel"
    assert {sample.name: sample.labels for sample in dataset.samples}["memory:1"] == (0, 1)
    assert {sample.name: sample.labels for sample in dataset.samples}["memory:2"] == ()


@pytest.mark.parametrize(
    ("count", "targets", "message"),
    [
        (0, np.zeros(0, int), "no images"),
        (3, np.zeros(4, int), "3 images but targets of shape"),
        (4, np.array([0, 1, 2, 0]), "Targets run from 0 to 2"),
        (4, np.array([0, 1, -1, 0]), "Targets run from -1 to 1"),
        (4, np.array([0, 1, 0.5, 0]), "Targets run from"),
        (4, np.zeros((4, 3), int), "3 columns for 2 classes"),
        (4, np.zeros(4, int), "No readable image has class 'b'"),
    ],
)
def test_bad_targets(count: int, targets: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        data.from_arrays(images(count), targets, classes=["a", "b"])


def test_an_unreadable_image_among_arrays(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1 of 20 images cannot be read"):
        data.from_arrays([*images(19), tmp_path / "gone.png"], np.arange(20) % 2, classes=["a", "b"])


# for a finished model --------------------------------------------------------------------------------------


def labelled(source: Path, *, separator: str = "") -> tuple[data.Sample, ...]:
    return data.load_labelled(
        str(source), LoadOptions(separator=separator), classes=("dog", "cat", "eel"), task="classify"
    )


def test_labels_are_the_models(tmp_path: Path) -> None:
    samples = labelled(folders(tmp_path, {"cat": 2, "dog": 1}))
    assert [sample.labels for sample in samples] == [(1,), (1,), (0,)]
    assert all(sample.split == "test" and sample.digest for sample in samples)
    assert len(labelled(folders(tmp_path / "cats", {"cat": 2}))) == 2  # one class is enough here


@pytest.mark.parametrize(
    ("splits", "used"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train",), "train")]
)
def test_which_split_is_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, splits: tuple[str, ...], used: str
) -> None:
    for number, split in enumerate(splits):
        folders(tmp_path / split, {"cat": 2}, start=10 * number)
    with caplog.at_level(logging.INFO, logger="headstart"):
        samples = labelled(tmp_path)
    assert {Path(sample.name).parts[-3] for sample in samples} == {used}
    assert caplog.messages


def test_unknown_class(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not know the class 'Dog'") as caught:
        labelled(folders(tmp_path, {"cat": 1, "Dog": 1}))
    assert "Did you mean 'dog'" in caught.value.hint


def test_another_task(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    file = table(tmp_path / "t.csv", {"path": ["a.png"], "label": ["cat;dog"]})
    with pytest.raises(BadInput, match="is multilabel data, the model was trained for classify"):
        labelled(file, separator=";")


def test_unreadable_labelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path, {"cat": 1})
    (tmp_path / "cat/bad.png").touch()
    with caplog.at_level(logging.WARNING, logger="headstart"):
        assert len(labelled(tmp_path)) == 1
    assert "1 image" in caplog.text
    (tmp_path / "cat/00.png").unlink()
    with pytest.raises(BadInput, match="1 of 1 images cannot be read"):
        labelled(tmp_path)


# for prediction --------------------------------------------------------------------------------------------


def test_find_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.png", "in/deep/c.JPG", "in/.hidden.png", "one.png"):
        picture(Path(name))
    Path("in/notes.txt").write_text("x")
    Path("given.txt").write_text("x")
    Path("in/loop").symlink_to(tmp_path)
    found = data.find_images(["given.txt", "in", "./one.png", tmp_path / "in/a.png"])
    assert [sample.name for sample in found] == [
        "given.txt",
        "in/a.png",
        "in/b.png",
        "in/deep/c.JPG",
        "in/loop/one.png",
        "one.png",
    ]
    assert data.find_images("one.png")[0].labels == ()


def test_nothing_to_predict(tmp_path: Path) -> None:
    picture(tmp_path / "one.png")
    with pytest.raises(BadInput, match="does not exist") as caught:
        data.find_images([tmp_path / "on.png"])
    assert "one.png" in caught.value.hint
    (tmp_path / "empty").mkdir()
    for paths in ([tmp_path / "empty"], []):
        with pytest.raises(BadInput, match="no images in"):
            data.find_images(paths)
