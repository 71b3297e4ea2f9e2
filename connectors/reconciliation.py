"""Do sessions, registers and grid meters agree? Energy of a period by site and grid connection.

Registers are the intervals of all meter points. A session that runs over a border of the period counts with
the part that its registers say lies inside. What flowed in no session is `unassigned`; what a grid meter
shows beyond the registers behind it is loss, and whatever else hangs on the connection.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from models.errors import ConfigError
from models.units import wh_text

from . import _ledger_billing as b
from .billing_reader import BillingReader, Choice, Row, decoded

_STATES: Final = {"complete": "billed", "credited": "billed", "review": "review"}
_SUMS: Final = (
    "registers_mwh", "billed_mwh", "review_mwh", "running_mwh", "unassigned_mwh", "sessions", "reviews",
    "running", "unknown", "crossing", "quarters_missing",
)  # fmt: skip


def reconcile(reader: BillingReader, choice: Choice) -> list[Row]:
    """Return a row for each site in the period of `choice`; energies are mWh.

    ``billed``, ``review`` and ``running`` are sessions by state; ``unknown`` counts those whose energy is not
    known, ``crossing`` those that run over a border of the period. ``peak_w`` is the highest quarter hour.

    Raises
    ------
    ConfigError
        If the period has no begin or no end.
    """
    if choice.from_ms is None or choice.until_ms is None:
        raise ConfigError("reconciliation: a period is needed, from and until")
    rows: dict[str, Row] = {}
    for quarter in reader.quarters(choice, 10_000_000):
        row = rows.setdefault(quarter["site"], _empty(quarter["site"]))
        energy = quarter["energy_mwh"] or 0
        row["registers_mwh"] += energy
        row["quarters_missing"] += quarter["evses_missing"]
        if energy * 4 > row["peak_mw"]:
            row["peak_mw"], row["peak_start_ms"] = energy * 4, quarter["start_ms"]
    for session in _sessions(reader, choice):
        row = rows.setdefault(session["site"], _empty(session["site"]))
        _add(row, session, choice.from_ms, choice.until_ms)
    return [_closed(rows[site]) for site in sorted(rows)]


def _empty(site: str) -> Row:
    return {"site": site} | dict.fromkeys(_SUMS, 0) | {"peak_mw": 0, "peak_start_ms": None}


def _closed(row: Row) -> Row:
    sessions = row["billed_mwh"] + row["review_mwh"] + row["running_mwh"]
    peak = row.pop("peak_mw")
    return row | {"unassigned_mwh": row["registers_mwh"] - sessions, "peak_w": wh_text(peak)}


def _sessions(reader: BillingReader, choice: Choice) -> Iterable[Row]:
    c = b.sessions.c
    conditions = [c.start_ms.is_not(None), c.start_ms < choice.until_ms]
    conditions.append((c.end_ms.is_(None)) | (c.end_ms > choice.from_ms))
    if choice.sites is not None:
        conditions.append(c.site.in_(choice.sites))
    if choice.site:
        conditions.append(c.site == choice.site)
    for row in reader.rows(b.sessions, *conditions):
        yield decoded(row)


def _add(row: Row, session: Row, from_ms: int, until_ms: int) -> None:
    kind = _STATES.get(session["state"], "running")
    row["sessions"] += 1
    row["reviews"] += kind == "review"
    row["running"] += kind == "running"
    start, end, energy = session["start_ms"], session["end_ms"], session["energy_mwh"]
    if energy is None or end is None:
        row["unknown"] += 1
        return
    if start < from_ms or end > until_ms:
        row["crossing"] += 1
        energy = _inside(session, from_ms, until_ms)
    row[f"{kind}_mwh"] += energy


def _inside(session: Row, from_ms: int, until_ms: int) -> int:
    """Return the energy of a session within a period, by its registers."""
    begin, whole = session["begin_mwh"] or 0, session["energy_mwh"]
    points = [(session["start_ms"], 0)]
    for time_ms, text in session["body"].get("registers", []):
        counted = int(Decimal(text) * 1000) - begin
        if points[-1][0] < time_ms < session["end_ms"] and points[-1][1] <= counted <= whole:
            points.append((time_ms, counted))
    points.append((session["end_ms"], whole))
    return _at(points, until_ms) - _at(points, from_ms)


def _at(points: list[tuple[int, int]], time_ms: int) -> int:
    if time_ms <= points[0][0]:
        return points[0][1]
    for (t0, e0), (t1, e1) in pairwise(points):
        if time_ms <= t1:
            return e0 + (e1 - e0) * (time_ms - t0) // (t1 - t0) if t1 > t0 else e1
    return points[-1][1]


def connections(
    reader: BillingReader, choice: Choice, named: Mapping[str, tuple[tuple[str, ...], str]]
) -> list[Row]:
    """Return a row for each grid connection: registers, peak of all its sites together, grid meter, loss.

    Parameters
    ----------
    named : mapping of name to (sites, file of the grid meter)
        The file is CSV with ``start`` (epoch ms, or ISO 8601 with offset) and ``energy_wh`` or
        ``energy_kwh`` of each quarter hour; empty: there is no meter.
    """
    assert choice.from_ms is not None
    assert choice.until_ms is not None
    out = []
    for name, (sites, file) in named.items():
        sums: dict[int, int] = {}
        for site in sites:
            own = Choice(choice.sites, site, from_ms=choice.from_ms, until_ms=choice.until_ms)
            for quarter in reader.quarters(own, 10_000_000):
                sums[quarter["start_ms"]] = sums.get(quarter["start_ms"], 0) + (quarter["energy_mwh"] or 0)
        total = sum(sums.values())
        peak = max(sums.items(), key=lambda item: (item[1], -item[0]), default=(None, 0))
        row: Row = {"connection": name, "sites": list(sites), "registers_mwh": total}
        row |= {"peak_w": wh_text(4 * peak[1]), "peak_start_ms": peak[0]}
        if file:
            grid = read_grid(Path(file), choice.from_ms, choice.until_ms)
            energy = sum(grid.values())
            loss = energy - total
            row |= {"grid_mwh": energy, "loss_mwh": loss, "grid_quarters": len(grid)}
            row["loss_share"] = round(loss / energy, 6) if energy else None
            row["grid_peak_w"] = wh_text(4 * max(grid.values(), default=0))
        out.append(row)
    return out


def read_grid(path: Path, from_ms: int, until_ms: int) -> dict[int, int]:
    """Return the energy of a grid meter by start of the quarter hour, mWh, of those inside a period.

    Raises
    ------
    ConfigError
        If the file cannot be read; names the line.
    """
    found: dict[int, int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                start, energy = _grid_row(row, f"{path}, line {number}")
                if from_ms <= start < until_ms:
                    if start in found and found[start] != energy:
                        raise ConfigError(
                            f"{path}, line {number}: another energy of a quarter hour that was there"
                        )
                    found[start] = energy
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    return found


def _grid_row(row: Mapping[str, Any], where: str) -> tuple[int, int]:
    text = str(row.get("start") or "")
    try:
        if text.isdigit():
            start = int(text)
        else:
            time = dt.datetime.fromisoformat(text)
            if time.tzinfo is None:
                raise ValueError("without offset")
            start = int(time.timestamp()) * 1000
        factor, value = (1000, row["energy_wh"]) if row.get("energy_wh") else (10**6, row["energy_kwh"])
        energy = Decimal(str(value)) * factor
        if not energy.is_finite() or energy != energy.to_integral_value():
            raise ValueError("no whole mWh")
    except (ValueError, KeyError, InvalidOperation) as error:
        raise ConfigError(
            f"{where}: {error}; expected start (epoch ms or ISO 8601 with offset) and energy_wh or energy_kwh"
        ) from error
    return start, int(energy)
