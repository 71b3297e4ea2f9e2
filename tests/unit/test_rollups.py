"""Roll-ups: when windows are put out, and what is in them. Their laws are in tests/laws."""

from __future__ import annotations

import pytest

from models.devices import DeviceTable
from models.errors import ConfigError, SnapshotError
from models.outputs import RollupRows
from models.rollups import FIELDS, RollupConfig, Rollups
from models.units import NO_REGISTER, NS_PER_MS, NS_PER_S
from tests.laws.energy_stream import Message, Orderer, fleet

T0 = 1_790_000_100_000  # a quarter's start
S = 1_000
M = 60 * S


class Log:
    """One EVSE whose readings carry a register only."""

    def __init__(self, devices: DeviceTable | None = None) -> None:
        self.devices = devices or fleet(1)
        self.rollups = Rollups(RollupConfig())
        self.orderer = Orderer()

    def send(self, *messages: Message) -> list[tuple[int, int, int, int]]:
        """Return (period in s, start after T0 in ms, readings, last register) of each window put out."""
        rows, _, columns = self.orderer.batch(list(messages))
        return plain(self.rollups.process(rows, columns, self.devices))

    def read(self, t: int, register: int | None) -> list[tuple[int, int, int, int]]:
        """Return what one reading puts out."""
        return self.send(Message(T0 + t, ((0, T0 + t, register),)))

    def tick(self, t: int) -> list[tuple[int, int, int, int]]:
        """Return what a tick puts out."""
        return self.send(Message(T0 + t, tick=True))


def plain(found: list[RollupRows]) -> list[tuple[int, int, int, int]]:
    """Return roll-ups as tuples."""
    return [
        (rows.period_s, int(rows.start_ns[i]) // NS_PER_MS - T0, int(rows.count[i]), int(rows.energy_mwh[i]))
        for rows in found
        for i in range(len(rows.evse))
    ]


def test_a_window_is_put_out_by_the_first_reading_after_it() -> None:
    log = Log()
    assert log.read(0, 5) == []
    assert log.read(59 * S, 7) == []
    assert log.read(60 * S, 9) == [(60, 0, 2, 7)]
    assert log.read(15 * M, 11) == [(60, M, 1, 9), (900, 0, 3, 9)]
    assert plain(log.rollups.flush()) == [(60, 15 * M, 1, 11), (900, 15 * M, 1, 11)]
    assert log.rollups.flush() == []


def test_a_tick_puts_it_out_once_and_what_comes_later_is_left_out() -> None:
    log = Log()
    log.read(0, 5)
    assert log.tick(M + 119 * S) == []
    assert log.tick(M + 120 * S) == [(60, 0, 1, 5)]
    assert log.read(30 * S, 6) == []
    assert log.read(2 * M, 7) == []
    assert log.tick(16 * M + 200 * S) == [(60, 2 * M, 1, 7), (900, 0, 2, 7)]
    assert log.read(3 * M, 8) == []
    assert plain(log.rollups.flush()) == [(60, 3 * M, 1, 8)]


def test_a_node_that_sends_rarely_is_waited_for() -> None:
    log = Log()
    log.devices.batch_ns[0] = 300 * NS_PER_S
    log.read(0, 5)
    assert log.tick(M + 419 * S) == []
    log.devices.batch_ns[0] = 60 * NS_PER_S  # another birth
    assert log.tick(M + 419 * S) == [(60, 0, 1, 5)]


def test_without_any_register_there_is_none() -> None:
    log = Log()
    log.read(0, None)
    assert log.read(M, None) == [(60, 0, 1, NO_REGISTER)]


def test_field_names_have_the_unit_last() -> None:
    assert {
        "power_mean_w",
        "voltage_l1_min_v",
        "current_l2_max_a",
        "soc_last_percent",
        "frequency_mean_hz",
    } <= set(FIELDS)


def test_wrong_settings_and_snapshots_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"grace_ns = -1: expected 0 to"):
        RollupConfig(grace_ns=-1)
    with pytest.raises(SnapshotError, match="roll-ups have version 2, this program reads 1"):
        Rollups(RollupConfig(), {"version": 2})


def test_more_windows_than_there_was_room_for() -> None:
    log = Log()
    found = log.send(*(Message(T0 + k * M, ((0, T0 + k * M, k),)) for k in range(3000)))
    assert len(found) == 2999 + 199
