"""Boxes and outlines as COCO writes them: JSON with images, categories and annotations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.masks import IGNORED
from headstart.data.readers.labels import clean, shown
from headstart.data.readers.places import first_of, folder_splits
from headstart.data.readers.records import SPLIT_NAMES, Listing, Reader
from headstart.data.records import Box, Flaw, LoadOptions, Mask, Outline, Sample, Unreadable

BACKGROUND = "background"
"""The class of pixels outside all outlines."""

_ROBOFLOW = "_annotations.coco.json"


@record
class _File:
    """A JSON file, the split that its place or name says, and the folder that its images are looked for in."""

    path: Path
    split: str
    root: Path


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a JSON file, or a folder with one where COCO data has it."""
    path = Path(source).expanduser()
    return (path.suffix.lower() == ".json" and path.is_file()) or (path.is_dir() and bool(_files(path)))


def _files(source: Path) -> list[_File]:
    """The JSON files with annotations: `annotations/*.json`, one in each split folder, or one in the folder."""
    if source.is_file():
        return [_File(path=source, split="", root=source.parent)]
    given = [
        _File(path=folder / _ROBOFLOW, split=split, root=folder)
        for folder, split in folder_splits(source)
        if (folder / _ROBOFLOW).is_file()
    ]
    if given:
        return given
    found = sorted((source / "annotations").glob("*.json")) or sorted(source.glob("*.json"))
    found = [path for path in found if _looks_right(path)]
    instances = [path for path in found if path.name.startswith("instances")]
    return [_File(path=path, split=_split_of(path), root=source) for path in instances or found]


def _looks_right(path: Path) -> bool:
    """Whether the file is COCO's kind of JSON; other programs' JSON files lie about too."""
    try:
        with path.open("rb") as stream:
            content = stream.read() if path.stat().st_size < 1_000_000 else stream.read(1_000_000)
    except OSError:
        return False
    return content.lstrip()[:1] == b"{" and b'"images"' in content


def _split_of(path: Path) -> str:
    words = path.stem.lower().replace("-", "_").split("_")
    return next(
        (SPLIT_NAMES[w.rstrip("0123456789")] for w in words if w.rstrip("0123456789") in SPLIT_NAMES), ""
    )


def read(source: str, options: LoadOptions) -> Listing:
    """All images, those without annotations too: with boxes, or for `--task segment` with outlines as masks.

    Raises:
        BadInput: for a file that is no COCO JSON, and when no image is found.
    """
    path = Path(source).expanduser()
    files = _files(path)
    contents = [(file, _parse(file.path)) for file in files]
    ids: dict[int, str] = {}
    for file, content in contents:
        for row in content["categories"]:
            name = clean(str(row.get("name", "")))
            if ids.setdefault(row["id"], name) != name:
                raise BadInput(
                    f"{shown(file.path)}: category {row['id']} is {name!r}, elsewhere {ids[row['id']]!r}.",
                    hint="Give the files the same categories.",
                )
    names = tuple(dict.fromkeys(ids.values()))
    masks = options.task == "segment"
    classes = (BACKGROUND, *(name for name in names if name != BACKGROUND)) if masks else names
    index = {key: classes.index(name) for key, name in ids.items()}
    samples: list[Sample] = []
    missing: list[Unreadable] = []
    flaws: list[Flaw] = []
    for file, content in contents:
        own: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row in content["annotations"]:
            own[row.get("image_id")].append(row)
        for row in content["images"]:
            image = _image(file, str(row.get("file_name", "")))
            if image is None:
                missing.append(Unreadable(name=str(row.get("file_name")), reason="file does not exist"))
                continue
            size = (float(row.get("width") or 0), float(row.get("height") or 0))
            sample = Sample(name=shown(image), source=image, split=file.split, frame=size)
            made = _with_mask if masks else _with_boxes
            samples.append(made(sample, own[row["id"]], index, flaws))
    if not samples:
        raise BadInput(f"{shown(path)} names no image that exists.", hint=first_of(missing))
    return Listing(
        samples=tuple(samples),
        task="segment" if masks else "detect",
        classes=classes,
        unreadable=tuple(missing),
        flaws=tuple(flaws),
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown(path)} is no JSON: {error}.", hint="Give a COCO annotation file.") from error
    wanted = ("images", "annotations", "categories")
    lists = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in wanted)
    if not lists or any("id" not in row for key in ("images", "categories") for row in content[key]):
        raise BadInput(
            f"{shown(path)} is no COCO annotation file.",
            hint="It needs the lists images, annotations and categories; images and categories have an id each.",
        )
    return dict(content)


def _image(file: _File, name: str) -> Path | None:
    """Where the image of that name is."""
    stem = file.path.stem.removeprefix("instances_")
    places = [file.root, file.root / "images", file.path.parent, file.root / stem]
    places += [file.root / "images" / stem]
    places += [file.root / folder for folder, split in SPLIT_NAMES.items() if split == file.split]
    return next((place / name for place in places if name and (place / name).is_file()), None)


def _known(
    sample: Sample, rows: Sequence[dict[str, Any]], index: dict[int, int], flaws: list[Flaw], *, what: str
) -> list[tuple[dict[str, Any], int]]:
    """The annotations whose category is in the list, each with its class; `what` is left out where it is not."""
    out = []
    for row in rows:
        if row.get("category_id") in index:
            out.append((row, index[row["category_id"]]))
            continue
        told = f"category {row.get('category_id')} is not in the list of categories"
        flaws.append(Flaw(name=sample.name, what=told, action=f"{what} left out"))
    return out


def _with_boxes(
    sample: Sample, rows: Sequence[dict[str, Any]], index: dict[int, int], flaws: list[Flaw]
) -> Sample:
    boxes = []
    for row, label in _known(sample, rows, index, flaws, what="box"):
        place: Any = row.get("bbox")
        if not _are_numbers(place, 4):
            what = f"bbox {json.dumps(place, ensure_ascii=False)[:60]} is not four numbers"
            flaws.append(Flaw(name=sample.name, what=what, action="box left out"))
            continue
        left, top, width, height = (float(n) for n in place)
        right, bottom = left + width, top + height
        crowd = bool(row.get("iscrowd"))
        boxes.append(Box(left=left, top=top, right=right, bottom=bottom, label=label, crowd=crowd))
    return replace(sample, boxes=tuple(boxes), labels=tuple(sorted({box.label for box in boxes})))


def _are_numbers(value: Any, count: int | None) -> bool:
    return (
        isinstance(value, list)
        and (count is None or len(value) == count)
        and all(isinstance(n, int | float) for n in value)
    )


def _with_mask(
    sample: Sample, rows: Sequence[dict[str, Any]], index: dict[int, int], flaws: list[Flaw]
) -> Sample:
    """The largest outlines first, so that a small thing before a large one stays in sight."""
    outlines = []
    known = _known(sample, rows, index, flaws, what="outline")
    ordered = sorted(known, key=lambda pair: -float(pair[0].get("area") or 0))
    for row, label in ordered:
        region, label = row.get("segmentation"), IGNORED if row.get("iscrowd") else label
        if isinstance(region, dict) and "counts" in region:
            counts = region["counts"]
            text = " ".join(map(str, counts)) if isinstance(counts, list) else str(counts)
            outlines.append(Outline(label=label, counts=text, size=_size_of(region)))
        elif (
            isinstance(region, list) and region and all(_are_numbers(p, None) and len(p) >= 6 for p in region)
        ):
            polygons = tuple(tuple(float(n) for n in polygon) for polygon in region)
            outlines.append(Outline(label=label, polygons=polygons))
        else:
            flaws.append(
                Flaw(name=sample.name, what="an annotation has no outline", action="outline left out")
            )
    return replace(sample, mask=Mask(source=tuple(outlines), meaning=((0, 0),)))


def _size_of(region: dict[str, Any]) -> tuple[int, int]:
    """(width, height) that run lengths say they belong to, which COCO writes the other way round; (0, 0): none."""
    size: Any = region.get("size")
    return (int(size[1]), int(size[0])) if _are_numbers(size, 2) else (0, 0)


READER = Reader(
    name="coco",
    looks_like="COCO: a JSON file with boxes (or, with --task segment, outlines), or its folder",
    matches=matches,
    read=read,
)
