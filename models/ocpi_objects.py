"""OCPI objects between versions and out of our own: bills and tariffs as 2.2.1 or 2.3.0, sessions of ours.

Objects are JSON data with exact numbers (`Decimal`); whatever a version does not change passes untouched.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

VERSIONS: Final = ("2.2.1", "2.3.0")
_COSTS: Final = (
    "total_cost", "total_fixed_cost", "total_energy_cost", "total_time_cost", "total_parking_cost",
    "total_reservation_cost",
)  # fmt: skip
_LIMITS: Final = ("min_price", "max_price")
_STATUS: Final = {
    "open": "ACTIVE",
    "incomplete": "ACTIVE",
    "review": "PENDING",
    "complete": "COMPLETED",
    "credited": "COMPLETED",
}
_ID_LENGTH: Final = 36
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class VersionProblem(ValueError):
    """An object that the other version cannot say."""


def read_json(text: str | bytes) -> Any:
    """Return JSON data whose numbers with a point are exact."""
    return _DECODER.decode(text)


def write_json(data: Any) -> bytes:
    """Return JSON whose exact numbers are written as they are."""
    return _ENCODER.encode(data)


def cdr_as(body: Mapping[str, Any], version: str, target: str) -> dict[str, Any]:
    """Return a CDR of `version` as `target` writes it.

    Tariffs that the target cannot say are left out: they are optional in a CDR, its costs are not.
    """
    out = session_as(body, version, target)
    tariffs = []
    for tariff in out.pop("tariffs", None) or []:
        try:
            tariffs.append(tariff_as(tariff, version, target))
        except VersionProblem:
            continue
    return out | ({"tariffs": tariffs} if tariffs else {})


def session_as(body: Mapping[str, Any], version: str, target: str) -> dict[str, Any]:
    """Return a Session, or the costs of a CDR, of `version` as `target` writes it."""
    out = dict(body)
    if version != target:
        convert = _price_230 if target == "2.3.0" else _price_221
        out |= {name: convert(out[name]) for name in _COSTS if isinstance(out.get(name), Mapping)}
    return out


def _price_230(price: Mapping[str, Any]) -> dict[str, Any]:
    net, gross = price.get("excl_vat", 0), price.get("incl_vat")
    taxes = [] if gross is None else [{"name": "VAT", "amount": Decimal(gross) - Decimal(net)}]
    return {"before_taxes": net, "taxes": taxes}


def _price_221(price: Mapping[str, Any]) -> dict[str, Any]:
    net = price.get("before_taxes", 0)
    taxes = price.get("taxes")
    if not isinstance(taxes, list):
        return {"excl_vat": net}
    return {
        "excl_vat": net,
        "incl_vat": Decimal(net) + sum((Decimal(t["amount"]) for t in taxes), Decimal(0)),
    }


def total_of(cost: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """Return a total cost as JSON data of either version, without and with tax; signed as it stands.

    Floats count as their shortest text.
    """
    if "before_taxes" in cost:
        net = _exact(cost["before_taxes"])
        return net, net + sum((_exact(tax["amount"]) for tax in cost.get("taxes") or []), Decimal(0))
    net = _exact(cost["excl_vat"])
    gross = cost.get("incl_vat")
    return net, net if gross is None else _exact(gross)


def _exact(value: Any) -> Decimal:
    return Decimal(str(value))


def tariff_as(body: Mapping[str, Any], version: str, target: str) -> dict[str, Any]:
    """Return a Tariff of `version` as `target` writes it.

    Raises
    ------
    VersionProblem
        If its prices hold tax and the target is 2.2.1: without it they need not have an end in decimals.
    """
    out = dict(body)
    if version == target:
        return out
    if target == "2.3.0":
        names = {"excl_vat": "before_taxes", "incl_vat": "after_taxes"}
        out.setdefault("tax_included", "NO")
    else:
        names = {"before_taxes": "excl_vat", "after_taxes": "incl_vat"}
        elements = out.get("elements") or []
        taxed = any(part.get("vat") for element in elements for part in element.get("price_components", []))
        if out.pop("tax_included", "NO") == "YES" and taxed:
            raise VersionProblem(
                f"tariff {out.get('id')!r}: prices with tax included, which 2.2.1 cannot say"
            )
        out.pop("preauthorize_amount", None)
    for limit in _LIMITS:
        if isinstance(out.get(limit), Mapping):
            out[limit] = {names.get(name, name): value for name, value in out[limit].items()}
    return out


def session_of(
    row: Mapping[str, Any], country_code: str, party_id: str, currency: str
) -> dict[str, Any] | None:
    """Return the OCPI Session of a row of ``sessions``; None when it has no start or no token of a partner.

    Parameters
    ----------
    row : mapping
        With `body` as data; ``cdr_token``, ``auth_method``, ``authorization_reference``, ``currency`` and
        ``total_cost`` are taken from there; of one that runs, cost and energy so far from the row itself.
    country_code, party_id : str
        The operator.
    currency : str
        For sessions that do not say theirs.
    """
    body = row["body"]
    token = body.get("cdr_token")
    if row["start_ms"] is None or not isinstance(token, Mapping):
        return None
    out: dict[str, Any] = {
        "country_code": country_code,
        "party_id": party_id,
        "id": short_id(row["site"], row["station"], row["transaction_id"]),
        "start_date_time": date_time(row["start_ms"]),
        "kwh": kwh(row.get("cost_energy_mwh") or row["energy_mwh"] or 0),
        "cdr_token": dict(token),
        "auth_method": body.get("auth_method", "WHITELIST"),
        "location_id": row["site"][:_ID_LENGTH],
        "evse_uid": f"{row['station']}-{row['evse']}"[:_ID_LENGTH],
        "connector_id": str(row["connector"] or 1),
        "currency": body.get("currency", currency),
        "status": _STATUS.get(row["state"], "ACTIVE"),
        "last_updated": date_time(row.get("known_ms") or row["updated_ms"]),
    }
    if row["end_ms"] is not None and row["state"] in ("complete", "credited"):
        out["end_date_time"] = date_time(row["end_ms"])
    for name in ("authorization_reference", "meter_id", "total_cost", "charging_periods"):
        if body.get(name) is not None:
            out[name] = body[name]
    if row.get("total_excl") is not None:
        out |= {"currency": row["cost_currency"]}
        out["total_cost"] = {"excl_vat": row["total_excl"], "incl_vat": row["total_incl"]}
    if isinstance(out.get("total_cost"), Mapping):
        out["total_cost"] = {name: Decimal(str(value)) for name, value in out["total_cost"].items()}
    return out


def short_id(*parts: str) -> str:
    """Return an id of at most 36 characters: the last part where it is short enough, else a UUID of all."""
    whole = "/".join(parts)
    joined = "-".join(parts[1:])
    if len(joined) <= _ID_LENGTH and joined.isascii() and joined.isprintable():
        return joined
    return str(uuid.uuid5(uuid.NAMESPACE_URL, whole))


def kwh(mwh: int) -> Decimal:
    """Return integer mWh as exact kWh."""
    number = Decimal(mwh) / 1_000_000
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number.normalize()


def date_time(time_ms: int) -> str:
    """Return epoch ms as an OCPI DateTime in UTC."""
    whole, part = divmod(time_ms, 1000)
    text = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=whole)).strftime(
        "%Y-%m-%dT%H:%M:%S"
    )
    return f"{text}.{part:03d}Z" if part else f"{text}Z"


def emsp_of(token: Any) -> str:
    """Return whose customer a ``cdr_token`` is, as ``NL*TNM``; empty when it does not say."""
    if not isinstance(token, Mapping):
        return ""
    country, party = token.get("country_code"), token.get("party_id")
    if not isinstance(country, str) or not isinstance(party, str) or not country or not party:
        return ""
    return f"{country.upper()}*{party.upper()}"
