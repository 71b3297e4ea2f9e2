"""Records held encoded read as they were put in."""

from __future__ import annotations

import pytest

from models.outputs import IntervalRow
from pipeline._packed import Packed


def row(revision: int, energy_mwh: int | None = 5) -> IntervalRow:
    return IntervalRow(
        site="depot",
        station="s1",
        evse=1,
        start_ms=900_000,
        energy_mwh=energy_mwh,
        quality="measured",
        revision=revision,
    )


def test_a_record_reads_as_it_was_put_in_and_the_newest_of_a_key_stays() -> None:
    held: Packed[tuple[str, int], IntervalRow] = Packed(IntervalRow)
    held["s1", 1] = row(1)
    held["s1", 1] = row(2, None)
    held["s1", 0] = row(3, 1 << 40)
    assert held["s1", 1] == row(2, None)
    assert held["s1", 0] == row(3, 1 << 40)
    assert sorted(held) == [("s1", 0), ("s1", 1)]
    assert (len(held), ("s1", 1) in held, ("s2", 1) in held) == (2, True, False)
    del held["s1", 1]
    with pytest.raises(KeyError):
        held["s1", 1]
