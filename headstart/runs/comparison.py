"""The page of a comparison, with pictures of the images that the runs disagree on."""

from __future__ import annotations

import io
from pathlib import Path

from headstart._core import files, records
from headstart._core.errors import BadInput
from headstart._core.files import sha256_file
from headstart.reporting.comparison_page import write_comparison
from headstart.runs.answers import load_answers
from headstart.runs.compare import Compared
from headstart.runs.gallery import small_square


def write_page(path: Path, compared: Compared, first: str | Path) -> Path:
    """The path of the page.

    Args:
        path: to write to.
        compared: what it shows.
        first: the first of the runs, whose names the images go by.
    """
    files.writable_folder(path.parent)
    kept = load_answers(Path(first))
    digests = dict(zip(kept.answers.names, kept.digests, strict=True))
    pictures = {}
    for entry in compared.shown:
        source = Path(entry.name)
        try:
            if (
                source.is_file() and sha256_file(source) == digests[entry.name]
            ):  # else it is another image by now
                content = io.BytesIO()
                small_square(source).save(content, format="JPEG", quality=80)
                pictures[entry.name] = content.getvalue()
        except (BadInput, OSError):  # gone in this moment: the card stays without its picture
            continue
    return write_comparison(path, records.to_plain(compared), pictures)
