"""A small fleet in a ledger and the status files of a running service: what the page and /metrics show."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.ledger import Ledger
from connectors.status import status_path, write_status
from models import batch as b
from models.faults import FAULTS
from models.outputs import (
    Account,
    DeviceRow,
    FindingChange,
    InspectionRow,
    IntervalRow,
    LateRow,
    LatestRow,
    RollupRow,
    WearCounts,
    WearRow,
)
from models.records import Dead

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
HOSTILE: Final = "<script>alert(1)</script>"
HOSTILE_TOPIC: Final = f'evt/v1/<img src=x onerror="alert(2)">/{HOSTILE}/up/meter'
SITES: Final = ("alder-depot", "birch-mall", "cedar-office", "dock-street", "elm-hub", "fir-highway")
_STATES: Final = (
    ("Charging", b.STATE_KNOWN | b.OCCUPIED | b.IN_TRANSACTION | b.CHARGING),
    ("Available", b.STATE_KNOWN),
    ("Charging", b.STATE_KNOWN | b.OCCUPIED | b.IN_TRANSACTION | b.CHARGING),
    ("SuspendedEV", b.STATE_KNOWN | b.OCCUPIED | b.IN_TRANSACTION | b.SUSPENDED_EV),
    ("Occupied", b.STATE_KNOWN | b.OCCUPIED),
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """`sites` × `per_site` EVSEs, two at a station; every third site is DC."""

    now_ms: int
    sites: tuple[str, ...] = SITES
    per_site: int = 10
    minutes: int = 58

    def places(self) -> Iterator[tuple[int, str, str, int]]:
        """Yield (running number, site, station, evse)."""
        for s, site in enumerate(self.sites):
            for k in range(self.per_site):
                yield s * self.per_site + k, site, f"{site[:2].upper()}{k // 2 + 1:02d}", k % 2 + 1

    def dc(self, number: int) -> bool:
        """Return whether an EVSE is DC."""
        return number // self.per_site % 3 == 2

    def power_w(self, number: int, at_ms: int) -> float:
        """Return the power of an EVSE at a time."""
        if _STATES[number % len(_STATES)][0] != "Charging":
            return 0.0
        peak = 62_000.0 if self.dc(number) else 10_800.0
        return peak * (0.72 + 0.25 * math.sin(at_ms / 900_000 + number))

    def devices(self) -> list[DeviceRow]:
        """Return the inventory."""
        return [
            DeviceRow(
                site=site, station=station, evse=evse, node=station, vendor="Volta", model="V2", fw="2.4.1",
                connector_type="IEC_62196_T2_COMBO" if self.dc(n) else "IEC_62196_T2",
                u_n_v=920.0 if self.dc(n) else 230.0, phases=3, p_max_w=150_000.0 if self.dc(n) else 11_000.0,
                max_a=200.0 if self.dc(n) else 16.0, dc=self.dc(n), meter_serial=f"m{n}", order=n,
            )
            for n, site, station, evse in self.places()
        ]  # fmt: skip

    def newest(self, number: int, site: str, station: str, evse: int, **kw: Any) -> LatestRow:
        """Return the newest reading of one EVSE."""
        status, state = _STATES[number % len(_STATES)]
        values = {
            "power_w": self.power_w(number, self.now_ms),
            "current_offered_a": 200.0 if self.dc(number) else 16.0,
            "temperature_cable_c": 24.0 + number % 30,
            "temperature_outlet_c": 23.5 + number % 31,
        }
        if self.dc(number):
            values["soc_percent"] = 20.0 + number % 70
        base: dict[str, Any] = {
            "site": site, "station": station, "evse": evse, "status": status, "state": state,
            "reg_mwh": 1_234_567_890 + 1_000_003 * number, "values": values,
            "time_ms": self.now_ms - 1_000 - 100 * (number % 9),
        }  # fmt: skip
        return LatestRow(**(base | kw))

    def wear(self) -> Iterator[WearRow]:
        """Yield what wore of every EVSE; CE03/1 is beyond its plug's life, AL02/1 long in use."""
        for n, site, station, evse in self.places():
            cycles = {("CE03", 1): 10_400, ("AL02", 1): 2_700}.get((station, evse), 11 * n)
            counts = WearCounts(cycles, cycles + 40, 1_000_000_000 + n, 3_600 * (400 + n), 7_200, 3_600, 0)
            first_ms = self.now_ms - (400 if station == "AL02" else 90) * DAY_MS
            yield WearRow(
                site=site, station=station, evse=evse, time_ms=self.now_ms - MINUTE_MS, first_ms=first_ms,
                counts=counts,
            )  # fmt: skip

    def inspection(self, **kw: Any) -> InspectionRow:
        """Return an inspection of the plug that is worn out, half a year ago."""
        base: dict[str, Any] = {
            "inspection_id": "i1", "site": "cedar-office", "station": "CE03", "evse": 1, "what": "cleaned",
            "at_ms": self.now_ms - 180 * DAY_MS, "recorded_ms": self.now_ms - 180 * DAY_MS, "by": "bob",
            "note": "dust in the socket", "counts": WearCounts(9_100, 9_140, 500_000_000, 360_000, 0, 0, 0),
        }  # fmt: skip
        return InspectionRow(**(base | kw))

    def rollups(self) -> Iterator[RollupRow]:
        """Yield the closed minutes before now; a quarter of an hour of them is missing."""
        first = self.now_ms // MINUTE_MS * MINUTE_MS - self.minutes * MINUTE_MS
        for minute in range(self.minutes):
            if 12 <= minute < 22:
                continue
            start = first + minute * MINUTE_MS
            for n, site, station, evse in self.places():
                yield RollupRow(
                    site=site, station=station, evse=evse, start_ms=start, readings=60,
                    power_mean_w=self.power_w(n, start), energy_mwh=1_000_000 + start // 1000,
                )  # fmt: skip


def finding_id(site: str, station: str | None, evse: int | None, code: str) -> str:
    """Return the id of a seeded finding."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{site}/{station}/{evse}/{code}"))


def finding(
    now_ms: int, code: str, site: str, station: str | None, evse: int | None, **kw: Any
) -> FindingChange:
    """Return a raised finding of `code`, with what the catalogue says of it."""
    fault = FAULTS[code]
    started = now_ms - kw.pop("minutes", 5) * MINUTE_MS
    base: dict[str, Any] = {
        "finding_id": finding_id(site, station, evse, code), "site": site,
        "code": code, "scope": fault.scopes[0],
        "node": station, "station": station, "evse": evse, "connector": None, "severity": fault.severity,
        "source": "rule", "state": "raised", "live": True, "planned": False, "raised_at": started + 30_000,
        "start": started, "last": now_ms, "end": None, "score": 1.0, "evidence": {}, "taxonomy": None,
        "advice": fault.advice, "parent": None, "change": 1, "changed_at": started + 30_000, "shard": 0,
        "order": 1,
    }  # fmt: skip
    return FindingChange(**(base | kw))


def findings(now_ms: int) -> list[FindingChange]:
    """Return open, planned, cleared, backlog and consequent findings; one carries hostile text."""
    voltage = {"voltage_mean_v": 201.327, "u_n_v": 230.0, "limit_v": 207.0, "window_s": 600.0, "phase": 2.0}
    current = {"current_a": 18.4, "offered_a": 16.0, "limit_a": 18.1, "duration_s": 9.0, "phase": 1.0}
    trip = {"code": "CX002", "component": "RCD", "variable": "Tripped", "value": "true"}
    rollback = {"fall_wh": 5_000.0, "register_before_wh": 1_294_567.89, "register_after_wh": 1_289_567.89}
    event = finding(now_ms, "site_power_event", "fir-highway", None, None, minutes=2, node=None,
                    evidence={"stations": 5, "stations_affected": 4, "voltage_min_v": 12.0})  # fmt: skip
    return [
        finding(now_ms, "under_voltage", "birch-mall", "BI02", 1, evidence=voltage, minutes=14),
        finding(now_ms, "residual_current_trip", "elm-hub", "EL01", 2, source="station", evidence=trip),
        finding(now_ms, "over_current", "alder-depot", "AL01", 1, minutes=1,
                evidence=current),
        finding(now_ms, "connector_over_temperature", "cedar-office", "CE03", 1, severity="critical",
                evidence={"temperature_c": 101.3, "limit_c": 100.0, "duration_s": 45.0, "sensor": 1.0}),
        finding(now_ms, "register_rollback", "dock-street", "DO04", 2, evidence=rollback, minutes=200),
        finding(now_ms, "offline", "dock-street", "DO05", None, severity="info", planned=True, minutes=90,
                evidence={"reason": "silence", "silent_s": 5_400.0, "last_heard_ms": now_ms - 5_400_000}),
        finding(now_ms, "station_reported", "birch-mall", "BI05", 2, source="station",
                evidence={"code": HOSTILE, "tech_info": "<b>bold</b> " + "x" * 400}, minutes=2_900),
        event,
        *(finding(now_ms, "offline", "fir-highway", f"FI0{k}", None, minutes=2, parent=event.finding_id)
          for k in (1, 2, 3)),
        finding(now_ms, "voltage_dip", "cedar-office", "CE01", 1),
        finding(now_ms, "voltage_dip", "cedar-office", "CE01", 1, state="cleared", end=now_ms, change=2),
        finding(now_ms, "over_voltage", "elm-hub", "EL02", 1, live=False),
    ]  # fmt: skip


def dead_letters(now_ms: int) -> list[Dead]:
    """Return messages that could not be used, hostile ones among them."""
    ns = now_ms * 1_000_000
    return [
        Dead(pos=1, recv_ns=ns - 3_000_000_000, topic=HOSTILE_TOPIC, reason="json",
             detail=f"expected an object, got {HOSTILE}", payload=f'{{"x": "{HOSTILE}"}}'.encode()),
        Dead(pos=2, recv_ns=ns - 90_000_000_000, topic="evt/v1/birch-mall/BI01/up/meter", reason="schema",
             detail="field t: expected epoch ms from 2020 to 2100, got -1", payload=b'{"t": -1}'),
        Dead(pos=3, recv_ns=ns - 5_000_000_000_000, topic="evt/v1/elm-hub/EL01/up/meter.mp",
             reason="messagepack", detail="input data was truncated", payload=b"\xff\x00\x9a\x01" * 50),
    ]  # fmt: skip


def account(now_ms: int, *, first: int = 0, shard: int = 0, **kw: Any) -> Account:
    """Return a journal range that closes."""
    base: dict[str, Any] = {
        "shard": shard, "first": first, "end": first + 48_211, "through_ms": now_ms - 700, "messages": 48_211,
        "decoded": 48_100, "duplicate": 108, "dead": 3, "held": 0, "rows_in": 2_892_660,
        "rows_processed": 2_892_000, "rows_late": 600, "rows_duplicate": 60, "rows_invalid": 0,
    }  # fmt: skip
    return Account(**(base | kw))


def status_files(now_ms: int) -> dict[str, dict[str, Any]]:
    """Return what ingest, two workers, egress and their parent say of themselves while all is well."""
    drained = {"state": "idle", "last_error": "", "lag_records": 0, "delivered": 9_412, "retries": 2}
    running = {"running": True, "restarts": 0, "last_exit": None}
    ingest = {
        "pid": 101, "updated_ns": now_ms * 1_000_000, "clock_behind_ns": 0, "messages": 48_211,
        "bytes": 24_105_500, "commits": 3_120, "last_commit_ns": now_ms * 1_000_000, "trimmed": 0,
        "storage_full": False, "waiting_messages": 4, "waiting_bytes": 2_000, "connected": 1, "receivers": 1,
        "in_flight": 6, "acked": 48_205, "stale_acks": 0, "oversize": 1, "reconnects": 2, "last_error": "",
    }  # fmt: skip
    worker = {
        "written_ms": now_ms, "shards": [0, 2], "uptime_s": 3_605.2, "lag_messages": 212,
        "outbox_last": 9_412, "shed_bytes": 0, "rss_mb": 312.4,
    }  # fmt: skip
    return {
        "ingest": ingest,
        "worker-00": worker | {"pid": 102},
        "worker-01": worker | {"pid": 103, "shards": [1, 3], "lag_messages": 188, "rss_mb": 298.1},
        "egress": {
            "pid": 104, "started_ms": now_ms - 3_600_000, "updated_ms": now_ms, "dead_letters": 0,
            "consumers": {c: drained | {"dead_letters": 0} for c in ("influx", "ledger", "mqtt")},
            "outboxes": {}, "closing": None,
        },
        "supervisor": {
            "ingest": running | {"pid": 101}, "worker-00": running | {"pid": 102, "restarts": 1},
            "worker-01": running | {"pid": 103}, "egress": running | {"pid": 104},
            "api": running | {"pid": 105},
        },
    }  # fmt: skip


@dataclass(slots=True)
class Seeded:
    """A ledger and a data folder, both filled.

    Attributes
    ----------
    folder : Path
        Data folder.
    fleet : Fleet
    ledger : Ledger
        Open for writing; apply more to it to see it on the page.
    """

    folder: Path
    fleet: Fleet
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.url)

    @property
    def url(self) -> str:
        """Address of the ledger."""
        return f"sqlite:///{self.folder / 'ledger.sqlite'}"

    def apply(self, stream: str, *records: Any) -> None:
        """Write records of one stream."""
        self.ledger.apply(stream, [(0, msgspec.msgpack.encode(list(records)))])

    def statuses(self, changes: dict[str, dict[str, Any]] | None = None) -> None:
        """Write the status files, with the changes to some of them."""
        for name, status in status_files(self.fleet.now_ms).items():
            write_status(self.folder, name, status | (changes or {}).get(name, {}))

    def age(self, process: str, seconds: float) -> None:
        """Let a status file look as if it had been written that long ago."""
        then = self.fleet.now_ms / 1000 - seconds
        os.utime(status_path(self.folder, process), (then, then))


def seed(folder: Path, fleet: Fleet) -> Seeded:
    """Fill a ledger with `fleet` and all else that the page shows; close it with ``ledger.close()``."""
    folder.mkdir(parents=True, exist_ok=True)
    seeded = Seeded(folder, fleet)
    now_ms = fleet.now_ms
    seeded.apply("devices", *fleet.devices())
    seeded.apply("latest", *(fleet.newest(*place) for place in fleet.places()))
    seeded.apply("rollups", *fleet.rollups())
    seeded.apply("wear", *fleet.wear())
    seeded.apply("inspections", fleet.inspection())
    for change in findings(now_ms):
        seeded.apply("findings", change)
    seeded.apply("dead", *dead_letters(now_ms))
    quarter = now_ms // 900_000 * 900_000
    place: dict[str, Any] = {"site": SITES[0], "station": "AL01", "evse": 1}
    energies = ((2_500_000, "measured"), (2_400_500, "interpolated"), (None, "missing"))
    for k, (energy_mwh, quality) in enumerate(energies):
        start_ms = quarter - k * 900_000
        row = IntervalRow(**place, start_ms=start_ms, energy_mwh=energy_mwh, quality=quality, revision=1)
        seeded.apply("intervals", row)
    late = LateRow(**place, shard=0, order=9, first_ms=now_ms - 9_000, last_ms=now_ms - 8_000, count=7)
    seeded.apply("late", late)
    seeded.apply("account", account(now_ms))
    seeded.statuses()
    return seeded
