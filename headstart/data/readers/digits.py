"""`digits`: scikit-learn's 1,797 scanned digits, 8 x 8 pixels, always there."""

from __future__ import annotations

import numpy as np

from headstart.data.readers.records import Listing, Reader
from headstart.data.records import LoadOptions, Sample


def matches(source: str, options: LoadOptions) -> bool:
    """Whether the source is the word `digits` (a folder of that name is reached as `./digits`)."""
    return source == "digits"


def read(source: str, options: LoadOptions) -> Listing:
    """1,797 gray images (8, 8), uint8 in [0, 255], of the classes `0` to `9`."""
    from sklearn.datasets import load_digits  # a second that only those who want the digits should pay

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    return Listing(
        samples=tuple(
            Sample(name=f"digits:{number}", source=image, labels=(int(label),))
            for number, (image, label) in enumerate(zip(images, found.target, strict=True))
        ),
        task="classify",
        classes=tuple(str(digit) for digit in range(10)),
        notes=("Built-in data: scikit-learn's digits (UCI, 8 x 8 pixels).",),
    )


READER = Reader(name="digits", looks_like="digits", matches=matches, read=read)
