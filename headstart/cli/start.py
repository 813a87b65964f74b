"""The start of a command that needs torch: thousands of modules, imported in a third less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_imports() -> Iterator[None]:
    """Within the block Python's garbage collector rests, and from then on it passes over what was imported.

    It would walk over all that is there a dozen times while torch, timm and their like are imported, and find nothing to
    free: half a second of two and a half (measured on one core). It concerns the whole process, so only the command line
    does it, and only where torch has not been imported yet.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
