"""Quarter-hour energy: borders, qualities, revisions, and what registers do besides counting up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from models.devices import DeviceTable
from models.energy import EnergyConfig, EnergyMeter, MemoryArchive
from models.errors import ConfigError, SnapshotError
from models.outputs import IntervalRow
from models.units import NS_PER_MS, NS_PER_S
from tests.laws.energy_stream import Message, Orderer, fleet

T0 = 1_790_000_100_000  # a quarter's start
S = 1_000
Q = 900 * S
KWH = 1_000_000  # mWh
Found = list[tuple[int, int | None, str, int]]


class Log:
    """One EVSE and its meter, message by message."""

    def __init__(self, devices: DeviceTable | None = None, **config: int) -> None:
        self.devices = devices or fleet(1)
        self.meter = EnergyMeter(EnergyConfig(**config), MemoryArchive())
        self.orderer = Orderer()
        self.now = T0

    def read(self, *readings: tuple[int, int | None]) -> Found:
        """Return what a message with (ms after T0, mWh) puts out."""
        self.now = max([self.now, *(T0 + t for t, _ in readings)])
        return self._send(Message(self.now, tuple((0, T0 + t, r) for t, r in readings)))

    def late(self, *readings: tuple[int, int | None]) -> Found:
        """Return what a message of late readings puts out: nothing before the next tick."""
        assert self.read(*readings) == []
        return self.tick(self.now - T0)

    def tick(self, t: int) -> Found:
        """Return what a tick at this time puts out."""
        self.now = T0 + t
        return self._send(Message(self.now, tick=True))

    def end(self) -> Found:
        """Return what the end of the log puts out."""
        return plain(self.meter.flush(self.devices))

    def _send(self, message: Message) -> Found:
        return plain(self.meter.process(*self.orderer.batch([message]), self.devices))


def plain(rows: list[IntervalRow]) -> Found:
    """Return (quarter after T0, mWh, quality, revision)."""
    return [((row.start_ms - T0) // Q, row.energy_mwh, row.quality, row.revision) for row in rows]


def energies(log: Log, *readings: tuple[int, int | None]) -> list[int | None]:
    """Return the energy of each quarter that single-reading messages lead to, by the last revision."""
    rows = [row for reading in readings for row in log.read(reading)] + log.end()
    return [value for _, value in sorted({q: value for q, value, *_ in rows}.items())]


def test_readings_on_the_borders_are_measured() -> None:
    log = Log()
    assert log.read((0, 5 * KWH)) == []
    assert log.read((Q, 7 * KWH)) == [(0, 2 * KWH, "measured", 1)]
    assert log.read((2 * Q, 7 * KWH)) == [(1, 0, "measured", 1)]
    assert log.end() == [(2, 0, "interpolated", 1)]


@pytest.mark.parametrize(
    ("away_ms", "quality", "energy"),
    [
        (-1000, "measured", 3000),
        (1000, "measured", 3000),
        (-1001, "interpolated", 3000),
        (1001, "interpolated", 2996),
    ],
)
def test_a_reading_within_a_second_of_the_border_is_on_it(away_ms: int, quality: str, energy: int) -> None:
    log = Log()
    rows = log.read((0, 0), (1 * S, 0), (Q + away_ms, 3000), (Q + 10 * S, 3000))
    assert rows == [(0, energy, quality, 1)]


def test_the_nearest_reading_counts_and_of_two_the_later() -> None:
    log = Log()
    assert log.read((0, 0), (Q - 400, 100), (Q + 300, 200), (Q + 900, 300))[0][1] == 200
    log = Log()
    assert log.read((0, 0), (Q - 300, 100), (Q + 300, 200))[0][1] == 200


def test_a_border_between_readings_is_interpolated() -> None:
    # 16:50 12.000 kWh, 17:05 14.250 kWh: 17:00 13.500
    log = Log()
    assert log.read((5 * 60 * S, 12 * KWH), (20 * 60 * S, 14_250_000)) == [(0, 1_500_000, "interpolated", 1)]
    assert log.end() == [(1, 750_000, "interpolated", 1)]


def test_interpolation_over_months_does_not_overflow() -> None:
    log = Log()
    span = 100 * 96 * Q
    rows = log.read((0, 1), (span, 999 * KWH + 1)) + log.end()
    assert sum(value or 0 for _, value, *_ in rows) == 999 * KWH
    assert {quality for _, _, quality, _ in rows[1:-1]} == {"estimated"}
    borders = [1 + 999 * KWH * k // 9600 for k in range(9601)]
    assert [value for _, value, *_ in rows[:9600]] == [b - a for a, b in pairwise(borders)]


def test_a_series_with_a_gap_of_years_starts_anew() -> None:
    log = Log()
    rows = log.read((0, 0), (60 * S, 100), (400 * 96 * Q, 500 * KWH), (400 * 96 * Q + 60 * S, 500 * KWH + 7))
    assert rows == [(0, 100, "interpolated", 1)]
    assert log.end() == [(400 * 96, 7, "interpolated", 1)]
    assert log.meter.counters()["restarts"] == 1


def test_readings_without_register_are_no_readings_of_energy() -> None:
    log = Log()
    rows = log.read((0, 1000), (60 * S, None), (Q, None), (2 * Q, 3000))
    assert rows == [(0, 1000, "interpolated", 1), (1, 1000, "estimated", 1)]


def test_quarters_without_readings_are_missing_then_estimated() -> None:
    log = Log()
    log.read((0, 1000), (60 * S, 2000))
    assert log.tick(Q + 119 * S) == []
    assert log.tick(Q + 120 * S) == [(0, 1000, "interpolated", 1)]
    assert log.tick(Q + 121 * S) == []
    assert log.tick(3 * Q + 120 * S) == [(1, None, "missing", 1), (2, None, "missing", 1)]
    rows = log.read((3 * Q + 60 * S, 2000 + 2700))
    assert rows == [
        (0, 1000 + 840, "interpolated", 2),
        (1, 900, "estimated", 2),
        (2, 900, "estimated", 2),
    ]
    assert log.end() == [(3, 60, "interpolated", 1)]


def test_a_node_that_sends_rarely_is_waited_for() -> None:
    log = Log()
    log.devices.batch_ns[0] = 300 * NS_PER_S
    log.read((0, 1000))
    assert log.tick(Q + 419 * S) == []
    assert log.tick(Q + 420 * S) == [(0, 0, "interpolated", 1)]
    assert log.tick(2 * Q + 419 * S) == []
    log.devices.batch_ns[0] = 60 * NS_PER_S  # another birth
    assert log.tick(2 * Q + 419 * S) == [(1, None, "missing", 1)]


def test_a_silent_evse_is_missing_for_31_days_only() -> None:
    log = Log()
    log.read((0, 1000))
    rows = log.tick(60 * 96 * Q)
    assert len(rows) == 1 + 31 * 96
    rows = log.read((60 * 96 * Q, 1000))
    assert len(rows) == 60 * 96 - 1
    assert [row for row in rows if row[0] == 31 * 96] == [(31 * 96, 0, "estimated", 2)]
    assert [row for row in rows if row[0] == 31 * 96 + 1] == [(31 * 96 + 1, 0, "estimated", 1)]


def test_backlog_after_missing_raises_each_revision_once() -> None:
    log = Log()
    log.read((0, 0))
    log.tick(4 * Q + 200 * S)
    rows = []
    for k in range(1, 3 * 900, 10):
        rows += log.read((k * S, k))
    assert [(q, revision) for q, _, _, revision in rows] == [(0, 2), (1, 2)]


def test_a_late_reading_raises_the_revision_only_if_something_changes() -> None:
    log = Log()
    log.read((0, 0), (Q, 900), (2 * Q, 1800))
    assert log.late((Q // 2, 100)) == []  # between the borders
    assert log.late((Q + 1, 900)) == []
    log = Log()
    rows = log.read((0, 0), (Q - 450 * S, 0), (Q + 450 * S, 900), (2 * Q, 900))
    assert rows == [(0, 450, "interpolated", 1), (1, 450, "interpolated", 1)]
    assert log.late((Q, 900)) == [(0, 900, "measured", 2), (1, 0, "measured", 2)]
    assert log.late((Q, 900)) == []  # again


def test_late_readings_of_one_second_make_one_revision() -> None:
    log = Log()
    log.read((0, 0), (8 * Q, 8000))
    for k in range(15):
        assert log.read((Q + k * 60 * S, 1000)) == []
    rows = log.tick(8 * Q)
    assert [(q, revision) for q, _, _, revision in rows] == [(k, 2) for k in range(8)]


def test_a_late_reading_before_the_first_extends_the_series() -> None:
    log = Log()
    log.read((3 * Q, 3000), (4 * Q, 4000))
    assert log.late((Q, 1000)) == [(1, 1000, "interpolated", 1), (2, 1000, "estimated", 1)]


def test_late_readings_reach_far_back_and_no_further_than_told() -> None:
    log = Log(late_quarters=20)
    for k in range(40):
        log.read((k * Q, k * 1000), (k * Q + 450 * S, k * 1000 + 100))
    assert log.late((25 * Q - 100 * S, 24_200)) == []
    assert log.late((25 * Q - 100 * S, 24_200 - 50)) == []  # contradicts nothing, changes nothing
    assert log.meter.counters()["too_late"] == 0
    assert log.late((5 * Q + 899 * S, 5_200)) == []
    assert log.meter.counters()["too_late"] == 1


def test_late_readings_count_at_the_end_of_a_log_without_ticks() -> None:
    log = Log()
    log.read((0, 0), (Q - 450 * S, 0), (Q + 450 * S, 900), (2 * Q, 900))
    log.read((Q, 900))
    assert log.end() == [(0, 900, "measured", 2), (1, 0, "measured", 2), (2, 0, "interpolated", 1)]


def test_a_late_reading_that_contradicts_is_ignored_and_counted() -> None:
    log = Log()
    log.read((0, 1000), (2 * Q, 3000))
    assert log.late((Q, 3500)) == []
    assert log.late((Q, 900)) == []
    assert log.meter.counters()["late_conflicts"] == 2


def test_registers_with_decimals_stay_exact() -> None:
    assert energies(Log(), (0, 1), (60 * S, 2), (Q, 4), (Q + 60 * S, 7)) == [3, 3]


# --- what registers do besides counting up -------------------------------------------------------


def test_a_reset_opens_a_segment_and_the_quarter_carries_the_sum() -> None:
    log = Log()
    assert energies(
        log, (0, 500 * KWH), (60 * S, 501 * KWH), (120 * S, 0), (180 * S, 60_000), (240 * S, 90_000)
    ) == [KWH + 90_000]
    assert log.meter.counters()["resets"] == 1


def test_a_reset_over_a_border_counts_from_its_first_low_reading() -> None:
    log = Log()
    rows = energies(
        log, (0, 500 * KWH), (Q - 60 * S, 501 * KWH), (Q + 60 * S, 5_000), (2 * Q, 60_000), (3 * Q, 70_000)
    )
    assert rows == [KWH, 55_000, 10_000, 0]


def test_a_register_of_zero_for_a_while_is_not_a_reset() -> None:
    # a batch without energy read as 0 (citrineos-core 868)
    log = Log()
    assert energies(log, (0, 500 * KWH), (60 * S, 0), (120 * S, 0), (180 * S, 500 * KWH + 9)) == [9]
    assert log.meter.counters()["resets"] == 0
    assert log.meter.counters()["low_readings"] == 2


def test_a_placeholder_of_zero_at_the_start_is_no_energy() -> None:
    # begin 0 from a station that started offline: 910 kWh instead of 0.083 (citrineos-core 1060)
    log = Log()
    assert energies(log, (0, 0), (60 * S, 910 * KWH), (120 * S, 910 * KWH + 83_000)) == [83_000]
    assert log.meter.counters()["placeholders"] == 1


def test_a_new_meter_that_starts_at_zero_counts() -> None:
    assert energies(Log(), (0, 0), (60 * S, 83_000), (120 * S, 166_000)) == [166_000]


def test_a_rollback_is_ignored_until_it_is_exceeded() -> None:
    log = Log()
    rows = energies(log, (0, 500 * KWH), (60 * S, 490 * KWH), (120 * S, 495 * KWH), (180 * S, 500 * KWH + 5))
    assert rows == [5]
    assert log.meter.counters()["resets"] == 0


def test_a_rollback_that_persists_and_counts_up_opens_a_segment() -> None:
    log = Log()
    low = [(60 * S * k, 490 * KWH + 1000 * k) for k in range(1, 12)]
    assert energies(log, (0, 500 * KWH), *low) == [10_000]
    assert log.meter.counters()["resets"] == 1


def test_a_rollback_that_stays_flat_waits_and_then_opens_a_segment() -> None:
    log = Log()
    flat = [(60 * S * k, 490 * KWH) for k in range(1, 40)]
    rising = [(2400 * S + 60 * S * k, 490 * KWH + 2000 * k) for k in range(1, 4)]
    assert energies(log, (0, 500 * KWH), *flat, *rising) == [0, 0, 6000]


def test_small_falls_are_ignored_and_counted() -> None:
    log = Log()
    rows = energies(log, (0, 5 * KWH), (60 * S, 5 * KWH - 2000), (120 * S, 5 * KWH + 10))
    assert rows == [10]
    assert log.meter.counters() | {"small_falls": 1, "low_readings": 0} == log.meter.counters()


def test_rollover_with_a_known_modulus() -> None:
    devices = fleet(1)
    devices.modulus_mwh[0] = 1000 * KWH
    log = Log(devices)
    assert energies(log, (0, 999_990_000), (60 * S, 20_000), (120 * S, 30_000)) == [40_000]
    assert log.meter.counters()["rollovers"] == 1


def test_rollover_over_a_border_is_shared_by_time() -> None:
    devices = fleet(1)
    devices.modulus_mwh[0] = 1000 * KWH
    assert energies(Log(devices), (0, 999_990_000), (Q - 60 * S, 999_990_000), (Q + 60 * S, 20_000)) == [
        15_000,
        15_000,
    ]


def test_an_implausible_rollover_is_a_reset() -> None:
    devices = fleet(1)
    devices.modulus_mwh[0], devices.p_max_w[0] = 1000 * KWH, 11_000.0
    log = Log(devices)
    assert energies(log, (0, 500 * KWH), (60 * S, 0), (120 * S, 7_000)) == [7_000]
    assert log.meter.counters()["rollovers"] == 0


@pytest.mark.parametrize("register", [0, 7 * KWH, 800 * KWH])
def test_another_meter_opens_a_segment_at_once(register: int) -> None:
    log = Log()
    log.read((0, 500 * KWH), (60 * S, 500 * KWH + 10))
    log.devices.meter_generation[0] += 1
    assert log.read((120 * S, register), (180 * S, register + 7), (Q, register + 9))[0][1] == 10 + 7 + 2
    assert log.meter.counters()["replaced"] == 1


def test_late_readings_of_the_meter_before_are_counted_with_it() -> None:
    log = Log()
    log.read((0, 500 * KWH), (60 * S, 500 * KWH + 10))
    log.devices.meter_generation[0] += 1
    log.read((300 * S, 7 * KWH), (360 * S, 7 * KWH + 5), (Q + 100 * S, 7 * KWH + 5))
    assert log.late((200 * S, 500 * KWH + 30)) == [(0, 35, "interpolated", 2)]
    assert log.late((240 * S, 7 * KWH - 3)) == [(0, 38, "interpolated", 3)]
    assert log.end() == [(1, 0, "interpolated", 1)]


def test_a_register_on_two_bases_is_counted_once() -> None:
    # session-relative in the samples, lifetime at the ends (lbbrhzn/ocpp 2093)
    log = Log()
    samples = [(60 * S * k, 50_000 * k) for k in range(1, 11)]
    rows = energies(log, (0, 5_000 * KWH), *samples, (660 * S, 5_000 * KWH + 550_000))
    assert rows == [550_000]
    assert log.meter.counters()["returns"] == 1


def test_a_session_register_that_starts_at_zero_each_time_counts_every_session() -> None:
    log = Log()
    one = [(60 * S * k, 50_000 * k) for k in range(10)]
    two = [(3600 * S + 60 * S * k, 30_000 * k) for k in range(30)]
    assert sum(value or 0 for value in energies(log, *one, *two)) == 450_000 + 29 * 30_000


def test_an_implausible_jump_is_counted_and_taken() -> None:
    devices = fleet(1)
    devices.p_max_w[0] = 11_000.0
    log = Log(devices)
    assert energies(log, (0, 5 * KWH), (60 * S, 50 * KWH)) == [45 * KWH]
    assert log.meter.counters()["implausible_jumps"] == 1


# --- state ------------------------------------------------------------------------------------------


def test_configuration_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"close_grace_ns = -1: expected 0 to"):
        EnergyConfig(close_grace_ns=-1)


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 99, this program reads 2"):
        EnergyMeter(EnergyConfig(), MemoryArchive(), {"version": 99})


def test_a_snapshot_is_a_copy() -> None:
    log = Log()
    log.read((0, 0))
    state = log.meter.snapshot()
    before = state["slots"]["u_last"].copy()
    log.read((60 * S, 500))
    assert (state["slots"]["u_last"] == before).all()


def test_the_state_fits_its_budget() -> None:
    meter = EnergyMeter(EnergyConfig(), MemoryArchive())
    meter.process(*Orderer().batch([Message(T0, ((0, T0, 0),))]), fleet(100))
    assert meter.nbytes() <= 100 * 400


def test_tolerance_and_grace_are_settings() -> None:
    log = Log(boundary_tolerance_ns=30 * NS_PER_S, close_grace_ns=10_000 * NS_PER_MS)
    assert log.read((0, 0), (Q - 30 * S, 5), (Q + 60 * S, 9))[0] == (0, 5, "measured", 1)
    assert log.tick(2 * Q + 10 * S)[0][0] == 1
