"""What the dashboards are tried on: a week of two sites, written by the encoders that the service uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from models.batch import ReadingBatch
from models.campaign_rows import CampaignProgress
from models.channels import CHANNEL_ID, CHANNELS
from models.devices import DeviceTable
from models.load_lines import load_lines
from models.load_rows import LoadRow
from models.outputs import CdrRow, FindingAction, FindingChange, IntervalRow, RollupRows
from models.points import PointEncoder, action_lines, campaign_lines
from models.schema import MEASUREMENTS
from models.units import NS_PER_MS
from pipeline.egress_health import health_lines

#: Names with everything that Grafana and InfluxDB have to escape.
TAGS: Final = ("campaign", "code", "component", "evse", "node", "part", "process", "scope", "site", "station")
SITES: Final = {"north": ("N.1", "N 2"), "süd/2": ("S(1)", "S+2")}
EVSES: Final = (1, 2)
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MINUTE_MS: Final = 60_000
QUARTER_MS: Final = 15 * MINUTE_MS
#: Mean power of EVSE 1 and 2 of every station, W: one charges, one idles.
POWER_W: Final = (11_000.0, 40.0)
QUARTER_MWH: Final = 2_750_000
_WORDS: Final = ("voltage", "current", "soc", "temperature", "frequency", "power")
_VALUES: Final = {"voltage": 231.5, "current": 15.9, "soc": 63.0, "temperature": 41.5, "frequency": 50.01}


def device_table() -> DeviceTable:
    """Return the table of all EVSEs."""
    devices = DeviceTable()
    for site, stations in SITES.items():
        row = devices.site(site)
        for station in stations:
            node = devices.node(row, station)
            for evse in EVSES:
                devices.evse(devices.station(row, station, node), evse, node)
    return devices


def _value(field: str, evse: int) -> float:
    word = next((word for word in _WORDS if field.startswith(word)), "")
    return POWER_W[evse % 2] if word == "power" else _VALUES.get(word, 1.0)


def _rollups(devices: DeviceTable, period_s: int, from_ms: int, to_ms: int) -> RollupRows:
    """Return the closed windows of [from, to)."""
    period_ms = period_s * 1000
    starts = np.arange(from_ms - from_ms % period_ms, to_ms - period_ms, period_ms, dtype=np.int64)
    n, evses = len(starts), devices.n_evses
    spec = MEASUREMENTS["ev_1m" if period_s == 60 else "ev_15m"]
    fields = tuple(f.name for f in spec.fields if f.name not in {"readings", "energy_import_wh"})
    values = np.array([np.repeat([_value(f, e) for e in range(evses)], n) for f in fields])
    return RollupRows(
        period_s=period_s,
        evse=np.repeat(np.arange(evses, dtype=np.int32), n),
        start_ns=np.tile(starts, evses) * NS_PER_MS,
        count=np.full(n * evses, 6, np.int64),
        energy_mwh=np.tile((starts - from_ms) // MINUTE_MS * 183_333, evses),
        fields=fields,
        values=values,
    )


def _readings(devices: DeviceTable, from_ms: int, to_ms: int) -> ReadingBatch:
    channels = tuple(
        CHANNEL_ID[name] for name in ("Power.Active.Import", "x.CP.V", "x.Residual.DC", "x.RSSI")
    )
    times = np.arange(from_ms, to_ms, 30_000, dtype=np.int64)
    rows = ReadingBatch.empty(len(times) * devices.n_evses, channels)
    rows.evse[:] = np.repeat(np.arange(devices.n_evses), len(times))
    rows.time_ns[:] = np.tile(times, devices.n_evses) * NS_PER_MS
    for slot, channel in enumerate(channels):
        rows.values[slot] = _value(CHANNELS[channel].field, 0)
    return rows


def _intervals(devices: DeviceTable, from_ms: int, to_ms: int) -> Iterator[IntervalRow]:
    for evse in range(devices.n_evses):
        site, station, number = devices.names(evse)
        first = from_ms - from_ms % QUARTER_MS
        for i, start in enumerate(range(first, to_ms - QUARTER_MS, QUARTER_MS)):
            quality = {0: "interpolated", 1: "estimated", 2: "missing"}.get(i % 8, "measured")
            yield IntervalRow(
                site=site,
                station=station,
                evse=number,
                start_ms=start,
                energy_mwh=None if quality == "missing" else QUARTER_MWH,
                quality=quality,
                revision=1,
            )


def finding(code: str, at_ms: int, **fields: Any) -> FindingChange:
    """Return a finding change of EVSE 1 of the first station of each dashboard's first site."""
    base: dict[str, Any] = {
        "finding_id": f"{code}-1", "code": code, "scope": "evse", "site": "north", "node": "N.1",
        "station": "N.1", "evse": 1, "connector": None, "severity": "warning", "source": "rule",
        "state": "raised", "live": True, "planned": False, "raised_at": at_ms, "start": at_ms - 30_000,
        "last": at_ms, "end": None, "score": 1.0, "evidence": {"voltage_l1_v": 201.2, "limit_v": 207.0},
        "taxonomy": None, "advice": "", "parent": None, "change": 1, "changed_at": at_ms, "shard": 0,
        "order": at_ms // 1000,
    }  # fmt: skip
    return FindingChange(**(base | fields))


def findings(now_ms: int) -> list[FindingChange]:
    """Return changes that leave open: 2 critical, 1 warning, 1 info; one of them at the other site."""
    ago = {hours: now_ms - hours * HOUR_MS for hours in range(1, 6)}
    nobody: dict[str, Any] = {"scope": "site", "node": None, "station": None, "evse": None}
    return [
        finding("connector_over_temperature", ago[3]),
        finding("connector_over_temperature", ago[2], state="updated", severity="critical", change=2),
        finding("under_voltage", ago[4]),
        finding("under_voltage", ago[1], state="cleared", end=ago[1], change=2),
        finding("over_current", ago[1]),
        finding("voltage_dip", ago[2], live=False, severity="critical"),
        finding("offline", ago[2], scope="node", evse=None, severity="info", planned=True),
        finding("site_power_event", ago[1], site="süd/2", severity="critical", **nobody),
    ]


def bills(now_ms: int) -> list[CdrRow]:
    """Return bills of both sites, and one of each that was taken back."""
    made = []
    sums = (("north", 12.5), ("süd/2", 7.25), ("north", -2.5), ("süd/2", -7.25))
    for i, (site, total) in enumerate(sums):
        station = SITES[site][0]
        body = {
            "currency": "EUR", "total_energy": 20.5, "cdr_location": {"evse_uid": f"{station}-1"},
            "total_cost": {"excl_vat": total / 1.19, "incl_vat": total},
        }  # fmt: skip
        made.append(
            CdrRow(
                id=f"bill-{i}", revision=1, site=site, station=station, transaction_id=f"t{i}",
                credit=total < 0,
                credit_reference_id=None, ocpi_version="2.2.1", last_updated_ms=now_ms - (4 - i) * HOUR_MS,
                body=json.dumps(body),
            )
        )  # fmt: skip
    return made


def actions(now_ms: int) -> list[FindingAction]:
    """Return an acknowledgement 10 min after its finding was raised again, and a comment."""
    about: dict[str, Any] = {
        "finding_id": "over_current-1", "site": "north", "by": "ann", "to": None, "until": None, "text": None,
        "at": now_ms - HOUR_MS + 600_000,
    }  # fmt: skip
    return [FindingAction(action=action, action_id=action, **about) for action in ("ack", "comment")]


def health(now_ms: int) -> Iterator[bytes]:
    """Yield an hour of the pipeline's own points, as the egress process writes them, with a restart."""
    for i, at_ms in enumerate(range(now_ms - HOUR_MS, now_ms, 10_000)):
        drains: list[Any] = [
            SimpleNamespace(
                sink=SimpleNamespace(name=name),
                outbox=Path(f"{part}.db"),
                state=SimpleNamespace(lag=lambda: 5, delivered=i % 180 * 20, retries=i % 180),
            )
            for name in ("influx", "ledger", "mqtt")
            for part in ("worker-0", "worker-1")
        ]
        total = 1000 + i * 100
        closing = {
            "messages": {"total": total, "decoded": total - 16, "duplicate": 10, "dead": 4, "held": 2},
            "rows": {
                "in": total * 60,
                "processed": total * 60 - 60,
                "late": 30,
                "duplicate": 20,
                "invalid": 10,
            },
            "closes": True,
            "through_ms": at_ms - 1500,
        }
        letters = {"influx": 3, "ledger": 0, "mqtt": 1}
        yield health_lines(drains, letters, closing, at_ms * NS_PER_MS)


def campaigns(now_ms: int) -> Iterator[CampaignProgress]:
    """Yield two campaigns over six hours, the first with a gate."""
    for minute in range(360):
        at_ms = now_ms - 6 * HOUR_MS + minute * MINUTE_MS
        counts = {"succeeded": minute, "installing": 3, "failed": 1, "due": 4, "waiting": 360 - minute}
        yield CampaignProgress("winter-2", at_ms, "running", minute // 100, counts, -0.2)
        yield CampaignProgress("pilot", at_ms, "paused", -1, {"waiting": 20}, None)


def loads(now_ms: int) -> Iterator[LoadRow]:
    """Yield six hours of minutes of two managed sites, the first with a limit of its demand."""
    for minute_ms in range(now_ms // 60_000 * 60_000 - 6 * 3_600_000, now_ms, 60_000):
        for number, site in enumerate(SITES):
            yield LoadRow(
                site=site,
                start_ms=minute_ms,
                limit_a=(200.0, 200.0, 200.0),
                current_a=(80.0, 81.0, 79.0),
                other_a=(20.0, 20.0, 20.0),
                held_a=(90.0, 90.0, 90.0),
                ev_kw=40.0,
                site_kw=55.0,
                quarter_kwh=10.0,
                projected_kw=54.0,
                peak_kw=60.0,
                demand_limit_kw=125.0 if number == 0 else None,
                charging=6,
                waiting=2,
                lost=1,
                commands=4,
            )


def lines(now_ms: int) -> Iterator[bytes]:
    """Yield all points: minutes of 7 h, quarters of 8 days, readings of one hour, findings, health."""
    devices = device_table()
    encoder = PointEncoder(devices)
    yield encoder.rollups(_rollups(devices, 60, now_ms - 7 * HOUR_MS, now_ms))
    yield encoder.rollups(_rollups(devices, 900, now_ms - 8 * DAY_MS, now_ms))
    yield encoder.readings(_readings(devices, now_ms - HOUR_MS, now_ms))
    yield encoder.intervals(list(_intervals(devices, now_ms - 8 * DAY_MS, now_ms)))
    yield encoder.findings(findings(now_ms))
    yield encoder.bills(bills(now_ms))
    yield action_lines(
        actions(now_ms), {c.finding_id: (c.code, c.site, c.raised_at) for c in findings(now_ms)}
    )
    yield b"".join(health(now_ms))
    yield campaign_lines(list(campaigns(now_ms)))
    yield load_lines(list(loads(now_ms)))
