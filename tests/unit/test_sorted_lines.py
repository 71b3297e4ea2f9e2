"""A file of lines: readable while it grows, in order at the end, whatever came when."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import _sorted_lines
from pipeline._sorted_lines import SortedLines

KEYS = st.tuples(st.integers(-3, 3), st.sampled_from(["", "a", "ä", "b\u2028"]), st.integers(0, 2))


def naive(items: list[tuple[tuple[int, str, int], bytes]], unique: int) -> list[bytes]:
    """Sort in memory; Python's sort keeps the order of equals."""
    ordered = sorted(items, key=lambda item: item[0])
    if unique:
        ordered = [next(group) for _, group in groupby(ordered, key=lambda item: item[0][:unique])]
    return [line for _, line in ordered]


@given(keys=st.lists(KEYS, max_size=120), unique=st.integers(0, 3), writes=st.sets(st.integers(0, 119)))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_it_is_what_sorting_in_memory_makes(
    tmp_path: Path, keys: list[tuple[int, str, int]], unique: int, writes: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sorted_lines, "_RUN_BYTES", 60)
        patch.setattr(_sorted_lines, "_PIECE_BYTES", 20)
        patch.setattr(_sorted_lines, "_MOST_RUNS", 3)
        file = SortedLines(tmp_path / "x", b"head\n", unique)
        items = [(key, f"{i} {key}\n".encode()) for i, key in enumerate(keys)]
        for i, (key, line) in enumerate(items):
            file.add(key, line)
            if i in writes:
                file.write()
        told = list(file.finish())
    assert told == naive(items, unique)
    assert (tmp_path / "x").read_bytes() == b"head\n" + b"".join(told)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_was_written_can_be_read_before_the_end(tmp_path: Path) -> None:
    file = SortedLines(tmp_path / "x", b"head\n")
    file.add((2,), b"two\n")
    file.add((1,), b"one\n")
    file.write()
    file.add((0,), b"not yet\n")
    assert (tmp_path / "x").read_bytes() == b"head\none\ntwo\n"
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
