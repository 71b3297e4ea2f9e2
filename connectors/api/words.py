"""Figures as a person reads them: ages, powers, registers, evidence. Every time is UTC."""

from __future__ import annotations

import time
from typing import Any, Final

NOTHING: Final = "–"
#: Badge of a state, and of what signed values prove.
_BADGES: Final = {
    "review": "critical",
    "incomplete": "warning",
    "open": "info",
    "invalid": "critical",
    "missing": "warning",
    "unproven": "warning",
    "unsupported": "warning",
}
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


def ago(time_ms: int | None, now_ms: int) -> str:
    """Return how long ago `time_ms` was, as a person says it; "never" for None."""
    return "never" if time_ms is None else f"{duration((now_ms - time_ms) / 1000)} ago"


def duration(seconds: float) -> str:
    """Return a time span in its largest fitting unit; spans below 0 are 0."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def behind(span_ms: int) -> str:
    """Return a delay, in tenths of a second while it is short."""
    return f"{span_ms / 1000:.1f} s" if span_ms < 10_000 else duration(span_ms / 1000)


def utc(time_ms: int) -> str:
    """Return a time as ``2026-11-24 06:31:12 UTC``; out of the calendar, the number itself."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_ms / 1000))
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def power_text(power_w: float | None, *, axis: bool = False) -> str:
    """Return a power in kW or MW, to about 10 W in 1 kW; labels of an axis as short as can be."""
    if power_w is None:
        return NOTHING
    kilo = power_w / 1000
    if abs(kilo) >= 1000:
        return f"{kilo / 1000:,g} MW" if axis else f"{kilo / 1000:,.2f} MW"
    if axis:
        return f"{kilo:g} kW"
    return f"{kilo:,.1f} kW" if abs(kilo) >= 100 else f"{kilo:,.2f} kW"


def register_text(reg_mwh: int | None) -> str:
    """Return a register: kWh with three decimals, rounded towards zero; an en dash for none."""
    if reg_mwh is None:
        return NOTHING
    wh = abs(reg_mwh) // 1000
    return f"{'-' if reg_mwh < 0 else ''}{wh // 1000:,}.{wh % 1000:03d}"


def number(value: float) -> str:
    """Return four figures of a number, all of its whole part."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def figures(evidence: dict[str, Any]) -> str:
    """Return evidence as one line: ``voltage mean 201.3 V, limit 207 V, over 10 min``."""
    told = [(str(name), value) for name, value in evidence.items() if value not in (None, "")]
    shown = [_figure(name, value) for name, value in sorted(told, key=lambda item: _place(item[0]))]
    more = [f"{len(shown) - _MOST_FIGURES} more"] if len(shown) > _MOST_FIGURES else []
    return ", ".join([*shown[:_MOST_FIGURES], *more])


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


def kwh_text(mwh: int | None) -> str:
    """Return energy in kWh, exact to the mWh without needless zeros; an en dash for none."""
    if mwh is None:
        return "–"
    whole, rest = divmod(abs(mwh), 1_000_000)
    text = f"{whole:,}.{rest:06d}".rstrip("0")
    places = len(text.split(".")[1])
    return ("-" if mwh < 0 else "") + (text if places >= 3 else text + "0" * (3 - places))


def plain_time(text: str | None) -> str:
    """Return an ISO time of a price line as a person reads it."""
    return (text or "").replace("T", " ").replace("Z", "").removesuffix("+00:00")


def badge(word: str) -> str:
    """Return the kind of badge that a state of a session, or of its signed values, is shown with."""
    return _BADGES.get(word, "info")
