"""The evidence of a finding, plotted: the channels that decided, limits, and when it began and was raised.

In full detail from the journal while it has that time; else minute means of power from the ledger.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from connectors.ledger_reader import LedgerReader, Row
from models.errors import ChargestreamError
from models.evidence import Ask, Line, Plan, Trace, panels, plan, thinned
from models.evidence_text import number, utc

#: Reads traces; None: the source does not have that time.
Source = Callable[[Ask], list[Trace] | None]

# The drawing's coordinates; the page stretches it.
WIDTH: Final = 1000
HEIGHT: Final = 300
_STEPS: Final = 4
_MOST_POINTS: Final = 2_000
_DRAWN_POINTS: Final = 900
_MOST_SERIES: Final = 6
#: Points further apart than this, and than five times the usual distance, are not joined.
_GAP_MS: Final = 180_000
_UNITS: Final = {"Celsius": "°C", "kOhm": "kΩ", "uF": "µF", "Percent": "%", "1/min": "per minute"}
#: What was read stays valid this long; longer when its time is over.
_OPEN_S: Final = 5.0
_OVER_S: Final = 300.0
_REMEMBERED: Final = 32


class Evidence(NamedTuple):
    """What there is to see of a finding."""

    plan: Plan
    source: str  # journal, rollups, none
    traces: list[Trace]
    marks: list[tuple[str, int]]  # start, raised, end


@dataclass(frozen=True, slots=True)
class Drawn:
    """One series as it is drawn; coordinates from 0 to `WIDTH` and 0 to `HEIGHT`."""

    label: str
    lines: list[str]
    dots: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """The series of one unit.

    Attributes
    ----------
    levels, hours : list of str
        Labels of the axes, from the top and from the left.
    limits : list of tuple
        (y, words) of levels to compare with.
    marks : list of tuple
        (x, what, when) of start, raise and end.
    words : str
        The panel for who does not see it.
    """

    unit: str
    series: list[Drawn]
    levels: list[str]
    hours: list[str]
    limits: list[tuple[float, str]]
    marks: list[tuple[float, str, str]]
    words: str


class EvidenceReader:
    """Finds and remembers what there is to see of findings. Thread-safe.

    Parameters
    ----------
    ledger : LedgerReader
    source : callable, optional
        Reads the journal; without it there are only the ledger's minutes.
    settings : mapping
        Detector name -> its settings, where they are not the defaults.
    """

    def __init__(
        self, ledger: LedgerReader, source: Source | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._ledger, self._source, self._settings = ledger, source, settings or {}
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int], tuple[float, Evidence]] = OrderedDict()

    def of(self, finding: Row, now_ms: int) -> Evidence:
        """Return what there is to see of a finding, as the ledger has it."""
        key = (finding["finding_id"], int(finding["change"]))
        with self._lock:
            held = self._held.get(key)
        if held is not None and held[0] > time.monotonic():
            return held[1]
        found = self._read(finding, now_ms)
        kept_s = _OVER_S if found.plan.until_ms < now_ms - 1_000 else _OPEN_S
        with self._lock:
            self._held[key] = (time.monotonic() + kept_s, found)
            while len(self._held) > _REMEMBERED:
                self._held.popitem(last=False)
        return found

    def _read(self, finding: Row, now_ms: int) -> Evidence:
        wanted = plan(finding, now_ms, self._settings)
        marks = [("began", int(finding["start"])), ("raised", int(finding["raised_at"]))]
        marks += [("over", int(finding["end"]))] if finding["end"] is not None else []
        ask = Ask(finding["site"], finding["node"], finding["station"], finding["evse"], wanted)
        traces: list[Trace] | None = None
        if self._source is not None:
            try:
                traces = self._source(ask)
            except ChargestreamError:
                traces = None  # what the journal cannot tell, the ledger may
        if traces and any(trace.values for trace in traces):
            return Evidence(wanted, "journal", traces, marks)
        power = self._minutes(ask)
        return Evidence(wanted, "rollups" if power.values else "none", [power] if power.values else [], marks)

    def _minutes(self, ask: Ask) -> Trace:
        found = self._ledger.power(
            ask.plan.since_ms, ask.plan.until_ms, site=ask.site, station=ask.station, evse=ask.evse
        )
        power = Trace("Power.Active.Import", "W", ask.station or "", ask.evse or 0)
        power.times_ms = [start for start, _, _ in found]
        power.values = [watts for _, watts, _ in found]
        return power


def as_json(finding_id: str, found: Evidence) -> dict[str, Any]:
    """Return plain data: times in epoch ms, at most 2,000 points a series."""
    return {
        "finding_id": finding_id,
        "since_ms": found.plan.since_ms,
        "until_ms": found.plan.until_ms,
        "source": found.source,
        "marks": dict(found.marks),
        "lines": [{"name": line.name, "value": line.value, "unit": line.unit} for line in found.plan.lines],
        "series": [
            {
                "channel": trace.name,
                "unit": trace.unit,
                "station": trace.station,
                "evse": trace.evse,
                "points": list(zip(less.times_ms, less.values, strict=True)),
                "thinned": len(trace.values) > _MOST_POINTS,
            }
            for trace in found.traces
            if (less := thinned(trace, _MOST_POINTS))
        ],
    }


def drawn(found: Evidence) -> list[Panel]:
    """Return the panels of what was found, the most important first."""
    several = len({(trace.station, trace.evse) for trace in found.traces}) > 1
    return [_panel(traces[:_MOST_SERIES], found, several) for traces in panels(found.traces)]


def _panel(traces: Sequence[Trace], found: Evidence, several: bool) -> Panel:
    unit = traces[0].unit
    lines = _apart([line for line in found.plan.lines if line.unit == unit])
    low, high, step = _scale(traces, lines)
    since, until = found.plan.since_ms, found.plan.until_ms

    def x(t: int) -> float:
        return round(WIDTH * (t - since) / (until - since), 1)

    def y(value: float) -> float:
        return round(HEIGHT * (high - value) / (high - low), 1)

    series = []
    for trace in traces:
        label = f"{trace.station}/{trace.evse} {trace.name}" if several else trace.name
        less = thinned(trace, _DRAWN_POINTS)
        places = [(x(t), y(v)) for t, v in zip(less.times_ms, less.values, strict=True)]
        runs = _runs(less.times_ms, places)
        joined = [" ".join(f"{a:g},{b:g}" for a, b in run) for run in runs if len(run) > 1]
        series.append(Drawn(label, joined, [run[0] for run in runs if len(run) == 1]))
    shown = _UNITS.get(unit, unit)
    limits = [(y(line.value), f"{line.name} {number(line.value)} {shown}") for line in lines]
    marks = [(x(t), what, utc(t)) for what, t in found.marks if since <= t <= until]
    steps = round((high - low) / step)
    return Panel(
        unit=shown,
        series=series,
        levels=[f"{high - step * k:.6g}" for k in range(steps + 1)],
        hours=[_clock(since + (until - since) * k // _STEPS) for k in range(_STEPS + 1)],
        limits=limits,
        marks=marks,
        words=_words(traces, shown, [words for _, words in limits]),
    )


def _apart(lines: Sequence[Line]) -> list[Line]:
    """Return the lines without those that stand at the value of one before."""
    seen: dict[float, Line] = {}
    for line in lines:
        seen.setdefault(line.value, line)
    return list(seen.values())


def _scale(traces: Sequence[Trace], lines: Sequence[Line]) -> tuple[float, float, float]:
    """Return the least and greatest value of an axis in round steps, and the step."""
    values = [v for trace in traces for v in (min(trace.values), max(trace.values))]
    values += [line.value for line in lines]
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 1, high + 1
    rough = (high - low) / _STEPS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(f * scale for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * scale >= rough * (1 - 1e-9))
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return bottom, top if top > bottom else bottom + step, step


def _runs(times_ms: Sequence[int], places: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the points in stretches without a gap."""
    steps = sorted(b - a for a, b in itertools.pairwise(times_ms))
    gap = max(_GAP_MS, 5 * steps[(len(steps) - 1) // 2]) if steps else _GAP_MS
    runs: list[list[tuple[float, float]]] = []
    before = None
    for t, place in zip(times_ms, places, strict=True):
        if before is None or t - before > gap:
            runs.append([])
        runs[-1].append(place)
        before = t
    return runs


def _clock(time_ms: int) -> str:
    return utc(time_ms)[11:16]


def _words(traces: Sequence[Trace], unit: str, limits: Sequence[str]) -> str:
    told = [
        f"{trace.name} between {number(min(trace.values))} and {number(max(trace.values))} {unit}"
        for trace in traces
    ]
    return "; ".join([*told, *limits])
