"""What kernels are given: numba tells tuples apart by the names of their class and fields only."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict

import models


def test_no_two_tuples_of_kernels_look_alike() -> None:
    """Of two alike numba's dispatcher knows one; every call with the other goes through slow Python."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for info in pkgutil.walk_packages(models.__path__, "models."):
        for thing in vars(importlib.import_module(info.name)).values():
            if isinstance(thing, type) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
                found[(thing.__name__, *thing._fields)].add(f"{thing.__module__}.{thing.__qualname__}")
    assert len(found) > 60
    assert [sorted(names) for names in found.values() if len(names) > 1] == []
