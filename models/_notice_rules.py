"""Whom a finding concerns, and when a message about it may go: routes, quiet hours, digest windows.

Everything here is a pure function of journaled times, so a replay decides the same.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from zoneinfo import ZoneInfo

from .outputs import FindingChange

SEVERITIES: Final = ("info", "warning", "critical")
#: States that a route may tell; ``escalated`` is told by the route that another one names.
STATES: Final = ("raised", "updated", "cleared")
ESCALATED: Final = "escalated"

_DAY_S: Final = 86_400


def rank(severity: str) -> int:
    """Return the place of a severity, info lowest; what is unknown counts as critical, not as nothing."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES) - 1


@dataclass(frozen=True, slots=True)
class RouteRule:
    """What one route tells, and when.

    Attributes
    ----------
    name : str
    sites, codes : tuple of str
        Patterns with ``*`` and ``?``; empty: all.
    severity : str
        Least severity.
    states : tuple of str
        Of `STATES`: what is told.
    quiet : (int, int), optional
        Minutes of the local day between which nothing is sent; the first may be the later one.
    zone : ZoneInfo
        Local time of quiet hours and digests.
    digest_s : int
        Collect for so long, in windows from local midnight; 0: send at once. Unit: s.
    urgent : str
        From this severity on neither digest nor quiet hours hold a message; empty: they hold all.
    escalate_s : int
        Unacknowledged for so long, a finding is told to `escalate_to`; 0: never. Unit: s.
    escalate_to : str
        Name of a route.
    since_ms : int
        What changed before is not told: it was old when the route was set up. Unit: epoch ms.
    """

    name: str
    sites: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    severity: str = "warning"
    states: tuple[str, ...] = STATES
    quiet: tuple[int, int] | None = None
    zone: datetime.tzinfo = datetime.UTC
    digest_s: int = 0
    urgent: str = ""
    escalate_s: int = 0
    escalate_to: str = ""
    since_ms: int = 0

    def wants(self, change: FindingChange) -> bool:
        """Return whether the finding, as it stands, is for this route."""
        return (
            rank(change.severity) >= rank(self.severity)
            and _matches(self.sites, change.site)
            and _matches(self.codes, change.code)
        )

    def is_urgent(self, severity: str) -> bool:
        """Return whether a message of this severity waits for nothing."""
        return bool(self.urgent) and rank(severity) >= rank(self.urgent)

    def due_ms(self, at_ms: int, severity: str) -> int:
        """Return when a message decided at `at_ms` is to go, epoch ms: at once, or later."""
        if self.is_urgent(severity):
            return at_ms
        due = at_ms if not self.digest_s else _window_end_ms(at_ms, self.digest_s, self.zone)
        return due if self.quiet is None else _after_quiet_ms(due, self.quiet, self.zone)


def told_at_all(change: FindingChange) -> bool:
    """Return whether anybody may be told: live, not planned, and not explained by an open parent."""
    return change.live and not change.planned and change.parent is None


def clock_minutes(text: str) -> int:
    """Return ``HH:MM`` as minutes of the day.

    Raises
    ------
    ValueError
        If it is no time of day.
    """
    hour, colon, minute = text.partition(":")
    if not colon or not (hour.isdecimal() and minute.isdecimal()) or len(minute) != 2:
        raise ValueError(f"{text!r} is no HH:MM")
    if int(hour) > 23 or int(minute) > 59:
        raise ValueError(f"{text!r} is no time of day")
    return int(hour) * 60 + int(minute)


def quiet_minutes(text: str) -> tuple[int, int] | None:
    """Return ``22:00-06:30`` as minutes of the day; nothing: no quiet hours.

    Raises
    ------
    ValueError
        If it is no span of two different times.
    """
    if not text:
        return None
    first, dash, last = text.partition("-")
    span = clock_minutes(first.strip()), clock_minutes(last.strip() if dash else "")
    if span[0] == span[1]:
        raise ValueError(f"{text!r} begins and ends at once")
    return span


def zone_of(name: str) -> datetime.tzinfo:
    """Return a time zone by its IANA name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name == "UTC":
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone") from error


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def _local(at_ms: int, zone: datetime.tzinfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at_ms / 1000, zone)


def _at_ms(day: datetime.date, second: int, zone: datetime.tzinfo) -> int:
    """Return the time at which a local clock shows `second` seconds after midnight of `day`."""
    shown = datetime.datetime.combine(day, datetime.time()) + datetime.timedelta(seconds=second)
    return round(shown.replace(tzinfo=zone).timestamp() * 1000)


def _window_end_ms(at_ms: int, digest_s: int, zone: datetime.tzinfo) -> int:
    """Return the end of the window that holds `at_ms`; windows begin anew at local midnight."""
    local = _local(at_ms, zone)
    passed = local.hour * 3600 + local.minute * 60 + local.second
    end = min((passed // digest_s + 1) * digest_s, _DAY_S)
    # Where clocks go back an hour the shown end may lie behind: the next one that does not is it.
    while (due := _at_ms(local.date(), end, zone)) <= at_ms:
        end += digest_s
    return due


def _after_quiet_ms(at_ms: int, quiet: tuple[int, int], zone: datetime.tzinfo) -> int:
    """Return `at_ms`, or the end of the quiet hours that it falls into."""
    begin, end = quiet
    local = _local(at_ms, zone)
    minute = local.hour * 60 + local.minute
    over_midnight = begin > end
    inside = (minute >= begin or minute < end) if over_midnight else begin <= minute < end
    if not inside:
        return at_ms
    day = local.date() + datetime.timedelta(days=int(over_midnight and minute >= begin))
    return max(at_ms, _at_ms(day, end * 60, zone))
