"""The ledger: idempotent whatever the order, closing, readable while it is written, on both databases."""

from __future__ import annotations

import random
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql

from connectors import _ledger_tables as t
from connectors import ledger_reader
from connectors._ledger_tables import SCHEMA_VERSION
from connectors.ledger import STREAMS, Ledger, upsert
from connectors.ledger_reader import LedgerReader
from models.errors import ConfigError, Refused, RetryLater, StorageError
from models.outputs import STREAMS as OUTPUT_STREAMS
from tests.servers.postgresql import PostgresServer

from ._ledger_records import (
    IN_MEMORY,
    QUARTER_MS,
    Record,
    account,
    blob,
    cdr,
    change,
    dead,
    device,
    dump,
    interval,
    late,
    newest,
    rollup,
    session,
    tariff,
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    yield opened
    opened.close()


@pytest.fixture
def reader(ledger: Ledger, url: str) -> Iterator[LedgerReader]:
    opened = LedgerReader(url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # A user that PostgreSQL accepts must get through to the folder, so it does not lie in pytest's.
    with tempfile.TemporaryDirectory(prefix="chargestream-pg-") as folder:
        Path(folder).chmod(0o755)
        with PostgresServer(Path(folder) / "pg") as server:
            yield server.url


def test_the_ledger_takes_every_stream_that_outputs_give_it() -> None:
    assert set(STREAMS) == {name for name, (_, consumers) in OUTPUT_STREAMS.items() if "ledger" in consumers}


PG: Any = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it bare

POOL: list[Record] = (
    [("intervals", 0, blob(interval(e, q, r))) for e in (1, 2) for q in (0, 1) for r in (1, 2, 3)]
    + [("intervals", 0, blob(interval(1, 0, 2), interval(1, 0, 1), interval(3, 5, 1)))]
    + [("findings", 0, blob(change(n), change(n, finding_id="f2"))) for n in (1, 2, 3)]
    + [("devices", 0, blob(device(n))) for n in (1, 2)]
    + [("latest", 0, blob(newest(n))) for n in (1_000, 2_000, 3_000)]
    + [("rollups", 0, blob(rollup(m, readings=r))) for m in (0, 1) for r in (3, 6)]
    + [("late", 0, blob(late(n))) for n in (1, 2)]
    + [("sessions", 0, blob(session(n), session(n, transaction_id="tx2", state="review"))) for n in (1, 2, 3)]
    + [("cdrs", 0, blob(cdr(i))) for i in ("c1", "c2")]
    + [("tariffs", 0, blob(tariff(n))) for n in (1, 2)]
    + [("dead", s, blob(dead(n, d))) for s in (0, 1) for n in (1, 2) for d in ("x", "y")]
)


def apply_all(ledger: Ledger, records: list[Record], rng: random.Random) -> None:
    """Apply in the given order, cut into transactions at random."""
    at = 0
    while at < len(records):
        stream = records[at][0]
        take = 1
        while at + take < len(records) and records[at + take][0] == stream and rng.random() < 0.7:
            take += 1
        ledger.apply(stream, [(shard, data) for _, shard, data in records[at : at + take]])
        at += take


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('expected') / 'ledger.sqlite'}"
    ledger = Ledger(url)
    for stream, shard, data in POOL:
        ledger.apply(stream, [(shard, data)])
    ledger.close()
    return dump(url)


@settings(max_examples=20)
@given(st.permutations(POOL), st.lists(st.sampled_from(POOL), max_size=20), st.randoms())
def test_any_order_and_any_repetition_leave_the_same_tables(
    expected: dict[str, list[tuple[Any, ...]]], records: list[Record], again: list[Record], rng: random.Random
) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        url = f"sqlite:///{folder}/ledger.sqlite"
        ledger = Ledger(url)
        mixed = records + again
        rng.shuffle(mixed)
        apply_all(ledger, mixed, rng)
        ledger.close()
        assert dump(url) == expected


def test_the_expected_tables_hold_the_highest_revisions(expected: dict[str, list[tuple[Any, ...]]]) -> None:
    assert {(row[2], row[3] // QUARTER_MS): row[6] for row in expected["intervals"]} == {
        (1, 0): 3, (1, 1): 3, (2, 0): 3, (2, 1): 3, (3, 5): 1,
    }  # fmt: skip
    assert len(expected["interval_revisions"]) == 13
    assert [(row[0], row[1]) for row in expected["findings"]] == [("f1", 3), ("f2", 3)]
    assert len(expected["finding_changes"]) == 6
    assert expected["devices"][0][6] == "1.2"
    assert expected["latest"][0][3] == 3_000
    assert len(expected["dead"]) == 8
    assert [row[3] for row in expected["sessions"]] == [3, 3]
    assert len(expected["session_revisions"]) == 6
    assert len(expected["cdrs"]) == 2
    assert [row[5] for row in expected["tariffs"]] == ['{"n":2}']


def test_views_show_exact_energy(ledger: Ledger, url: str) -> None:
    rows = [
        interval(1, 0, energy_mwh=1),
        interval(1, 1, energy_mwh=-1_500),
        interval(1, 2, energy_mwh=10**15),
    ]
    rows += [interval(1, 3, energy_mwh=None, quality="missing"), interval(1, 96, energy_mwh=2)]
    ledger.apply("intervals", [(0, blob(*rows))])
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        quarters = db.execute("SELECT start_utc, energy_wh, quality FROM v_energy_quarter_hour").fetchall()
        days = db.execute(
            "SELECT day_utc, energy_wh, quarters, quarters_missing FROM v_energy_day"
        ).fetchall()
    db.close()
    assert quarters == [
        ("1970-01-01T00:00:00Z", "0.001", "measured"),
        ("1970-01-01T00:15:00Z", "-1.500", "measured"),
        ("1970-01-01T00:30:00Z", "1000000000000.000", "measured"),
        ("1970-01-01T00:45:00Z", None, "missing"),
        ("1970-01-02T00:00:00Z", "0.002", "measured"),
    ]
    assert days == [("1970-01-01", "999999999998.501", 4, 1), ("1970-01-02", "0.002", 1, 0)]


def test_open_findings_come_worst_first(ledger: Ledger, reader: LedgerReader, url: str) -> None:
    changes = [
        change(finding_id="young", raised_at=9_000),
        change(finding_id="bad", severity="critical"),
        change(finding_id="backlog", live=False),
        change(3, finding_id="over"),
        change(finding_id="site", scope="site", node=None, station=None, evse=None, score=float("nan")),
    ]
    ledger.apply("findings", [(0, blob(*changes))])
    found = reader.open_findings()
    assert [row["finding_id"] for row in found] == ["bad", "young", "site"]
    assert found[0]["evidence"] == {"voltage_v": 204.5}
    assert found[2]["score"] is None
    assert [row["finding_id"] for row in reader.finding_changes(since_ms=1_002)] == ["over"]
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        view = db.execute("SELECT finding_id, raised_utc FROM v_open_findings ORDER BY 1").fetchall()
    db.close()
    assert view[0] == ("bad", "1970-01-01T00:00:01Z")
    assert len(view) == 3


def test_the_evse_table_joins_what_is_known(ledger: Ledger, reader: LedgerReader) -> None:
    ledger.apply("devices", [(0, blob(device(), device(evse=2)))])
    ledger.apply("latest", [(0, blob(newest(), newest(station="cs9", values={"power_w": float("nan")})))])
    ledger.apply("findings", [(0, blob(change(), change(finding_id="b", severity="critical")))])
    first, second, third = reader.evses()
    assert (first["evse"], first["power_w"], first["open_findings"], first["worst"]) == (
        1,
        8_000.0,
        2,
        "critical",
    )
    assert first["values"] == {"power_w": 8_000.0}
    assert (second["evse"], second["vendor"], second["time_ms"], second["open_findings"]) == (
        2,
        "acme",
        None,
        0,
    )
    assert (third["station"], third["vendor"], third["power_w"], third["worst"]) == ("cs9", None, None, None)
    assert reader.evses(limit=1, offset=1)[0]["evse"] == 2
    assert reader.counts() == {
        "evses": 3, "intervals": 0, "findings": 2, "findings_open": 2, "dead": 0, "late_readings": 0,
    }  # fmt: skip


def test_the_power_chart_sums_and_leaves_out_what_is_missing(ledger: Ledger, reader: LedgerReader) -> None:
    rows = [rollup(m, e) for m in (0, 1, 2) for e in (1, 2)]
    rows[3] = rollup(1, 2, power_mean_w=None)
    rows[4:] = [rollup(2, e, power_mean_w=None) for e in (1, 2)]
    ledger.apply("rollups", [(0, blob(*rows))])
    assert reader.power(0, 180_000) == [(0, 300.0, 2), (60_000, 100.0, 1)]
    assert reader.power(0, 180_000, site="depot", station="cs1", evse=2) == [(0, 200.0, 1)]
    assert reader.power(60_000, 60_000) == []
    ledger.apply("dead", [(0, blob(dead()))])
    assert ledger.trim(rollups_before_ms=60_000, dead_before_ms=1) == 3
    assert reader.power(0, 180_000) == [(60_000, 100.0, 1)]


def test_dead_messages_are_kept_with_their_bytes(ledger: Ledger, reader: LedgerReader) -> None:
    ledger.apply("dead", [(4, blob(dead(7, "a\0b")))])
    (found,) = reader.dead()
    assert (found["shard"], found["pos"], found["payload"], found["detail"]) == (4, 7, b"\xff{", "a\ufffdb")
    assert reader.dead_by_reason() == {"json": 1}


@pytest.mark.parametrize(
    ("stream", "data", "message"),
    [
        ("intervals", b"\xc1", r"record of 1 bytes in stream intervals, shard 3, cannot be read"),
        ("intervals", blob({"site": "x"}), "missing required field"),
        ("intervals", blob(interval(evse=2**63, energy_mwh=0)), "cannot store intervals"),
    ],
)
def test_a_record_that_can_never_be_stored_is_refused_whole(
    ledger: Ledger, reader: LedgerReader, stream: str, data: bytes, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        ledger.apply(stream, [(3, blob(interval())), (3, data)])
    assert reader.intervals() == []
    assert ledger.apply(stream, [(3, blob(interval())), (3, blob())]) == 1
    assert len(reader.intervals(since_ms=0, until_ms=1)) == 1


def test_a_locked_ledger_is_tried_again_later(
    ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors._ledger_engine.BUSY_S", 0.05)
    impatient = Ledger(url)
    blocker = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater, match=r"cannot store intervals: database is locked.*none is lost"):
        impatient.apply("intervals", [(0, blob(interval()))])
    blocker.execute("ROLLBACK")
    blocker.close()
    assert impatient.apply("intervals", [(0, blob(interval()))]) == 1
    impatient.close()


def test_a_reader_never_waits_and_never_sees_half_a_transaction(ledger: Ledger, reader: LedgerReader) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for revision in range(1, 40):
                ledger.apply("intervals", [(0, blob(*(interval(e, 0, revision) for e in range(1, 51))))])
        except BaseException as error:
            failures.append(error)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not done.is_set() or reads == 0:
        revisions = {row["revision"] for row in reader.intervals()}
        assert len(revisions) <= 1
        reads += 1
    thread.join()
    assert not failures
    assert {row["revision"] for row in reader.intervals()} == {39}


def test_a_ledger_of_a_newer_program_is_left_alone(ledger: Ledger, url: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE ledger_meta SET value = '99'")
    db.close()
    with pytest.raises(
        StorageError,
        match=f"has schema version 99, this program reads and writes {SCHEMA_VERSION}: use",
    ):
        Ledger(url)
    with pytest.raises(StorageError, match="schema version 99"):
        LedgerReader(url).counts()


def test_a_reader_before_the_first_writer_says_so(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    reader = LedgerReader(f"sqlite:///{file}")
    with pytest.raises(StorageError, match=r"there is no ledger at .* yet: start the egress process"):
        reader.counts()
    assert not file.exists()
    file.touch()
    with pytest.raises(StorageError, match="there is no ledger at"):
        reader.counts()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "not a database address: expected sqlite:///FILE"),
        ("mysql://u@h/d", "mysql is not supported; use sqlite or postgresql"),
    ],
)
def test_addresses_that_cannot_be(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ledger(address)


def test_a_database_that_is_away_does_not_show_the_password() -> None:
    with pytest.raises(RetryLater) as caught:
        Ledger("postgresql://me:hunter2@127.0.0.1:1/ledger")
    assert "hunter2" not in str(caught.value)
    assert "postgresql+psycopg://me:***@127.0.0.1:1/ledger" in str(caught.value)


def test_statements_for_postgresql_let_the_newer_row_stand() -> None:
    compiled = str(upsert("postgresql", t.intervals, "revision", False).compile(dialect=PG))
    assert (
        "ON CONFLICT (site, station, evse, start_ms) DO UPDATE SET energy_mwh = excluded.energy_mwh"
        in compiled
    )
    assert compiled.endswith("WHERE excluded.revision > intervals.revision")
    kept = str(upsert("postgresql", t.late, None, False).compile(dialect=PG))
    assert kept.endswith('ON CONFLICT (shard, "order", site, station, evse) DO NOTHING')


@pytest.mark.server
def test_postgresql_holds_the_same_as_sqlite(
    postgres: str, expected: dict[str, list[tuple[Any, ...]]], rng: random.Random
) -> None:
    ledger = Ledger(postgres)
    records = POOL * 2
    rng.shuffle(records)
    apply_all(ledger, records, rng)
    assert dump(postgres) == expected
    ledger.apply("account", [(0, blob(account(0, 10, decoded=7, held=3), account(10, 20, decoded=13)))])
    reader = LedgerReader(postgres)
    assert reader.closes() == ledger.closes()
    assert reader.closes()["closes"]
    with pytest.raises(Refused, match=r"cannot store intervals: .*out of range"):
        ledger.apply("intervals", [(0, blob(interval(evse=2**63, energy_mwh=0)))])
    ledger.apply("dead", [(9, blob(dead(9, "nul \0 byte")))])
    ledger.apply("intervals", [(0, blob(interval(9, 0, energy_mwh=1_234), interval(9, 1, energy_mwh=-1)))])
    assert reader.dead(1)[0]["detail"] == "nul \ufffd byte"
    assert reader.counts()["evses"] == 1
    assert reader.evses()[0]["power_w"] == 10_000.0
    assert reader.power(0, 60_000) == [(0, 100.0, 1)]
    assert len(reader.open_findings()) == 0
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as db:
        day = db.execute(text("SELECT day_utc, energy_wh FROM v_energy_day WHERE evse = 9")).all()
        quarter = db.execute(
            text("SELECT start_utc, energy_wh FROM v_energy_quarter_hour WHERE evse = 9")
        ).all()
        db.execute(text("SELECT * FROM v_open_findings")).all()
    engine.dispose()
    assert day == [("1970-01-01", Decimal("1.233"))]
    assert quarter[0] == ("1970-01-01T00:00:00Z", Decimal("1.234"))
    ledger.close()
    reader.close()
    assert ledger_reader.MAX_LISTED == 100
