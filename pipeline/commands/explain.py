"""Explain a bill: from a CDR's id to lines, registers, tariff, decisions and messages, with what was checked.

Everything is made again from what is kept: the price from registers and tariff, the sum of credits, and with
``--data`` the messages in the journal that told of the transaction, each with shard, offset and SHA-256.
``--against`` compares the CDR with that of a replay.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORT: Final = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream explain``."""
    parser.add_argument("id", metavar="CDR", help="id of the CDR")
    parser.add_argument("--ledger", metavar="URL", help="instead of the configured one")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--data", metavar="DIR", type=Path, help="data folder with the journal")
    parser.add_argument(
        "--against", metavar="FILE", type=Path, help="cdrs.jsonl of a replay, to compare with"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the explanation; return 0, or 1 where a check failed."""
    import json
    import os
    import sys

    from connectors.bill_trail import explained, messages
    from connectors.billing_reader import BillingReader
    from models.bill_checks import Check
    from pipeline.config import load
    from pipeline.ingest import JOURNAL_FILE

    config = load(args.config, os.environ)
    reader = BillingReader(args.ledger or config.ledger_url())
    try:
        found = explained(reader, args.id)
    finally:
        reader.close()
    if found is None:
        sys.stderr.write(f"chargestream: the ledger has no CDR {args.id!r}\n")
        return 1
    if args.data is not None:
        found["journal"] = messages(args.data / JOURNAL_FILE, found, config.journal.shards)
    if args.against is not None:
        found["checks"].append(_against(Check, args.against, found))
    checks = [{"name": c.name, "ok": c.ok, "says": c.says} for c in found["checks"]]
    if args.json:
        sys.stdout.write(json.dumps(found | {"checks": checks}) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _text(found, checks))
    return 1 if any(check["ok"] is False for check in checks) else 0


def _against(check: Any, path: Path, found: dict[str, Any]) -> Any:
    """Return whether a replay gives the CDR again; `last_updated` goes by ticks, which a replay has anew."""
    import json

    from models.errors import ConfigError

    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"--against {path}: {error.strerror}") from error
    for line in lines:
        other = json.loads(line)
        if other.get("id") == found["id"]:
            differ = {n for n in {*other, *found["cdr"]} if other.get(n) != found["cdr"].get(n)}
            says = f"other in {', '.join(sorted(differ))}" if differ else "the same to the byte"
            if not differ and line != found["text"]:
                says = "written in another form"
            if differ == {"last_updated"}:
                says = f"the same but for last_updated, {other['last_updated']}"
            return check("replay", differ <= {"last_updated"}, f"{path}: {says}")
    return check("replay", False, f"{path}: it has no such CDR")


def _text(found: dict[str, Any], checks: list[dict[str, Any]]) -> Iterator[str]:
    bill, session = found["cdr"], found["session"] or {}
    kind = f"Credit of {bill['credit_reference_id']}:" if bill.get("credit") else "Bill"
    yield f"{kind} {found['id']}, made {bill['last_updated']}"
    yield f"  sha256 {found['sha256']}"
    where = f"{found['site']}/{found['station']}"
    yield f"Transaction {found['transaction_id']} at {where}, revision {found['revision']}"
    token = bill["cdr_token"]
    yield f"  token {token['uid']} ({token['type']}) of {token['country_code']} {token['party_id']}"
    yield f"  {bill['start_date_time']} to {bill['end_date_time']}"
    yield f"  {bill['total_energy']} kWh, {bill['currency']} {bill['total_cost']}"
    yield from _session(session)
    yield from (f"Signed value {value['nature']}: sha256 {value['sha256']}" for value in found["signed"])
    yield from _price(session.get("price") or {})
    journal = found.get("journal")
    if journal is not None:
        yield f"Journal, shard {journal['shard']}: {journal['says']}"
        for m in journal["messages"]:
            told = f"  offset {m['offset']}, {m['received']}, {m['topic']}, sha256 {m['sha256'][:_SHORT]}"
            yield f"{told}: {m['says']}"
    yield "Checks"
    for check in checks:
        word = {True: "ok", False: "FAILED", None: "not told"}[check["ok"]]
        yield f"  {word:8} {check['name']}: {check['says']}"


def _session(session: dict[str, Any]) -> Iterator[str]:
    if not session:
        return
    between = len(session["registers"])
    yield f"Registers {session['begin_wh']} Wh to {session['end_wh']} Wh, {between} kept between"
    yield f"  flags: {', '.join(session['flags']) or 'none'}"
    yield from (f"  found: {decision}" for decision in session.get("decisions", []))
    if session.get("decided"):
        yield f"  decided: {session['decided']}"


def _price(price: dict[str, Any]) -> Iterator[str]:
    if not price:
        return
    snapshot = price["snapshot"]
    yield f"Tariff {snapshot['tariff_id']}, version {snapshot['version']}, times of {snapshot['time_zone']}"
    for line in price["lines"]:
        span = f"{line['start'] or ''} {line['end'] or ''}".strip()
        if line["element"] is None and line["price"] is None and line["period"] is not None:
            yield f"  {line['dimension']} {span}: {line['volume']} {line['unit']}, free"
        else:
            each = (
                ""
                if line["price"] is None
                else f"{line['billed_volume']} {line['unit']} x {line['price']} = "
            )
            tax = f" ({line['tax']})" if line["tax"] else ""
            yield f"  {line['dimension']} {span}: {each}{line['excl']}, {line['incl']} with tax{tax}"
        yield f"    {line['rule']}"
    yield f"  total {price['total_excl']}, {price['total_incl']} with tax, rounded once"
