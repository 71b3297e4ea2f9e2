"""Messages as people read them (subject and text) and as programs do (JSON)."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ._notice_rules import ESCALATED, rank
from .evidence_text import figures
from .faults import FAULTS
from .notices import Notice, NoticeItem

#: Findings that a message spells out; the others are counted.
MOST_LISTED: Final = 50

_VERBS: Final = {
    "raised": "raised",
    "updated": "again or worse",
    "cleared": "cleared",
    ESCALATED: "NOT ACKNOWLEDGED",
}

#: Evidence that has a line of its own, or is of no use in a message.
_TOLD: Final = frozenset({"raised_times", "sources", "kind"})


def place(finding: dict[str, Any]) -> str:
    """Return where a finding is, widest first: site, station or node, EVSE."""
    parts = (finding["site"], finding["station"] or finding["node"], finding["evse"])
    return "/".join(str(part) for part in parts if part is not None)


def severity(notice: Notice) -> str:
    """Return the highest severity in a message; info when all of it is over."""
    standing = [i.finding["severity"] for i in notice.items if i.finding["state"] != "cleared"]
    return max(standing, key=rank, default="info")


def subject(notice: Notice) -> str:
    """Return one line that says what it is about."""
    if len(notice.items) == 1:
        item = notice.items[0]
        return f"[{item.finding['severity']}] {_title(item)}, {_verb(item)}: {place(item.finding)}"
    counts: dict[str, int] = {}
    for item in notice.items:
        counts[item.state] = counts.get(item.state, 0) + 1
    told = ", ".join(f"{n} {_VERBS[state].lower()}" for state, n in counts.items())
    return f"[{severity(notice)}] {len(notice.items)} findings: {told}"


def text(notice: Notice, zone: datetime.tzinfo, page_url: str = "") -> str:
    """Return the text; times are local to `zone`, `page_url` leads to the live page."""
    parts = [_told(item, zone, page_url) for item in _worst_first(notice.items)[:MOST_LISTED]]
    more = len(notice.items) - len(parts)
    if more:
        parts.append(f"... and {more} more")
    return "\n\n".join(parts) + "\n"


def payload(notice: Notice) -> bytes:
    """Return the message as JSON: ``id``, ``route``, ``at``, ``subject``, ``items`` with their findings."""
    body = {"id": notice.id, "route": notice.route, "at": notice.at, "subject": subject(notice)}
    items = [msgspec.to_builtins(item) for item in notice.items]
    return msgspec.json.encode(body | {"items": items})


def _worst_first(items: Iterable[NoticeItem]) -> list[NoticeItem]:
    return sorted(
        items,
        key=lambda i: (i.finding["state"] == "cleared", -rank(i.finding["severity"]), i.finding["start"]),
    )


def _title(item: NoticeItem) -> str:
    """Return the code's name in words."""
    fault = FAULTS.get(item.finding["code"])
    return str(fault.title if fault else item.finding["code"])


def _verb(item: NoticeItem) -> str:
    over = item.finding["state"] == "cleared" and item.state != "cleared"
    return _VERBS[item.state] + (", cleared meanwhile" if over else "")


def _told(item: NoticeItem, zone: datetime.tzinfo, page_url: str) -> str:
    finding = item.finding
    lines = [f"{_title(item)} at {place(finding)}: {_verb(item)}"]
    lines.append(f"  {finding['severity']}, {finding['code']}")
    since = f"  since {local_time(finding['start'], zone)}"
    if finding["end"] is not None:
        since += f", ended {local_time(finding['end'], zone)}"
    lines.append(since)
    measured = {name: value for name, value in finding["evidence"].items() if name not in _TOLD}
    if measured:
        lines.append(f"  measured: {figures(measured)}")
    times = finding["evidence"].get("raised_times")
    if times:
        lines.append(f"  raised {times} times in a row, each time within an hour of the one before")
    if finding["state"] != "cleared" and finding["advice"]:
        lines.append(f"  to do: {finding['advice']}")
    if item.acked_by:
        lines.append(f"  acknowledged by {item.acked_by}")
    where = f"{page_url.rstrip('/')}/findings/{item.finding_id}" if page_url else item.finding_id
    lines.append(f"  {where}")
    return "\n".join(lines)


def local_time(time_ms: int, zone: datetime.tzinfo) -> str:
    """Return a time of the journal as a local clock shows it, to the minute."""
    return datetime.datetime.fromtimestamp(time_ms / 1000, zone).strftime("%Y-%m-%d %H:%M %Z")
