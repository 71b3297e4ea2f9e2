"""Laws of quarter-hour energy: however readings come, intervals are those of the sorted readings."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.energy import Archive, EnergyConfig, EnergyMeter, MemoryArchive
from models.outputs import IntervalRow
from models.units import NS_PER_MS
from tests.laws.energy_stream import Message, Orderer, cut, fleet
from tests.naive import energy as naive

T0 = 1_790_000_100_000  # a quarter's start
QUARTER = 900_000
GRACE = 120_000
CONFIG = EnergyConfig(close_grace_ns=GRACE * NS_PER_MS, late_quarters=2_000)


@dataclass
class Case:
    """Readings of some EVSEs and the messages that bring them."""

    readings: dict[int, list[naive.Reading]]
    messages: list[Message]
    seed: int


def counting(rng: random.Random, n: int) -> list[naive.Reading]:
    """Return n readings of a register that only counts up, at a changing cadence with gaps."""
    t = T0 + rng.choice([0, 1, 999, 1000, 1001, rng.randrange(QUARTER)])
    register = rng.choice([0, 1, 123_456, 5_000_000_000])
    step_ms = rng.choice([1_000, 10_000, 60_000, 300_000, 900_000])
    readings = []
    for _ in range(n):
        readings.append(naive.Reading(t, register))
        kind = rng.random()
        if kind < 0.04:
            t += rng.choice([2 * QUARTER, 3_600_000, 86_400_000, 3 * 86_400_000])
        elif kind < 0.3:
            t += max(1, step_ms + rng.randrange(-900, 900))
        else:
            t += step_ms
        register += rng.choice([0, 0, 1, 333, 1000, rng.randrange(200_000)])
    return readings


def deliver(rng: random.Random, readings: dict[int, list[naive.Reading]], disorder: str) -> list[Message]:
    """Return messages that bring all readings, some twice, in an order that is wrong as told."""
    rows: list[tuple[int, int, int | None]] = [
        (evse, r.t, r.register) for evse, series in readings.items() for r in series
    ]
    rows.sort(key=lambda row: (row[1], row[0]))
    if disorder == "bounded":
        rows = [row for _, row in sorted(((i + rng.randrange(12), row) for i, row in enumerate(rows)))]
    elif disorder == "unbounded":
        rng.shuffle(rows)
    elif disorder == "backlog":
        # a stretch that comes when all else is through
        a, b = sorted(rng.randrange(len(rows) + 1) for _ in range(2))
        rows = rows[:a] + rows[b:] + rows[a:b]
    rows += [rng.choice(rows) for _ in range(len(rows) // 8)]
    rows.insert(rng.randrange(len(rows)), (0, T0 + rng.randrange(QUARTER * 30), None))
    messages, now, at = [], T0, 0
    while at < len(rows):
        size = rng.choice([1, 1, 2, 5, 20])
        part = rows[at : at + size]
        at += size
        now = max(now, max(t for _, t, _ in part) + rng.randrange(3_000))
        messages.append(Message(now, tuple(dict.fromkeys(part))))
        for _ in range(rng.choice([0, 0, 1, 3])):
            now += rng.choice([1_000, 1_000, 130_000, QUARTER])
            messages.append(Message(now, tick=True))
    return messages


@st.composite
def cases(draw: st.DrawFn, disorders: tuple[str, ...]) -> Case:
    """Return a case; hypothesis chooses its sizes and the seed of the rest."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    readings = {evse: counting(rng, draw(st.integers(1, 60))) for evse in range(draw(st.integers(1, 3)))}
    messages = deliver(rng, readings, draw(st.sampled_from(disorders)))
    return Case(readings, messages, rng.randrange(2**32))


def run(
    messages: list[Message], n: int, lengths: list[int], config: EnergyConfig = CONFIG
) -> list[IntervalRow]:
    """Return all intervals put out, in order."""
    devices, orderer = fleet(n), Orderer()
    meter = EnergyMeter(config, MemoryArchive())
    out: list[IntervalRow] = []
    for part in cut(messages, lengths):
        out += meter.process(*orderer.batch(part), devices)
    return out + meter.flush(devices)


def final(rows: list[IntervalRow]) -> dict[str, dict[int, tuple[int | None, str]]]:
    """Return station -> quarter -> what the last revision says; check the revisions on the way."""
    out: dict[str, dict[int, tuple[int | None, str]]] = {}
    revisions: dict[tuple[str, int], int] = {}
    for row in rows:
        key = (row.station, row.start_ms)
        assert row.revision == revisions.get(key, 0) + 1, (row, revisions.get(key))
        assert (row.energy_mwh is None) == (row.quality == "missing")
        assert row.energy_mwh is None or row.energy_mwh >= 0
        revisions[key] = row.revision
        quarters = out.setdefault(row.station, {})
        before = quarters.get(row.start_ms // QUARTER)
        assert before != (row.energy_mwh, row.quality), f"a revision that changes nothing: {row}"
        quarters[row.start_ms // QUARTER] = (row.energy_mwh, row.quality)
    return out


def assert_as_naive(
    rows: list[IntervalRow], readings: dict[int, list[naive.Reading]], meter: naive.Meter | None = None
) -> None:
    """Check the last revisions against the twin on the sorted readings."""
    found = final(rows)
    for evse, series in readings.items():
        points = naive.unwrap(sorted(series, key=lambda r: r.t), meter or naive.Meter())
        wanted = naive.intervals(points)
        got = found.get(f"cp{evse}", {})
        beyond = {q: value for q, value in got.items() if q > max(wanted)}
        assert {q: value for q, value in got.items() if q <= max(wanted)} == wanted
        assert all(value == (None, "missing") for value in beyond.values())
        assert sum(energy for energy, _ in wanted.values()) == points[-1][1] - points[0][1]


@settings(max_examples=60)
@given(case=cases(("none", "bounded", "unbounded", "backlog")))
def test_any_order_gives_the_intervals_of_the_sorted_readings(case: Case) -> None:
    assert_as_naive(run(case.messages, len(case.readings), [7, 31, 1]), case.readings)


@settings(max_examples=40)
@given(case=cases(("bounded", "backlog", "unbounded")), lengths=st.lists(st.integers(1, 40), max_size=40))
def test_any_cut_gives_the_same_rows(case: Case, lengths: list[int]) -> None:
    n = len(case.readings)
    whole = run(case.messages, n, [])
    assert run(case.messages, n, lengths) == whole
    assert run(case.messages, n, [1] * len(case.messages)) == whole


def test_evses_do_not_touch_each_other() -> None:
    rng = random.Random(5)
    readings = {evse: counting(rng, 80) for evse in range(3)}
    together = run(deliver(rng, readings, "backlog"), 3, [11] * 99)
    for evse, series in readings.items():
        alone = run(deliver(rng, {0: series}, "unbounded"), 1, [])
        got = final(together)[f"cp{evse}"]
        wanted = {q: v for q, v in final(alone)["cp0"].items() if v[1] != "missing"}
        assert {q: v for q, v in got.items() if v[1] != "missing"} == wanted


@settings(max_examples=40)
@given(case=cases(("bounded", "backlog", "unbounded")), length=st.integers(1, 30), data=st.data())
def test_a_crash_at_any_point_changes_nothing(case: Case, length: int, data: st.DataObject) -> None:
    parts = cut(case.messages, [length] * len(case.messages))
    n, devices = len(case.readings), fleet(len(case.readings))
    undisturbed, orderer = [], Orderer()
    meter = EnergyMeter(CONFIG, MemoryArchive())
    batches = [orderer.batch(part) for part in parts]
    for batch in batches:
        undisturbed.append(meter.process(*batch, devices))
    undisturbed.append(meter.flush(devices))

    archive: Archive = MemoryArchive()
    meter = EnergyMeter(CONFIG, archive)
    saved = [(0, meter.snapshot())]
    got: list[list[IntervalRow]] = []
    crashes = data.draw(st.lists(st.integers(0, len(batches)), max_size=4))
    at = 0
    while at < len(batches):
        if crashes and crashes[-1] == at:
            crashes.pop()
            # back to any of the last few saved states
            back = data.draw(st.integers(1, min(3, len(saved))))
            saved = saved[: len(saved) - back + 1]
            at, state = saved[-1]
            got = got[:at]
            meter = EnergyMeter(CONFIG, archive, state)
            continue
        got.append(meter.process(*batches[at], devices))
        at += 1
        if data.draw(st.booleans()):
            saved.append((at, meter.snapshot()))
    got.append(meter.flush(devices))
    assert got == undisturbed
    assert n


@pytest.mark.parametrize("late_quarters", [1, 3, 12])
def test_what_is_too_late_to_revise_leaves_sums_exact(late_quarters: int) -> None:
    config = EnergyConfig(close_grace_ns=GRACE * NS_PER_MS, late_quarters=late_quarters)
    for seed in range(25):
        rng = random.Random(seed)
        readings = {0: counting(rng, 60)}
        rows = run(deliver(rng, readings, rng.choice(["bounded", "backlog"])), 1, [5] * 50, config)
        found = final(rows)["cp0"]
        series = sorted(readings[0], key=lambda r: r.t)
        got = sum(energy for energy, _ in found.values() if energy is not None)
        # readings too late for the first quarter are lost; from the first that counts on nothing is
        assert got in {series[-1].register - r.register for r in series}
