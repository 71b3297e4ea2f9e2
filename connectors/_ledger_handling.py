"""What people did about findings, as the ledger's queries see it: who has it, since when, until when."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, and_, case, cast, func, or_, select

from . import _ledger_tables as t
from ._ledger_live import searched, severity_rank

#: What each handled finding has; None where nobody did anything.
COLUMNS = ("acked_by", "acked_at", "assignee", "snoozed_until", "comments")


def handled() -> Any:
    """Return the handling of every finding that anybody did something about.

    The latest acknowledgement, assignment, and snooze (or its end) count; comments are counted.
    """
    a = t.finding_actions.c
    kind = case({"unsnooze": "snooze"}, value=a.action, else_=a.action)
    newest = func.row_number().over(
        partition_by=[a.finding_id, kind], order_by=[a.at.desc(), a.action_id.desc()]
    )
    last = select(t.finding_actions, newest.label("place")).subquery("last_actions")
    c = last.c

    def latest(action: str, column: Any) -> Any:
        return func.max(case((and_(c.place == 1, c.action == action), column)))

    return (
        select(
            c.finding_id,
            latest("ack", c.by).label("acked_by"),
            latest("ack", c.at).label("acked_at"),
            func.nullif(latest("assign", c.to), "").label("assignee"),
            latest("snooze", c.until).label("snoozed_until"),
            func.sum(case((c.action == "comment", 1), else_=0)).label("comments"),
        )
        .group_by(c.finding_id)
        .subquery("handled")
    )


def _children() -> Any:
    child = t.findings.alias("child")
    return (
        select(child.c.parent, func.count().label("consequences"))
        .where(child.c.state != "cleared", child.c.live, child.c.parent.is_not(None))
        .group_by(child.c.parent)
        .subquery("children")
    )


def chosen(
    *,
    site: str = "",
    search: str = "",
    state: str = "open",
    code: str = "",
    severity: str = "",
    assignee: str = "",
    acked: bool | None = None,
    snoozed_at_ms: int | None = None,
) -> Any:
    """Return the query for findings with their handling, critical ones first, then the youngest.

    ``consequences`` counts what a finding explains: what has it as its open parent is not raised itself.

    Parameters
    ----------
    site, code, severity, assignee : str
        Only these; empty: any.
    search : str
        Words that must all occur in place, code, severity or source.
    state : str
        ``open`` (raised, live, not explained by an open parent), ``cleared`` or ``all``.
    acked : bool, optional
        Only those that are, or are not, acknowledged.
    snoozed_at_ms : int, optional
        Leave out what is snoozed at that time.
    """
    f, h = t.findings.c, handled()
    handling = [h.c[name] for name in COLUMNS[:-1]]
    children = _children()
    counts = [
        func.coalesce(h.c.comments, 0).label("comments"),
        func.coalesce(children.c.consequences, 0).label("consequences"),
    ]
    source = t.findings.outerjoin(h, h.c.finding_id == f.finding_id)
    source = source.outerjoin(children, children.c.parent == f.finding_id)
    query = select(t.findings, *handling, *counts).select_from(source)
    if state == "open":
        query = query.where(f.state != "cleared", f.live, f.parent.is_(None))
    elif state == "cleared":
        query = query.where(f.state == "cleared")
    wanted = ((f.site, site), (f.code, code), (f.severity, severity), (h.c.assignee, assignee))
    for column, value in wanted:
        if value:
            query = query.where(column == value)
    if acked is not None:
        query = query.where(h.c.acked_by.is_not(None) if acked else h.c.acked_by.is_(None))
    if snoozed_at_ms is not None:
        query = query.where(or_(h.c.snoozed_until.is_(None), h.c.snoozed_until <= snoozed_at_ms))
    number = func.coalesce("/" + cast(f.evse, String), "")
    place = [f.site, func.coalesce(f.station, "") + number, f.node]
    query = searched(query, search, [*place, f.code, f.severity, f.source, f.taxonomy])
    return query.order_by(severity_rank(f.severity).desc(), f.raised_at.desc(), f.finding_id)
