"""A malloc that keeps its memory."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def keep_memory() -> bool:
    """Whether glibc was told to keep freed memory instead of giving it back to the system.

    By default every big activation is mapped and faulted in again at each layer: over a million page faults a training
    step, 40 % of the time in the kernel. Same effect as MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 in the
    environment, for more resident memory. It concerns the whole process, so only a program's entry point calls it.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no mallopt
        return False
    kept = bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    # The arenas of other threads give empty heaps back whatever the threshold says; networks run in such threads.
    return kept and bool(mallopt(_M_ARENA_MAX, 1))
