"""State that is kept of few: records taken and given back, numbers that do not fit, periods by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import plugins
from models.detecting import Emission, Emissions
from models.detectors import _voltage
from models.detectors._connections import BOOT_ASIDE, BOOT_FIELDS, Connections, Periods, boot_of, set_boot
from models.detectors._few import Few
from models.errors import SnapshotError
from tests.laws.streams import batches

from .detector_tape import START_NS, Tape


def test_a_record_given_back_is_blank_when_it_is_taken_again() -> None:
    few = Few([("n", "i4"), ("at", "i8")], {"at": -5})
    few.take(7)["n"] = 3
    few.take(2)["n"] = 4
    few.give_back(7)
    assert 7 not in few
    assert -1 not in few
    assert few.rows() == [2]
    rec = few.take(9)  # in the place of row 7
    assert (rec["n"], rec["at"], len(few.records)) == (0, -5, 2)
    assert few[2]["n"] == 4


def test_records_are_saved_by_row_and_restored_equal() -> None:
    few, other = (Few([("n", "i4")], {}) for _ in range(2))
    for row in (5, 1, 3):
        few.take(row)["n"] = 10 * row
    few.give_back(5)
    assert few.columns()["row"].tolist() == [1, 3]
    other.load(few.columns(), "x")
    assert [other[row]["n"] for row in (1, 3)] == [10, 30]
    with pytest.raises(SnapshotError, match="x: saved fields"):
        other.load({"row": np.zeros(1, np.int32)}, "x")


def test_what_nobody_needs_costs_nothing() -> None:
    few = Few([("n", "i8")], {})
    assert few.nbytes == 0
    few.take(3)
    assert few.nbytes > 0
    few.give_back(3)
    assert few.nbytes == 0
    assert few.take(1)["n"] == 0


@pytest.mark.parametrize(
    "connection",
    [(-1, -1), (0, 0), (1_780_000_000, 3), (2**32 - 3, 2**32 - 3), (1_780_000_000_123, 4), (1, 2**40)],
)
def test_connections_keep_any_numbers(connection: tuple[int, int]) -> None:
    known = Connections()
    known.reserve(2)
    known[1] = connection
    assert (known[0], known[1]) == ((-1, -1), connection)
    again = Connections(known.snapshot())
    assert again[1] == connection
    again[1] = (1, 1)
    assert again[1] == (1, 1)


@pytest.mark.parametrize("boot", [-1, 0, 7, 2**32, 1_780_000_000_123, BOOT_ASIDE - 1])
def test_boots_fit_in_48_bits(boot: int) -> None:
    rec = np.zeros(1, BOOT_FIELDS)[0]
    assert set_boot(rec, boot)
    assert boot_of(rec) == boot
    assert not set_boot(rec, 2**60)
    assert boot_of(rec) == BOOT_ASIDE


def test_periods_that_nobody_has_any_more_are_forgotten() -> None:
    periods = Periods((-1, -1))
    numbers = np.zeros(2, np.int32)
    for i in range(200):
        numbers[1] = periods.number((i, 2 * i))
        periods.tidy(numbers)
    assert periods.values[numbers].tolist() == [[-1, -1], [199, 398]]
    assert len(periods.values) <= 70
    assert Periods((0, 0), periods.values).values.tolist() == periods.values.tolist()


def _fed(name: str, tape: Tape) -> tuple[Any, list[Emission]]:
    module = plugins.load("models.detectors", name)
    detector, out = module.build(module.Config()), Emissions()
    for seen in batches(tape.story):
        detector.process(seen, out)
    return detector, out.drain()


def _meters(tape: Tape, start: float, end: float, step: float, first: int, **fields: Any) -> int:
    """Numbered messages of the stand-alone station; return the next number."""
    seq = first
    while start < end:
        tape.message(start, 0, "meter", **{"boot": 1, "seq": seq} | fields)
        seq, start = seq + 1, start + step
    return seq


def test_a_node_is_watched_closely_only_while_something_is_lost_or_much_is_sent() -> None:
    tape = Tape()
    seq = _meters(tape, 0, 3600, 60.0, 1)
    quiet = _fed("message_loss", tape)[0].nbytes()
    seq = _meters(tape, 3600, 3660, 60.0, seq + 1)  # one lost
    assert _fed("message_loss", tape)[0].nbytes() > quiet
    seq = _meters(tape, 3660, 3720, 2.0, seq)  # thirty in a minute
    _meters(tape, 3720, 7 * 3600, 60.0, seq)
    detector, found = _fed("message_loss", tape)
    assert detector.nbytes() < quiet + 20
    assert found == []


def test_numbers_are_counted_across_both_ways_to_watch() -> None:
    """A busy minute between quiet ones: what is lost later is told with all numbers of the last hour."""
    tape = Tape()
    seq = _meters(tape, 0, 900, 60.0, 1)
    seq = _meters(tape, 900, 960, 0.25, seq)
    seq = _meters(tape, 960, 4140, 60.0, seq)
    _meters(tape, 4140, 4200, 20.0, seq + 5)
    tape.ticks(4200, 4400)
    (raised,) = _fed("message_loss", tape)[1]
    assert (raised.effect_ns - START_NS) / 1e9 == 4260.0
    # from minute 12 on: 3, 240 of the busy minute, 53, 5 lost and 3 that came
    assert raised.evidence == {
        "lost": 5,
        "numbers": 304,
        "lost_percent": round(500 / 304, 6),
        "lost_in_transactions": 0,
    }


def test_a_node_that_boots_is_counted_on() -> None:
    """Watched closely for one message only: what is lost later is told with all numbers of the hour."""
    tape = Tape()
    _meters(tape, 0, 1800, 6.0, 1)
    seq = _meters(tape, 1800, 2400, 6.0, 1, boot=2)
    _meters(tape, 2400, 2460, 6.0, seq + 5, boot=2)
    tape.ticks(2460, 2600)
    (raised,) = _fed("message_loss", tape)[1]
    assert raised.evidence["numbers"] == 300 + 100 + 5 + 10
    assert raised.evidence["lost"] == 5


@pytest.mark.parametrize(("boot", "seq"), [(1_780_000_000_123, 1), (2**60, 1), (3, 2**32 + 5)])
def test_great_numbers_are_followed_too(boot: int, seq: int) -> None:
    tape = Tape()
    following = _meters(tape, 0, 600, 60.0, seq, boot=boot)
    _meters(tape, 600, 660, 60.0, following + 6, boot=boot)
    _meters(tape, 660, 720, 60.0, 1, boot=boot + 1)
    tape.ticks(720, 900)
    (raised,) = _fed("message_loss", tape)[1]
    assert raised.evidence["lost"] == 6


def test_a_boot_too_great_for_the_table_still_grows() -> None:
    tape = Tape()
    for i in range(5):
        tape.message(60.0 * i, 0, "meter", boot=2**60 + i, seq=1)
    (raised,) = _fed("reboot_loop", tape)[1]
    assert raised.evidence["times"] == 4


_VOLTS = ("Voltage@L1-N", "Voltage@L2-N", "Voltage@L3-N")


def _all_phases(volts: float) -> dict[str, float]:
    return dict.fromkeys(_VOLTS, volts)


@pytest.mark.parametrize(("name", "volts"), [("under_voltage", 200.0), ("over_voltage", 260.0)])
def test_a_voltage_needs_a_record_only_while_its_windows_are_odd(name: str, volts: float) -> None:
    tape = Tape(phases=3)
    for i in range(60):
        tape.sample(20.0 * i, _all_phases(volts if i == 20 else 230.0))  # one reading of a healthy minute
        if i == 20:
            assert len(_fed(name, tape)[0].sparse) == 1
    detector, found = _fed(name, tape)
    assert (len(detector.sparse), found) == (0, [])


def test_more_samples_than_a_sum_holds_do_not_wrap() -> None:
    """Hundred samples a second for ten minutes: sums and counts stay full, means stay in range."""
    rec = np.zeros(1, _voltage._DTYPE)[0]
    for _ in range(3):
        _voltage._add(rec["sum1"], rec["n1"], 0, 2**31, 30_000)
    assert (rec["sum1"][0], rec["n1"][0]) == (2**32 - 1, 65_535)


def test_a_plug_needs_a_record_only_while_it_is_hot_or_was_lately() -> None:
    tape = Tape()
    for i in range(60):
        tape.sample(60.0 * i, {"Temperature/Cable": 62.0 if i == 20 else 40.0, "Current.Import@L1": 16.0})
        if i == 25:
            assert len(_fed("silent_derate", tape)[0].sparse) == 1
    assert len(_fed("silent_derate", tape)[0].sparse) == 0


def test_a_register_needs_a_record_only_while_much_flows_beside_it() -> None:
    tape = Tape(declared=True)
    for i in range(40):
        tape.sample(20.0 * i, {"Power.Active.Import": 7200.0}, reg_wh=1000.0)  # 40 Wh between two samples
        if i == 3:
            assert len(_fed("register_stuck", tape)[0].sparse) == 1
    for i in range(40, 50):
        tape.sample(20.0 * i, {"Power.Active.Import": 7200.0}, reg_wh=1000.0 + 40.0 * i)
    assert len(_fed("register_stuck", tape)[0].sparse) == 0
