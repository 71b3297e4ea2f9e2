"""The decorator of kernels that only read and write arrays they are given."""

from __future__ import annotations

from typing import Final

from numba import njit

#: Without numba's reference counting: passing a tuple of arrays to a helper otherwise costs two atomic
#: operations an array. A kernel that allocates fails to compile under it, so it cannot do harm unseen.
kernel: Final = njit(cache=True, nogil=True, fastmath=False, _nrt=False)
