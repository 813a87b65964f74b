"""Readers of boxes and masks, and what becomes of annotations that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import data
from headstart._core.errors import BadInput, BadOption
from headstart.data.annotations import clipped, repointed
from headstart.data.masks import BadMask, draw, read_mask
from headstart.data.records import Box, Dataset, LoadOptions, Mask, Outline, Sample

SPLITS = ("train", "val", "test")
SIZE = (40, 30)


def picture(path: Path, number: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """An image that differs from every other number's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def voc_xml(boxes: list[tuple[str, int, int, int, int]], size: tuple[int, int] = SIZE) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in boxes
    )
    return (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )


def voc(root: Path, boxes: dict[int, list[tuple[str, int, int, int, int]]]) -> Path:
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets/Main").mkdir(parents=True)
    for number, split in enumerate(SPLITS):
        picture(root / f"JPEGImages/p{number}.png", number)
        own = boxes.get(number, [("cat", 2, 3, 11, 12), ("dog", 20, 5, 30, 25)])
        (root / f"Annotations/p{number}.xml").write_text(voc_xml(own))
        (root / f"ImageSets/Main/{split}.txt").write_text(f"p{number}\n")
    return root


def coco(root: Path, annotations: list[dict[str, object]] | None = None) -> Path:
    for number, split in enumerate(SPLITS):
        picture(root / f"{split}2017/p{number}.png", number)
        rows = annotations or [
            {"category_id": 7, "bbox": [1, 2, 10, 10], "segmentation": [[1, 2, 11, 2, 11, 12, 1, 12]]},
            {"category_id": 9, "bbox": [19, 4, 11, 21], "segmentation": {"size": [30, 40], "counts": "x"}},
        ]
        whole = np.zeros((30, 40), np.uint8)
        whole[4:25, 19:30] = 1
        counts = runs(whole)
        own = [
            {**row, "id": k, "image_id": number}
            | ({"segmentation": {"size": [30, 40], "counts": counts}} if "counts" in str(row) else {})
            for k, row in enumerate(rows)
        ]
        content = {
            "images": [{"id": number, "file_name": f"p{number}.png", "width": 40, "height": 30}],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": own,
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def runs(mask: np.ndarray) -> list[int]:
    """COCO's plain run lengths: by columns, beginning with zeros."""
    flat, out, value = mask.T.ravel(), [0], 0
    for pixel in flat:
        if pixel != value:
            out.append(0)
            value = pixel
        out[-1] += 1
    return out


def yolo(root: Path, line: str = "0 0.15 0.2333333 0.25 0.3333333") -> Path:
    for number, split in enumerate(SPLITS):
        picture(root / f"images/{split}/p{number}.png", number)
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/p{number}.txt").write_text(
            line + "\n1 0.475 0.133 0.75 0.133 0.75 0.833 0.475 0.833\n"
        )
    text = "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: {0: cat, 1: dog}\n"
    (root / "data.yaml").write_text(text)
    return root


def boxes_csv(root: Path) -> Path:
    lines = ["path,label,xmin,ymin,xmax,ymax,split"]
    for number, split in enumerate(SPLITS):
        picture(root / f"p{number}.png", number)
        lines += [f"p{number}.png,cat,1,2,11,12,{split}", f"p{number}.png,dog,19,4,30,25,{split}"]
    picture(root / "nothing.png", 9)
    lines.append("nothing.png,,,,,,train")
    (root / "boxes.csv").write_text("\n".join(lines))
    return root / "boxes.csv"


def masks(root: Path, values: tuple[int, ...] = (0, 1, 2), *, classes: str = "sky\nroad\nvoid\n") -> Path:
    for number, split in enumerate(SPLITS):
        picture(root / f"images/{split}/p{number}.png", number)
        (root / f"masks/{split}").mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((30, 40), np.uint8)
        for position, value in enumerate(values):
            pixels[:, position * 10 : position * 10 + 10] = value
        Image.fromarray(pixels).save(root / f"masks/{split}/p{number}.png")
    if classes:
        (root / "classes.txt").write_text(classes)
    return root


def boxes_of(dataset: Dataset) -> list[tuple[str, tuple[float, ...]]]:
    """(class, sides) of the first training image that has boxes."""
    sample = next(sample for sample in dataset.train if sample.boxes)
    return [(dataset.classes[b.label], (b.left, b.top, b.right, b.bottom)) for b in sample.boxes]


WANTED = [("cat", (1.0, 2.0, 11.0, 12.0)), ("dog", (19.0, 4.0, 30.0, 25.0))]


@pytest.mark.parametrize("kind", ["voc", "coco", "yolo", "csv"])
def test_the_same_boxes_in_every_form(kind: str, tmp_path: Path) -> None:
    make = {"voc": lambda: voc(tmp_path, {}), "coco": lambda: coco(tmp_path)}
    make |= {"yolo": lambda: yolo(tmp_path), "csv": lambda: boxes_csv(tmp_path)}
    dataset = data.load(str(make[kind]()))
    assert dataset.task == "detect"
    assert dataset.classes == ("cat", "dog")
    assert [len(dataset.of("val")), len(dataset.test)] == [1, 1]
    found = boxes_of(dataset)
    assert [name for name, _ in found] == ["cat", "dog"]
    for (_, sides), (_, wanted) in zip(found, WANTED, strict=True):
        assert sides == pytest.approx(wanted, abs=0.02 if kind == "yolo" else 0)
    assert dataset.train[0].labels == (0, 1) or kind == "csv"
    facts = data.describe(dataset, "x")
    assert facts.splits["train"].boxes == {"cat": 1, "dog": 1}
    assert facts.splits["test"].boxes == {"cat": 1, "dog": 1}


def test_an_image_without_objects_is_kept(tmp_path: Path) -> None:
    dataset = data.load(str(boxes_csv(tmp_path)))
    assert sorted(len(sample.boxes) for sample in dataset.train) == [0, 2]


@pytest.mark.parametrize(
    ("box", "words", "action"),
    [
        (("cat", 20, 5, 60, 25), "reaches outside the image of 40x30", "clipped"),
        (("cat", 20, 5, 20, 5), "is empty", "box left out"),
        (("cat", 30, 5, 20, 25), "is inverted", "box left out"),
        (("cat", 50, 5, 60, 25), "lies outside the image of 40x30", "box left out"),
        (("cow", 20, 5, 30, 25), "the class 'cow' is not in the list of classes", "box left out"),
    ],
)
def test_a_bad_box_is_told_and_mended(
    box: tuple[str, int, int, int, int], words: str, action: str, tmp_path: Path
) -> None:
    root = voc(tmp_path, {0: [("dog", 2, 3, 11, 12), box]})
    (root / "classes.txt").write_text("cat\ndog\n")
    dataset = data.load(str(root))
    (flaw,) = dataset.flaws
    assert words in flaw.what
    assert flaw.action == action
    assert any(action in note for note in dataset.notes)
    assert len(dataset.train[0].boxes) == (2 if action == "clipped" else 1)


def test_an_annotation_for_another_size_is_set_aside(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / f"p{number}.png", number)
        size = (41, 30) if number == 3 else SIZE
        (tmp_path / f"p{number}.xml").write_text(voc_xml([("cat", 2, 3, 11, 12)], size))
    dataset = data.load(str(tmp_path))
    (bad,) = dataset.unreadable
    assert bad.reason == "it was annotated at 41x30 pixels, but is 40x30"


def test_a_dangerous_xml_file_is_refused(tmp_path: Path) -> None:
    root = voc(tmp_path, {})
    text = '<!DOCTYPE a [<!ENTITY b "c">]>' + voc_xml([])
    (root / "Annotations/p0.xml").write_text(text)
    with pytest.raises(BadInput, match="defines entities"):
        data.load(str(root))


def test_ids_outside_the_list(tmp_path: Path) -> None:
    flaws = data.load(str(yolo(tmp_path / "yolo", "5 0.5 0.5 0.1 0.1"))).flaws
    assert len(flaws) == 3
    assert "class 5, which is not in the list of 2 classes" in flaws[0].what
    rows: list[dict[str, object]] = [{"category_id": 7, "bbox": [1, 2, 10, 10]}, {"category_id": 8}]
    flaws = data.load(str(coco(tmp_path / "coco", rows))).flaws
    assert "category 8 is not in the list" in flaws[0].what


def test_outlines_become_masks(tmp_path: Path) -> None:
    dataset = data.load(str(coco(tmp_path)), LoadOptions(task="segment"))
    assert dataset.classes == ("background", "cat", "dog")
    sample = dataset.train[0]
    assert sample.mask is not None
    labels = read_mask(sample.mask, SIZE).labels
    assert (labels[4:25, 19:30] == 2).all()
    assert (labels[3:11, 2:10] == 1).all()
    assert (labels == 2).sum() == 11 * 21
    assert sample.mask.pixels[2] == 11 * 21


def test_run_lengths_of_another_image_are_refused() -> None:
    """Pycocotools would draw them all the same, as something else."""
    whole = Outline(label=1, counts="200 1000", size=SIZE)
    assert (draw((whole,), SIZE) == 1).sum() == 1000
    turned = Outline(label=1, counts="200 1000", size=(30, 40))
    with pytest.raises(BadMask, match="run lengths belong to an image of 30x40 pixels, it has 40x30"):
        draw((turned,), SIZE)
    with pytest.raises(BadMask, match="run lengths cover 81 pixels, the image has 1200"):
        draw((Outline(label=1, counts="20 41 20"),), SIZE)


def test_yolo_outlines_become_masks(tmp_path: Path) -> None:
    yolo(tmp_path, "0 0.05 0.1 0.25 0.1 0.25 0.4 0.05 0.4")
    dataset = data.load(str(tmp_path / "data.yaml"), LoadOptions(task="segment"))
    mask = dataset.train[0].mask
    assert mask is not None
    assert (read_mask(mask, SIZE).labels[4:11, 3:9] == 1).all()
    assert read_mask(mask, SIZE).labels[15, 25] == 2


def test_index_masks_leave_out_what_counts_neither_way(tmp_path: Path) -> None:
    dataset = data.load(str(masks(tmp_path)))
    assert dataset.task == "segment"
    assert dataset.classes == ("sky", "road")
    sample = dataset.train[0]
    assert sample.mask is not None
    labels = read_mask(sample.mask, SIZE).labels
    assert [labels[0, 5], labels[0, 15], labels[0, 25], labels[0, 35]] == [0, 1, -1, 0]
    assert sample.labels == (0, 1)
    assert any("void counts neither way" in note for note in dataset.notes)
    shares = data.describe(dataset, "x").splits["train"].pixels
    assert shares == {"sky": pytest.approx(2 / 3), "road": pytest.approx(1 / 3)}


def test_values_outside_the_list_of_a_mask(tmp_path: Path) -> None:
    flaws = data.load(str(masks(tmp_path, (0, 1, 7)))).flaws
    assert "300 pixels of its mask have values outside the list of classes (7)" in flaws[0].what


def test_a_mask_of_another_size_is_set_aside(tmp_path: Path) -> None:
    root = masks(tmp_path)
    Image.new("L", (40, 31)).save(root / "masks/val/p1.png")
    with pytest.raises(BadInput, match="its mask is 40x31 pixels, the image 40x30"):
        data.load(str(root))


def test_coloured_masks_need_a_class_file(tmp_path: Path) -> None:
    root = masks(tmp_path, classes="")
    for number, split in enumerate(SPLITS):
        pixels = np.zeros((30, 40, 3), np.uint8)
        pixels[:, 20:] = (10, 200, 30)
        Image.fromarray(pixels).save(root / f"masks/{split}/p{number}.png")
    with pytest.raises(BadInput, match="nothing says what its colours mean"):
        data.load(str(root))
    (root / "class_dict.csv").write_text("name,r,g,b\nbackground,0,0,0\ntree,10,200,30\n")
    dataset = data.load(str(root))
    assert dataset.classes == ("background", "tree")
    mask = dataset.train[0].mask
    assert mask is not None
    assert (read_mask(mask, SIZE).labels[:, 20:] == 1).all()


@pytest.mark.parametrize("top", [1, 255])
def test_binary_masks(top: int, tmp_path: Path) -> None:
    dataset = data.load(str(masks(tmp_path, (0, top), classes="")))
    assert dataset.classes == ("background", "object")
    mask = dataset.train[0].mask
    assert mask is not None
    assert read_mask(mask, SIZE).labels[0, 15] == 1


def test_a_task_that_the_data_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="is detect data"):
        data.load(str(voc(tmp_path, {})), LoadOptions(task="segment"))


def test_the_digest_knows_boxes_and_masks(tmp_path: Path) -> None:
    first = data.describe(data.load(str(voc(tmp_path / "a", {}))), "x").digest
    again = data.describe(data.load(str(voc(tmp_path / "b", {0: [("cat", 2, 3, 11, 13)]}))), "x").digest
    assert first != again


def test_labels_boxes_and_masks_move_together() -> None:
    box = Box(left=0, top=0, right=1, bottom=1, label=1)
    mask = Mask(source=(Outline(label=1),), meaning=((0, 0), (1, 1)))
    sample = Sample(name="x", source=Path("x"), labels=(1,), boxes=(box,), mask=mask)
    moved = repointed(sample, {0: 2, 1: 0})
    assert moved.labels == (0,)
    assert moved.boxes[0].label == 0
    assert moved.mask is not None
    assert moved.mask.meaning == ((0, 2), (1, 0))
    assert moved.mask.source == (Outline(label=0),)


def test_a_pixel_of_rounding_is_no_flaw() -> None:
    box = Box(left=-0.5, top=0, right=40.4, bottom=30, label=0)
    inside, what, _ = clipped(box, *SIZE)
    assert what == ""
    assert inside == Box(left=0, top=0, right=40, bottom=30, label=0)


def test_bccd_as_published(test_data: Path) -> None:
    dataset = data.load(str(test_data / "bccd"))
    facts = data.describe(dataset, "bccd")
    boxes = facts.splits["val"].boxes
    assert boxes == {"RBC": 967, "WBC": 87, "Platelets": 83}  # 968 with one of no area
    assert len(facts.flaws) == 2
