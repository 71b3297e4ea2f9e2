"""Numbered messages of a node that never arrived.

Every node numbers its messages per boot from 1; a heartbeat carries the last number used, which shows
losses at the end. A number passed over is missing; it is lost when it has not come within 120 s of
journaled time after it was passed over, or 600 s while the node drains a backlog. Raised at 5 or more
lost, and 1 % or more, of the numbers of the last 60 minutes, or of the last 200 if those are more; or
when a number within a transaction (``seqNo``) is lost, for 60 minutes from then. A number that comes
after all is not lost; duplicates are no news. The first number seen of a node, and of a transaction, is
taken as its first: what came before we listened is not known.

A node is judged when a number becomes lost or comes after all, and every 60 s while it is raised or lost
enough. It starts when the first of the lost numbers was passed over, and clears 60 s after neither
condition holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.batch import DECODED, HEARTBEAT, MessageColumns, ReadingBatch
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed
from models.devices import DeviceTable
from models.records import Transaction
from models.units import NO_TIME

from ._base import Table, check_version, ns, require
from ._connections import BOOT_ASIDE, boot_of, set_boot
from ._few import Few
from ._gaps import Gaps, TransactionGaps
from ._message_numbers import (
    CLOSE_BLANK,
    CLOSE_FIELDS,
    MINUTE_NS,
    MINUTES,
    MOST_USED,
    NODE_FIELDS,
    SLIM_MINUTES,
    WIDE,
    Numbered,
    count,
    walk_kernel,
)
from ._nodes import NEVER, NodeDetector

SPEC = DetectorSpec(
    "message_loss", "node", "rule", evidence=("lost", "numbers", "lost_percent", "lost_in_transactions")
)

VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `message_loss`.

    Attributes
    ----------
    lost_least : int
        Lost numbers that raise. Unit: messages. Default 5. Source: CONVENTIONS.
    lost_share : float
        Share of the window's numbers that must be lost. Unit: 1. Default 0.01. Source: CONVENTIONS.
    window_min : int
        Length of the window. Unit: min. Default 60. Source: CONVENTIONS.
    window_numbers : int
        Numbers that it has at least. Unit: messages. Default 200. Source: CONVENTIONS.
    final_s : float
        A missing number is lost after this time. Unit: s. Default 120. Source: CONVENTIONS, seq.
    final_backlog_s : float
        The same while a backlog drains. Unit: s. Default 600. Source: CONVENTIONS, seq.
    hold_s : float
        Clear this long after the condition ended. Unit: s. Default 60. Source: CONVENTIONS, clear.
    """

    lost_least: int = 5
    lost_share: float = 0.01
    window_min: int = 60
    window_numbers: int = 200
    final_s: float = 120.0
    final_backlog_s: float = 600.0
    hold_s: float = 60.0

    def __post_init__(self) -> None:
        require(
            self,
            lost_least=(1, 1_000_000),
            lost_share=(0.0, 1.0),
            window_min=(1, SLIM_MINUTES),
            window_numbers=(1, 1_000_000),
            final_s=(1.0, 86_400.0),
            final_backlog_s=(1.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
        )


class Detector(NodeDetector):
    """The detector behind `message_loss`."""

    spec = SPEC
    wanted = (Transaction,)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._config = config
        self._hold_ns = ns(config.hold_s)
        self._final_ns = (ns(config.final_s), ns(config.final_backlog_s))
        self._window_ns = config.window_min * MINUTE_NS
        self._nodes = Table(NODE_FIELDS, {})
        self._close = Few(CLOSE_FIELDS, CLOSE_BLANK)
        self._gaps: dict[int, Gaps] = {}
        self._transactions = TransactionGaps()
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            self._nodes.load(resume_state["nodes"], SPEC.code)
            self._close.load(resume_state["close"], SPEC.code)
            self._gaps = {node: Gaps(gaps) for node, gaps in resume_state["gaps"]}
            self._transactions = TransactionGaps(resume_state["transactions"])
        self.due_ns = self._earliest()
        # compiled (or read from the cache) here, not at the first message of a live stream
        self._walk(Observed(DeviceTable(), ReadingBatch.empty(), MessageColumns.empty(), []), 0, 0)

    def _earliest(self) -> int:
        return int(self._close.records["due_ns"].min(initial=NEVER))

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._nodes.reserve(seen.devices.n_nodes)
        super().process(seen, out)

    def _walk(self, seen: Observed, at: int, stop: int) -> int:
        m = seen.messages
        numbered = Numbered(m.effect_ns, m.node, m.kind, m.boot, m.seq, m.live, m.fate)
        close = self._close
        return int(
            walk_kernel(at, stop, numbered, self._nodes.rows, close.slot_of, close.records, self.due_ns)
        )

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        m = seen.messages
        k = int(np.searchsorted(m.order, order))
        node, boot, seq, live = int(m.node[k]), int(m.boot[k]), int(m.seq[k]), bool(m.live[k])
        if node >= 0 and boot >= 0 and seq >= 0 and m.fate[k] == DECODED:
            known = node in self._close
            if known or not live or self._is_news(node, boot, seq):
                rec = self._watch(node)
                if not live:
                    rec["backlog_ns"] = now_ns
                self._number(node, boot, seq, m.kind[k] == HEARTBEAT, int(m.recv_ns[k]), now_ns)
                if not known:
                    self._go_on(node, now_ns)
        if self.due_ns <= now_ns:
            due = self._close.records["row"][self._close.records["due_ns"] <= now_ns]
            for row in sorted(due.tolist()):
                self._decide(row, order, now_ns, out)
            self.due_ns = self._earliest()

    def _is_news(self, node: int, boot: int, seq: int) -> bool:
        """Return whether a number of a node that is not watched closely was not taken in by the walk."""
        rec = self._nodes.rows[node]
        known = int(boot_of(rec))
        return boot > known or (boot == known and seq > int(rec["top"]))

    def _watch(self, node: int) -> Any:
        """Return the record of a node that is watched closely from now on, if it was not before."""
        if node in self._close:
            return self._close[node]
        slim, rec = self._nodes.rows[node], self._close.take(node)
        rec["boot"], rec["top"], rec["minute"] = boot_of(slim), slim["top"], slim["minute"]
        rec["first"] = int(slim["top"]) - int(slim["known"])
        minutes = int(slim["minute"]) - np.arange(SLIM_MINUTES)
        used = np.stack([slim["used"] & 15, slim["used"] >> 4], axis=1).ravel()
        rec["used"][minutes % MINUTES] = used[minutes % SLIM_MINUTES]
        return rec

    def _go_on(self, node: int, now_ns: int) -> None:
        """Watch a node less closely once nothing is missing or late of it; else look again in a while."""
        rec = self._close[node]
        total = int(rec["base"]) + int(rec["top"])
        draining = rec["backlog_ns"] != NO_TIME and rec["backlog_ns"] > now_ns - self._final_ns[0]
        count(rec, max(now_ns // MINUTE_NS, int(rec["minute"])), 0)
        minutes = int(rec["minute"]) - np.arange(SLIM_MINUTES)
        used = rec["used"][minutes % MINUTES]
        if (
            rec["due_ns"] != NEVER
            or rec["raised"]
            or rec["gaps"]
            or draining
            or used.max() > MOST_USED
            or int(rec["top"]) >= WIDE
            or int(rec["boot"]) >= BOOT_ASIDE
        ):
            self._soon(node, now_ns + self._window_ns)
            return
        slim = self._nodes.rows[node]
        set_boot(slim, int(rec["boot"]))
        slim["top"], slim["minute"] = rec["top"], rec["minute"]
        slim["known"] = min(total - int(rec["first"]), WIDE)
        ring = np.zeros(SLIM_MINUTES, np.uint8)
        ring[minutes % SLIM_MINUTES] = used
        slim["used"] = ring[::2] | ring[1::2] << 4
        self._close.give_back(node)

    def _number(self, node: int, boot: int, seq: int, heartbeat: bool, recv_ns: int, now_ns: int) -> None:
        """Take in a number that does not simply follow on; a heartbeat tells the last one used."""
        rec = self._close[node]
        if boot < rec["boot"]:
            if boot == rec["old_boot"] and not heartbeat:
                self._filled(node, int(rec["old_base"]) + seq, now_ns)
            return
        if boot > rec["boot"]:
            if rec["boot"] < 0:
                # a node never seen: it may have been running for long
                rec["top"] = rec["first"] = seq if heartbeat else seq - 1
            else:
                rec["old_boot"], rec["old_base"] = rec["boot"], rec["base"]
                rec["base"] += rec["top"]
                rec["top"] = 0
            rec["boot"] = boot
        top, base = int(rec["top"]), int(rec["base"])
        if seq > top:
            missing = seq - top if heartbeat else seq - top - 1
            rec["top"] = seq
            count(rec, now_ns // MINUTE_NS, seq - top)
            if missing:
                self._gaps.setdefault(node, Gaps()).add(base + top + 1, base + top + missing, recv_ns)
                rec["gaps"] = 1
                self._soon(node, recv_ns + self._final_ns[0])
        elif not heartbeat:
            self._filled(node, base + seq, now_ns)

    def _filled(self, node: int, number: int, now_ns: int) -> None:
        """A missing number came after all."""
        gaps = self._gaps.get(node)
        if gaps is not None and gaps.fill(number):
            self._soon(node, now_ns)

    def _soon(self, node: int, deadline_ns: int) -> None:
        rec = self._watch(node)
        rec["due_ns"] = min(int(rec["due_ns"]), deadline_ns)
        self.due_ns = min(self.due_ns, int(rec["due_ns"]))

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        if record.seq_no is None or record.at.node_row < 0:
            return
        key = f"{record.station_row}/{record.tx_id}"
        node, ended = record.at.node_row, record.event_type == "Ended"
        missing, filled = self._transactions.number(key, record.seq_no, ended, node, record.at.recv_ns)
        if missing:
            self._soon(node, record.at.recv_ns + self._final_ns[0])
        for row in filled:
            self._soon(row, record.at.effect_ns)

    def _decide(self, node: int, order: int, now_ns: int, out: Emissions) -> None:
        rec = self._close[node]
        backlog_ns = int(rec["backlog_ns"])
        passed_ns = now_ns - self._final_ns[0]
        draining = backlog_ns != NO_TIME and backlog_ns > passed_ns
        # whatever was passed over before this is lost
        limit_ns = now_ns - self._final_ns[1] if draining else passed_ns
        gaps = self._gaps.get(node)
        total = int(rec["base"] + rec["top"])
        numbers = self._window(rec, total, now_ns)
        lost, since_ns = gaps.settle(limit_ns, total - numbers) if gaps else (0, NEVER)
        in_tx, tx_since_ns = self._transactions.settle(node, limit_ns, now_ns, self._window_ns)
        enough = lost >= self._config.lost_least and lost >= self._config.lost_share * numbers
        evidence: dict[str, Any] = {"lost": lost, "numbers": numbers, "lost_in_transactions": in_tx}
        if numbers:
            evidence["lost_percent"] = round(100.0 * lost / numbers, 6)
        start_ns = min(since_ns if enough else NEVER, tx_since_ns)
        self._change(node, enough or in_tx > 0, start_ns, (order, now_ns), evidence, out)
        pending_ns = min(gaps.pending_ns if gaps else NEVER, self._transactions.pending_ns(node))
        due_ns = NEVER
        if pending_ns != NEVER:
            again_ns = backlog_ns + self._final_ns[0] if draining else NEVER
            due_ns = min(pending_ns + self._final_ns[1 if draining else 0], again_ns)
        if rec["raised"] or lost >= self._config.lost_least:
            due_ns = min(due_ns, now_ns + self._hold_ns)
        rec["due_ns"] = due_ns
        if gaps is not None and gaps.empty:
            del self._gaps[node]
            rec["gaps"] = 0
        self._go_on(node, now_ns)

    def _window(self, rec: Any, total: int, now_ns: int) -> int:
        """Return how many numbers the window holds, counted back from the newest."""
        count(rec, now_ns // MINUTE_NS, 0)
        minutes = (rec["minute"] - np.arange(self._config.window_min)) % MINUTES
        recent = int(rec["used"][minutes].sum())
        return min(max(recent, self._config.window_numbers), total - int(rec["first"]))

    def _change(
        self,
        node: int,
        holds: bool,
        start_ns: int,
        at: tuple[int, int],
        evidence: dict[str, Any],
        out: Emissions,
    ) -> None:
        """Raise or clear."""
        rec = self._close[node]
        kind = 0
        if holds:
            rec["absent_ns"] = NO_TIME
            if not rec["raised"]:
                rec["raised"], rec["start_ns"] = 1, start_ns
                kind = RAISE
        elif rec["raised"]:
            if rec["absent_ns"] == NO_TIME:
                rec["absent_ns"] = at[1]
            if at[1] - rec["absent_ns"] >= self._hold_ns:
                rec["raised"] = 0
                kind = CLEAR
        if kind:
            out.add(
                SPEC,
                order=at[0],
                effect_ns=at[1],
                subject=node,
                kind=kind,
                severity=WARNING,
                start_ns=int(rec["start_ns"]),
                time_ns=at[1] if kind == RAISE else int(rec["absent_ns"]),
                evidence=evidence,
            )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {
            "code": SPEC.code,
            "version": VERSION,
            "nodes": self._nodes.columns(),
            "close": self._close.columns(),
            "gaps": [[node, gaps.snapshot()] for node, gaps in self._gaps.items()],
            "transactions": self._transactions.snapshot(),
        }

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        gaps = sum(g.nbytes for g in self._gaps.values())
        return self._nodes.nbytes + self._close.nbytes + gaps + self._transactions.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)
