"""Outbox records for tests of the ledger and the egress, and a dump of every table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import create_engine, select

from connectors import _ledger_tables as t
from models.outputs import (
    Account,
    CdrRow,
    DeviceRow,
    FindingChange,
    IntervalRow,
    LateRow,
    LatestRow,
    RollupRow,
    SessionRow,
    TariffRow,
)
from models.records import Dead

Record = tuple[str, int, bytes]
QUARTER_MS = 900_000

#: Where a test that is not about durability keeps its files: in memory, where a commit costs nothing.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def blob(*records: Any) -> bytes:
    return msgspec.msgpack.encode(list(records))


def interval(evse: int = 1, quarter: int = 0, revision: int = 1, **kw: Any) -> IntervalRow:
    base: dict[str, Any] = {
        "site": "depot", "station": "cs1", "evse": evse, "start_ms": quarter * QUARTER_MS,
        "energy_mwh": 1_000 * evse + quarter * 10 + revision, "quality": "measured", "revision": revision,
    }  # fmt: skip
    return IntervalRow(**(base | kw))


def change(number: int = 1, **kw: Any) -> FindingChange:
    base: dict[str, Any] = {
        "finding_id": "f1", "code": "under_voltage", "scope": "evse", "site": "depot", "node": "cs1",
        "station": "cs1", "evse": 1, "connector": None, "severity": "warning", "source": "rule",
        "state": ["raised", "updated", "cleared"][min(number, 3) - 1], "live": True, "planned": False,
        "raised_at": 1_000, "start": 900, "last": 1_000 + number, "end": 5_000 if number > 2 else None,
        "score": 1.0, "evidence": {"voltage_v": 204.5}, "taxonomy": None, "advice": "check the feeder",
        "parent": None, "change": number, "changed_at": 1_000 + number, "shard": 0, "order": number,
    }  # fmt: skip
    return FindingChange(**(base | kw))


def device(order: int = 1, **kw: Any) -> DeviceRow:
    base: dict[str, Any] = {
        "site": "depot", "station": "cs1", "evse": 1, "node": "cs1", "vendor": "acme", "model": "x",
        "fw": f"1.{order}", "connector_type": "IEC_62196_T2", "u_n_v": 230.0, "phases": 3,
        "p_max_w": 11_000.0, "max_a": 16.0, "dc": False, "meter_serial": "m1", "order": order,
    }  # fmt: skip
    return DeviceRow(**(base | kw))


def newest(time_ms: int = 1_000, **kw: Any) -> LatestRow:
    base: dict[str, Any] = {
        "site": "depot", "station": "cs1", "evse": 1, "time_ms": time_ms, "status": "Occupied", "state": 3,
        "reg_mwh": time_ms, "values": {"power_w": 7_000.0 + time_ms},
    }  # fmt: skip
    return LatestRow(**(base | kw))


def rollup(minute: int = 0, evse: int = 1, **kw: Any) -> RollupRow:
    base: dict[str, Any] = {
        "site": "depot", "station": "cs1", "evse": evse, "start_ms": minute * 60_000, "readings": 6,
        "power_mean_w": 100.0 * evse, "energy_mwh": None,
    }  # fmt: skip
    return RollupRow(**(base | kw))


def session(revision: int = 1, **kw: Any) -> SessionRow:
    base: dict[str, Any] = {
        "site": "depot", "station": "cs1", "evse": 1, "connector": 1, "transaction_id": "tx1",
        "revision": revision, "start_ms": 1_000, "end_ms": 3_601_000, "energy_mwh": 11_000_000 + revision,
        "begin_mwh": 0, "end_mwh": 11_000_000 + revision, "state": "complete", "flags": (),
        "token_type": "ISO14443", "token_hash": "h1", "body": {"revision": revision},
    }  # fmt: skip
    return SessionRow(**(base | kw))


def cdr(id: str = "c1", **kw: Any) -> CdrRow:
    base: dict[str, Any] = {
        "id": id, "revision": 1, "site": "depot", "station": "cs1", "transaction_id": "tx1", "credit": False,
        "credit_reference_id": None, "ocpi_version": "2.2.1", "last_updated_ms": 5_000,
        "body": '{"id":"' + id + '"}',
    }  # fmt: skip
    return CdrRow(**(base | kw))


def tariff(updated_ms: int = 1, **kw: Any) -> TariffRow:
    base: dict[str, Any] = {
        "country_code": "DE", "party_id": "ABC", "id": "t1", "ocpi_version": "2.2.1",
        "last_updated_ms": updated_ms, "body": '{"n":' + str(updated_ms) + "}",
    }  # fmt: skip
    return TariffRow(**(base | kw))


def late(order: int = 1) -> LateRow:
    return LateRow(shard=0, order=order, site="depot", station="cs1", evse=1, first_ms=1, last_ms=2, count=3)


def dead(pos: int = 1, detail: str = "not JSON") -> Dead:
    return Dead(pos=pos, recv_ns=pos, topic="a/b", reason="json", detail=detail, payload=b"\xff{")


def account(first: int, end: int, shard: int = 0, held: int = 0, **kw: Any) -> Account:
    n = end - first
    base: dict[str, Any] = {
        "shard": shard, "first": first, "end": end, "through_ms": end, "messages": n, "decoded": n,
        "duplicate": 0, "dead": 0, "held": held, "rows_in": 2 * n, "rows_processed": 2 * n, "rows_late": 0,
        "rows_duplicate": 0, "rows_invalid": 0,
    }  # fmt: skip
    return Account(**(base | kw))


def dump(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, sorted; without `changed`, which tells in what order rows came."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as db:
        found = {
            table.name: sorted(
                (tuple(row) for row in db.execute(select(*(c for c in table.c if c.name != "changed")))),
                key=repr,
            )
            for table in t.metadata.sorted_tables
        }
    engine.dispose()
    return found
