"""Figures as a person reads them: ages, powers, registers, badges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from models.command_types import command_id
from models.evidence_text import duration

NOTHING: Final = "–"
#: First word of a command's cause -> the page of what caused it.
_CAUSES: Final = {"reaction": "findings", "campaign": "campaigns"}
_PERIODS: Final = 3
#: Badge of a state of a command.
_COMMANDS: Final = {
    "accepted": "ok", "scheduled": "ok", "requested": "info", "sent": "info", "rejected": "warning",
    "expired": "warning",
}  # fmt: skip
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


def ago(time_ms: int | None, now_ms: int) -> str:
    """Return how long ago `time_ms` was, as a person says it; "never" for None."""
    return "never" if time_ms is None else f"{duration((now_ms - time_ms) / 1000)} ago"


def behind(span_ms: int) -> str:
    """Return a delay, in tenths of a second while it is short."""
    return f"{span_ms / 1000:.1f} s" if span_ms < 10_000 else duration(span_ms / 1000)


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


def reaction_link(row: Mapping[str, Any]) -> str:
    """Return the address of the command that a reaction sent; "" where none was."""
    if row["state"] not in ("sent", "undone"):
        return ""
    return f"/commands/{command_id(row['site'], row['station'], row['cause'])}"


def cause_link(cause: str) -> str:
    """Return the address of what caused a command, as told by its cause; "" where there is no page."""
    kind, _, rest = cause.partition("/")
    name = quote(rest.partition("/")[0], safe="")
    if kind == "load" and name:
        return f"/managed?site={name}"
    return f"/{_CAUSES[kind]}/{name}" if kind in _CAUSES and name else ""


def command_words(command: str, body: Mapping[str, Any]) -> str:
    """Return what a command asks for, short: the limits of a charging profile, else its plain fields."""
    profile = body.get("chargingProfile")
    if command == "SetChargingProfile" and isinstance(profile, dict):
        return _limits(profile)
    plain = [value for value in body.values() if isinstance(value, str | int | float)]
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in plain)


def _limits(profile: Mapping[str, Any]) -> str:
    """Return the first limits of a charging profile, with their unit."""
    schedules = profile.get("chargingSchedule") or []
    schedule = schedules[0] if isinstance(schedules, list) and schedules else schedules
    if not isinstance(schedule, dict):
        return ""
    periods = [p["limit"] for p in schedule.get("chargingSchedulePeriod", []) if "limit" in p]
    told = [f"{limit:g}" for limit in periods[:_PERIODS]] + (["…"] if len(periods) > _PERIODS else [])
    return f"{', '.join(told)} {schedule.get('chargingRateUnit', '')}".strip()


def command_badge(state: str) -> str:
    """Return the kind of badge of a command's state."""
    return _COMMANDS.get(state, "critical")
