"""Evidence of findings, and the figures in it, as a person reads them. Every time is UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

_MOST_FIGURES: Final = 6
_LONGEST_TEXT: Final = 120
_UNITS: Final = {
    "v": "V",
    "a": "A",
    "ma": "mA",
    "w": "W",
    "c": "°C",
    "wh": "Wh",
    "mwh": "mWh",
    "hz": "Hz",
    "percent": "%",
    "kohm": "kΩ",
    "ohm": "Ω",
    "uf": "µF",
    "dbm": "dBm",
    "db": "dB",
}
_NAMES: Final = {"u_n_v": "nominal", "tech_info": "info"}
# What was measured comes first, then its limits, then how long and where.
_LIMITS: Final = ("limit", "nominal", "offered", "u")
_AROUND: Final = ("duration", "window", "phase", "sensor", "samples", "resolution")
# Figures of evidence that stand for words.
_CODED: Final = {
    "phase": {1: "L1", 2: "L2", 3: "L3"},
    "sensor": {1: "cable", 2: "outlet"},
}


def duration(seconds: float) -> str:
    """Return a time span in its largest fitting unit; spans below 0 are 0."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def utc(time_ms: int) -> str:
    """Return a time as ``2026-11-24 06:31:12 UTC``; out of the calendar, the number itself."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def number(value: float) -> str:
    """Return four figures of a number, all of its whole part."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def figures(evidence: dict[str, Any], most: int = _MOST_FIGURES) -> str:
    """Return at most `most` figures in one line: ``voltage mean 201.3 V, limit 207 V, over 10 min``."""
    told = [(str(name), value) for name, value in evidence.items() if value not in (None, "")]
    shown = [_figure(name, value) for name, value in sorted(told, key=lambda item: _place(item[0]))]
    more = [f"{len(shown) - most} more"] if len(shown) > most else []
    return ", ".join([*shown[:most], *more])


def _place(name: str) -> int:
    first = name.split("_")[0]
    return 1 if first in _LIMITS else 2 if first in _AROUND else 0


def _figure(name: str, value: Any) -> str:
    words = name.split("_")
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = str(value)
        text = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
        return f"{_NAMES.get(name, ' '.join(words))} {text}"
    if name in _CODED and value in _CODED[name]:
        return f"{name} {_CODED[name][int(value)]}"
    *front, unit = words
    label = _NAMES.get(name, " ".join(front))
    if front and unit == "ms" and 1e11 < value < 1e14:
        return f"{label} {utc(int(value))}"
    if front and unit == "s":
        return f"{label} {duration(value) if value >= 10 else f'{value:.3g} s'}"
    if front and unit in _UNITS:
        return f"{label} {number(value)} {_UNITS[unit]}"
    return f"{_NAMES.get(name, ' '.join(words))} {number(value)}"
