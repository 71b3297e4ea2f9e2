"""Laws of money: no energy is billed twice, none is lost, and the same journal gives the same bills.

Sessions of one meter follow one another, with all that happens to their messages: loss, repeats, any order,
delivery hours later, restarts of the station. The register is known, so what is billed, what waits for a
person and what flowed in no session must add up to its difference, to the mWh.
"""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models._tx_gather import Gathered
from models._tx_schedule import Key
from models._tx_state import Tx
from models.cashier import BillingPlan, Place
from models.dynamic import Succession
from models.energy import MemoryArchive
from models.outputs import CdrRow, IntervalRow, SessionRow
from models.tariffs import read
from pipeline.bill import BillConfig, BillStage
from pipeline.order import OrderStage
from pipeline.replay_log import Ticker
from tests.transaction_log import HOUR, MINUTE, ORDER, SECOND, TxLog

TARIFF = {
    "id": "T", "currency": "EUR",
    "elements": [
        {"price_components": [{"type": "ENERGY", "price": 0.37, "vat": 19, "step_size": 1}],
         "restrictions": {"start_time": "08:00", "end_time": "20:00"}},
        {"price_components": [{"type": "ENERGY", "price": 0.29, "vat": 19, "step_size": 1},
                              {"type": "PARKING_TIME", "price": 2, "vat": 19, "step_size": 60}]},
    ],
}  # fmt: skip
PLACE = Place(Succession([read(TARIFF)], "Europe/Berlin"), "", "", "", "DEU", "", "0.00000", "0.00000")
CONFIG = BillConfig(plan=BillingPlan("DE", "CHS", default=PLACE))
BEGIN_MWH = 345_678_901
FAULTS = ("", "", "twice", "late", "no_start", "no_end", "shuffled", "restart", "unread")


@dataclass
class Drawn:
    """A log, and the truth about it."""

    log: TxLog
    truth: dict[str, int] = field(default_factory=dict)  # energy of each transaction, mWh
    total: int = 0  # all that the register counted


def drawn(seed: int, n: int) -> Drawn:
    """Return n sessions in a row with faults, energy in odd milliwatt-hours, some of it outside of any."""
    rng = random.Random(seed)
    out = Drawn(TxLog(boot=1))
    log, register, t, boot = out.log, BEGIN_MWH, 10 * MINUTE, 1
    log.birth()
    log.read(MINUTE, register / 1000)
    for i in range(n):
        fault, tx = rng.choice(FAULTS), f"t{i}"
        length = rng.randrange(2, 100) * MINUTE + rng.randrange(60) * SECOND
        energy = rng.randrange(1, 200_000 * length // MINUTE)  # below 12 kW
        late = t + length + rng.randrange(10, 200) * MINUTE
        when = {"late": late, "shuffled": t + length + 20 * SECOND}.get(fault)
        log.status(t - SECOND, "Occupied")
        if fault != "no_start":
            log.tx(t, "Started", register / 1000, tx=tx, seq=0, at=when, boot=boot)
        for k in range(MINUTE, length, 3 * MINUTE):
            if fault != "unread":
                log.read(t + k, (register + energy * k // length) / 1000, boot=boot)
        if fault == "restart":
            boot += 1
            log.birth(t + length // 2, boot=boot)
        if fault != "no_end":
            log.tx(t + length, "Ended", (register + energy) / 1000, tx=tx, seq=1, at=when, boot=boot)
        if fault in ("twice", "late"):
            log.messages += log.messages[-2:]
        out.truth[tx] = energy
        register += energy
        log.status(t + length + SECOND, "Available")
        t += length + rng.randrange(2, 60) * MINUTE
        if fault != "no_end" and rng.random() < 0.3:  # the station's own use, told by readings only
            register += rng.randrange(1, 5_000)
        log.read(t - MINUTE, register / 1000, boot=boot)
    out.total = register - BEGIN_MWH
    log.until(t + 9 * 24 * HOUR)
    return out


@dataclass
class Billed:
    """What came of it."""

    sessions: list[SessionRow] = field(default_factory=list)
    intervals: dict[int, IntervalRow] = field(default_factory=dict)
    cdrs: list[CdrRow] = field(default_factory=list)

    def take(self, batches: list[Any]) -> None:
        for batch in batches:
            self.sessions += batch.sessions
            self.cdrs += batch.cdrs
            for row in batch.intervals:
                known = self.intervals.get(row.start_ms)
                if known is None or known.revision < row.revision:
                    self.intervals[row.start_ms] = row


def billed(log: TxLog, cuts: tuple[int, ...] = ()) -> Billed:
    """Return what order and bill stage make of a log; both are revived from their saved state at each cut."""
    frame = log.frame()
    whole = Ticker().weave(frame, {0: frame})[0]
    order, archive = OrderStage(0, ORDER), MemoryArchive()
    bill, out = BillStage(0, CONFIG, archive), Billed()
    bounds = [0, *sorted({cut % len(whole) for cut in cuts} - {0}), len(whole)]
    for first, end in pairwise(bounds):
        if first:
            states = pickle.loads(pickle.dumps((order.snapshot(), bill.snapshot())))
            order, bill = OrderStage(0, ORDER, states[0]), BillStage(0, CONFIG, archive, states[1])
        for batch in order.process((0, first, whole.slice(first, end))):
            out.take(bill.process(batch))
    for batch in order.finish():
        out.take(bill.process(batch))
    out.take(bill.finish())
    return out


@given(seed=st.integers(0, 10**9), n=st.integers(1, 6), cuts=st.lists(st.integers(1, 10**6), max_size=4))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_energy_is_billed_once_or_waits_for_a_person_and_nothing_is_lost(
    seed: int, n: int, cuts: list[int]
) -> None:
    log = drawn(seed, n)
    got = billed(log.log)
    last = {row.transaction_id: row for row in got.sessions}
    assert last.keys() <= log.truth.keys()
    spans = []
    for tx, row in last.items():
        assert row.state in ("complete", "review"), row.state
        if row.state == "complete":
            assert row.energy_mwh == log.truth[tx], (tx, row.flags)
        if row.begin_mwh is not None and row.end_mwh is not None:
            assert row.energy_mwh == row.end_mwh - row.begin_mwh
            spans.append((row.begin_mwh, row.end_mwh))
    spans.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(spans)), "energy in two sessions"
    within = sum(end - begin for begin, end in spans)
    between = [BEGIN_MWH, *(r for span in spans for r in span), BEGIN_MWH + log.total]
    unassigned = sum(b - a for a, b in zip(between[::2], between[1::2], strict=True))
    assert unassigned >= 0
    assert within + unassigned == log.total
    assert sum(row.energy_mwh or 0 for row in got.intervals.values()) == log.total
    assert {cdr.transaction_id for cdr in got.cdrs if not cdr.credit} >= {
        tx for tx, row in last.items() if row.state == "complete"
    }
    again = billed(log.log, tuple(cuts))
    assert [cdr.body.encode() for cdr in again.cdrs] == [cdr.body.encode() for cdr in got.cdrs]
    assert again.sessions == got.sessions


def muddled(seed: int) -> TxLog:
    """Return what two connectors of one EVSE tell, much of it late, without registers or not at all."""
    rng = random.Random(seed)
    log, meters = TxLog(boot=1), ["m1", "m2"]
    log.birth()

    def later(t: int) -> int:
        return t + rng.choice((0, 0, 0, rng.randrange(3 * HOUR)))

    for t in range(MINUTE, 12 * HOUR, 4 * MINUTE):
        together = t - t % HOUR + HOUR  # an hour's readings in one go
        if rng.random() < 0.6:
            log.read(t, 500_000 + t * 5 / MINUTE, at=together if t // HOUR % 3 else later(t))
    for i in range(10):
        begin = rng.randrange(11 * HOUR)
        end, conn, tx = begin + rng.randrange(MINUTE, 2 * HOUR), rng.choice((1, 2)), f"t{i}"
        told = [("Started", begin), ("Updated", (begin + end) // 2), ("Ended", end)]
        for kind, t in told:
            wh = rng.choice((None, 0, 500_000 + t * 5 / MINUTE, 500_000 + t * 5 / MINUTE))
            if rng.random() < 0.8:
                log.tx(t, kind, wh, tx=tx, at=later(t), conn=conn)
        log.status(begin, "Occupied", conn=conn, at=later(begin))
        log.status(end, "Available", conn=conn, at=later(end))
        if rng.random() < 0.1:
            log.birth(begin, serial=rng.choice(meters))
    log.until(16 * HOUR)
    return log


def _always(self: Gathered, key: Key, tx: Tx, seldom: Any = Gathered.look_aside) -> None:
    self._looked.clear()
    seldom(self, key, tx)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_looked_at_only_when_it_is_new_is_never_missed(seed: int) -> None:
    log = muddled(seed)
    got = billed(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gathered, "look_aside", _always)
        wanted = billed(log)
    assert got.sessions == wanted.sessions
    assert got.cdrs == wanted.cdrs
