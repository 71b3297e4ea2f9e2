"""Laws of quarter-hour energy over registers that reset, roll over, fall and jump."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from models.devices import DeviceTable
from models.energy import Archive, EnergyMeter, MemoryArchive
from models.outputs import IntervalRow
from tests.laws.energy_stream import Message, Orderer, cut, fleet
from tests.laws.test_energy_laws import CONFIG, T0, assert_as_naive
from tests.naive import energy as naive

METER = naive.Meter(p_max_w=22_000.0, resolution_mwh=1000, modulus_mwh=10_000_000_000)
CALM = 6  # readings around a fault that are not delayed


def faulty(rng: random.Random, n: int) -> tuple[list[naive.Reading], set[int]]:
    """Return n readings of one register with faults, and the indices next to which something went wrong."""
    t = T0 + rng.randrange(900_000)
    register = rng.choice([0, 300_000, 9_999_000_000, 5_000_000_000])
    cadence = rng.choice([5_000, 60_000, 300_000])
    wrong: set[int] = set()
    readings: list[naive.Reading] = []
    glitch: list[int] = []
    for i in range(n):
        shown = glitch.pop() if glitch else register
        readings.append(naive.Reading(t, max(0, shown)))
        t += cadence + rng.randrange(-900, 900)
        register += rng.choice([0, 1, 333, 10_000, rng.randrange(cadence * 6)])
        if glitch or rng.random() > 0.08:
            continue
        wrong.add(i)
        match rng.randrange(8):
            case 0:
                register = rng.choice([0, 5_000, 50_000])  # a reset
            case 1:
                glitch = [0] * rng.randrange(1, 6)  # not read
            case 2:
                glitch = [register - rng.choice([1_000, 2_000, 2_001, 900_000])] * rng.randrange(1, 4)
            case 3:
                register -= rng.choice([2_500, 1_500_000, register // 2])  # stays low
            case 4:
                register = rng.choice([9_999_990_000, register])  # near the modulus
            case 5:
                glitch = sorted(rng.randrange(200_000) for _ in range(rng.randrange(1, 7)))[
                    ::-1
                ]  # another basis
            case 6:
                register += rng.choice([2_000_000, 500_000_000])  # a jump
            case 7:
                t += rng.choice([900_000, 7_200_000, 86_400_000])
        if register >= METER.modulus_mwh:
            register -= METER.modulus_mwh
        register = max(0, register)
        wrong |= {i + k for k in range(len(glitch) + 1)}
    return readings, wrong


def inventory() -> DeviceTable:
    """Return one EVSE whose inventory is `METER`."""
    devices = fleet(1)
    devices.p_max_w[0], devices.resolution_mwh[0], devices.modulus_mwh[0] = 22_000.0, 1000, METER.modulus_mwh
    return devices


def run(messages: list[Message], lengths: list[int], crash_at: int = -1) -> list[IntervalRow]:
    """Return all intervals put out, in order; the state is saved and loaded after batch `crash_at`."""
    devices, orderer = inventory(), Orderer()
    archive: Archive = MemoryArchive()
    meter = EnergyMeter(CONFIG, archive)
    out: list[IntervalRow] = []
    for k, part in enumerate(cut(messages, lengths)):
        out += meter.process(*orderer.batch(part), devices)
        if k == crash_at:
            meter = EnergyMeter(CONFIG, archive, meter.snapshot())
    return out + meter.flush(devices)


def messages_of(rng: random.Random, readings: list[naive.Reading]) -> list[Message]:
    """Return messages of some readings each, with ticks between."""
    out, at, now = [], 0, T0
    while at < len(readings):
        part = readings[at : at + rng.choice([1, 1, 3, 12])]
        at += len(part)
        now = max(now, max(r.t for r in part) + 500)
        out.append(Message(now, tuple((0, r.t, r.register) for r in part)))
        for _ in range(rng.choice([0, 1, 2])):
            now += rng.choice([1_000, 200_000])
            out.append(Message(now, tick=True))
    return out


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 120), lengths=st.lists(st.integers(1, 30), max_size=60))
def test_faults_in_order_are_as_the_twin_says(seed: int, n: int, lengths: list[int]) -> None:
    rng = random.Random(seed)
    readings, _ = faulty(rng, n)
    messages = messages_of(rng, readings)
    rows = run(messages, lengths, crash_at=rng.randrange(60))
    assert run(messages, []) == rows
    assert_as_naive(rows, {0: readings}, METER)


@settings(max_examples=120)
@given(seed=st.integers(0, 2**32), n=st.integers(30, 150))
def test_late_readings_between_faults_change_nothing_in_the_end(seed: int, n: int) -> None:
    rng = random.Random(seed)
    readings, wrong = faulty(rng, n)
    calm = [
        i
        for i in range(CALM, n - CALM)
        if not wrong & set(range(i - CALM, i + CALM)) and readings[i].register >= readings[i - 1].register
    ]
    late = set(rng.sample(calm, len(calm) // 3))
    now = [r for i, r in enumerate(readings) if i not in late]
    after = [readings[i] for i in late]
    rng.shuffle(after)
    messages = messages_of(rng, now + after)
    assert_as_naive(run(messages, [5] * 99, crash_at=rng.randrange(20)), {0: readings}, METER)
