"""What of the measurements shows why a finding was raised: channels, limits, and the time around it.

The detector's SPEC names the channels that decide, its evidence and its Config the limits. A limit is drawn
over channels of its unit; where a limit is of another quantity than the channel (a standard deviation over
voltages), the code has lines of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import plugins
from .channels import CHANNEL_ID, CHANNELS

_PACKAGE: Final = "models.detectors"
#: Plug-in of a code that is not its name.
_PLUGIN: Final = {"unusual": "unusual"}
_MINUTE_MS: Final = 60_000
#: Before the condition began, and after it ended; at least.
BEFORE_MS: Final = 15 * _MINUTE_MS
AFTER_MS: Final = 5 * _MINUTE_MS
#: A longer time is not shown: it begins this long before the raise.
MOST_MS: Final = 6 * 60 * _MINUTE_MS
MOST_PANELS: Final = 3
#: EVSEs whose channels are shown side by side when a finding is of a station or site.
MOST_PLACES: Final = 6

_SUFFIX: Final = {
    "_v": "V", "_a": "A", "_c": "Celsius", "_ma": "mA", "_w": "W", "_hz": "Hz", "_kohm": "kOhm", "_uf": "uF",
    "_dbm": "dBm", "_percent": "Percent", "_wh": "Wh",
}  # fmt: skip
#: First or last words of figures that are a limit or a level to compare with.
_LEVELS: Final = frozenset(
    {"limit", "baseline", "nominal", "low", "high", "step", "ambient", "median", "expected", "mean", "u"}
)
#: Figures of the evidence that are of another quantity than the channels of their unit.
_ELSEWHERE: Final = frozenset({"pilot_jitter"})
#: Figures that are measurements, though a word of them says otherwise.
_MEASURED: Final = frozenset({"voltage_mean_v", "mean_dbm", "step_a"})
#: Limits that only the settings have, by code.
_SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "pilot_jitter": ("low_v", "high_v"),
    "pilot_out_of_band": ("low_v", "high_v"),
    "silent_derate": ("hot_c",),
    "contactor_stuck_open": ("current_a",),
    "contactor_welded": ("output_v", "power_w"),
    "weak_signal": ("least_dbm",),
    "cable_cut": ("open_v",),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A level to compare a channel with."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to show of a finding; times epoch ms, `channels` by importance.

    Without channels (offline, flapping …) the number of readings each minute is what there is to see.
    """

    channels: tuple[int, ...]
    lines: tuple[Line, ...]
    since_ms: int
    until_ms: int


@dataclass(slots=True)
class Trace:
    """Values of one channel of one EVSE, by time (epoch ms)."""

    name: str
    unit: str
    station: str
    evse: int
    times_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose channels to read, and from when to when. Without node, station or EVSE: of all there are."""

    site: str
    node: str | None
    station: str | None
    evse: int | None
    plan: Plan


READINGS: Final = "readings"


def plan(finding: Mapping[str, Any], now_ms: int, settings: Mapping[str, Any] | None = None) -> Plan:
    """Return what to show of a finding as the ledger has it.

    Parameters
    ----------
    finding : mapping
        ``code``, ``evidence``, ``start``, ``raised_at``, ``last``, ``end``.
    now_ms : int
    settings : mapping, optional
        Detector name -> its settings, where they are not the defaults.
    """
    evidence = finding["evidence"]
    channels, config = _of_detector(finding["code"], settings or {})
    named = evidence.get("channel")
    if isinstance(named, str) and named in CHANNEL_ID:
        channels = (CHANNEL_ID[named], *(c for c in channels if c != CHANNEL_ID[named]))
    lines = [] if finding["code"] in _ELSEWHERE else _of_evidence(evidence)
    lines += [
        Line(name.rsplit("_", 1)[0].replace("_", " "), float(getattr(config, name)), unit)
        for name in _SETTINGS.get(finding["code"], ())
        if (unit := _unit(name)) is not None and hasattr(config, name)
    ]
    since, until = _window(finding, now_ms)
    return Plan(_ranked(channels, evidence), tuple(lines), since, until)


def _of_detector(code: str, settings: Mapping[str, Any]) -> tuple[tuple[int, ...], Any]:
    name = _PLUGIN.get(code, code)
    if name not in plugins.names(_PACKAGE):
        return (), None
    module = plugins.load(_PACKAGE, name)
    given = {key: value for key, value in settings.get(name, {}).items() if key != "enabled"}
    return tuple(module.SPEC.channels), module.Config(**given)


def _window(finding: Mapping[str, Any], now_ms: int) -> tuple[int, int]:
    """Return the time to show: all of the condition with some before and after, or the time of the raise."""
    start, raised = int(finding["start"]), int(finding["raised_at"])
    over = finding["end"] if finding["end"] is not None else finding["last"]
    margin = max(BEFORE_MS, raised - start)
    since, until = start - margin, max(raised, int(over or raised)) + max(AFTER_MS, margin // 3)
    if until - since > MOST_MS:
        since = max(since, raised - MOST_MS * 2 // 3)
        until = min(until, since + MOST_MS)
    return since, max(min(until, now_ms), since + _MINUTE_MS)


def _unit(name: str) -> str | None:
    return next((unit for suffix, unit in _SUFFIX.items() if name.endswith(suffix)), None)


def _of_evidence(evidence: Mapping[str, Any]) -> list[Line]:
    named = evidence.get("channel")
    own = CHANNELS[CHANNEL_ID[named]].unit if isinstance(named, str) and named in CHANNEL_ID else None
    lines = []
    for name, value in evidence.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if own is not None and name in {"usual_low", "usual_high"}:
            lines.append(Line(name.replace("_", " "), float(value), own))
        unit, words = _unit(name), name.split("_")[:-1]
        if unit is None or name in _MEASURED or not words or not {words[0], words[-1]} & _LEVELS:
            continue
        label = "nominal" if name == "u_n_v" else " ".join(words)
        lines.append(Line(label, float(value), unit))
    return lines


def _ranked(channels: Sequence[int], evidence: Mapping[str, Any]) -> tuple[int, ...]:
    """Return channels with the units of the evidence, in its order, first."""
    units = [unit for name in evidence if (unit := _unit(str(name))) is not None]
    place = {unit: k for k, unit in reversed(list(enumerate(units)))}
    named = evidence.get("channel")
    first = CHANNEL_ID.get(named) if isinstance(named, str) else None
    return tuple(sorted(channels, key=lambda c: (c != first, place.get(CHANNELS[c].unit, len(units)))))


def panels(traces: Sequence[Trace]) -> list[list[Trace]]:
    """Return the traces that hold values by unit, at most `MOST_PANELS` units, the most important first."""
    by_unit: dict[str, list[Trace]] = {}
    for trace in traces:
        if trace.values:
            by_unit.setdefault(trace.unit, []).append(trace)
    return list(by_unit.values())[:MOST_PANELS]


def thinned(trace: Trace, most: int) -> Trace:
    """Return the trace with at most `most` points: least and greatest of equal stretches of points."""
    n = len(trace.values)
    if n <= most:
        return trace
    out = Trace(trace.name, trace.unit, trace.station, trace.evse)
    stretches = max(1, most // 2)
    for k in range(stretches):
        low, high = n * k // stretches, n * (k + 1) // stretches
        part = range(low, high)
        ends = {min(part, key=lambda i: trace.values[i]), max(part, key=lambda i: trace.values[i])}
        for i in sorted(ends):
            out.times_ms.append(trace.times_ms[i])
            out.values.append(trace.values[i])
    return out
