"""The images that a prediction is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from headstart._core.check import existing
from headstart._core.errors import BadInput
from headstart.data.readers.labels import shown
from headstart.data.readers.walk import Found, walk
from headstart.data.records import Sample


def find_images(paths: Sequence[str | Path]) -> tuple[Sample, ...]:
    """The files among the paths and the images below the folders among them, each once, without labels.

    A file is taken as it is given, image or not: the answer about it may be that it cannot be read. Inside a
    folder, what counts as an image is told by its ending or its first bytes; folders are walked in sorted order.

    Raises:
        BadInput: when a path does not exist, or when there is nothing to predict.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    chosen: dict[str, Path] = {}
    for given in paths:
        path = existing(given, what="The image or folder")
        listed = walk(path, Found()) if path.is_dir() else Found(images=[path])
        below = sorted([*listed.images, *(Path(bad.name) for bad in listed.broken)])
        for image in below:
            chosen.setdefault(os.path.abspath(image), image)  # noqa: PTH100  # resolve() would follow links
    if not chosen:
        where = ", ".join(shown(path) for path in paths) or "nothing"
        raise BadInput(
            f"There are no images in {where}.", hint="Give image files, or folders that hold some."
        )
    return tuple(Sample(name=shown(path), source=path) for path in chosen.values())
