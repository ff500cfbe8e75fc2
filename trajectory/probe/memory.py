"""Memory that a process has freed and still holds."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Give freed pages of the heap back to the system, where the C library can.

    Buffers of changing size leave holes that glibc keeps, so that resident memory would grow with
    the number of layers a checkpoint has although none of them is held.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
