"""Laws of registers that come with transactions, beside readings that carry registers too."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from models.energy import EnergyMeter, MemoryArchive
from models.outputs import IntervalRow
from tests.laws.energy_stream import Message, Orderer, beside, cut, fleet
from tests.laws.test_energy_laws import CONFIG, assert_as_naive, deliver, final
from tests.naive import energy as naive

EVSES = 2


def plausible(rng: random.Random, n: int) -> list[naive.Reading]:
    """Return n readings of a register, over two hours at most, none of whose steps looks wrong."""
    t, register = 1_790_000_100_000 + rng.randrange(900_000), rng.choice([0, 123_456, 5_000_000_000])
    step_ms = min(7_200_000 // n, rng.choice([1_000, 10_000, 60_000, 900_000, 3_600_000]))
    readings = []
    for _ in range(n):
        readings.append(naive.Reading(t, register))
        span = max(1, step_ms - rng.choice([0, 0, rng.randrange(900)]))
        t += span
        register += rng.choice([0, 1, rng.randrange(20 * span)])
    return readings


def run(messages: list[Message], lengths: list[int]) -> list[IntervalRow]:
    """Return all intervals put out, in order."""
    devices, orderer = fleet(EVSES), Orderer()
    meter = EnergyMeter(CONFIG, MemoryArchive())
    out: list[IntervalRow] = []
    for part in cut(messages, lengths):
        rows, late, columns = orderer.batch(part)
        out += meter.process(rows, late, columns, devices, beside(part, columns))
        meter = EnergyMeter(CONFIG, meter._archive, meter.snapshot())
    return out + meter.flush(devices)


def spread(rng: random.Random, messages: list[Message], extra: list[tuple[int, int, int]]) -> list[Message]:
    """Return the messages with the registers among them, each with or after the reading before it."""
    out = list(messages)
    for evse, t, register in extra:
        at = rng.randrange(len(out))
        out[at] = replace(out[at], beside=(*out[at].beside, (evse, t, register)))
    return out


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    disorder=st.sampled_from(["none", "bounded", "unbounded", "backlog"]),
    lengths=st.lists(st.integers(1, 40), max_size=30),
)
def test_registers_on_the_line_count_as_readings(seed: int, disorder: str, lengths: list[int]) -> None:
    """Whichever readings of a meter come with transactions, and whenever: intervals are those of all."""
    rng = random.Random(seed)
    series = {evse: plausible(rng, rng.randrange(2, 50)) for evse in range(EVSES)}
    told: dict[int, list[naive.Reading]] = {}
    extra = []
    for evse, readings in series.items():
        chosen = set(rng.sample(range(len(readings)), rng.randrange(len(readings)))) | {0, len(readings) - 1}
        if len(chosen) == len(readings):
            chosen.discard(0)
        extra += [(evse, readings[i].t, readings[i].register) for i in chosen]
        told[evse] = [reading for i, reading in enumerate(readings) if i not in chosen] or readings
    messages = spread(rng, deliver(rng, told, disorder), extra)
    whole = run(messages, [])
    assert_as_naive(whole, series)
    assert run(messages, lengths) == whole


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["lower", "higher", "other_zero"]))
def test_registers_off_the_line_change_nothing(seed: int, kind: str) -> None:
    """Registers read at another moment or from another zero, after the readings around them are known."""
    rng = random.Random(seed)
    series = {
        evse: [replace(r, register=r.register + 5_000_000) for r in plausible(rng, 40)]
        for evse in range(EVSES)
    }
    messages = deliver(rng, series, "none")
    extra = []
    for evse, readings in series.items():
        for a, b in itertools.pairwise(readings):
            if b.t - a.t < 2 or rng.random() < 0.5:
                continue
            t = rng.randrange(a.t + 1, b.t)
            away = 1 + rng.randrange(50_000)
            register = {"lower": a.register - away, "higher": b.register + away, "other_zero": 700_000}[kind]
            extra.append((evse, t, register))
    end = messages[-1].effect_ms + 1_000
    tail = [Message(end, beside=tuple(extra)), Message(end + 1_000, tick=True)]
    plain, got = final(run(messages, [])), final(run(messages + tail, [7, 3]))
    for evse in range(EVSES):
        wanted = {q: v for q, v in plain[f"cp{evse}"].items() if v[1] != "missing"}
        assert {q: v for q, v in got[f"cp{evse}"].items() if v[1] != "missing"} == wanted


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_a_lifetime_register_beside_one_of_the_session_adds_nothing(seed: int) -> None:
    """Readings count each session from 0; the transactions' registers count the meter's life."""
    rng = random.Random(seed)
    life, t, flowed = rng.randrange(2_000_000_000, 9_000_000_000), 1_790_000_100_000, 0
    messages = []
    for _ in range(4):
        begin = t
        register = 0
        sent: list[tuple[int, int, int | None]] = []
        for _ in range(12):
            t += 60_000
            register += rng.randrange(1_000, 150_000)
            sent.append((0, t, register))
        flowed += register - (sent[0][2] or 0)
        first = (0, begin, life)
        life += register
        messages.append(Message(begin + 500, beside=(first,)))
        for row in sent:
            messages.append(Message(row[1] + 500, (row,)))
            messages.append(Message(row[1] + 1_000, tick=True))
        messages.append(Message(t + 2_000, beside=((0, t + 1_000, life),)))
        messages.append(Message(t + 3_000, tick=True))
        t += 3_600_000
    found = final(run(messages, [5] * 10))["cp0"]
    assert sum(e for e, _ in found.values() if e is not None) == flowed
