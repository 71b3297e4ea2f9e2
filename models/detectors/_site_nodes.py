"""Which nodes are silent, and since when they were last heard, for `site_power_event`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import CONN, I32, I64, U8
from models.records import Birth
from models.units import NO_TIME

from ._base import Table, ns
from ._connections import Connections, Periods
from ._nodes import NEVER

_FIELDS: Final[list[Any]] = [
    ("last_ns", "i8"),  # last word, NO_TIME before the first
    ("periods", "i4"),  # number of what it declared: (heartbeat, sample, batch), ns or NO_TIME
    ("flags", "u1"),
]
GONE: Final = 1
WILL: Final = 2  # its will came, and no word since

DUE, LISTENING, BEFORE = 0, 1, 2


class Waits(NamedTuple):
    """Times of the silence rules, ns."""

    periods: float
    undeclared_hb: int
    grace: int
    listen_gap: int


class Heard(NamedTuple):
    """Columns of messages that the walk reads."""

    node: I32
    kind: U8
    effect_ns: I64


@kernel
def walk_kernel(at: int, stop: int, heard: Heard, nodes: Any, periods: I64, clock: I64, waits: Waits) -> int:
    """Take in messages from `at`; return the first after which something is to be decided, or `stop`."""
    for k in range(at, stop):
        now = heard.effect_ns[k]
        if clock[BEFORE] == NO_TIME or now - clock[BEFORE] > waits.listen_gap:
            # nothing was journaled, not even ticks: it is we who did not listen
            clock[LISTENING] = now
            clock[DUE] = min(clock[DUE], now)
        clock[BEFORE] = now
        node = heard.node[k]
        if node >= 0 and heard.kind[k] != CONN:
            rec = nodes[node]
            if rec["last_ns"] == NO_TIME:
                hb = periods[rec["periods"], 0]
                hb = waits.undeclared_hb if hb == NO_TIME else hb
                clock[DUE] = min(clock[DUE], now + int(waits.periods * hb))
            rec["last_ns"] = now
            rec["flags"] &= GONE
            if rec["flags"] != 0:
                return k
        if now >= clock[DUE]:
            return k
    return stop


class Nodes:
    """The nodes of one shard."""

    def __init__(self, waits: Waits, state: dict[str, Any] | None) -> None:
        self.waits = waits
        self.table = Table(_FIELDS, {"last_ns": NO_TIME})
        self.clock = np.array([NEVER, NO_TIME, NO_TIME], np.int64)
        self._will_ns: dict[int, int] = {}  # when a will counts that no word follows (flag `WILL`)
        known = state or {"connections": None, "periods": None}
        self._connections = Connections(known["connections"])
        self.periods = Periods((NO_TIME, NO_TIME, NO_TIME), known["periods"])
        if state is not None:
            self.table.load(state["nodes"], "site_power_event")
            self.clock[:] = state["clock"]
            self._will_ns = dict(state["wills"])

    def reserve(self, n: int) -> None:
        """Have records for nodes 0 to n - 1."""
        self.table.reserve(n)
        self._connections.reserve(n)
        self.periods.tidy(self.table.rows["periods"][: self.table.n])

    def birth(self, birth: Birth) -> bool:
        """Take in a birth or will; return whether a silent node is back by it."""
        node = birth.at.node_row
        rec = self.table.rows[node]
        connection = (birth.at.boot, birth.cid)
        older = connection < self._connections[node]
        if birth.retained:
            return False
        if not birth.online:
            if not older and rec["last_ns"] != NO_TIME and not rec["flags"] & GONE:
                rec["flags"] |= WILL
                self._will_ns[node] = birth.at.effect_ns + self.waits.grace
                self.clock[DUE] = min(int(self.clock[DUE]), self._will_ns[node])
            return False
        self._connections[node] = connection
        batch_s = birth.batch_s if birth.batch_s is not None else birth.sample_s
        told = zip((birth.hb_s, birth.sample_s, batch_s), self.declared(node), strict=True)
        rec["periods"] = self.periods.number(tuple(known if s is None else ns(s) for s, known in told))
        rec["last_ns"] = birth.at.effect_ns
        self.clock[DUE] = min(int(self.clock[DUE]), birth.at.effect_ns + self._silence(node))
        back = bool(rec["flags"] & GONE)
        rec["flags"] = 0
        return back

    def declared(self, node: int) -> tuple[int, int, int]:
        """Return the periods of heartbeats, samples and batches that a node declared, ns or NO_TIME."""
        hb_ns, sample_ns, batch_ns = self.periods.values[self.table.rows[node]["periods"]].tolist()
        return hb_ns, sample_ns, batch_ns

    def _silence(self, node: int) -> int:
        hb_ns = self.declared(node)[0]
        return int(self.waits.periods * (self.waits.undeclared_hb if hb_ns == NO_TIME else hb_ns))

    def gone(self, node: int) -> bool:
        """Return whether a node is silent."""
        return bool(self.table.rows[node]["flags"] & GONE)

    def word(self, node: int) -> bool:
        """Return whether the node whose word was just taken in was silent before."""
        rec = self.table.rows[node]
        back = self.gone(node) and int(rec["last_ns"]) == int(self.clock[BEFORE])
        if back:
            rec["flags"] = 0
        return back

    def overdue(self, now_ns: int) -> list[int]:
        """Return the nodes that are silent from `now_ns` on, and find the next deadline."""
        if now_ns < self.clock[DUE]:
            return []
        rows = self.table.rows[: self.table.n]
        hb_ns = self.periods.values[:, 0]
        hb_ns = np.where(hb_ns == NO_TIME, self.waits.undeclared_hb, hb_ns)
        silences = (self.waits.periods * hb_ns).astype(np.int64)
        deadline = np.maximum(rows["last_ns"], self.clock[LISTENING]) + silences[rows["periods"]]
        self._will_ns = {node: t for node, t in self._will_ns.items() if rows[node]["flags"] & WILL}
        for node, will_ns in self._will_ns.items():
            deadline[node] = min(int(deadline[node]), will_ns)
        deadline[(rows["last_ns"] == NO_TIME) | (rows["flags"] & GONE != 0)] = NEVER
        silent = np.flatnonzero(deadline <= now_ns)
        rows["flags"][silent] = GONE
        deadline[silent] = NEVER
        self.clock[DUE] = deadline.min() if len(deadline) else NEVER
        return silent.tolist()

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        wills = [[node, t] for node, t in sorted(self._will_ns.items())]
        return {
            "nodes": self.table.columns(),
            "connections": self._connections.snapshot(),
            "periods": self.periods.values.copy(),
            "wills": [[node, t] for node, t in wills if self.table.rows[node]["flags"] & WILL],
            "clock": self.clock.copy(),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        held = self.table.nbytes + self._connections.nbytes + self.periods.nbytes
        return held + 100 * len(self._will_ns)
