"""Freed memory is kept: no page faults for the arrays of the next batch."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from pipeline.memory import keep_freed


def _faults() -> int:
    """Return the page faults of making and dropping a large array ten times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(1 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_pages_of_a_freed_array_are_used_again() -> None:
    if not keep_freed():
        pytest.skip("the C library is not glibc")
    _faults()
    assert _faults() < 200  # an array of 8 MiB has up to 2048 pages
