"""How well faults are found and handled: figures of the findings raised since a time, by code and by site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from sqlalchemy import Float, and_, case, cast, func, select

from . import _ledger_tables as t
from ._ledger_live import severity_rank
from .ledger_reader import LedgerReader, Row

By = Literal["code", "site", "all"]

#: What each row holds beside its code and site.
FIGURES: Final = (
    "raised", "open", "critical", "detect_mean_s", "acked", "ack_mean_s", "cleared", "clear_mean_s",
)  # fmt: skip


class AnalyticsReader:
    """Read-only figures of a ledger's findings. Thread-safe.

    Counted are live findings that no open parent explains and that were not planned. Times are means: to
    detect, from the begin of the condition to its raise; to acknowledge, from the raise to the first
    acknowledgement, of those that have one; to clear, from the raise to the clearing, of those that
    are cleared. What never happened is None, not 0.

    Parameters
    ----------
    ledger : LedgerReader
        Closed by its owner.
    """

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger

    def figures(self, since_ms: int, by: By = "code", *, site: str = "", limit: int = 1_000) -> list[Row]:
        """Return a row for each code, site, or for all, of findings raised at or after `since_ms`.

        By site the worst come first (critical open, open, raised), by code the most frequent.

        Raises
        ------
        DeliveryError, StorageError
            If the ledger cannot be read.
        """
        f = t.findings.c
        acks = _first_acks()
        keys: Sequence[Any] = {"code": (f.code,), "site": (f.site,), "all": ()}[by]
        is_open = f.state != "cleared"
        columns = [
            func.count().label("raised"),
            _count(is_open).label("open"),
            _count(and_(is_open, severity_rank(f.severity) >= 2)).label("critical"),
            _mean_s(f.raised_at - f.start).label("detect_mean_s"),
            func.count(acks.c.at).label("acked"),
            _mean_s(acks.c.at - f.raised_at).label("ack_mean_s"),
            _count(f.state == "cleared").label("cleared"),
            _mean_s(case((f.state == "cleared", f.changed_at - f.raised_at))).label("clear_mean_s"),
        ]
        query = (
            select(*keys, *columns)
            .select_from(t.findings.outerjoin(acks, acks.c.finding_id == f.finding_id))
            .where(f.live, f.parent.is_(None), f.planned.is_(False), f.raised_at >= since_ms)
        )
        query = query.where(f.site == site) if site else query
        order = (
            [c.desc() for c in (columns[2], columns[1], columns[0])] if by == "site" else [columns[0].desc()]
        )
        query = query.group_by(*keys).order_by(*order, *keys).limit(limit) if keys else query
        with self._ledger.connected() as db:
            return [_row(row) for row in db.execute(query).mappings()]


def _first_acks() -> Any:
    a = t.finding_actions.c
    first = select(a.finding_id, func.min(a.at).label("at")).where(a.action == "ack")
    return first.group_by(a.finding_id).subquery("first_acks")


def _count(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


def _mean_s(span_ms: Any) -> Any:
    return func.avg(cast(span_ms, Float) / 1000)


def _row(row: Any) -> Row:
    counts = {name: int(row[name] or 0) for name in FIGURES if not name.endswith("_s")}
    times = {
        name: None if row[name] is None else round(float(row[name]), 3)
        for name in FIGURES
        if name.endswith("_s")
    }
    return {name: row[name] for name in ("code", "site") if name in row} | {
        name: (counts | times)[name] for name in FIGURES
    }
