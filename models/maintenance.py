"""Who needs a technician, and why: health of each EVSE, inspections due by rule, visits ranked by risk.

Pure functions over what the ledger keeps: wear (`models.wear`), findings, inspections, inventory.

**Health** is 100 less what its reasons cost, at least 0:

- a finding costs `SEVERITY_POINTS`, times the weight of its code (a trend that ends in a failure weighs more,
  what no visit mends weighs less), times how often it came back (a tenth more each time, at most twice).
  Open ones count whole; cleared ones half, less and less until `recent_days` after;
- wear costs nothing up to half of the expected life of a part, then up to `WEAR_POINTS` at its end, and
  half as much again at most.

**Due** is an EVSE by rule when the time, the plug cycles or the energy since its last inspection (or since
it was first heard of) reach their interval.

**Risk** ranks visits: what health lacks, plus up to `DUE_POINTS` for being nearly or long overdue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from .errors import ConfigError
from .faults import FAULTS
from .inspections import WHAT
from .outputs import InspectionRow, WearCounts, WearRow

DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
SEVERITY_POINTS: Final = {"critical": 45.0, "warning": 18.0, "info": 3.0}
#: Trends towards a failure: a visit in time prevents it. Others weigh 1, or what their group does.
TREND_WEIGHT: Final = 1.5
TREND_CODES: Final = frozenset(
    {
        "contact_resistance", "silent_derate", "residual_current_rising", "isolation_low", "pilot_jitter",
        "conductor_aging", "source_impedance", "start_failures", "connector_over_temperature",
        "phantom_plug_cycles", "proximity_out_of_range", "pilot_out_of_band",
    }
)  # fmt: skip
#: What is mostly mended from afar, or is the grid's affair.
GROUP_WEIGHT: Final = {"communication": 0.3, "supply": 0.5, "general": 0.5}
WEAR_POINTS: Final = 30.0
DUE_POINTS: Final = 25.0
#: A part is watched from this share of its life on.
_WATCHED: Final = 0.5
_NO_COUNTS: Final = WearCounts(0, 0, None, 0, 0, 0, 0)

EvseKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class MaintenanceConfig:
    """Intervals and lives.

    Attributes
    ----------
    inspect_every_days : float
        Time between inspections. Unit: days. Default 365. Source: our choice; manuals of AC and DC stations
        commonly ask for one inspection a year, national rules may ask for more.
    inspect_every_cycles : int
        Plug cycles between inspections. Unit: cycles. Default 2500. Source: our choice, a quarter of
        `plug_life_cycles`.
    inspect_every_kwh : float
        Energy between inspections. Unit: kWh. Default 100000. Source: our choice: what a busy 50 kW plug
        delivers in a year.
    plug_life_cycles : int
        Plug cycles that plug and socket are made for. Unit: cycles. Default 10000. Source: IEC 62196-1,
        10,000 operations.
    contactor_life_operations : int
        Contactor operations that one is made for. Unit: operations. Default 100000. Source: order of
        magnitude of the electrical life in data sheets of installation contactors at rated current; see
        the data sheet of yours.
    hot_life_hours : float
        Hours with the plug at `hot_c` or more after which its contacts count as worn. Unit: hours. Default
        500. Source: our choice.
    recent_days : float
        Cleared findings count for this long. Unit: days. Default 30. Source: our choice.
    visit_connectors : int
        How many connectors a plan of visits holds. Unit: connectors. Default 10.
    """

    inspect_every_days: float = 365.0
    inspect_every_cycles: int = 2500
    inspect_every_kwh: float = 100_000.0
    plug_life_cycles: int = 10_000
    contactor_life_operations: int = 100_000
    hot_life_hours: float = 500.0
    recent_days: float = 30.0
    visit_connectors: int = 10

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            if not getattr(self, name) > 0:
                raise ConfigError(f"[maintenance] {name} = {getattr(self, name)!r}: expected more than 0")


class FindingSeen(msgspec.Struct, frozen=True):
    """What of a finding counts; times epoch ms. Without `evse` it is of the whole station."""

    finding_id: str
    code: str
    severity: str
    state: str
    site: str
    station: str | None
    evse: int | None
    start: int
    end: int | None
    raised_times: int = 1


class Reason(msgspec.Struct, frozen=True):
    """Why an EVSE's health lacks `points`, or why it is due (then 0 points)."""

    kind: str  # finding, wear, due
    what: str  # code, part or rule
    points: float
    text: str
    advice: str = ""
    severity: str = ""
    finding_id: str = ""


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """One EVSE: health, what is due, and why."""

    site: str
    station: str
    evse: int
    health: int  # 0 to 100
    risk: float
    due: bool
    due_by: tuple[str, ...]  # calendar, cycles, energy
    due_share: float  # greatest share of an interval that has passed
    reasons: tuple[Reason, ...]
    last_inspection_ms: int | None
    last_inspection_by: str
    last_inspection_what: str
    first_ms: int | None
    counts: WearCounts
    since: WearCounts  # since the last inspection
    connector_type: str = ""


def assess(
    config: MaintenanceConfig,
    now_ms: int,
    wear: Iterable[WearRow],
    findings: Iterable[FindingSeen],
    inspections: Iterable[InspectionRow],
    connector_types: Mapping[EvseKey, str] | None = None,
) -> list[Assessment]:
    """Return every EVSE that anything is known of, the riskiest first.

    Parameters
    ----------
    config : MaintenanceConfig
    now_ms : int
        Time at which is asked: the machine's in a service, the log's end in a replay.
    wear : iterable of WearRow
        The newest of each EVSE.
    findings : iterable of FindingSeen
        Open ones, and those cleared within `recent_days`.
    inspections : iterable of InspectionRow
    connector_types : mapping, optional
        OCPI connector type of each EVSE; also EVSEs that only have an inventory are assessed.
    """
    types = dict(connector_types or {})
    worn: dict[EvseKey, WearRow] = {(w.site, w.station, w.evse): w for w in wear}
    done: dict[EvseKey, list[InspectionRow]] = defaultdict(list)
    for row in inspections:
        done[(row.site, row.station, row.evse)].append(row)
    of_evse: dict[EvseKey, list[FindingSeen]] = defaultdict(list)
    of_station: dict[tuple[str, str], list[FindingSeen]] = defaultdict(list)
    for finding in findings:
        if finding.station is None:
            continue
        if finding.evse is None:
            of_station[(finding.site, finding.station)].append(finding)
        else:
            of_evse[(finding.site, finding.station, finding.evse)].append(finding)
    keys = {*worn, *types, *of_evse, *(key for key in done if key[2] != 0)}
    out = [
        _assess_one(
            config,
            now_ms,
            key,
            worn.get(key),
            [*of_evse.get(key, ()), *of_station.get(key[:2], ())],
            sorted(done.get(key, ()), key=lambda r: (r.at_ms, r.recorded_ms, r.inspection_id)),
            types.get(key, ""),
        )
        for key in keys
    ]
    return sorted(out, key=lambda a: (-a.risk, a.site, a.station, a.evse))


def _assess_one(
    config: MaintenanceConfig,
    now_ms: int,
    key: EvseKey,
    wear: WearRow | None,
    findings: Sequence[FindingSeen],
    inspections: Sequence[InspectionRow],
    connector_type: str,
) -> Assessment:
    counts = wear.counts if wear else _NO_COUNTS
    last = inspections[-1] if inspections else None
    since = _since(wear, last)
    reasons = [*_of_findings(config, now_ms, findings), *_of_wear(config, wear, inspections)]
    health = max(0, round(100 - sum(reason.points for reason in reasons)))
    begun_ms = last.at_ms if last else wear.first_ms if wear else None
    shares = {
        "calendar": 0.0
        if begun_ms is None
        else max(0, now_ms - begun_ms) / DAY_MS / config.inspect_every_days,
        "cycles": since.plug_cycles / config.inspect_every_cycles,
        "energy": (since.energy_mwh or 0) / 1e6 / config.inspect_every_kwh,
    }
    greatest = max(shares.values())
    due_by = tuple(rule for rule, share in shares.items() if share >= 1)
    reasons += [Reason("due", rule, 0.0, _due_text(rule, since, begun_ms, now_ms, last)) for rule in due_by]
    return Assessment(
        site=key[0],
        station=key[1],
        evse=key[2],
        health=health,
        risk=round(100 - health + DUE_POINTS * _due_part(greatest), 1),
        due=bool(due_by),
        due_by=due_by,
        due_share=round(greatest, 4),
        reasons=tuple(sorted(reasons, key=lambda r: (-r.points, r.kind, r.what, r.finding_id))),
        last_inspection_ms=last.at_ms if last else None,
        last_inspection_by=last.by if last else "",
        last_inspection_what=last.what if last else "",
        first_ms=wear.first_ms if wear else None,
        counts=counts,
        since=since,
        connector_type=connector_type,
    )


def _due_part(share: float) -> float:
    """Return 0 up to three quarters of an interval, a half at its end, 1 at twice the interval."""
    if share <= 0.75:
        return 0.0
    return min(1.0, (share - 0.75) * 2) if share < 1 else min(1.0, 0.5 * share)


def _due_text(
    rule: str, since: WearCounts, begun_ms: int | None, now_ms: int, last: InspectionRow | None
) -> str:
    after = "since the last inspection" if last else "and no inspection on record"
    if rule == "cycles":
        return f"{since.plug_cycles:,} plug cycles {after}"
    if rule == "energy":
        return f"{(since.energy_mwh or 0) / 1e9:,.1f} MWh {after}"
    return f"{max(0, now_ms - (begun_ms or now_ms)) // DAY_MS:,} days {after}"


def _since(wear: WearRow | None, done: InspectionRow | None) -> WearCounts:
    """Return what wore since something was done, nothing while the wear known is older than that.

    Counts that are less than they were long ago began anew since: they count whole.
    """
    if wear is None:
        return _NO_COUNTS
    if done is None:
        return wear.counts
    now, then = wear.counts, done.counts
    anew = now.use_s < then.use_s or now.plug_cycles < then.plug_cycles
    if anew and wear.time_ms > done.recorded_ms + _HOUR_MS:
        return now
    energy = None if now.energy_mwh is None else max(0, now.energy_mwh - (then.energy_mwh or 0))
    return WearCounts(
        max(0, now.plug_cycles - then.plug_cycles),
        max(0, now.contactor_operations - then.contactor_operations),
        energy,
        max(0, now.use_s - then.use_s),
        max(0, now.warm_s - then.warm_s),
        max(0, now.hot_s - then.hot_s),
        max(0, now.body_hot_s - then.body_hot_s),
    )


def _weight(code: str) -> float:
    if code in TREND_CODES:
        return TREND_WEIGHT
    fault = FAULTS.get(code)
    return GROUP_WEIGHT.get(fault.group, 1.0) if fault else 1.0


def _of_findings(config: MaintenanceConfig, now_ms: int, findings: Sequence[FindingSeen]) -> list[Reason]:
    """Return a reason for each code: its open finding, else the latest one that was cleared."""
    by_code: dict[str, list[FindingSeen]] = defaultdict(list)
    for finding in findings:
        by_code[finding.code].append(finding)
    reasons = []
    for code, same in sorted(by_code.items()):
        times = sum(max(1, finding.raised_times) for finding in same)
        worst = max(same, key=lambda f: (f.state != "cleared", SEVERITY_POINTS.get(f.severity, 0), f.start))
        points = SEVERITY_POINTS.get(worst.severity, 0.0) * _weight(code) * min(2.0, 0.9 + 0.1 * times)
        fault = FAULTS.get(code)
        text = fault.title if fault else code
        if worst.state == "cleared":
            age_days = (now_ms - (worst.end or worst.start)) / DAY_MS
            points *= 0.5 * max(0.0, 1 - max(0.0, age_days) / config.recent_days)
            text += f" ({worst.severity}, over " + ("today" if age_days < 1 else f"{age_days:.0f} days ago")
        else:
            text += f" ({worst.severity}, open"
        text += f", {times} times)" if times > 1 else ")"
        if points > 0:
            advice = fault.advice if fault else ""
            points = round(points, 1)
            reasons.append(Reason("finding", code, points, text, advice, worst.severity, worst.finding_id))
    return reasons


def _of_wear(
    config: MaintenanceConfig, wear: WearRow | None, inspections: Sequence[InspectionRow]
) -> list[Reason]:
    """Return a reason for each part that is past half of its life; a part replaced begins anew."""
    plug = _since(wear, _new_since("plug", inspections))
    contactor = _since(wear, _new_since("contactor", inspections))
    hot_hours = plug.hot_s / 3600
    lives = (
        ("plug", plug.plug_cycles / config.plug_life_cycles,
         f"{plug.plug_cycles:,} of {config.plug_life_cycles:,} plug cycles",
         "Gauge plug and socket for wear; replace the plug when contacts are loose."),
        ("contactor", contactor.contactor_operations / config.contactor_life_operations,
         f"{contactor.contactor_operations:,} of {config.contactor_life_operations:,} contactor operations",
         "Measure the contactor's voltage drop under load; plan its replacement."),
        ("heat", hot_hours / config.hot_life_hours,
         f"{hot_hours:,.0f} of {config.hot_life_hours:,.0f} hours with a hot plug",
         "Look for discoloured contacts, check terminal torque and ventilation."),
    )  # fmt: skip
    reasons = []
    for part, share, text, advice in lives:
        points = WEAR_POINTS * min(1.5, max(0.0, share - _WATCHED) / (1 - _WATCHED))
        if points > 0:
            reasons.append(Reason("wear", part, round(points, 1), text, advice))
    return reasons


def _new_since(part: str, inspections: Sequence[InspectionRow]) -> InspectionRow | None:
    """Return when `part` was last replaced, None if it never was."""
    return next((row for row in reversed(inspections) if part in WHAT.get(row.what, ())), None)


def visits(found: Sequence[Assessment], most: int) -> list[Assessment]:
    """Return the `most` riskiest EVSEs that have a reason for a visit, grouped by site, the riskiest first.

    A reason is one that is due, or a finding or wear that costs health.
    """
    chosen = [a for a in found if a.due or a.health < 100][:most]
    best: dict[str, int] = {}
    for place, one in enumerate(chosen):
        best.setdefault(one.site, place)
    return sorted(chosen, key=lambda a: best[a.site])


def as_json(one: Assessment) -> dict[str, Any]:
    """Return plain data of an assessment."""
    plain: dict[str, Any] = msgspec.to_builtins(one)
    return plain
