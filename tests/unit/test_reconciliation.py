"""Sessions against registers against the grid meter, and the sums that months are made of."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from connectors.billing_reader import BillingReader, Choice
from connectors.ledger import Ledger
from connectors.reconciliation import connections, read_grid, reconcile
from models.errors import ConfigError
from pipeline.cli import main

from ._ledger_records import blob, cdr, interval, session

QUARTER = 900_000
DAY = 96 * QUARTER


MONTH = "site, month, start_ms, end_ms, time_zone"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    yield opened
    opened.close()


def test_sums_of_sites_follow_every_revision_in_any_order(url: str, ledger: Ledger, seed: int) -> None:
    rng = random.Random(seed)
    rows = [
        interval(
            rng.randrange(1, 4), rng.randrange(6), site=rng.choice(("depot", "mall")),
            revision=rng.randrange(4),
            energy_mwh=rng.choice((None, rng.randrange(1000))),
        )
        for _ in range(200)
    ]  # fmt: skip
    months = [(s, m, a * QUARTER, b * QUARTER, "UTC")
              for s in ("depot", "mall") for m, a, b in (("0001", 0, 3), ("0002", 3, 5))]  # fmt: skip
    for start in range(0, len(rows), 23):
        if start == 23 * 4:
            with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
                db.executemany(f"INSERT INTO site_months ({MONTH}) VALUES (?, ?, ?, ?, ?)", months)
        part = rows[start : start + 23]
        ledger.apply("intervals", [(0, blob(*part))])
        ledger.apply("intervals", [(0, blob(*part[:7]))])
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        sums = """SELECT site, start_ms, coalesce(sum(energy_mwh), 0), count(*),
            sum(energy_mwh IS NULL), max(revision) FROM intervals GROUP BY site, start_ms ORDER BY 1, 2"""
        kept = db.execute("SELECT * FROM site_quarters ORDER BY site, start_ms").fetchall()
        assert kept == db.execute(sums).fetchall()
        by_month = db.execute("SELECT * FROM v_energy_month_site ORDER BY site, month").fetchall()
        assert by_month == _months(kept, months)
        # a ledger of before has intervals and no sums: they are filled in
        db.execute("DROP TABLE site_quarters")
        db.execute("DROP VIEW v_energy_month_site")
        noted = db.execute(f"SELECT {MONTH} FROM site_months").fetchall()
        db.execute("DROP TABLE site_months")
        db.execute(f"CREATE TABLE site_months ({MONTH}, PRIMARY KEY (site, month))")
        db.executemany("INSERT INTO site_months VALUES (?, ?, ?, ?, ?)", noted)
        db.execute("DROP TRIGGER site_quarters_added")
        db.execute("UPDATE ledger_meta SET value = '2' WHERE name = 'schema_version'")
    ledger.close()
    Ledger(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        assert db.execute("SELECT * FROM site_quarters ORDER BY site, start_ms").fetchall() == kept
        query = "SELECT * FROM v_energy_month_site ORDER BY site, month"
        assert db.execute(query).fetchall() == by_month


def _months(quarters: list[Any], months: list[Any]) -> list[tuple[Any, ...]]:
    """Return what the months of sites must say, from the quarter hours of sites."""
    found = []
    for site, month, begin, end, zone in months:
        mine = [q for q in quarters if q[0] == site and begin <= q[1] < end]
        known = [(q[2], -q[1]) for q in mine if q[3] > q[4]]
        peak, at = max(known, default=(None, None))
        energy = f"{sum(e for e, _ in known) / 1000:.3f}" if known else None
        found.append((
            site, month, zone, energy, sum(q[3] for q in mine), sum(q[4] for q in mine),
            None if peak is None else f"{4 * peak / 1000:.3f}", None if at is None else -at,
        ))  # fmt: skip
    return [row for row in found if row[4]]


def filled(ledger: Ledger) -> None:
    """A day of a site with two EVSEs: 100 mWh each quarter hour at EVSE 1, 10 at EVSE 2, 500 at noon."""
    rows = [interval(1, q, energy_mwh=600 if q == 48 else 100) for q in range(96)]
    rows += [interval(2, q, energy_mwh=10) for q in range(95)]
    rows.append(interval(2, 95, energy_mwh=None, quality="missing"))
    ledger.apply("intervals", [(0, blob(*rows))])

    def tx(name: str, start: int, end: int | None, energy: int | None, **more: Any) -> Any:
        known: dict[str, Any] = {"start_ms": start, "end_ms": end, "energy_mwh": energy, "begin_mwh": 1_000}
        known["end_mwh"] = None if energy is None else 1_000 + energy
        return session(1, transaction_id=name, **(known | more))

    registers = [[DAY - QUARTER, "1.700"], [DAY, "1.900"]]
    ledger.apply("sessions", [(0, blob(
        tx("whole", QUARTER, 3 * QUARTER, 200),
        tx("doubt", 4 * QUARTER, 5 * QUARTER, 100, state="review"),
        tx("over", DAY - 2 * QUARTER, DAY + 2 * QUARTER, 1_500, body={"registers": registers}),
        tx("runs", DAY - QUARTER, None, None, state="open"),
        tx("next", DAY, DAY + QUARTER, 77),
    ))])  # fmt: skip


def test_what_is_billed_waits_and_is_left_adds_up_to_the_registers(url: str, ledger: Ledger) -> None:
    filled(ledger)
    reader = BillingReader(url)
    [row] = reconcile(reader, Choice(from_ms=0, until_ms=DAY))
    assert row["registers_mwh"] == 96 * 100 + 500 + 95 * 10
    # the session over midnight counts with what its registers say: 900 of 1500
    assert (row["billed_mwh"], row["review_mwh"], row["running_mwh"]) == (200 + 900, 100, 0)
    assert row["unassigned_mwh"] == row["registers_mwh"] - 1_200
    counts = {name: row[name] for name in ("sessions", "reviews", "running", "unknown", "crossing")}
    assert counts == {"sessions": 4, "reviews": 1, "running": 1, "unknown": 1, "crossing": 1}
    assert (row["quarters_missing"], row["peak_w"], row["peak_start_ms"]) == (1, "2.44", 48 * QUARTER)
    [after] = reconcile(reader, Choice(from_ms=DAY, until_ms=2 * DAY))
    assert after["billed_mwh"] == 600 + 77
    assert reconcile(reader, Choice(("mall",), from_ms=0, until_ms=DAY)) == []
    with pytest.raises(ConfigError, match="a period is needed"):
        reconcile(reader, Choice())
    reader.close()


def test_a_grid_meter_shows_what_is_lost_and_the_peak_of_all_sites_together(
    url: str, ledger: Ledger, tmp_path: Path
) -> None:
    filled(ledger)
    ledger.apply("intervals", [(0, blob(*(interval(1, q, site="mall", energy_mwh=50) for q in (10, 48))))])
    grid = tmp_path / "grid.csv"
    grid.write_text("start,energy_wh\n" + "".join(f"{q * QUARTER},0.120\n" for q in range(97)))
    reader = BillingReader(url)
    named = {"north": (("depot", "mall"), str(grid)), "south": (("mall",), "")}
    north, south = connections(reader, Choice(from_ms=0, until_ms=DAY), named)
    reader.close()
    assert north["registers_mwh"] == 96 * 100 + 500 + 950 + 100
    assert (north["grid_mwh"], north["grid_quarters"]) == (96 * 120, 96)
    assert north["loss_mwh"] == 96 * 120 - north["registers_mwh"]
    assert (north["peak_w"], north["peak_start_ms"]) == ("2.64", 48 * QUARTER)
    assert south == {
        "connection": "south", "sites": ["mall"], "registers_mwh": 100, "peak_w": "0.2",
        "peak_start_ms": 10 * QUARTER,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("start,energy_wh\nnoon,1\n", "line 2"),
        ("start,energy_wh\n2026-01-01T00:00:00,1\n", "without offset"),
        ("start,energy_wh\n0,1.00001\n", "no whole mWh"),
        ("start\n0\n", "energy_kwh"),
        ("start,energy_wh\n0,1\n0,2\n", "line 3: another energy"),
    ],
)
def test_a_grid_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "grid.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_grid(file, 0, DAY)
    file.write_text("start,energy_kwh\n1970-01-01T01:00:00+01:00,0.0005\n")
    assert read_grid(file, 0, DAY) == {0: 500}


def test_commands_compare_and_export(
    url: str, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(ledger)
    ledger.note_months({}, "UTC")
    assert main(["reconcile", "--month", "1970-01", "--ledger", url, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["sites"]
    assert row["billed_mwh"] == 200 + 1_500 + 77
    assert main(["reconcile", "--month", "1970-01", "--ledger", url]) == 0
    assert "depot" in capsys.readouterr().out
    assert main(["reconcile", "--month", "January", "--ledger", url]) == 2
    sums: dict[str, int] = defaultdict(int)
    for name in ("intervals", "sessions", "cdrs", "months"):
        for kind in ("csv", "parquet"):
            out = tmp_path / f"{name}.{kind}"
            assert main(["export", name, "--ledger", url, "--out", str(out)]) == 0
        sums[name] = pq.read_table(tmp_path / f"{name}.parquet").num_rows
        assert len((tmp_path / f"{name}.csv").read_text().splitlines()) == sums[name] + 1
    assert sums == {"intervals": 192, "sessions": 5, "cdrs": 0, "months": 1}
    assert main(["export", "cdrs", "--ledger", url, "--out", "bills.xls"]) == 2


def test_the_bills_of_a_month_are_exported_with_their_sums(url: str, ledger: Ledger, tmp_path: Path) -> None:
    day = 86_400_000
    before, after = {"before_taxes": 12.34, "taxes": [{"name": "VAT", "amount": 2.345}]}, {"excl_vat": -7}
    for id_, ms, cost in (
        ("a", 31 * day - 3_600_000, before),
        ("b", 31 * day - 1, after),
        ("c", 59 * day, {}),
    ):
        body = {"id": id_, "currency": "EUR", "start_date_time": "1970-01-31T00:00:00Z", "total_energy": 0.1}
        text = json.dumps(body | ({"total_cost": cost} if cost else {}))
        ledger.apply("cdrs", [(0, blob(cdr(id_, last_updated_ms=ms, body=text)))])
    filled(ledger)
    ledger.note_months({}, "UTC")
    config = tmp_path / "berlin.toml"
    config.write_text('[billing]\ntime_zone = "Europe/Berlin"\n')

    def export(what: str, month: str, kind: str, *more: str) -> Path:
        out = tmp_path / f"{what}{month}.{kind}"
        assert main(["export", what, "--month", month, "--ledger", url, "--out", str(out), *more]) == 0
        return out

    [_, *lines] = export("cdrs", "1970-01", "csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["a", "b"]
    # the last hour of January in UTC is February in Berlin
    table = pq.read_table(export("cdrs", "1970-02", "parquet", "--config", str(config))).to_pylist()
    assert [row["id"] for row in table] == ["a", "b"]
    assert [(row["total_excl"], row["total_incl"]) for row in table] == [
        (Decimal("12.34"), Decimal("14.685")),
        (Decimal(-7), Decimal(-7)),
    ]
    assert (table[0]["energy_kwh"], table[0]["currency"], table[0]["end"]) == (Decimal("0.1"), "EUR", None)
    [march] = pq.read_table(export("cdrs", "1970-03", "parquet")).to_pylist()
    assert (march["id"], march["total_excl"]) == ("c", None), "what is not known is not 0"
    assert len(export("months", "1970-01", "csv").read_text().splitlines()) == 2
    assert len(export("months", "1970-02", "csv").read_text().splitlines()) == 1
    assert len(export("intervals", "1970-02", "csv").read_text().splitlines()) == 1
    assert main(["export", "cdrs", "--month", "1970", "--ledger", url, "--out", "x.csv"]) == 2
