"""Billing in the ledger: cursors that miss nothing, views that bill, and ledgers of the version before."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from connectors._ledger_tables import SCHEMA_VERSION
from connectors.ledger import Ledger

from ._ledger_records import blob, cdr, interval, session, tariff


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def rows(file: Path, query: str) -> list[Any]:
    db = sqlite3.connect(file)
    found = db.execute(query).fetchall()
    db.close()
    return found


def test_the_cursor_grows_with_what_changes_and_only_then(file: Path) -> None:
    ledger = Ledger(f"sqlite:///{file}")

    def at(query: str = "SELECT transaction_id, changed FROM sessions") -> dict[str, int]:
        return dict(rows(file, query))

    ledger.apply("sessions", [(0, blob(session(1), session(1, transaction_id="tx2")))])
    first = at()
    assert sorted(first.values()) == [1, 2]
    ledger.apply("sessions", [(0, blob(session(1)))])
    assert at() == first, "the same revision again changes nothing"
    ledger.apply("sessions", [(0, blob(session(2)))])
    assert at()["tx1"] > first["tx2"] == at()["tx2"]
    ledger.apply("cdrs", [(0, blob(cdr(), cdr("c2")))])
    ledger.apply("cdrs", [(0, blob(cdr(body="{}")))])
    assert rows(file, "SELECT id, body FROM cdrs ORDER BY id") == [
        ("c1", '{"id":"c1"}'),
        ("c2", '{"id":"c2"}'),
    ]
    ledger.apply("tariffs", [(0, blob(tariff(2))), (0, blob(tariff(1)))])
    assert rows(file, "SELECT body FROM tariffs") == [('{"n":2}',)]
    ledger.close()


def test_only_complete_sessions_are_billable(file: Path) -> None:
    ledger = Ledger(f"sqlite:///{file}")
    states = ("open", "incomplete", "complete", "review", "credited")
    ledger.apply("sessions", [(0, blob(*(session(transaction_id=s, state=s) for s in states)))])
    ledger.close()
    found = rows(file, "SELECT transaction_id, energy_wh, start_utc, flags FROM v_sessions_billable")
    assert found == [("complete", "11000.001", "1970-01-01T00:00:01Z", "[]")]


def test_a_month_of_a_site_has_its_energy_and_its_peak_quarter(file: Path) -> None:
    ledger = Ledger(f"sqlite:///{file}")
    quarters = [
        interval(1, 0, energy_mwh=1_000),
        interval(2, 0, energy_mwh=2_500),
        interval(1, 1, energy_mwh=3_400),
        interval(2, 1, energy_mwh=None, quality="missing"),
        interval(1, 4, energy_mwh=9_000_000),
    ]
    ledger.apply("intervals", [(0, blob(*quarters))])
    ledger.close()
    db = sqlite3.connect(file)
    db.execute(
        "INSERT INTO site_months (site, month, start_ms, end_ms, time_zone)"
        " VALUES ('depot', '1970-01', 0, 3600000, 'UTC')"
    )
    db.commit()
    db.close()
    assert rows(file, "SELECT * FROM v_energy_month_site") == [
        ("depot", "1970-01", "UTC", "6.900", 4, 1, "14.000", 0)
    ]


def test_a_ledger_of_version_1_is_taken_over_with_all_it_holds(file: Path) -> None:
    db = sqlite3.connect(file)
    db.executescript(
        """
        CREATE TABLE ledger_meta (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);
        INSERT INTO ledger_meta VALUES ('schema_version', '1');
        CREATE TABLE intervals (site VARCHAR, station VARCHAR, evse BIGINT, start_ms BIGINT,
            energy_mwh BIGINT,
            quality VARCHAR NOT NULL, revision BIGINT NOT NULL, PRIMARY KEY (site, station, evse, start_ms))
            WITHOUT ROWID;
        INSERT INTO intervals VALUES ('depot', 'cs1', 1, 0, 5, 'measured', 1);
        """
    )
    db.close()
    for _ in range(2):
        ledger = Ledger(f"sqlite:///{file}")
        ledger.apply("intervals", [(0, blob(interval(1, 1, energy_mwh=7)))])
        ledger.apply("sessions", [(0, blob(session()))])
        ledger.close()
    assert rows(file, "SELECT start_ms, energy_mwh, changed FROM intervals") == [(0, 5, 0), (900_000, 7, 1)]
    assert rows(file, "SELECT value FROM ledger_meta") == [(str(SCHEMA_VERSION),)]
    assert len(rows(file, "SELECT * FROM v_sessions_billable")) == 1


def test_a_ledger_is_made_whole_or_not_at_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: str) -> dict[str, str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("connectors.ledger.views", die)
        with pytest.raises(KeyboardInterrupt):
            Ledger(f"sqlite:///{file}")
    assert rows(file, "SELECT name FROM sqlite_master") == []
    ledger = Ledger(f"sqlite:///{file}")
    assert ledger.apply("sessions", [(0, blob(session()))]) == 1
    ledger.close()
