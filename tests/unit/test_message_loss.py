"""message_loss: counts, finality, heartbeats, boots, late fills, transactions."""

from __future__ import annotations

import pytest

from models.records import Transaction
from tests.unit.detector_tape import START_NS, Tape, at_ns


def numbers(
    tape: Tape, start: float, seqs: list[int], *, boot: int = 1, step: float = 1.0, live: bool = True
) -> None:
    for i, seq in enumerate(seqs):
        tape.message(start + i * step, 0, "meter", boot=boot, seq=seq, live=live)


def moments(tape: Tape) -> list[tuple[int, float]]:
    """Return (kind, moment) of what is emitted."""
    return [(e.kind, (e.effect_ns - START_NS) / 1e9) for e in tape.run("message_loss")]


@pytest.mark.parametrize(("lost", "found"), [(4, []), (5, [(1, 220.0)])])
def test_five_lost_of_two_hundred(lost: int, found: list[tuple[int, float]]) -> None:
    tape = Tape()
    numbers(tape, 0, [s for s in range(1, 102) if not 50 < s <= 50 + lost], step=2.0)
    tape.ticks(200, 400)
    assert moments(tape) == found


@pytest.mark.parametrize(("total", "found"), [(500, 1), (501, 0)])
def test_one_percent_of_the_last_hour(total: int, found: int) -> None:
    tape = Tape()
    numbers(tape, 0, [s for s in range(1, total + 1) if not total - 9 < s <= total - 4])
    tape.ticks(total, total + 200)
    assert len(tape.run("message_loss")) == found


@pytest.mark.parametrize(("total", "step", "found"), [(500, 6.0, 1), (501, 6.0, 0), (501, 8.0, 1)])
def test_the_window_is_an_hour(total: int, step: float, found: int) -> None:
    """501 numbers at 6 s lie within an hour; at 8 s only 450 of them do."""
    tape = Tape()
    numbers(tape, 0, [s for s in range(1, total + 1) if not total - 9 < s <= total - 4], step=step)
    tape.ticks(total * step, total * step + 130)
    assert len(tape.run("message_loss")) == found


def test_evidence_and_start() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3, 9, 10])
    tape.ticks(5, 200)
    (found,) = tape.run("message_loss")
    assert found.evidence == {
        "lost": 5,
        "numbers": 10,
        "lost_percent": 50.0,
        "lost_in_transactions": 0,
    }
    assert found.start_ns == at_ns(3)
    assert (found.effect_ns - START_NS) / 1e9 == 123.0


def test_what_comes_within_two_minutes_is_not_lost() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3, 9, 10])
    tape.ticks(5, 100)
    numbers(tape, 100, [4, 5])
    tape.ticks(103, 400)
    assert tape.run("message_loss") == []


def test_what_comes_later_is_no_longer_lost() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3, 9, 10])
    tape.ticks(5, 200)
    numbers(tape, 200, [4])
    tape.ticks(201, 400)
    assert moments(tape) == [(1, 123.0), (3, 260.0)]


def test_duplicates_change_nothing() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3])
    for _ in range(9):
        tape.message(3, 0, "meter", boot=1, seq=9, duplicate=True)
    tape.ticks(4, 400)
    assert tape.run("message_loss") == []


def test_heartbeat_shows_what_is_missing_at_the_end() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3])
    tape.message(10, 0, "heartbeat", boot=1, seq=8)
    tape.message(20, 0, "heartbeat", boot=1, seq=8)
    tape.ticks(21, 200)
    assert moments(tape) == [(1, 130.0)]


def test_first_number_of_a_node_is_its_first() -> None:
    tape = Tape()
    numbers(tape, 0, [5000, 5001])
    tape.message(2, 1, "heartbeat", boot=4, seq=900)
    tape.message(3, 1, "meter", boot=4, seq=901)
    tape.ticks(4, 400)
    assert tape.run("message_loss") == []


def test_a_new_boot_starts_at_one() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 3])
    numbers(tape, 3, [1, 2, 3], boot=2)
    tape.ticks(6, 400)
    assert tape.run("message_loss") == []
    tape = Tape()
    numbers(tape, 0, [1, 2, 3])
    numbers(tape, 3, [6], boot=2)
    tape.ticks(6, 400)
    assert moments(tape) == [(1, 123.0)]


def test_late_message_of_the_boot_before_fills_its_gap() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 7])
    numbers(tape, 2, [1], boot=2)
    numbers(tape, 3, [3], boot=1)
    tape.ticks(4, 400)
    assert tape.run("message_loss") == []


def test_ten_minutes_while_a_backlog_drains() -> None:
    tape = Tape()
    numbers(tape, 0, [1])
    numbers(tape, 1, list(range(7, 130)), step=5.0, live=False)
    tape.ticks(616, 700)
    assert moments(tape) == [(1, 601.0)]


def test_clears_when_the_lost_numbers_leave_the_window() -> None:
    tape = Tape()
    numbers(tape, 0, [1, 2, 8, 9])
    numbers(tape, 4, list(range(10, 400)), step=10.0)
    tape.ticks(3904, 4200)
    kinds = [kind for kind, _ in moments(tape)]
    assert kinds == [1, 3]


def transaction(tape: Tape, t: float, seq_no: int, kind: str = "Updated", seq: int = 0) -> None:
    at = tape.message(t, 0, "tx", boot=1, seq=seq)
    tape.record(
        Transaction(
            at=at,
            station_row=0,
            evse_row=0,
            conn=1,
            time_ns=at_ns(t),
            time_reported_ns=at_ns(t),
            tx_id="T",
            seq_no=seq_no,
            event_type=kind,
        )
    )


def test_one_lost_number_of_a_transaction_is_enough() -> None:
    tape = Tape()
    transaction(tape, 0, 0, "Started", 1)
    transaction(tape, 10, 2, "Ended", 2)
    tape.ticks(11, 200)
    found = tape.run("message_loss")
    assert moments(tape) == [(1, 130.0)]
    assert found[0].evidence["lost_in_transactions"] == 1
    assert found[0].start_ns == at_ns(10)


def test_a_number_of_a_transaction_that_comes_late_is_not_lost() -> None:
    tape = Tape()
    transaction(tape, 0, 0, "Started", 1)
    transaction(tape, 10, 3, "Ended", 2)
    transaction(tape, 20, 2, seq=3)
    transaction(tape, 30, 1, seq=4)
    tape.ticks(31, 400)
    assert tape.run("message_loss") == []


def test_a_transaction_first_seen_in_its_middle_has_lost_nothing() -> None:
    tape = Tape()
    transaction(tape, 0, 7, seq=1)
    transaction(tape, 10, 8, seq=2)
    tape.ticks(11, 400)
    assert tape.run("message_loss") == []
