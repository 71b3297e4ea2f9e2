"""What a transaction of signed records must fulfil before it may be billed.

The checks of the transparency rules: one begin and one end on one register, values and times that do not
fall, status good, clocks good enough, same user, same meter, same unit, rising pagination, plausible amounts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ._ocmf_record import BEGIN, ENDS, EXCEPTION, Payload, Reading
from .units import MAX_REGISTER_MWH

# Energy at the point of transfer comes before energy at the mains side, which holds the cable's losses.
_PREFERRED: Final = ("B3.8.0", "B1.8.0", "1.8.0", "B2.8.0", "B0.8.0")
#: Words of a user's identification that forbid to bill that user.
_BAD_LEVELS: Final = frozenset(("MISMATCH", "INVALID", "OUTDATED", "UNKNOWN"))
_SYNC_RANK: Final = {"S": 0, "R": 1, "I": 2, "U": 3}
_MS_PER_H: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator accepts.

    Attributes
    ----------
    worst_time : str
        Worst state of a clock that is accepted: ``S``, ``R``, ``I`` or ``U``. Default ``I``: energy is proven
        by the register, informative time suffices for it; ``U`` admits meters without a clock.
    max_power_w : float, optional
        Most power of the EVSE, W; more than 1.5 times that, on average, is implausible.
    meter_serial : str
        The meter that the EVSE has; empty: any meter whose key is registered.
    """

    worst_time: str = "I"
    max_power_w: float | None = None
    meter_serial: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one rule; `detail` says what was found when it failed."""

    rule: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """Begin and end of a transaction on one register, and the readings of that register in order."""

    begin: Reading
    end: Reading
    series: tuple[Reading, ...]
    begin_page: tuple[str, int] | None
    end_page: tuple[str, int] | None

    @property
    def energy_mwh(self) -> Decimal:
        """End minus begin, mWh, exact."""
        return _mwh(self.end) - _mwh(self.begin)

    @property
    def duration_ms(self) -> int | None:
        """End minus begin, ms; None when a time cannot be read."""
        if self.begin.time_ms is None or self.end.time_ms is None:
            return None
        return self.end.time_ms - self.begin.time_ms

    @property
    def duration_proven(self) -> bool:
        """Whether the clock was good enough to bill time: synchronised, or running on from that."""
        return {self.begin.sync, self.end.sync} <= {"S", "R"}


def _mwh(reading: Reading) -> Decimal:
    energy = reading.energy_mwh
    if energy is None:
        raise ValueError(f"reading {reading.value_text!r} {reading.unit!r} is no energy")
    return energy


def in_order(payloads: Sequence[Payload]) -> list[Payload]:
    """Return the records by their page, in the given order where pages cannot be read."""
    if any(p.page is None for p in payloads):
        return list(payloads)
    return sorted(payloads, key=lambda p: p.page or ("", 0))


def find_span(payloads: Sequence[Payload]) -> tuple[Span | None, str]:
    """Return begin and end of the transaction on the register that bills, or why there are none.

    The same reading in two records (a begin that the end record repeats) counts once.
    """
    registers: dict[tuple[str, bool], list[tuple[Reading, Payload]]] = {}
    for payload in payloads:
        for reading in payload.readings:
            if reading.energy_mwh is None or reading.imports is False:
                continue
            series = registers.setdefault((reading.obis or reading.identifier, bool(reading.imports)), [])
            if all(_said(reading) != _said(known) for known, _ in series):
                series.append((reading, payload))
    named = {key: series for key, series in registers.items() if key[1]}
    candidates = named or registers
    if not candidates:
        return None, "no reading of an import register in Wh or kWh"
    if not named and len(candidates) > 1:
        return None, "several energy registers, and none says that it counts import"
    best = min(candidates, key=lambda key: _preference(key[0], candidates[key]))
    return _span(candidates[best])


def _said(reading: Reading) -> tuple[object, ...]:
    return (reading.tx, reading.time_text, reading.value, reading.unit, reading.status, reading.error_flags)


def _preference(register: str, series: list[tuple[Reading, Payload]]) -> tuple[bool, int, str]:
    marks = {reading.tx for reading, _ in series}
    whole = BEGIN in marks and bool(marks & ENDS)
    place = _PREFERRED.index(register) if register in _PREFERRED else len(_PREFERRED)
    return not whole, place, register


def _span(series: list[tuple[Reading, Payload]]) -> tuple[Span | None, str]:
    begins = [(r, p) for r, p in series if r.tx == BEGIN]
    ends = [(r, p) for r, p in series if r.tx in ENDS]
    if len(begins) != 1 or len(ends) != 1:
        return None, f"{len(begins)} begin and {len(ends)} end values, expected one of each"
    (begin, first), (end, last) = begins[0], ends[0]
    return Span(begin, end, tuple(r for r, _ in series), first.page, last.page), ""


def check_transaction(payloads: Sequence[Payload], rules: Rules) -> tuple[Span | None, list[Check]]:
    """Return the span and every rule's outcome; without a span only the rules that need none."""
    ordered = in_order(payloads)
    span, why = find_span(ordered)
    checks = [
        _check("begin_end", why),
        _check("format", _format_problem(ordered)),
        _check("pagination", _page_problem(ordered, span)),
        _check("meter", _meter_problem(ordered, rules.meter_serial)),
        _check("user", _user_problem(ordered)),
        _check("event_counter", _differing("event counter EI", (p.event_counter for p in ordered))),
    ]
    if span is not None:
        problems: tuple[tuple[str, Callable[[Span], str]], ...] = (
            ("unit", _unit_problem),
            ("status", _status_problem),
            ("error_flags", _flag_problem),
            ("value", _value_problem),
            ("time", _time_problem),
            ("time_sync", lambda found: _sync_problem(found, rules.worst_time)),
            ("plausible", lambda found: _implausible(found, rules.max_power_w)),
        )
        checks += [_check(rule, problem(span)) for rule, problem in problems]
    return span, checks


def _check(rule: str, problem: str) -> Check:
    return Check(rule, not problem, problem)


def _differing(what: str, values: Iterable[object]) -> str:
    found = list(dict.fromkeys(values))
    return "" if len(found) <= 1 else f"{what} differs: {', '.join(repr(value) for value in found)}"


def _format_problem(payloads: Sequence[Payload]) -> str:
    major = {p.version.split(".")[0] for p in payloads}
    unknown = sorted(major - {"", "0", "1"})
    return f"format version {unknown[0][:20]!r}, expected 1.x" if unknown else ""


def _page_problem(payloads: Sequence[Payload], span: Span | None) -> str:
    pages = [p.page for p in payloads]
    for payload in payloads:
        if payload.page is None:
            return f"pagination PG {payload.pagination[:40]!r}, expected T and a number"
        if payload.page[0] != "T":
            return f"pagination PG {payload.pagination!r} is not of a transaction"
    if len(set(pages)) != len(pages):
        return "two different records have the same pagination"
    if span and span.begin_page and span.end_page and span.begin_page > span.end_page:
        return f"the end has page {span.end_page[1]}, before the begin's {span.begin_page[1]}"
    return ""


def _meter_problem(payloads: Sequence[Payload], expected: str) -> str:
    if any(not p.serial for p in payloads):
        return "no serial number of meter (MS) or gateway (GS)"
    if expected and any(p.serial != expected for p in payloads):
        return f"values of meter {payloads[0].serial!r}, the EVSE has {expected!r}"
    return (
        _differing("meter serial MS", (p.meter_serial for p in payloads))
        or _differing("gateway serial GS", (p.gateway_serial for p in payloads))
        or _differing("gateway GI", (p.gateway for p in payloads))
    )


def _user_problem(payloads: Sequence[Payload]) -> str:
    for payload in payloads:
        if payload.identified and payload.level.upper() in _BAD_LEVELS:
            return f"the user's identification is {payload.level.upper()}"
    return (
        _differing("user assignment IS", (p.identified for p in payloads))
        or _differing("kind of identification IT", (p.id_type for p in payloads))
        or _differing("user ID", (p.user for p in payloads))
    )


def _unit_problem(span: Span) -> str:
    return _differing("unit RU", (r.unit.lower() for r in span.series)) or _differing(
        "current type RT", (r.current.upper() for r in (span.begin, span.end) if r.current)
    )


def _status_problem(span: Span) -> str:
    for name, reading in (("begin", span.begin), ("end", span.end)):
        if reading.status != "G":
            return f"meter status ST at the {name} is {reading.status[:20]!r}, expected 'G'"
    return ""


def _flag_problem(span: Span) -> str:
    """An exception, or a flag, holds from its reading on: one between begin and end spoils the whole."""
    for reading in span.series:
        name = "begin" if reading is span.begin else "end" if reading is span.end else reading.time_text
        bad = [flag for flag in reading.error_flags if flag in "Et"]
        if bad:
            what = {"E": "energy", "t": "time"}[bad[0]]
            return f"error flag EF at the {name}: {what} is no longer billable"
        if reading.tx == EXCEPTION:
            return f"TX X at {name}: an exception, from which on energy or time are not billable"
    return ""


def _value_problem(span: Span) -> str:
    if _mwh(span.begin) < 0:
        return f"the register is negative at the begin: {span.begin.value_text}"
    if span.energy_mwh < 0:
        return f"the register falls from {span.begin.value_text} to {span.end.value_text}"
    values = [_mwh(reading) for reading in span.series]
    if any(later < earlier for earlier, later in itertools.pairwise(values)):
        return "the register falls between two readings of the transaction"
    return ""


def _time_problem(span: Span) -> str:
    for name, reading in (("begin", span.begin), ("end", span.end)):
        if reading.time_ms is None:
            return f"time TM at the {name} cannot be read: {reading.time_text[:60]!r}"
    if (span.duration_ms or 0) < 0:
        return f"the end {span.end.time_text} is before the begin {span.begin.time_text}"
    return ""


def _sync_problem(span: Span, worst: str) -> str:
    for name, reading in (("begin", span.begin), ("end", span.end)):
        rank = _SYNC_RANK.get(reading.sync)
        if rank is None or rank > _SYNC_RANK[worst]:
            return f"clock at the {name} is {reading.sync or 'of unknown state'}, accepted up to {worst}"
    if span.begin.sync == "R" and span.end.sync not in ("R", "S"):
        return f"clock was relative at the begin and {span.end.sync} at the end"
    return ""


def _implausible(span: Span, max_power_w: float | None) -> str:
    if max(_mwh(span.begin), _mwh(span.end)) > MAX_REGISTER_MWH:
        return f"register {span.end.value_text} {span.end.unit} is beyond any meter"
    duration_ms = span.duration_ms
    if duration_ms is None or span.energy_mwh <= 0 or "U" in (span.begin.sync, span.end.sync):
        return ""
    if duration_ms <= 0:
        return "energy in no time"
    power_w = span.energy_mwh / 1000 * _MS_PER_H / duration_ms
    if max_power_w is not None and power_w > Decimal(str(max_power_w)) * 3 / 2:
        return f"{power_w:.0f} W on average, more than 1.5 times {max_power_w:g} W"
    return ""
