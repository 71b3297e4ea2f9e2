"""A transaction and its verdict as the record that leaves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from . import _tx_state as s
from ._tx_judge import Verdict
from ._tx_state import Tx
from .outputs import SessionRow
from .units import NS_PER_MS, mwh_from_wh, wh_text

BILL: Final = "bill"
DISCARD: Final = "discard"


def read_decision(body: dict[str, Any], at_ms: int) -> dict[str, Any] | None:
    """Return what a person decided: to bill (an energy, or as proposed) or to discard; None if unreadable."""
    word, energy = body.get("decision"), body.get("energy_mwh")
    if word not in (BILL, DISCARD):
        return None
    if energy is None and body.get("energy_wh") is not None:
        try:
            energy = mwh_from_wh(Decimal(str(body["energy_wh"])))
        except (ArithmeticError, ValueError):
            return None
    if energy is not None and (type(energy) is not int or not 0 <= energy < 1 << 53):
        return None
    reason, by = str(body.get("reason", "")), str(body.get("by", ""))
    return {"decision": word, "energy_mwh": energy, "reason": reason, "by": by, "at": at_ms}


def session_row(tx: Tx, verdict: Verdict, now_ns: int) -> SessionRow:
    """Return the record of a transaction; what a person decided replaces the energy."""
    decision = tx.decision or {}
    energy = verdict.energy_mwh
    if decision.get("decision") == DISCARD:
        energy = 0
    elif decision.get("energy_mwh") is not None:
        energy = decision["energy_mwh"]
    return SessionRow(
        site=tx.site,
        station=tx.station,
        transaction_id=tx.tx_id,
        revision=tx.revision,
        evse=tx.evse,
        connector=tx.connector,
        start_ms=_ms(verdict.start_ns),
        end_ms=_ms(verdict.end_ns),
        energy_mwh=energy,
        begin_mwh=verdict.begin_mwh,
        end_mwh=verdict.end_mwh,
        state=tx.state,
        flags=tuple(sorted(verdict.flags)),
        token_type=tx.token_type,
        token_hash=tx.token_hash,
        updated_ms=now_ns // NS_PER_MS,
        body=tx.body | {"energy_wh": _wh(energy), "revision": tx.revision, "updated": now_ns // NS_PER_MS},
    )


def differs(tx: Tx, verdict: Verdict) -> bool:
    """Return whether what bills has changed since it was put out."""
    new, old = session_body(tx, verdict), tx.body
    names = ("energy_wh", "begin_wh", "end_wh", "start", "end", "flags")
    if not old:
        return False
    return any(new[name] != old.get(name) for name in names) or new["held"] != old.get("held", [])


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // NS_PER_MS


def _wh(mwh: int | None) -> str | None:
    return None if mwh is None else wh_text(mwh)


def session_body(tx: Tx, v: Verdict) -> dict[str, Any]:
    """Return the line of ``sessions.jsonl`` but its revision; energies are exact decimals as text."""
    return {
        "site": tx.site,
        "station": tx.station,
        "evse": tx.evse,
        "connector": tx.connector,
        "transaction_id": tx.tx_id,
        "start": _ms(v.start_ns),
        "end": _ms(v.end_ns),
        "start_reported": _ms(tx.start_reported_ns),
        "end_reported": _ms(tx.end_reported_ns),
        "session_start": _ms(min((t for t in (tx.plugged_ns, v.start_ns) if t is not None), default=None)),
        "session_end": _ms(tx.free_ns),
        "energy_wh": _wh(v.energy_mwh),
        "begin_wh": _wh(v.begin_mwh),
        "end_wh": _wh(v.end_mwh),
        "state": tx.state,
        "flags": sorted(v.flags),
        "reasons": list(v.reasons) if tx.state == s.REVIEW else [],
        "decisions": v.decisions,
        "decided": tx.decision,
        "stopped_reason": tx.stopped_reason,
        "token_type": tx.token_type,
        "token_hash": tx.token_hash,
        "charging_states": [[_ms(t), word] for t, word in tx.states],
        "held": [[_ms(begin), _ms(end)] for begin, end in tx.held],
        "registers": [[_ms(p.time_ns), _wh(p.reg_mwh)] for p in tx.points],
        "signed": tx.signed,
        "signed_state": None if tx.proof is None else tx.proof["verdict"],
    }
