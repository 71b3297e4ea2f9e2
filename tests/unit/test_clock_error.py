"""clock_error: one wild heartbeat or three wrong ones raise, right ones for a minute clear."""

from __future__ import annotations

import pytest

from tests.naive.plain import S
from tests.unit.detector_tape import Tape, brief

TEN_YEARS_S = 315_576_000.0


def beats(tape: Tape, skews_s: list[float], *, every: float = 30.0, node: int = 0) -> None:
    for i, skew_s in enumerate(skews_s):
        tape.message(i * every, node, "heartbeat", boot=1, seq=0, skew_ns=round(skew_s * S))


@pytest.mark.parametrize(
    ("skews_s", "found"),
    [
        ([61, 61], []),
        ([60, -60, 60, 60], []),
        ([61, 61, 0, 61, 61], []),
        ([61, -61, 61], [("raise", 0.0, 60.0)]),
        ([0, 300, 0], []),
        ([0, 300.001], [("raise", 30.0, 30.0)]),
        ([0, -TEN_YEARS_S, -TEN_YEARS_S], [("raise", 30.0, 30.0)]),
        ([400, 0, 0, 0], [("raise", 0.0, 0.0), ("clear", 0.0, 30.0)]),
        ([400, 0, 0, 70, 0, 0, 0], [("raise", 0.0, 0.0), ("clear", 0.0, 120.0)]),
    ],
)
def test_what_raises_and_clears(skews_s: list[float], found: list[tuple[str, float, float]]) -> None:
    tape = Tape()
    beats(tape, skews_s)
    assert brief(tape.run("clock_error")) == found


def test_evidence_says_how_wrong() -> None:
    tape = Tape()
    beats(tape, [-TEN_YEARS_S], node=1)
    (finding,) = tape.run("clock_error")
    assert finding.subject == 1
    assert finding.evidence == {"skew_s": -TEN_YEARS_S, "limit_s": 300.0, "heartbeats": 1}


def test_a_heartbeat_without_a_clock_says_nothing() -> None:
    tape = Tape()
    beats(tape, [70, 70])
    tape.message(60.0, 0, "heartbeat", boot=1, seq=0)
    tape.message(90.0, 0, "heartbeat", boot=1, seq=0, skew_ns=70 * S)
    assert brief(tape.run("clock_error")) == [("raise", 0.0, 90.0)]
