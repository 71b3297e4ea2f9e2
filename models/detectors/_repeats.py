"""Something that happens too often: so many times within a window, of nodes and of stations.

Times are event times; the last so many are kept. Raised when the oldest of them lies within the window
before the newest; over when that is no longer so, and cleared a hold later if it stays over.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed, Scope
from models.units import NO_TIME, NS_PER_S

from ._base import Table, check_version
from ._nodes import NEVER, NodeDetector

#: Most times that a configuration may ask for.
MOST: Final = 64
_VERSION: Final = 1

EVIDENCE: Final = ("times", "span_s", "window_s")


class Often(NamedTuple):
    """How often is too often."""

    least: int
    window_ns: int
    hold_ns: int


class Moment(NamedTuple):
    """When something happened, and when that was learnt."""

    time_ns: int
    order: int
    effect_ns: int
    live: bool


class RepeatDetector(NodeDetector):
    """Base of `flapping` and `reboot_loop`; `tables` has one record per row of each scope."""

    def __init__(
        self,
        spec: DetectorSpec,
        often: Often,
        scopes: tuple[Scope, ...],
        fields: list[Any],
        blank: dict[str, Any],
        resume_state: dict[str, Any] | None,
    ) -> None:
        self.spec, self._often = spec, often
        ring: list[Any] = [
            ("times", "i8", (often.least,)),  # oldest first
            ("start_ns", "i8"),
            ("n", "i4"),  # times since the start of what is raised
            ("raised", "u1"),
            ("live", "u1"),
        ]
        self.tables: dict[Scope, Table] = {
            scope: Table([*ring, *fields], blank | {"times": NO_TIME}) for scope in scopes
        }
        self.due_ns = NEVER
        if resume_state is not None:
            check_version(spec, _VERSION, resume_state)
            for scope, table in self.tables.items():
                table.load(resume_state[scope], spec.code)
            self._set_due()

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self.tables["node"].reserve(seen.devices.n_nodes)
        super().process(seen, out)

    def happened(self, scope: Scope, row: int, when: Moment, out: Emissions) -> None:
        """Count one more time."""
        rec = self.tables[scope].rows[row]
        newest = int(rec["times"][-1])
        time_ns = when.time_ns if newest == NO_TIME else max(newest, when.time_ns)
        rec["times"][:-1] = rec["times"][1:].copy()
        rec["times"][-1] = time_ns
        rec["n"] += 1
        if self._holds(rec):
            if not rec["raised"]:
                rec["start_ns"], rec["n"] = rec["times"][0], self._often.least
            if not rec["raised"] or (when.live and not rec["live"]):
                rec["raised"], rec["live"] = 1, when.live
                self._emit(scope, row, RAISE, time_ns, when.order, when.effect_ns, out)
        if rec["raised"]:
            self.due_ns = min(self.due_ns, self._deadline(rec))

    def _holds(self, rec: Any) -> bool:
        oldest = int(rec["times"][0])
        return oldest != NO_TIME and int(rec["times"][-1]) - oldest <= self._often.window_ns

    def _deadline(self, rec: Any) -> int:
        return int(rec["times"][0]) + self._often.window_ns + self._often.hold_ns

    def _set_due(self) -> None:
        self.due_ns = min(
            (self._deadline(rec) for table in self.tables.values() for rec in _raised(table)), default=NEVER
        )

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        if now_ns < self.due_ns:
            return
        for scope, table in self.tables.items():
            for row in table.rows["raised"][: table.n].nonzero()[0].tolist():
                rec = table.rows[row]
                if self._deadline(rec) <= now_ns:
                    rec["raised"] = 0
                    end_ns = int(rec["times"][0]) + self._often.window_ns
                    self._emit(scope, row, CLEAR, end_ns, order, now_ns, out)
        self._set_due()

    def _emit(
        self, scope: Scope, row: int, kind: int, time_ns: int, order: int, effect_ns: int, out: Emissions
    ) -> None:
        rec = self.tables[scope].rows[row]
        span_ns = int(rec["times"][-1]) - int(rec["times"][0])
        evidence: dict[str, Any] = {"times": int(rec["n"])}
        if kind == RAISE:
            evidence |= {"span_s": round(span_ns / NS_PER_S, 3)}
            evidence |= {"window_s": self._often.window_ns / NS_PER_S}
        out.add(
            self.spec,
            scope=scope,
            order=order,
            effect_ns=effect_ns,
            subject=row,
            kind=kind,
            severity=WARNING,
            start_ns=int(rec["start_ns"]),
            time_ns=time_ns,
            live=bool(rec["live"]),
            score=round(self._often.window_ns / max(span_ns, NS_PER_S), 6),
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        tables: dict[str, Any] = {scope: table.columns() for scope, table in self.tables.items()}
        return {"code": self.spec.code, "version": _VERSION} | tables

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return sum(table.nbytes for table in self.tables.values())


def _raised(table: Table) -> Any:
    rows = table.rows[: table.n]
    return rows[rows["raised"] != 0]
