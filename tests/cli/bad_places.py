"""Boxes and masks that are wrong, and what headstart must say: rows of `test_bad_input.py` and of `docs/errors.md`.

`ERRORS` end with an error, as the rows of `bad_input.py`. `FLAWS` do not: what is wrong is clipped or left out, and
`headstart audit` tells each of it, one line for every wrong annotation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.cli.bad_input import Case, Printed, image

SIDE = 40
"""Pixels of the pictures here."""

_MANY = 24  # images, of which one may be left out: fewer than 5 %


def _pictures(folder: str) -> list[str]:
    names = [f"p{number:02}" for number in range(_MANY)]
    for name in names:
        image(f"{folder}/{name}.png", side=SIDE)
    return names


def _coco(rows: Mapping[int, dict[str, Any]], *, sizes: Mapping[int, int] | None = None) -> None:
    """A COCO file whose images have one good box each; those in `rows` have this annotation instead."""
    names = _pictures("cells/images")
    good = {"category_id": 1, "bbox": [4, 4, 20, 20], "segmentation": [[4, 4, 24, 4, 24, 24, 4, 24]]}
    content = {
        "images": [
            {
                "id": number,
                "file_name": f"{name}.png",
                "width": (sizes or {}).get(number, SIDE),
                "height": SIDE,
            }
            for number, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "dust"}],
        "annotations": [
            {**good, **rows.get(number, {}), "id": number, "image_id": number} for number in range(_MANY)
        ],
    }
    Path("cells/cells.json").write_text(json.dumps(content), encoding="utf-8")


def _coco_boxes() -> None:
    wrong: dict[int, dict[str, Any]] = {
        1: {"category_id": 9},
        2: {"bbox": [30, 4, 25, 20]},
        3: {"bbox": [60, 60, 10, 10]},
        4: {"bbox": [4, 4, 0, 20]},
        5: {"bbox": [24, 4, -20, 20]},
        6: {"bbox": ["left", 4, 20, 20]},
        7: {"bbox": [4, 4, 20]},
    }
    _coco(wrong, sizes={8: 80})


def _coco_outlines() -> None:
    _coco(
        {
            1: {"category_id": 9},
            2: {"segmentation": []},
            3: {"segmentation": {"size": [9, 9], "counts": [20, 41, 20]}},
        }
    )


def _voc() -> None:
    names = _pictures("cells/JPEGImages")
    Path("cells/Annotations").mkdir()
    wrong = {
        1: ("cel", 4, 4, 24, 24),
        2: ("cell", 30, 4, 55, 24),
        3: ("cell", 60, 60, 70, 70),
        4: ("cell", 4, 4, 4, 24),
        5: ("cell", 24, 4, 4, 24),
    }
    for number, name in enumerate(names):
        label, *sides = wrong.get(number, ("cell", 4, 4, 24, 24))
        places = "".join(
            f"<{key}>{side}</{key}>"
            for key, side in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
        )
        Path(f"cells/Annotations/{name}.xml").write_text(
            f"<annotation><object><name>{label}</name><bndbox>{places}</bndbox></object></annotation>"
        )
    Path("cells/classes.txt").write_text("cell\n")


def _yolo() -> None:
    names = _pictures("cells/images/train")
    Path("cells/labels/train").mkdir(parents=True)
    wrong = {
        1: "3 0.4 0.4 0.4 0.4",
        2: "0 0.9 0.4 0.6 0.4",
        3: "0 1.5 1.5 0.2 0.2",
        4: "0 0.4 0.4 0 0.4",
        5: "0 0.4 0.4 -0.4 0.4",
        6: "cell 0.4 0.4 0.4 0.4",
        7: "0 0.4 0.4",
    }
    for number, name in enumerate(names):
        line = wrong.get(number, "0 0.4 0.4 0.4 0.4")
        Path(f"cells/labels/train/{name}.txt").write_text(line + "\n")
    Path("cells/data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: cell, 1: dust}\n")


def _csv() -> None:
    names = _pictures("cells")
    wrong = {
        1: "30,4,55,24",
        2: "60,60,70,70",
        3: "4,4,4,24",
        4: "24,4,4,24",
        5: "four,4,24,24",
    }
    lines = [f"{name}.png,cell,{wrong.get(number, '4,4,24,24')}" for number, name in enumerate(names)]
    header = "path,label,left,top,right,bottom\n"
    Path("cells/boxes.csv").write_text(header + "\n".join(lines) + "\n")


def _masks(wrong: Mapping[int, tuple[int, int]], *, colour: bool = False) -> None:
    """Index masks; those in `wrong` have this (side, value) instead of the usual ones."""
    names = _pictures("streets/images")
    Path("streets/masks").mkdir()
    for number, name in enumerate(names):
        side, value = wrong.get(number, (SIDE, 1))
        pixels = np.zeros((side, side, 3) if colour else (side, side), np.uint8)
        pixels[: side // 2] = value
        Image.fromarray(pixels).save(f"streets/masks/{name}.png")
    if not colour:
        Path("streets/classes.txt").write_text("ground\nroad\n")


def _flawed_masks() -> None:
    _masks({1: (SIDE, 7), 2: (SIDE // 2, 1)})


def _wrong_masks() -> None:
    _masks(dict.fromkeys(range(4), (SIDE // 2, 1)))
    Path("streets/masks/p05.png").write_bytes(b"")


def _no_coco() -> None:
    Path("notes.json").write_text('{"images": []}', encoding="utf-8")


@dataclass(frozen=True)
class Flaws:
    """Annotations that are wrong, and what `headstart audit` says of them.

    Attributes:
        what: in a few words.
        words: the command line.
        says: image -> what its line must contain.
        build: makes the data.
    """

    what: str
    words: str
    says: dict[str, tuple[str, ...]]
    build: Callable[[], None]


_OUTSIDE = "(60, 60, 70, 70) lies outside the image of 40x40", "box left out"

FLAWS = (
    Flaws(
        "COCO boxes",
        "audit cells/cells.json --quick",
        {
            "p01": ("category 9 is not in the list of categories", "box left out"),
            "p02": ("(30, 4, 55, 24) reaches outside the image of 40x40", "clipped"),
            "p03": _OUTSIDE,
            "p04": ("(4, 4, 4, 24) is empty", "box left out"),
            "p05": ("(24, 4, 4, 24) is inverted", "box left out"),
            "p06": ('bbox ["left", 4, 20, 20] is not four numbers', "box left out"),
            "p07": ("bbox [4, 4, 20] is not four numbers", "box left out"),
            "p08": ("annotated at 80x40 pixels, but is 40x40", "image left out"),
        },
        _coco_boxes,
    ),
    Flaws(
        "COCO outlines",
        "audit cells/cells.json --task segment --quick",
        {
            "p01": ("category 9 is not in the list of categories", "outline left out"),
            "p02": ("an annotation has no outline", "outline left out"),
            "p03": ("its run lengths belong to an image of 9x9 pixels, it has 40x40", "image left out"),
        },
        _coco_outlines,
    ),
    Flaws(
        "Pascal VOC",
        "audit cells --quick",
        {
            "p01": ("class 'cel' is not in the list of classes", "box left out"),
            "p02": ("reaches outside the image of 40x40", "clipped"),
            "p03": ("lies outside the image of 40x40", "box left out"),
            "p04": ("is empty", "box left out"),
            "p05": ("is inverted", "box left out"),
        },
        _voc,
    ),
    Flaws(
        "YOLO",
        "audit cells --quick",
        {
            "p01": (
                "line 1 of p01.txt has the class 3, which is not in the list of 2 classes",
                "line left out",
            ),
            "p02": ("reaches outside the image of 40x40", "clipped"),
            "p03": ("lies outside the image of 40x40", "box left out"),
            "p04": ("is empty", "box left out"),
            "p05": ("is inverted", "box left out"),
            "p06": ("line 1 of p06.txt is not `class x y width height`", "line left out"),
            "p07": ("line 1 of p07.txt is not `class x y width height`", "line left out"),
        },
        _yolo,
    ),
    Flaws(
        "a CSV of boxes",
        "audit cells/boxes.csv --quick",
        {
            "p01": ("(30, 4, 55, 24) reaches outside the image of 40x40", "clipped"),
            "p02": _OUTSIDE,
            "p03": ("(4, 4, 4, 24) is empty", "box left out"),
            "p04": ("(24, 4, 4, 24) is inverted", "box left out"),
            "p05": ("is not made of numbers", "box left out"),
        },
        _csv,
    ),
    Flaws(
        "masks",
        "audit streets --quick",
        {
            "p01": (
                "800 pixels of its mask have values outside the list of classes (7)",
                "those pixels count neither way",
            ),
            "p02": ("its mask is 20x20 pixels, the image 40x40", "image left out"),
        },
        _flawed_masks,
    ),
)


def flaw_lines(printed: Printed) -> list[str]:
    """The lines of the table of flaws, without the spaces that line its columns up."""
    lines = [re.sub(r" {3,}", "   ", line).strip() for line in printed.out.splitlines()]
    first = next(place for place, line in enumerate(lines) if line.endswith("flaws of annotations"))
    rows = [line for line in lines[first:] if not set(line) or set(line) - {"─", " "}]
    start = 1 if rows[1] else 2  # the title has an empty line below it
    return [rows[0], *takewhile(bool, rows[start:])]


def flaw_section(case: Flaws, printed: Printed) -> str:
    """The case's part of `docs/errors.md`."""
    told = "\n".join(flaw_lines(printed)).replace("/home/ann/", "")
    return f"**{case.what}** · exit code {printed.code}\n\n```text\n$ headstart {case.words}\n{told}\n```\n"


FLAWS_HEAD = """## Annotations that are wrong

A wrong box or mask is no error: it is clipped or left out, and the table that `headstart audit` prints has a line for each.
`fit` tells how many there were of each kind, and `facts.json` lists them. More than 5 % of images left out are an error.
"""

ERRORS = (
    Case(
        "masks of another size, or damaged: more than 5 %",
        "fit streets",
        1,
        ("5 of 24 images cannot be read", "its mask is 20x20 pixels, the image 40x40", "p05.png"),
        _wrong_masks,
    ),
    Case(
        "coloured masks without a list of colours",
        "fit streets",
        1,
        ("nothing says what its colours mean", "class_dict.csv"),
        lambda: _masks({}, colour=True),
    ),
    Case(
        "JSON that is not COCO's",
        "fit notes.json",
        1,
        ("notes.json is no COCO annotation file", "images, annotations and categories"),
        _no_coco,
    ),
    Case(
        "unknown head",
        "fit cells/boxes.csv --head retina-net",
        2,
        ("--head does not know 'retina-net'", "Did you mean 'retinanet'?"),
        _csv,
    ),
    Case(
        "a head of another task",
        "fit cells/boxes.csv --head unet",
        2,
        ("--head unet is not made for the task detect", "fcos, retinanet, faster-rcnn"),
        _csv,
    ),
)
