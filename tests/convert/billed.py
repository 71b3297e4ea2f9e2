"""Every real session through the flow: ``python -m tests.convert.billed DATA OUT acn|epfl``.

Converts the set, replays it with a tariff, compares what each session was billed with its own figure. Prints
every difference, what was left out and why; exit code 1 if there is a difference.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.config import Config, load
from pipeline.replay import replay

from .sessions import SOURCES, Session, SessionLog

#: Wh, of the meters that the converter gives the plugs.
RESOLUTION_WH = Decimal("0.001")
TARIFF = {
    "id": "FLAT", "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.30, "vat": 19, "step_size": 1}]}],
}  # fmt: skip


def compare(data: Path, out: Path, source: str, most: int | None = None) -> dict[str, Any]:
    """Return counts, sums in Wh as text, and the sessions whose bill is another amount of energy."""
    out.mkdir(parents=True, exist_ok=True)
    log, left_out = SessionLog(), []
    for session in sorted(SOURCES[source](data), key=lambda s: (s.begin_ms, s.node, s.evse))[:most]:
        before = log.left_out
        log.add(session)
        if log.left_out > before:
            left_out.append((session.tx_id, _why(session)))
    log.finish(out / "log.jsonl.zst")
    replay(_config(out), out / "log.jsonl.zst", out / "replay", write_points=False)
    own = {(*s.node.split("/"), s.tx_id): Decimal(s.energy_mwh) / 1000 for s in log.taken}
    last = {(r["site"], r["station"], r["transaction_id"]): r for r in _lines(out / "replay/sessions.jsonl")}
    billed: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for cdr in _lines(out / "replay/cdrs.jsonl"):
        if cdr.get("credit"):
            continue
        key = cdr["cdr_location"]["id"], cdr["cdr_location"]["evse_uid"].rsplit("-", 1)[0], cdr["session_id"]
        billed[key] += Decimal(str(cdr["total_energy"])) * 1000
    short = {(a, b, tx[:36]): wh for (a, b, tx), wh in own.items()}
    different = [
        {"session": key, "own_wh": str(wh), "billed_wh": str(billed.get(key, "none"))}
        for key, wh in short.items()
        if abs(billed.get(key, Decimal(-1)) - wh) > RESOLUTION_WH
    ]
    return {
        "sessions": len(own),
        "complete": sum(row["state"] == "complete" for row in last.values()),
        "own_wh": str(sum(own.values())),
        "billed_wh": str(sum(billed.values())),
        "different": different,
        "left_out": Counter(why for _, why in left_out),
        "left_out_sessions": left_out,
    }


def _why(session: Session) -> str:
    if session.energy_mwh < 0:
        return "no energy figure"
    if session.end_ms <= session.begin_ms:
        return "ends when or before it begins"
    return "overlaps the session before it at the same plug"


def _config(out: Path) -> Config:
    (out / "tariff.json").write_text(json.dumps(TARIFF))
    text = f'[billing]\ntariff_file = "{out / "tariff.json"}"\nrunning_cost_s = 0\n'
    (out / "billing.toml").write_text(text + '[ocpi]\ncountry_code = "DE"\nparty_id = "CHS"\n')
    return load(out / "billing.toml", {})


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    found = compare(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    listed, gone = found.pop("different"), found.pop("left_out_sessions")
    for name, why in gone:
        print(f"left out: {name}: {why}")
    for row in listed:
        print(f"differs: {json.dumps(row)}")
    print(json.dumps(found | {"different": len(listed)}))
    sys.exit(bool(listed))
