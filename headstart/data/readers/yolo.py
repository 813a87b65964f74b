"""Boxes as YOLO writes them: `data.yaml`, and a text file an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart._core.errors import BadInput
from headstart.data.readers.labels import clean, shown
from headstart.data.readers.places import first_of, images_below
from headstart.data.readers.records import Listing, Reader
from headstart.data.records import Box, Flaw, LoadOptions, Mask, Outline, Sample, Unreadable

_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_SPLITS = ("train", "val", "test")


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is a YAML file, or a folder with `data.yaml`."""
    return _file(Path(source).expanduser()) is not None


def _file(path: Path) -> Path | None:
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return path
    return next((path / name for name in _NAMES if (path / name).is_file()), None)


def read(source: str, options: LoadOptions) -> Listing:
    """The images of each split with their boxes; an image without a text file has no objects.

    Lines with more than five numbers are outlines: they become boxes, or for `--task segment` masks.

    Raises:
        BadInput: for a YAML file without names or training images.
    """
    file = _file(Path(source).expanduser())
    assert file is not None
    content = _parse(file)
    names = _class_names(content, file)
    masks = options.task == "segment"
    samples: list[Sample] = []
    flaws: list[Flaw] = []
    missing: list[Unreadable] = []
    for split in _SPLITS:
        for folder in _folders(content, file, split):
            images = images_below(folder)
            if not images:
                missing.append(Unreadable(name=shown(folder), reason=f"the {split} folder holds no images"))
            samples += [_sample(image, split, len(names), flaws, masks=masks) for image in images]
    if not samples:
        raise BadInput(f"{shown(file)} leads to no images.", hint=first_of(missing))
    return Listing(
        samples=tuple(samples),
        task="segment" if masks else "detect",
        classes=("background", *names) if masks else names,
        notes=tuple(f"{bad.name}: {bad.reason}." for bad in missing),
        flaws=tuple(flaws),
    )


def _parse(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{shown(file)} is no YAML: {error}.", hint="Give YOLO's data.yaml.") from error
    if not isinstance(content, dict) or "names" not in content or "train" not in content:
        raise BadInput(
            f"{shown(file)} is no YOLO data file.", hint="It needs `names` (of the classes) and `train`."
        )
    return content


def _class_names(content: dict[str, Any], file: Path) -> tuple[str, ...]:
    found = content["names"]
    if isinstance(found, dict):
        if sorted(found) != list(range(len(found))):
            raise BadInput(
                f"{shown(file)}: names do not run from 0 to {len(found) - 1}.",
                hint="Give every index a name.",
            )
        found = [found[index] for index in range(len(found))]
    if not isinstance(found, list) or not found:
        raise BadInput(f"{shown(file)}: names is no list.", hint="names: [cat, dog]")
    return tuple(clean(str(name)) for name in found)


def _folders(content: dict[str, Any], file: Path, split: str) -> list[Path]:
    """The image folders of a split; paths are relative to `path`, and that to the file."""
    given = content.get(split) or (content.get("valid") if split == "val" else None)
    if not given:
        return []
    root = file.parent / str(content.get("path") or "")
    out = []
    for name in given if isinstance(given, list) else [given]:
        # Roboflow writes ../train/images for a folder beside the file.
        choices = [root / str(name), file.parent / str(name), file.parent / str(name).removeprefix("../")]
        out.append(next((path for path in choices if path.is_dir()), choices[0]))
    return out


def _text_of(image: Path) -> Path:
    """The text file of an image: in `labels` where its path has `images`, else beside it."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _sample(image: Path, split: str, classes: int, flaws: list[Flaw], *, masks: bool) -> Sample:
    name, file = shown(image), _text_of(image)
    boxes: list[Box] = []
    outlines: list[Outline] = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            label, values = int(line.split()[0]), [float(word) for word in line.split()[1:]]
        except ValueError:
            label, values = -1, []
        wrong = _wrong(label, values, classes, masks=masks)
        if wrong:
            flaws.append(
                Flaw(name=name, what=f"line {number + 1} of {file.name} {wrong}", action="line left out")
            )
        elif masks:
            outlines.append(Outline(label=label + 1, polygons=(tuple(values),)))
        else:
            boxes.append(_box(label, values))
    labels = tuple(sorted({box.label for box in boxes}))
    mask = Mask(source=tuple(outlines), meaning=((0, 0),)) if masks else None
    return Sample(
        name=name, source=image, split=split, frame=(1.0, 1.0), boxes=tuple(boxes), labels=labels, mask=mask
    )


def _wrong(label: int, values: list[float], classes: int, *, masks: bool) -> str:
    outline = len(values) >= 6 and len(values) % 2 == 0
    if not values or not (outline or (len(values) == 4 and not masks)):
        return "is not `class x y width height`" if not masks else "is not `class x y x y x y …`"
    if not 0 <= label < classes:
        return f"has the class {label}, which is not in the list of {classes} classes"
    return ""


def _box(label: int, values: list[float]) -> Box:
    """In shares of the image's sides, of centre and size or of an outline."""
    if len(values) == 4:
        x, y, width, height = values
        return Box(
            left=x - width / 2, top=y - height / 2, right=x + width / 2, bottom=y + height / 2, label=label
        )
    across, down = values[0::2], values[1::2]
    return Box(left=min(across), top=min(down), right=max(across), bottom=max(down), label=label)


READER = Reader(
    name="yolo",
    looks_like="YOLO: data.yaml with images/ and labels/",
    matches=matches,
    read=read,
)
