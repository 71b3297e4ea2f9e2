"""Logs of native messages about transactions, and the sessions that come out of them.

Only the stages that matter here: order, and the transaction book. Times are ms after `T0`.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec

from models.billing_rows import CostRow, PaymentRow
from models.frame import Frame
from models.outputs import CdrRow, Publish, SessionRow
from models.transactions import TransactionBook, TransactionConfig
from models.units import NS_PER_MS
from pipeline.config import Config
from pipeline.order import OrderConfig, OrderStage
from pipeline.replay_log import Ticker

T0: Final = 1_780_000_200_000  # a quarter hour begins
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
CHANNEL: Final = "Energy.Active.Import.Register"

ORDER: Final = OrderConfig(tuple(Config().topic_routes()))
Sent = tuple[int, str, dict[str, Any]]  # arrival ms, topic, body


@dataclass
class TxLog:
    """Messages of one node (or more); everything arrives at its own time unless `at` says."""

    site: str = "s"
    node: str = "cp"
    boot: int = 1
    messages: list[Sent] = field(default_factory=list)

    def send(
        self, when: int, kind: str, *, node: str | None = None, boot: int | None = None, **body: Any
    ) -> None:
        """Add a message that arrives at `when`."""
        head = {"v": 1, "boot": self.boot if boot is None else boot}
        self.messages.append((when, f"evt/v1/{self.site}/{node or self.node}/up/{kind}", head | body))

    def birth(
        self,
        t: int = 0,
        *,
        serial: str = "m1",
        p_max_w: float | None = 22_000,
        modulus_wh: float | None = None,
        batch_s: float | None = 60,
        evses: Sequence[int] = (1,),
        **more: Any,
    ) -> None:
        """Add a birth with the inventory."""
        meter = {"serial": serial, "resolution_wh": 1, "modulus_wh": modulus_wh}
        items = [
            {"evse": e, "u_n_v": 230, "phases": 3, "p_max_w": p_max_w, "meter": meter,
             "conns": [{"conn": 1, "type": "IEC_62196_T2", "max_a": 32}]}
            for e in evses
        ]  # fmt: skip
        body: dict[str, Any] = {
            "online": True,
            "cid": t + 1,
            "hb_s": 300,
            "sample_s": batch_s,
            "batch_s": batch_s,
        }
        self.send(t, "conn", evses=items, **body, **more)

    def read(self, t: int, wh: float | None, *, evse: int = 1, at: int | None = None, **more: Any) -> None:
        """Add a reading of the register at `t`."""
        series = {"evse": evse, "conn": 1, "t0": T0 + t, "ch": [CHANNEL, "Power.Active.Import"]}
        self.send(t if at is None else at, "meter", series=[series | {"rows": [[0, wh, None]]}], **more)

    def reads(self, begin: int, end: int, wh0: float, wh1: float, *, step: int = MINUTE, **more: Any) -> None:
        """Add readings that go evenly from one register to another, both ends included."""
        for t in range(begin, end + 1, step):
            self.read(t, round(wh0 + (wh1 - wh0) * (t - begin) / max(1, end - begin), 3), **more)

    def tx(
        self,
        t: int,
        kind: str,
        wh: float | None,
        *,
        tx: str = "a",
        evse: int | None = 1,
        seq: int | None = None,
        at: int | None = None,
        node: str | None = None,
        boot: int | None = None,
        **more: Any,
    ) -> None:
        """Add a transaction message."""
        item: dict[str, Any] = {"t": T0 + t, "txId": tx, "eventType": kind} | more
        if evse is not None:
            item = {"evse": evse, "conn": 1} | item
        if wh is not None:
            item["reg_wh"] = wh
        if seq is not None:
            item["seqNo"] = seq
        self.send(t if at is None else at, "tx", items=[item], node=node, boot=boot)

    def status(self, t: int, status: str, *, evse: int = 1, conn: int = 1, at: int | None = None) -> None:
        """Add a connector status."""
        item = {"evse": evse, "conn": conn, "t": T0 + t, "status": status}
        self.send(t if at is None else at, "status", items=[item])

    def session(
        self, begin: int, end: int, wh0: float, wh1: float, *, tx: str = "a", evse: int = 1, **more: Any
    ) -> None:
        """Add a whole session with readings every minute."""
        self.status(begin - SECOND, "Occupied", evse=evse)
        self.tx(begin, "Started", wh0, tx=tx, seq=0, evse=evse, **more)
        self.reads(begin + MINUTE, end - MINUTE, *_inner(begin, end, wh0, wh1), evse=evse)
        self.tx(end, "Ended", wh1, tx=tx, seq=1, evse=evse, **more)
        self.status(end + SECOND, "Available", evse=evse)

    def review(self, t: int, **body: Any) -> None:
        """Add what an operator decides."""
        body = {"site": self.site, "station": self.node, "by": "ann", "reason": "looked"} | body
        self.messages.append((t, "evt/v1/_op/review", body))

    def until(self, t: int) -> None:
        """Let journaled time go on to `t`: a heartbeat of a node without anything else."""
        self.messages.append((t, f"evt/v1/{self.site}/clock/up/hb", {"v": 1, "boot": 1, "t": T0 + t}))

    def frame(self) -> Frame:
        """Return the messages in order of arrival, numbered by node and boot as they were added."""
        numbers: dict[tuple[str, int], int] = defaultdict(int)
        built = []
        for t, topic, body in sorted(self.messages, key=lambda m: m[0]):
            kind = topic.rsplit("/", 1)[1]
            if kind not in ("conn", "hb") and "_op" not in topic and "seq" not in body:
                key = (topic.split("/")[3], body["boot"])
                numbers[key] += 1
                body = body | {"seq": numbers[key]}
            built.append(((T0 + t) * NS_PER_MS, topic.encode(), msgspec.json.encode(body), 0))
        return Frame.build(built)


def _inner(begin: int, end: int, wh0: float, wh1: float) -> tuple[float, float]:
    """Return the registers a minute after the begin and a minute before the end."""
    slope = (wh1 - wh0) / (end - begin)
    return wh0 + slope * MINUTE, wh1 - slope * MINUTE


@dataclass
class Outcome:
    """Everything that came of a log."""

    sessions: list[SessionRow] = field(default_factory=list)
    cdrs: list[CdrRow] = field(default_factory=list)
    costs: list[CostRow] = field(default_factory=list)
    payments: list[PaymentRow] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)

    def take(self, rows: list[SessionRow], book: TransactionBook) -> None:
        """Add what came of a batch."""
        taken = book.taken()
        self.sessions += rows
        self.cdrs += taken.cdrs
        self.costs += taken.costs
        self.payments += taken.payments
        self.publishes += taken.publishes


def run(
    frame: Frame,
    cuts: Sequence[int] = (),
    config: TransactionConfig | None = None,
    *,
    restore: bool = False,
    **more: Any,
) -> list[SessionRow]:
    """Return the session rows of a log, see `run_all`."""
    return run_all(frame, cuts, config, restore=restore, **more).sessions


def run_all(
    frame: Frame,
    cuts: Sequence[int] = (),
    config: TransactionConfig | None = None,
    *,
    restore: bool = False,
    **more: Any,
) -> Outcome:
    """Return what comes of a log, fed in pieces that end at `cuts`; `restore`: revived at each.

    `more` is for the transaction book.
    """
    config = config or TransactionConfig()
    whole = Ticker().weave(frame, {0: frame})[0]
    order, book = OrderStage(0, ORDER), TransactionBook(config, **more)
    out = Outcome()
    bounds = [0, *sorted({c % len(whole) for c in cuts} - {0}), len(whole)]
    last, now, devices = 0, 0, order.devices

    def take(batches: list[Any]) -> None:
        nonlocal last, now, devices
        for part in batches:
            rows = book.process(part.rows, part.late, part.messages, part.records, part.devices)
            out.take(rows, book)
            devices = part.devices
            if len(part.messages):
                last, now = int(part.messages.order[-1]) + 1, int(part.messages.effect_ns[-1])

    for first, end in pairwise(bounds):
        if restore and first:
            saved = pickle.dumps((order.snapshot(), book.snapshot()))
            states = pickle.loads(saved)
            order, book = OrderStage(0, ORDER, states[0]), TransactionBook(config, states[1], **more)
        take(order.process((0, first, whole.slice(first, end))))
    take(order.finish())
    out.take(book.flush(last, now, devices), book)
    return out


def final(rows: Sequence[SessionRow]) -> dict[str, SessionRow]:
    """Return the last revision of each transaction; revisions count up by one."""
    out: dict[str, SessionRow] = {}
    for row in rows:
        key = f"{row.station}/{row.transaction_id}" if row.station != "cp" else row.transaction_id
        assert row.revision == (out[key].revision + 1 if key in out else 1)
        out[key] = row
    return out


def sessions(log: TxLog, **more: Any) -> dict[str, SessionRow]:
    """Return the last revision of each transaction of a log."""
    return final(run(log.frame(), **more))


def outcome(row: SessionRow) -> tuple[str, float | None, list[str]]:
    """Return (state, energy in Wh, flags)."""
    return row.state, None if row.energy_mwh is None else row.energy_mwh / 1000, list(row.flags)


#: Begin and end of the transaction of most scenarios.
BEGIN, END = 10 * MINUTE, 70 * MINUTE


def log_of(*, idle_wh: float | None = 500_000, **birth: Any) -> TxLog:
    """Return a log with a birth and, before `BEGIN`, idle readings of a register."""
    log = TxLog()
    log.birth(**birth)
    if idle_wh is not None:
        log.reads(MINUTE, 9 * MINUTE, idle_wh, idle_wh)
    return log


def charge(log: TxLog, wh0: float = 500_000, wh1: float = 510_000) -> None:
    """Add readings of a charge between `BEGIN` and `END`."""
    slope = (wh1 - wh0) / (END - BEGIN)
    log.reads(BEGIN + MINUTE, END - MINUTE, wh0 + slope * MINUTE, wh1 - slope * MINUTE)


def only(log: TxLog, until: int = 3 * HOUR) -> tuple[str, float | None, list[str]]:
    """Return the outcome of the transaction ``a``."""
    log.until(until)
    return outcome(sessions(log)["a"])
