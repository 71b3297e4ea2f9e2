"""A bill explained: everything made again from what is kept, and whatever was altered is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine

from connectors.journal import JournalWriter
from connectors.ledger import Ledger
from models.cashier import BillingPlan, Cashier, Place
from models.dynamic import Succession
from models.frame import Frame
from models.tariffs import read
from models.topics import shard_of
from pipeline.cli import main
from pipeline.ingest import JOURNAL_FILE
from tests.transaction_log import BEGIN, DAY, END, HOUR, charge, log_of, run_all

TARIFF: dict[str, Any] = {
    "id": "DAY", "currency": "EUR", "elements": [
        {"price_components": [{"type": "FLAT", "price": 0.5, "vat": 19, "step_size": 1}]},
        {"price_components": [{"type": "ENERGY", "price": 0.12345678, "vat": 19, "step_size": 1}],
         "restrictions": {"start_time": "00:00", "end_time": "23:00"}},
        {"price_components": [{"type": "ENERGY", "price": 0.59, "vat": 19, "step_size": 1}]},
    ],
}  # fmt: skip
SHARDS = 2


@pytest.fixture(params=["2.2.1", "2.3.0"])
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, list[dict[str, Any]], Path]:
    """A session billed, corrected by a late message, in a ledger and a journal."""
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, tx="tx-9", seq=0, chargingState="Charging")
    charge(log)
    log.tx(END, "Ended", 510_000, tx="tx-9", seq=2)
    log.until(END + HOUR)
    log.tx(END, "Ended", 510_100, tx="tx-9", seq=3, at=END + 2 * HOUR)
    log.until(END + 3 * HOUR)
    log.review(END + 3 * HOUR, transaction_id="tx-9", decision="bill", energy_wh="9500.5")
    log.until(END + 4 * HOUR)
    frame = log.frame()
    place = Place(Succession([read(TARIFF)], "Europe/Berlin"), "", "", "", "DEU", "", "0.00000", "0.00000")
    plan = BillingPlan("DE", "CHS", request.param, default=place)
    got = run_all(frame, cashier=Cashier(plan))
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    for stream, rows in (("sessions", got.sessions), ("cdrs", got.cdrs)):
        ledger.apply(stream, [(0, msgspec.msgpack.encode(rows))])
    ledger.close()
    (tmp_path / "data").mkdir()
    with JournalWriter(tmp_path / "data" / JOURNAL_FILE, SHARDS) as journal:
        journal.append({shard_of("s", SHARDS): frame})
    (tmp_path / "replayed.jsonl").write_text("".join(cdr.body + "\n" for cdr in got.cdrs))
    return url, [json.loads(cdr.body) for cdr in got.cdrs], tmp_path


def explain(
    id_: str, url: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, Any]:
    capsys.readouterr()
    config = folder / "own.toml"
    config.write_text(f"[journal]\nshards = {SHARDS}\n")
    code = main(["explain", id_, "--ledger", url, "--config", str(config), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_a_bill_its_credit_and_the_new_one_are_explained(
    kept: tuple[str, list[dict[str, Any]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, bills, folder = kept
    assert [bool(b.get("credit")) for b in bills] == [False, True, False]
    for bill in bills:
        more = ("--data", str(folder / "data"), "--against", str(folder / "replayed.jsonl"))
        code, found = explain(bill["id"], url, folder, capsys, *more)
        assert (code, [c["name"] for c in found["checks"] if c["ok"] is False]) == (0, []), found["checks"]
        kinds = {m["topic"].rsplit("/", 1)[1] for m in found["journal"]["messages"]}
        assert "tx" in kinds
        assert ("review" in kinds) == (bill is not bills[0])
    names = {c["name"]: c["says"] for c in found["checks"]}
    assert "ann: looked" in names["registers"]
    assert "every line the same" in names["price"]
    assert bills[1]["id"] in {b["id"] for b in found["bills"]}
    assert main(["explain", bills[2]["id"], "--ledger", url]) == 0
    shown = capsys.readouterr().out
    assert "x 0.12345678 =" in shown
    assert "energy_wh" not in shown.partition("Checks")[2]
    assert main(["explain", "nobody", "--ledger", url]) == 1


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ("UPDATE cdrs SET body = replace(body, '\"total_energy\":', '\"total_energy\":1')", "periods"),
        ("UPDATE session_revisions SET body = replace(body, '0.12345678', '0.12345679')", "price"),
        ("UPDATE sessions SET body = replace(body, '0.12345678', '0.12345679')", "price"),
        ("DELETE FROM cdrs WHERE credit", "credits"),
    ],
)
def test_what_was_altered_is_found(
    change: str,
    failed: str,
    kept: tuple[str, list[dict[str, Any]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, bills, folder = kept
    engine = create_engine(url)
    with engine.begin() as db:
        db.exec_driver_sql(change)
    engine.dispose()
    place = 0 if "session_revisions" in change else 2
    code, found = explain(
        bills[place]["id"], url, folder, capsys, "--against", str(folder / "replayed.jsonl")
    )
    wrong = [c["name"] for c in found["checks"] if c["ok"] is False]
    assert code == 1
    assert failed in wrong
    assert ("replay" in wrong) == ("cdrs SET" in change)


def test_without_its_messages_the_journal_proves_nothing(
    kept: tuple[str, list[dict[str, Any]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, bills, folder = kept
    (folder / "other").mkdir()
    with JournalWriter(folder / "other" / JOURNAL_FILE, SHARDS) as journal:
        journal.append({shard_of("s", SHARDS): Frame.build([(DAY, b"evt/v1/s/cp/up/hb", b"{}", 0)])})
    code, found = explain(bills[0]["id"], url, folder, capsys, "--data", str(folder / "other"))
    assert (code, found["journal"]["messages"]) == (0, [])
    assert [c["ok"] for c in found["checks"] if c["name"] == "journal"] == [None]
