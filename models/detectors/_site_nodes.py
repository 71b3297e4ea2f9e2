"""Which nodes are silent, and since when they were last heard, for `site_power_event`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import CONN, I32, I64, U8
from models.records import Birth
from models.units import NO_TIME

from ._base import Table, ns
from ._nodes import NEVER

_FIELDS: Final[list[Any]] = [
    ("last_ns", "i8"),  # last word, NO_TIME before the first
    ("will_ns", "i8"),  # when a will that no word follows counts
    ("boot", "i8"),
    ("cid", "i8"),
    ("hb_ns", "i8"),
    ("sample_ns", "i8"),
    ("batch_ns", "i8"),
    ("gone", "u1"),
]
_BLANK: Final[dict[str, Any]] = {
    "last_ns": NO_TIME,
    "will_ns": NEVER,
    "boot": -1,
    "cid": -1,
    "hb_ns": NO_TIME,
    "sample_ns": NO_TIME,
    "batch_ns": NO_TIME,
}

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
def walk_kernel(at: int, stop: int, heard: Heard, nodes: Any, clock: I64, waits: Waits) -> int:
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
                hb = waits.undeclared_hb if rec["hb_ns"] == NO_TIME else rec["hb_ns"]
                clock[DUE] = min(clock[DUE], now + int(waits.periods * hb))
            rec["last_ns"] = now
            rec["will_ns"] = NEVER
            if rec["gone"] != 0:
                return k
        if now >= clock[DUE]:
            return k
    return stop


class Nodes:
    """The nodes of one shard."""

    def __init__(self, waits: Waits, state: dict[str, Any] | None) -> None:
        self.waits = waits
        self.table = Table(_FIELDS, _BLANK)
        self.clock = np.array([NEVER, NO_TIME, NO_TIME], np.int64)
        if state is not None:
            self.table.load(state["nodes"], "site_power_event")
            self.clock[:] = state["clock"]

    def birth(self, birth: Birth) -> bool:
        """Take in a birth or will; return whether a silent node is back by it."""
        rec = self.table.rows[birth.at.node_row]
        connection = (birth.at.boot, birth.cid)
        older = connection < (int(rec["boot"]), int(rec["cid"]))
        if birth.retained:
            return False
        if not birth.online:
            if not older and rec["last_ns"] != NO_TIME and not rec["gone"]:
                rec["will_ns"] = birth.at.effect_ns + self.waits.grace
                self.clock[DUE] = min(int(self.clock[DUE]), int(rec["will_ns"]))
            return False
        rec["boot"], rec["cid"] = connection
        for name, seconds in (
            ("hb_ns", birth.hb_s),
            ("sample_ns", birth.sample_s),
            ("batch_ns", birth.batch_s if birth.batch_s is not None else birth.sample_s),
        ):
            if seconds is not None:
                rec[name] = ns(seconds)
        rec["last_ns"], rec["will_ns"] = birth.at.effect_ns, NEVER
        self.clock[DUE] = min(int(self.clock[DUE]), birth.at.effect_ns + self._silence(rec))
        back = bool(rec["gone"])
        rec["gone"] = 0
        return back

    def _silence(self, rec: Any) -> int:
        hb_ns = self.waits.undeclared_hb if rec["hb_ns"] == NO_TIME else int(rec["hb_ns"])
        return int(self.waits.periods * hb_ns)

    def word(self, node: int) -> bool:
        """Return whether the node whose word was just taken in was silent before."""
        rec = self.table.rows[node]
        back = bool(rec["gone"]) and int(rec["last_ns"]) == int(self.clock[BEFORE])
        if back:
            rec["gone"] = 0
        return back

    def overdue(self, now_ns: int) -> list[int]:
        """Return the nodes that are silent from `now_ns` on, and find the next deadline."""
        if now_ns < self.clock[DUE]:
            return []
        rows = self.table.rows[: self.table.n]
        hb_ns = np.where(rows["hb_ns"] == NO_TIME, self.waits.undeclared_hb, rows["hb_ns"])
        base = np.maximum(rows["last_ns"], self.clock[LISTENING])
        deadline = np.minimum(base + (self.waits.periods * hb_ns).astype(np.int64), rows["will_ns"])
        deadline[(rows["last_ns"] == NO_TIME) | (rows["gone"] != 0)] = NEVER
        silent = np.flatnonzero(deadline <= now_ns)
        rows["gone"][silent], rows["will_ns"][silent] = 1, NEVER
        deadline[silent] = NEVER
        self.clock[DUE] = deadline.min() if len(deadline) else NEVER
        return silent.tolist()

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        return {"nodes": self.table.columns(), "clock": self.clock.copy()}
