"""Boxes as Pascal VOC writes them: one XML file an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from headstart._core.errors import BadInput
from headstart._core.records import record
from headstart.data.readers.labels import clean, shown
from headstart.data.readers.places import (
    as_number,
    by_stem,
    class_list,
    first_of,
    folder_splits,
    images_below,
)
from headstart.data.readers.records import Listing, Reader
from headstart.data.records import Box, Flaw, LoadOptions, Sample, Unreadable

_LARGEST = 16_000_000  # bytes of an XML file that is still one image's boxes
_SETS = (("trainval", "train"), ("train", "train"), ("val", "val"), ("test", "test"))  # the later one wins


@record
class _Parsed:
    """What an XML file says: (class name, xmin, ymin, xmax, ymax, difficult) of each object, or why nothing."""

    objects: tuple[tuple[str, float, float, float, float, bool], ...] = ()
    frame: tuple[float, float] = (0.0, 0.0)
    broken: str = ""


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a folder with `Annotations/*.xml`, or with XML files beside its images."""
    root = Path(source).expanduser()
    if not root.is_dir():
        return False
    places = [root / "Annotations", root, *(folder for folder, _ in folder_splits(root))]
    return any(next(place.glob("*.xml"), None) is not None for place in places)


def read(source: str, options: LoadOptions) -> Listing:
    """The images that have an XML file, with their boxes; splits from `ImageSets/Main/*.txt` or from split folders.

    A box covers its first and its last pixel, counted from one, as VOC's own tools write it. Class names are those of
    `classes.txt`, where there is one, else those that occur.

    Raises:
        BadInput: when there is no image.
    """
    root = Path(source).expanduser()
    listed = class_list(root)
    samples: list[Sample] = []
    parsed: list[_Parsed] = []
    missing: list[Unreadable] = []
    for file, image, split in _files(root):
        if image is None:
            missing.append(Unreadable(name=shown(file), reason="there is no image of that name"))
            continue
        each = _parse(file)
        if each.broken:
            missing.append(Unreadable(name=shown(image), reason=f"its annotation {each.broken}"))
            continue
        samples.append(Sample(name=shown(image), source=image, split=split, frame=each.frame))
        parsed.append(each)
    if not samples:
        raise BadInput(f"{shown(root)} holds no image with a VOC annotation.", hint=first_of(missing))
    names = listed.names if listed else tuple(sorted({name for each in parsed for name, *_ in each.objects}))
    index = {name: number for number, name in enumerate(names)}
    placed: list[Sample] = []
    flaws: list[Flaw] = []
    for sample, each in zip(samples, parsed, strict=True):
        boxes = []
        for name, *place, difficult in each.objects:
            if name in index:
                boxes.append(_box(place, index[name], difficult=difficult))
                continue
            what = f"the class {name!r} is not in the list of classes"
            flaws.append(Flaw(name=sample.name, what=what, action="box left out"))
        placed.append(replace(sample, boxes=tuple(boxes), labels=tuple(sorted({box.label for box in boxes}))))
    return Listing(
        samples=tuple(placed), task="detect", classes=names, unreadable=tuple(missing), flaws=tuple(flaws)
    )


def _box(place: list[float], label: int, *, difficult: bool) -> Box:
    """From first and last pixel, counted from one, to edges; what is empty as written stays empty, to be found."""
    left, top, right, bottom = place
    return Box(
        left=left - 1 if right > left else left,
        top=top - 1 if bottom > top else top,
        right=right,
        bottom=bottom,
        label=label,
        crowd=difficult,
    )


def _files(root: Path) -> Iterator[tuple[Path, Path | None, str]]:
    """(annotation, image or None, split) of every XML file."""
    annotations = root / "Annotations"
    if annotations.is_dir():
        places = [root / "JPEGImages", root / "images", annotations]
        images = by_stem(next((found for place in places if (found := images_below(place))), []))
        split = _splits(root)
        for file in sorted(annotations.glob("*.xml")):
            if not split or file.stem in split:
                yield file, images.get(file.stem), split.get(file.stem, "")
        return
    for folder, name in folder_splits(root) or [(root, "")]:
        images = by_stem(images_below(folder))
        for file in sorted(folder.glob("*.xml")):
            yield file, images.get(file.stem), name


def _splits(root: Path) -> dict[str, str]:
    """Name -> split, as the lists in `ImageSets/Main` say; empty where there are none."""
    out: dict[str, str] = {}
    for name, split in _SETS:
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file():
            words = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
            out |= {line[0]: split for line in words if line}
    return out


def _parse(file: Path) -> _Parsed:
    try:
        content = file.read_bytes()
        if len(content) > _LARGEST or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            return _Parsed(broken=f"{file.name} is larger than one image's boxes, or defines entities")
        tree = ElementTree.fromstring(content)  # noqa: S314  # entities, which make XML dangerous, are refused above
        objects = tuple(_object(node) for node in tree.iter("object"))
    except OSError as error:
        return _Parsed(broken=f"{file.name} cannot be read: {error.strerror}")
    except (ElementTree.ParseError, ValueError) as error:
        return _Parsed(broken=f"{file.name} is no VOC annotation: {error}")
    size = [as_number(tree.findtext(f"size/{side}") or "0") for side in ("width", "height")]
    return _Parsed(objects=objects, frame=(size[0], size[1]) if min(size) > 0 else (0.0, 0.0))


def _object(node: ElementTree.Element) -> tuple[str, float, float, float, float, bool]:
    name = clean(node.findtext("name") or "")
    if not name:
        raise ValueError("an object has no name")
    left, top, right, bottom = (
        as_number(node.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return name, left, top, right, bottom, (node.findtext("difficult") or "0").strip() == "1"


READER = Reader(
    name="voc",
    looks_like="Pascal VOC: JPEGImages/ and Annotations/*.xml, or XML files beside the images",
    matches=matches,
    read=read,
)
