"""Freed memory is kept for the next batch."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

#: glibc's malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_LARGEST: Final = 32 << 20  # the most that glibc takes from its heap
_KEPT: Final = 128 << 20
#: Objects made beyond those freed before the youngest are searched for cycles; searches before the older are.
_SEARCHES: Final = (100_000, 50, 50)


def keep_freed() -> bool:
    """Have the C library keep up to 128 MB that was freed, and take arrays up to 32 MB from there.

    As it comes, glibc gives the arrays of every batch back to the kernel and asks for them anew, cleared
    page by page: up to a fifth of the processor time of a replay.

    Returns
    -------
    bool
        False where the C library has no such setting: nothing is changed there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def search_seldom() -> None:
    """Have Python search for cycles of objects seldom, and among what is there now never.

    Transactions of a week are hundreds of thousands of objects without cycles: searching them as often as
    Python does by itself takes a sixth of the processor time of a replay.
    """
    gc.freeze()
    gc.set_threshold(*_SEARCHES)
