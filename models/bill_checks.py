"""What can be checked of a bill from its own figures: the registers, the price again, credits.

Nothing here trusts what was computed before: the price is made again from the registers and the tariff kept
with the session, and again from the CDR alone, as a partner would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from .cashier import Connector, sale_of, transaction_of
from .cdr import read_cdr
from .dynamic import Snapshot
from .errors import ChargestreamError
from .pricing import Price, price
from .pricing_cases import read_cdr as read_to_price
from .rating import rate
from .signed_values import VALID
from .tariffs import loads
from .tariffs.ocpi import Price221
from .units import mwh_from_wh

__all__ = ["Check", "check_bill"]

_TOTALS = (
    "total_excl_fraction",
    "total_incl_fraction",
    "total_excl",
    "total_incl",
    "by_dimension",
    "limited",
)
_LINE = (
    "start",
    "end",
    "dimension",
    "element",
    "component",
    "volume",
    "billed_volume",
    "excl",
    "incl",
    "tax",
)


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `ok` is None where it cannot be told."""

    name: str
    ok: bool | None
    says: str


def check_bill(text: str, session: Mapping[str, Any] | None, texts: Mapping[str, str]) -> list[Check]:
    """Return what was checked of a CDR.

    Parameters
    ----------
    text : str
        The CDR as it is kept.
    session : mapping, optional
        Body of the session's revision that it bills.
    texts : mapping
        All CDRs of the transaction by id, this one among them.
    """
    cdr = loads(text)
    checks = [_credits(texts)]
    if cdr.get("credit"):
        return [_credit(cdr, texts.get(str(cdr.get("credit_reference_id")))), *checks]
    checks.append(_periods(cdr))
    if session is None:
        return [*checks, Check("session", None, "the ledger has no such revision of the session")]
    return [*checks, _energy(cdr, session), *_prices(cdr, session), _signed(cdr, session)]


def _money(cdr: dict[str, Any]) -> tuple[Decimal, Decimal]:
    """Return a CDR's total without and with tax."""
    cost = read_cdr(cdr).total_cost
    if isinstance(cost, Price221):
        return cost.excl_vat, cost.excl_vat if cost.incl_vat is None else cost.incl_vat
    return cost.before_taxes, cost.before_taxes + sum((tax.amount for tax in cost.taxes), Decimal(0))


def _credits(texts: Mapping[str, str]) -> Check:
    """Return whether exactly one bill stands, or none, after all credits."""
    bills = {id_: loads(text) for id_, text in texts.items()}
    credited = {c["credit_reference_id"] for c in bills.values() if c.get("credit")}
    standing = [id_ for id_, c in bills.items() if not c.get("credit") and id_ not in credited]
    total = sum((_money(c)[1] for c in bills.values()), Decimal(0))
    says = f"{len(bills)} CDRs of the transaction, {len(credited)} credited, standing: "
    says += f"{', '.join(standing) or 'none'}; together {total:f} with tax"
    return Check("credits", len(standing) <= 1 and credited <= bills.keys(), says)


def _credit(cdr: dict[str, Any], referred: str | None) -> Check:
    """Return whether a credit is the CDR that it takes back but for id, time and the sign of the total."""
    if referred is None:
        return Check(
            "credit", False, f"the CDR {cdr.get('credit_reference_id')!r} that it credits is not there"
        )
    names = {"id", "last_updated", "credit", "credit_reference_id", "total_cost"}
    old = loads(referred)
    alike = {k: v for k, v in cdr.items() if k not in names} == {
        k: v for k, v in old.items() if k not in names
    }
    taken = tuple(-amount for amount in _money(cdr))
    says = f"takes back {taken[1]:f} of CDR {old['id']}"
    return Check("credit", alike and taken == _money(old), says)


def _periods(cdr: Mapping[str, Any]) -> Check:
    parts = [d["volume"] for p in cdr["charging_periods"] for d in p["dimensions"] if d["type"] == "ENERGY"]
    whole = sum((Decimal(str(part)) for part in parts), Decimal(0))
    says = f"{len(parts)} periods with {whole.normalize():f} kWh, total_energy {cdr['total_energy']} kWh"
    return Check("periods", whole == Decimal(str(cdr["total_energy"])), says)


def _mwh(text: Any) -> int | None:
    return None if text is None else mwh_from_wh(Decimal(str(text)))


def _energy(cdr: Mapping[str, Any], session: Mapping[str, Any]) -> Check:
    begin, end, energy = (_mwh(session.get(name)) for name in ("begin_wh", "end_wh", "energy_wh"))
    if begin is None or end is None or energy is None:
        return Check("registers", None, "begin, end or energy of the session is not known")
    billed = Decimal(str(cdr["total_energy"])) * 1_000_000
    says = f"{session['end_wh']} - {session['begin_wh']} = {Decimal(end - begin) / 1000:f} Wh, "
    says += f"billed {billed.normalize() / 1000:f} Wh"
    decided = session.get("decided")
    if end - begin != energy:
        why = f"{decided['by']}: {decided['reason']}" if decided else ", ".join(session.get("flags", []))
        says += f"; not the difference because of: {why or 'nothing that is known'}"
        return Check("registers", bool(why) and billed == energy, says)
    return Check("registers", billed == energy, says)


def _prices(cdr: dict[str, Any], session: Mapping[str, Any]) -> list[Check]:
    """Return whether registers and tariff give the same price again, and whether the CDR alone does."""
    kept = session.get("price")
    if kept is None:
        return [Check("price", None, "the session keeps no price")]
    try:
        snapshot = msgspec.convert(kept["snapshot"], Snapshot)
        made = _again(cdr, session, snapshot)
    except (ChargestreamError, msgspec.ValidationError, KeyError) as error:
        return [Check("price", False, f"cannot be made again: {error}")]
    shown = made.to_json()
    wrong = [name for name in _TOTALS if shown[name] != kept.get(name)]
    wrong += ["lines"] if _lines(shown) != _lines(kept) else []
    total = made.net_rounded, made.gross_rounded
    says = f"again from registers and tariff version {snapshot.version}: {total[0]:f}, {total[1]:f} with tax"
    says += f"; other than kept: {', '.join(wrong)}" if wrong else ", every line the same"
    return [Check("price", not wrong and total == _money(cdr), says), _alone(cdr, snapshot)]


def _lines(shown: Mapping[str, Any]) -> list[list[Any]]:
    return [[line.get(name) for name in _LINE] for line in shown.get("lines", [])]


def _again(cdr: Mapping[str, Any], session: Mapping[str, Any], snapshot: Snapshot) -> Price:
    begin, end, energy = (_mwh(session[name]) for name in ("begin_wh", "end_wh", "energy_wh"))
    points = [(int(t), _mwh(wh) or 0) for t, wh in session["registers"]]
    hardware = Connector("", cdr["cdr_location"]["connector_power_type"], fixed_cable=False)
    sale = sale_of(dict(session), begin or 0, end or 0, energy or 0, points, hardware, 0, 0)
    return rate(transaction_of(sale), snapshot.compiled()).price


def _alone(cdr: dict[str, Any], snapshot: Snapshot) -> Check:
    if snapshot.windows or not cdr.get("tariffs"):
        return Check("cdr alone", None, "its tariff cannot be written in OCPI: priced from the session only")
    try:
        prepared = read_to_price(cdr, time_zone=snapshot.time_zone)
        made = price(prepared.tariff, prepared.session)
    except ChargestreamError as error:
        return Check("cdr alone", False, str(error))
    total = made.net_rounded, made.gross_rounded
    says = f"its own periods and tariff give {total[0]:f}, {total[1]:f} with tax"
    return Check("cdr alone", total == _money(cdr), says)


def _signed(cdr: Mapping[str, Any], session: Mapping[str, Any]) -> Check:
    values: Sequence[Any] = (cdr.get("signed_data") or {}).get("signed_values", ())
    if not values:
        return Check("signed values", None, "the station signed nothing")
    state = session.get("signed_state")
    says = f"{len(values)} signed values, carried as they came; verdict when billed: {state or 'not checked'}"
    return Check("signed values", None if state is None else state == VALID, says)
