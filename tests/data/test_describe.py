"""The facts of a dataset, against values known from how it was made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import data
from headstart._core import records
from headstart._core.errors import BadPlan
from headstart.data.records import DatasetFacts, LoadOptions
from tests.data.test_load import folders, images


def plain(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_facts(tmp_path: Path) -> None:
    for number in range(12):
        plain(tmp_path / f"train/cat/{number:02d}.png", (20, 10), (255, number, 0))
    for number in range(4):
        plain(tmp_path / f"train/dog/{number}.png", (10, 40), (255, 100 + number, 0))
    for number in range(3):
        plain(tmp_path / f"val/cat/{number}.png", (1000, 1000), (0, number, 9))
        plain(tmp_path / f"test/dog/{number}.jpg", (999, 999), (0, 20 * number, 99))
    plain(tmp_path / "val/dog/0.png", (10, 10), (9, 9, 9))
    facts = data.describe(data.load(str(tmp_path)), "typed")
    assert facts.source == "typed"
    assert {name: split.per_class for name, split in facts.splits.items()} == {
        "train": {"cat": 12, "dog": 4},
        "val": {"cat": 3, "dog": 1},
        "test": {"cat": 0, "dog": 3},
    }
    assert not any(split.made for split in facts.splits.values())
    assert facts.imbalance == 3.0
    assert facts.formats == {"JPEG": 3, "PNG": 20}
    assert facts.modes == {"RGB": 23}
    assert facts.size_quantiles == (10.0, 10.0, 10.0, 10.0, 1000.0)  # test images are not looked at
    assert facts.aspect_quantiles == (0.25, 1.0, 2.0, 2.0, 2.0)
    assert [Path(name).name for name in facts.examples["cat"]] == [f"{n:02d}.png" for n in range(0, 12, 2)]
    assert len(facts.examples["dog"]) == 4
    green = (sum(range(12)) + 100 + 101 + 102 + 103) / 16 / 255
    assert facts.channel_mean == pytest.approx((1.0, green, 0.0), abs=1e-6)
    assert facts.n_train == 16


def test_facts_survive_json(tmp_path: Path) -> None:
    folders(tmp_path / "data", {"cät": 8, "dog": 8})
    (tmp_path / "data/dog/x.png").symlink_to(tmp_path / "data/dog/00.png")
    facts = data.describe(data.load(str(tmp_path / "data")), "data")
    assert facts.duplicates
    records.save(tmp_path / "facts.json", facts)
    assert records.load(DatasetFacts, tmp_path / "facts.json") == facts
    assert json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))["classes"] == ["cät", "dog"]


def test_the_digest_sees_every_change(tmp_path: Path) -> None:
    root = folders(tmp_path, {"cat": 8, "dog": 8})

    def digest(seed: int = 0) -> str:
        return data.describe(data.load(str(root), LoadOptions(seed=seed)), "x").digest

    first = digest()
    assert digest() == first
    assert digest(seed=1) != first  # other splits
    for place in ("cat/00.png", "cat/03.png"):  # wherever it lies, test included
        content = (root / place).read_bytes()
        (root / place).write_bytes(content + b"\0")
        assert digest() != first
        (root / place).write_bytes(content)
    (root / "cat").rename(root / "cow")
    assert digest() != first


def test_the_digest_includes_the_test_split(tmp_path: Path) -> None:
    dataset = data.load(str(folders(tmp_path, {"cat": 8, "dog": 8})))
    without = replace(dataset, test=type(dataset.test)(()))
    assert data.describe(dataset, "x").digest != data.describe(without, "x").digest
    assert dataset.test.opened == 0  # counted and hashed, not opened
    dataset.test.open()
    with pytest.raises(BadPlan):
        dataset.test.open()


def test_without_test_split() -> None:
    facts = data.describe(data.from_arrays(images(20), np.arange(20) % 2, classes=["a", "b"]), "memory")
    assert list(facts.splits) == ["train", "val"]
    assert facts.splits["val"].made
    assert facts.formats == {"array": 20}


def test_groups(tmp_path: Path) -> None:
    folders(tmp_path, {"cat": 12, "dog": 12})
    rows = [f"{kind}/{n:02d}.png,{kind},g{n // 2}" for kind in ("cat", "dog") for n in range(12)]
    (tmp_path / "t.csv").write_text("path,label,group\n" + "\n".join(rows))
    dataset = data.load(str(tmp_path / "t.csv"))
    facts = data.describe(dataset, "t.csv")
    tested = {sample.group for sample in dataset.test.open()}
    assert facts.groups == 6 - len(tested)
    assert not tested & {sample.group for sample in dataset.samples}
