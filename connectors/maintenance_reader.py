"""What maintenance asks the ledger: wear, findings that count, inspections; and the assessment of all."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import and_, or_, select

from models.errors import StorageError
from models.maintenance import DAY_MS, Assessment, EvseKey, FindingSeen, MaintenanceConfig, assess
from models.outputs import InspectionRow, WearCounts, WearRow

from . import _ledger_tables as t
from .ledger_reader import LedgerReader, Row


class MaintenanceReader:
    """Read-only view of a ledger for maintenance. Thread-safe.

    Parameters
    ----------
    ledger : LedgerReader
        Closed by its owner.
    config : MaintenanceConfig
    """

    def __init__(self, ledger: LedgerReader, config: MaintenanceConfig) -> None:
        self._ledger = ledger
        self.config = config

    def assessments(self, now_ms: int, *, site: str = "") -> list[Assessment]:
        """Return every EVSE that the ledger knows (`site` empty: of all sites), the riskiest first.

        Raises
        ------
        DeliveryError, StorageError
            If the ledger cannot be read.
        """
        since_ms = now_ms - round(self.config.recent_days * DAY_MS)
        d, w, i = t.devices.c, t.wear.c, t.inspections.c
        with self._ledger.connected() as db:
            types: dict[EvseKey, str] = {
                (row.site, row.station, int(row.evse)): row.connector_type
                for row in db.execute(
                    _of_site(select(d.site, d.station, d.evse, d.connector_type), d.site, site)
                )
            }
            worn = [_wear(row) for row in db.execute(_of_site(select(t.wear), w.site, site)).mappings()]
            done = _of_site(select(t.inspections), i.site, site)
            inspections = [_inspection(row) for row in db.execute(done).mappings()]
            findings = [
                _finding(row)
                for row in db.execute(_of_site(_counting(since_ms), t.findings.c.site, site)).mappings()
            ]
        return assess(self.config, now_ms, worn, findings, inspections, types)

    def inspections(
        self, limit: int = 100, *, site: str = "", station: str = "", evse: int | None = None
    ) -> list[Row]:
        """Return what was done, the latest first."""
        i = t.inspections.c
        query = select(t.inspections).order_by(i.at_ms.desc(), i.inspection_id, i.evse).limit(limit)
        for column, wanted in ((i.site, site), (i.station, station)):
            query = query.where(column == wanted) if wanted else query
        if evse is not None:
            query = query.where(or_(i.evse == evse, i.evse == 0))
        with self._ledger.connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def find(self, place: str) -> EvseKey:
        """Return the EVSE that ``site/station/evse`` names; site, and a sole EVSE's number, may be left out.

        Raises
        ------
        StorageError
            If the ledger knows no such EVSE, or several.
        """
        w, d = t.wear.c, t.devices.c
        with self._ledger.connected() as db:
            keys = {
                (str(row.site), str(row.station), int(row.evse))
                for columns in (w, d)
                for row in db.execute(select(columns.site, columns.station, columns.evse))
            }
        matching = [key for key in keys if place in _names(key)]
        if len(matching) != 1:
            found = ", ".join("/".join(map(str, key)) for key in sorted(matching)[:5]) or "none"
            raise StorageError(f"{place!r}: expected site/station/evse of one EVSE; the ledger has {found}")
        return matching[0]


def _names(key: EvseKey) -> set[str]:
    site, station, evse = key
    return {f"{site}/{station}/{evse}", f"{station}/{evse}", f"{site}/{station}", station}


def _of_site(query: Any, column: Any, site: str) -> Any:
    return query.where(column == site) if site else query


def _counting(since_ms: int) -> Any:
    """Return the query for findings that are open, or were cleared at or after `since_ms`."""
    f = t.findings.c
    cleared = and_(f.state == "cleared", f.end >= since_ms)
    names = ("finding_id", "code", "severity", "state", "site", "station", "evse", "start", "end", "evidence")
    return select(*(f[name] for name in names)).where(
        f.live,
        f.parent.is_(None),
        f.planned.is_(False),
        f.station.is_not(None),
        or_(f.state != "cleared", cleared),
    )


def _finding(row: Any) -> FindingSeen:
    fields = dict(row)
    times = json.loads(fields.pop("evidence")).get("raised_times", 1)
    return FindingSeen(**fields, raised_times=int(times) if isinstance(times, int | float) else 1)


def _counts(row: Any) -> WearCounts:
    return WearCounts(*(None if row[name] is None else int(row[name]) for name in t.WORN))  # type: ignore[arg-type]


def _wear(row: Any) -> WearRow:
    return WearRow(
        site=row["site"],
        station=row["station"],
        evse=int(row["evse"]),
        time_ms=int(row["time_ms"]),
        first_ms=int(row["first_ms"]),
        counts=_counts(row),
    )


def _inspection(row: Any) -> InspectionRow:
    names = ("inspection_id", "site", "station", "evse", "at_ms", "recorded_ms", "by", "what", "note")
    return InspectionRow(**{name: row[name] for name in names}, counts=_counts(row))
