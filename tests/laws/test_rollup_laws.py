"""Laws of the roll-ups: as the naive twin, however the stream is cut, and over a restart."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import METER, TICK, MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS
from models.outputs import RollupRows
from models.rollups import FIELDS, RollupConfig, Rollups
from models.schema import MEASUREMENTS
from models.units import NO_REGISTER, NS_PER_MS
from tests.laws.energy_stream import fleet
from tests.naive import rollups as naive

T0 = 1_790_000_100_000
GRACE = 90_000
CONFIG = RollupConfig(grace_ns=GRACE * NS_PER_MS)
NAMES = (
    "Power.Active.Import",
    "Voltage",
    "Voltage@L2-N",
    "Current.Import",
    "Current.Import@L3",
    "Current.Offered",
    "Temperature/Cable",
    "Temperature/Body",
    "SoC",
    "Frequency",
)
IDS = tuple(CHANNEL_ID[name] for name in NAMES)

Key = tuple[int, int, int]
Row = tuple[Key, int, int | None, dict[str, float]]


@dataclass
class Story:
    """Per EVSE its events; and everything by order: (EVSE, reading), or a tick's time."""

    events: list[list[naive.Reading | int]]
    by_order: list[list[tuple[int, naive.Reading]] | int]


def story(rng: random.Random, evses: int, n: int) -> Story:
    """Return a stream of n messages with ticks between."""
    times = [T0 + rng.randrange(900_000) for _ in range(evses)]
    cadence = [rng.choice([1_000, 10_000, 60_000, 300_000]) for _ in range(evses)]
    events: list[list[naive.Reading | int]] = [[] for _ in range(evses)]
    by_order: list[list[tuple[int, naive.Reading]] | int] = []
    now = T0
    for _ in range(n):
        if rng.random() < 0.4:
            now += rng.choice([1_000, 1_000, 40_000, 200_000])
            by_order.append(now)
            for series in events:
                series.append(now)
            continue
        message = []
        for _ in range(rng.choice([1, 1, 8, 40])):
            e = rng.randrange(evses)
            times[e] += cadence[e] if rng.random() < 0.95 else rng.choice([60_000, 900_000, 86_400_000])
            values = {CHANNELS[i].field: round(rng.uniform(0, 400), 2) for i in IDS if rng.random() < 0.8}
            message.append((e, times[e], values, rng.choice([None, rng.randrange(10**9)])))
        if rng.random() < 0.7:
            now = max(now, max(t for _, t, _, _ in message))
        readings = [(e, naive.Reading(t, now, values, register)) for e, t, values, register in message]
        by_order.append(readings)
        for e, reading in readings:
            events[e].append(reading)
    return Story(events, by_order)


def batch_of(
    part: list[list[tuple[int, naive.Reading]] | int], first: int
) -> tuple[ReadingBatch, MessageColumns]:
    """Return one run of a story as the order stage gives it."""
    flat = [
        (e, first + k, reading)
        for k, item in enumerate(part)
        if not isinstance(item, int)
        for e, reading in item
    ]
    flat.sort(key=lambda row: row[0])
    rows = ReadingBatch.empty(len(flat), IDS)
    for i, (e, order, reading) in enumerate(flat):
        rows.evse[i], rows.order[i], rows.time_ns[i] = e, order, reading.t * NS_PER_MS
        rows.effect_ns[i] = reading.effect * NS_PER_MS
        rows.reg_mwh[i] = NO_REGISTER if reading.register is None else reading.register
        for slot, channel in enumerate(IDS):
            rows.values[slot, i] = reading.values.get(CHANNELS[channel].field, math.nan)
    m = len(part)
    wide, narrow = np.zeros(m, np.int64), np.zeros(m, np.uint8)
    kinds = np.array([TICK if isinstance(item, int) else METER for item in part], np.uint8)
    effect = [item if isinstance(item, int) else item[0][1].effect for item in part]
    return rows, MessageColumns(
        first + np.arange(m), wide, wide, np.zeros(m, np.int32), kinds, wide, wide, narrow, narrow, wide,
        np.array(effect, np.int64) * NS_PER_MS,
    )  # fmt: skip


def flat(found: list[RollupRows]) -> list[Row]:
    """Return roll-ups as plain rows; absent fields left out."""
    out: list[Row] = []
    for rows in found:
        for i in range(len(rows.evse)):
            values = {
                name: float(v)
                for name, v in zip(rows.fields, rows.values[:, i].tolist(), strict=True)
                if v == v
            }
            register = int(rows.energy_mwh[i])
            key = (rows.period_s, int(rows.evse[i]), int(rows.start_ns[i]) // NS_PER_MS)
            out.append((key, int(rows.count[i]), None if register == NO_REGISTER else register, values))
    return out


def run(told: Story, lengths: list[int], restart_at: int = -1) -> list[Row]:
    """Return all windows put out, in order; the state is saved and loaded after batch `restart_at`."""
    devices = fleet(len(told.events))
    rollups = Rollups(CONFIG)
    out: list[Row] = []
    at = k = 0
    while at < len(told.by_order):
        length = lengths[k] if k < len(lengths) else len(told.by_order)
        out += flat(rollups.process(*batch_of(told.by_order[at : at + length], at), devices))
        if k == restart_at:
            state: dict[str, Any] = rollups.snapshot()
            rollups = Rollups(CONFIG, state)
        at, k = at + length, k + 1
    return out + flat(rollups.flush())


def by_key(rows: list[Row]) -> dict[Key, Row]:
    """Return the rows by window; each window comes once."""
    out = {row[0]: row for row in rows}
    assert len(out) == len(rows), "a window was put out twice"
    return out


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), evses=st.integers(1, 3), n=st.integers(1, 80))
def test_windows_are_the_naive_twins(seed: int, evses: int, n: int) -> None:
    told = story(random.Random(seed), evses, n)
    found = by_key(run(told, [7, 1, 13]))
    wanted = {
        (w.period_s, e, w.start): w
        for e, series in enumerate(told.events)
        for w in naive.windows(series, GRACE)
    }
    assert found.keys() == wanted.keys()
    for key, (_, count, register, values) in found.items():
        window = wanted[key]
        assert (count, register) == (window.count(), window.register())
        for name in FIELDS:
            expected = window.field(name)
            assert (name in values) == (expected is not None), name
            if expected is not None:
                exact = "_mean_" not in name
                assert values[name] == (expected if exact else pytest.approx(expected, rel=1e-12))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    evses=st.integers(1, 3),
    n=st.integers(1, 80),
    lengths=st.lists(st.integers(1, 20), max_size=50),
    restart_at=st.integers(0, 50),
)
def test_any_cut_and_a_restart_give_the_same_windows(
    seed: int, evses: int, n: int, lengths: list[int], restart_at: int
) -> None:
    told = story(random.Random(seed), evses, n)
    # each batch lists its minutes before its quarters, so the order differs, the windows do not
    assert by_key(run(told, lengths, restart_at)) == by_key(run(told, []))


def test_every_field_is_in_the_schema() -> None:
    for measurement in ("ev_1m", "ev_15m"):
        known = {spec.name for spec in MEASUREMENTS[measurement].fields}
        assert set(FIELDS) <= known
    assert len(set(FIELDS)) == len(FIELDS)
