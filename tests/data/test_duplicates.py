"""Identical files inside and across splits."""

import pytest

from headstart._core.errors import BadInput
from headstart.data.duplicates import settle
from headstart.data.records import Sample

CLASSES = ("ants", "bees")


def make(name: str, split: str, digest: str, label: int = 0) -> Sample:
    from pathlib import Path

    return Sample(name=name, source=Path(name), labels=(label,), split=split, digest=digest)


REST = [make("r0", "train", "rest0", 0), make("r1", "train", "rest1", 1)]


@pytest.mark.parametrize(
    ("splits", "left", "action"),
    [
        (("train", "test"), ["x1"], "removed x0 from train: also in test"),
        (("test", "val"), ["x0"], "removed x1 from val: also in test"),
        (("train", "val"), ["x1"], "removed x0 from train: also in val"),
        (
            ("train", "val", "test"),
            ["x2"],
            "removed x0 from train: also in test; removed x1 from val: also in test",
        ),
        (("train", "train"), ["x0", "x1"], "kept"),
        (("test", "test", "train"), ["x0", "x1"], "removed x2 from train: also in test"),
    ],
)
def test_the_judging_split_keeps_its_images(splits: tuple[str, ...], left: list[str], action: str) -> None:
    samples = [*REST, *(make(f"x{i}", split, "same") for i, split in enumerate(splits))]
    kept, records = settle(samples, CLASSES)
    assert [sample.name for sample in kept] == ["r0", "r1", *left]
    assert [record.action for record in records] == [action]
    assert records[0].splits == splits
    assert records[0].names == tuple(f"x{i}" for i in range(len(splits)))


def test_labels_that_disagree_are_named() -> None:
    kept, (record,) = settle([*REST, make("a", "train", "s", 1), make("b", "train", "s", 0)], CLASSES)
    assert len(kept) == 4
    assert record.labels == (("bees",), ("ants",))
    assert record.action == "kept; labels disagree: ants / bees"


def test_without_a_digest_nothing_is_the_same() -> None:
    samples = [make("a", "train", ""), make("b", "test", "")]
    assert settle(samples, CLASSES) == (tuple(samples), ())


def test_a_class_whose_training_images_are_all_in_test() -> None:
    samples = [REST[1], make("a", "train", "s", 0), make("b", "test", "s", 0)]
    with pytest.raises(BadInput, match="'ants'"):
        settle(samples, CLASSES)
