"""Small pictures with red and blue squares, and what is true of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from headstart.data.records import Box, Mask, Sample

CLASSES = ("red", "blue")
_COLOURS = ((220, 40, 40), (40, 60, 220))


def scene(number: int, size: tuple[int, int] = (96, 64), *, empty: bool = False) -> Sample:
    """A sample whose classes are ground, red and blue for masks, red and blue for boxes."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(90, 130, (size[1], size[0], 3)).astype(np.uint8)
    labels = np.zeros((size[1], size[0]), np.uint8)
    boxes = []
    for _ in range(0 if empty else 3):
        side = int(rng.integers(16, 32))
        x, y = (int(rng.integers(0, length - side)) for length in size)
        label = int(rng.integers(0, 2))
        if labels[y : y + side, x : x + side].any():
            continue
        pixels[y : y + side, x : x + side] = _COLOURS[label]
        labels[y : y + side, x : x + side] = label + 1
        boxes.append(Box(left=x, top=y, right=x + side, bottom=y + side, label=label))
    return Sample(
        name=f"scene {number}",
        source=pixels,
        width=size[0],
        height=size[1],
        boxes=tuple(boxes),
        mask=Mask(source=labels, meaning=((0, 0), (1, 1), (2, 2))),
        labels=tuple(sorted({box.label for box in boxes})),
    )


def write(root: Path, count: int, size: tuple[int, int] = (96, 64)) -> tuple[Path, Path]:
    """(a CSV file of boxes, a folder of masks) of the same pictures, an empty one among them, in three splits."""
    lines = ["path,label,left,top,right,bottom,split"]
    for number in range(count):
        sample, split = scene(number, size, empty=number == 1), ("train", "train", "val", "test")[number % 4]
        assert isinstance(sample.source, np.ndarray)
        assert sample.mask is not None
        assert isinstance(sample.mask.source, np.ndarray)
        for folder, pixels in (("images", sample.source), ("masks", sample.mask.source)):
            place = root / "masks" / folder / split
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{number}.png")
        Image.fromarray(sample.source).save(root / f"{number}.png")
        for box in sample.boxes:
            sides = f"{box.left:g},{box.top:g},{box.right:g},{box.bottom:g}"
            lines.append(f"{number}.png,{CLASSES[box.label]},{sides},{split}")
        if not sample.boxes:
            lines.append(f"{number}.png,,,,,,{split}")
    (root / "boxes.csv").write_text("\n".join(lines))
    (root / "masks/classes.txt").write_text("ground\nred\nblue\n")
    return root / "boxes.csv", root / "masks"
