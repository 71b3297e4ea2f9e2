"""Ordering against a textbook twin: late, repeated and joined readings, context bits, waiting registers."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models._ordering_kernels import Marks
from models.batch import CHARGING, IN_TRANSACTION, STATE_KNOWN, ReadingBatch
from models.channels import N_CHANNELS
from models.errors import SnapshotError
from models.ordering import Orderer, OrderingConfig, RawRows
from models.units import NO_REGISTER, NO_TIME

S = 1_000_000_000
T0 = 1_780_000_000 * S


@dataclass
class Step:
    """One message in order of effect: readings, or a mark, or a tick."""

    rows: list[tuple[int, int, int, tuple[float, float]]] = field(
        default_factory=list
    )  # evse, t, reg, values
    mark: tuple[int, int, int, int, int] | None = None  # evse, t, set, clear, reg
    tick: bool = False


WAIT = 20 * S


def feed(
    orderer: Orderer, steps: list[Step], first: int
) -> tuple[ReadingBatch, ReadingBatch, ReadingBatch, list[int]]:
    """Run `steps`; the message at index i has order first + i and takes effect at that second."""
    order = first + np.arange(len(steps))
    effect = T0 + order * S
    flat = [(i, *row) for i, step in enumerate(steps) for row in step.rows]
    slot_of = np.full(N_CHANNELS, -1, np.int16)
    slot_of[0], slot_of[1] = 0, 1
    raw = RawRows(
        np.array([r[1] for r in flat], np.int32),
        np.array([r[2] for r in flat], np.int64),
        np.array([r[3] for r in flat], np.int64),
        np.array([r[0] for r in flat], np.int64),
        np.array([r[4] for r in flat], np.float64).reshape(len(flat), 2).T.copy(),
        slot_of,
    )
    marks: list[tuple[int, ...]] = []
    for i, step in enumerate(steps):
        if step.mark:
            e, t, set_bits, clear_bits, reg = step.mark
            marks.append((i, e, t, set_bits, clear_bits, reg, int(effect[i]) + WAIT))
        if step.tick:
            marks.append((i, -1, int(effect[i]), 0, 0, NO_REGISTER, 0))
    table = np.array(marks, np.int64).reshape(len(marks), 7)
    columns: list[Any] = [table[:, k].copy() for k in range(7)]
    for k, dtype in ((1, np.int32), (3, np.int16), (4, np.int16)):
        columns[k] = columns[k].astype(dtype)
    out = orderer.run(raw, Marks(*columns), order, effect, np.ones(len(steps), np.uint8))
    return out.rows, out.late, out.beside, out.counts.tolist()


def listed(batches: list[ReadingBatch]) -> list[tuple[Any, ...]]:
    """Return readings as tuples, by EVSE and time."""
    out = []
    for rows in batches:
        for i in range(len(rows)):
            values = tuple(None if v != v else v for v in rows.values[:, i].tolist())
            out.append(
                (
                    int(rows.evse[i]),
                    int(rows.time_ns[i]),
                    int(rows.order[i]),
                    int(rows.reg_mwh[i]),
                    int(rows.state[i]),
                    values,
                )
            )
    return sorted(out, key=lambda r: (r[0], r[1], r[2], r[3]))


class Twin:
    """The textbook: dictionaries and sorting."""

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}
        self.context: dict[int, list[tuple[int, int]]] = {}
        self.waiting: dict[int, list[tuple[int, int, int]]] = {}
        self.rows: list[tuple[Any, ...]] = []
        self.late: list[tuple[Any, ...]] = []
        self.beside: list[tuple[Any, ...]] = []
        self.metered: set[int] = set()

    def state(self, e: int, t: int) -> int:
        bits = 0
        for at, value in self.context.get(e, [])[-4:]:
            if at <= t:
                bits = value
        return bits

    def place(self, e: int, t: int, reg: int, order: int, values: tuple[Any, ...]) -> None:
        row = (e, t, order, reg, self.state(e, t), values)
        if e in self.newest and t <= self.newest[e]:
            seen = {(r[1], r[3]) for r in self.rows if r[0] == e}
            if (t, reg) not in seen:
                self.late.append(row)
            return
        self.newest[e] = t
        self.rows.append(row)

    def release(self, e: int, order: int) -> None:
        t, reg, _ = self.waiting[e].pop(0)
        self.register(e, t, reg, order)

    def register(self, e: int, t: int, reg: int, order: int) -> None:
        if e in self.metered:
            self.beside.append((e, t, order, reg, self.state(e, t), (None, None)))
        else:
            self.place(e, t, reg, order, (None, None))

    def run(self, steps: list[Step]) -> None:
        for order, step in enumerate(steps):
            if step.mark:
                self.mark(step.mark, order)
            if step.tick:
                for e, queue in self.waiting.items():
                    due = [i for i, w in enumerate(queue) if w[2] <= T0 + order * S]
                    for _ in range(max(due, default=-1) + 1):
                        self.release(e, order)
            joined: dict[tuple[int, int], list[Any]] = {}
            for e, t, reg, values in step.rows:
                entry = joined.setdefault((e, t), [NO_REGISTER, None, None])
                entry[0] = reg if entry[0] == NO_REGISTER else entry[0]
                for k in (0, 1):
                    if entry[1 + k] is None and values[k] == values[k]:
                        entry[1 + k] = values[k]
            for (e, t), (reg, *found) in sorted(joined.items()):
                queue = self.waiting.setdefault(e, [])
                if reg != NO_REGISTER:
                    self.metered.add(e)
                while queue and queue[0][0] < t:
                    self.release(e, order)
                if queue and queue[0][0] == t:
                    reg = queue[0][1] if reg == NO_REGISTER else reg
                    queue.pop(0)
                self.place(e, t, reg, order, tuple(found))

    def mark(self, mark: tuple[int, int, int, int, int], order: int) -> None:
        e, t, set_bits, clear_bits, reg = mark
        if set_bits or clear_bits:
            history = self.context.setdefault(e, [])
            kept = history[-4:]
            before = [v for at, v in kept if at <= t]
            if len(kept) < 4 or t >= kept[0][0]:
                history.append((t, ((before[-1] if before else 0) & ~clear_bits) | set_bits))
                history.sort(key=lambda h: h[0])
                del history[:-4]
        if reg == NO_REGISTER:
            return
        queue = self.waiting.setdefault(e, [])
        if len(queue) == 4:
            if t <= queue[0][0]:
                self.register(e, t, reg, order)
                return
            self.release(e, order)
        if all(w[0] != t for w in queue):
            queue.append((t, reg, T0 + order * S + WAIT))
            queue.sort()


def random_steps(seed: int, n: int) -> list[Step]:
    rng = random.Random(seed)
    steps = []
    clock = {0: 0, 1: 0, 2: 0}
    for _ in range(n):
        kind = rng.random()
        if kind < 0.55:
            rows = []
            for e in rng.sample([0, 1, 2], rng.randint(1, 3)):
                for _ in range(rng.randint(1, 4)):
                    clock[e] += rng.randint(0, 3)
                    back = rng.randint(1, 6) if rng.random() < 0.15 else 0
                    t = T0 + (clock[e] - back) * S
                    reg = NO_REGISTER if e == 2 or rng.random() < 0.3 else clock[e] * 1000
                    values = tuple(
                        float("nan") if rng.random() < 0.4 else float(rng.randint(0, 9)) for _ in "ab"
                    )
                    rows.append((e, t, reg, (values[0], values[1])))
            if rng.random() < 0.3:
                rng.shuffle(rows)
            steps.append(Step(rows=rows))
        elif kind < 0.85:
            e = rng.randint(0, 2)
            t = T0 + (clock[e] + rng.randint(-4, 8)) * S
            bits = rng.choice(
                [(STATE_KNOWN | IN_TRANSACTION, 0), (CHARGING, 0), (0, CHARGING | IN_TRANSACTION), (0, 0)]
            )
            reg = NO_REGISTER if rng.random() < 0.5 else clock[e] * 1000 + rng.randint(0, 3)
            steps.append(Step(mark=(e, t, *bits, reg)))
        else:
            steps.append(Step(tick=True))
    return steps + [Step(tick=True)] * 25


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 60), max_size=5))
def test_equals_the_twin_for_any_split_and_restore(seed: int, cuts: list[int]) -> None:
    steps = random_steps(seed, 60)
    twin = Twin()
    twin.run(steps)
    for bounds in ([0, len(steps)], [0, *sorted(set(cuts)), len(steps)]):
        rows, late, beside, state = [], [], [], None
        for a, b in itertools.pairwise(bounds):
            orderer = Orderer(OrderingConfig(), state)
            orderer.reserve(3)
            in_order, behind, registers, counts = feed(orderer, steps[a:b], a)
            assert sum(counts) == sum(len(s.rows) for s in steps[a:b])
            rows.append(in_order)
            late.append(behind)
            beside.append(registers)
            state = orderer.snapshot()
        key = lambda r: (r[0], r[1], r[2], r[3])  # noqa: E731 - one sort key for both sides
        assert listed(rows) == sorted(twin.rows, key=key)
        assert listed(late) == sorted(twin.late, key=key)
        assert listed(beside) == sorted(twin.beside, key=key)


def test_readings_before_2010_are_invalid() -> None:
    orderer = Orderer(OrderingConfig())
    orderer.reserve(1)
    rows, late, _, counts = feed(orderer, [Step(rows=[(0, 5 * S, 1, (1.0, 2.0))])], 0)
    assert (len(rows), len(late), counts) == (0, 0, [0, 0, 0, 1])


def test_context_of_a_row_is_that_of_its_own_time() -> None:
    orderer = Orderer(OrderingConfig())
    orderer.reserve(1)
    steps = [
        Step(mark=(0, T0 + 10 * S, STATE_KNOWN | IN_TRANSACTION, 0, NO_REGISTER)),
        Step(rows=[(0, T0 + t * S, NO_REGISTER, (1.0, 1.0)) for t in (5, 10, 15)]),
    ]
    rows, _, _, _ = feed(orderer, steps, 0)
    assert rows.state.tolist() == [0, STATE_KNOWN | IN_TRANSACTION, STATE_KNOWN | IN_TRANSACTION]


def test_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 0"):
        Orderer(OrderingConfig(), {"version": 0})


def test_state_is_counted() -> None:
    orderer = Orderer(OrderingConfig())
    orderer.reserve(10)
    assert 0 < orderer.nbytes() / 10 <= 320
    assert orderer.context(3) == 0
    assert orderer.state.newest_ns[3] == NO_TIME
