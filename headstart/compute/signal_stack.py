"""The stack on which a thread takes signals, kept as it was while a library works."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NONE = 2  # Linux's SS_DISABLE: signals are taken on the usual stack


class _Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Afterwards this thread takes signals on the stack on which it took them before.

    OpenVINO's compiler leaves one behind whose memory another thread may give back (seen with 2026.4.1): the next Ctrl-C
    would end the process by a segmentation fault, without a last checkpoint. Elsewhere than on Linux nothing is done.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            before.flags &= _NONE  # what the system adds when it tells is refused when it is told
            libc.sigaltstack(ctypes.byref(before), None)
