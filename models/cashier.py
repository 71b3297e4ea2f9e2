"""Bills of transactions that are complete: priced under the site's tariff, as immutable OCPI CDRs.

A transaction whose price cannot be told goes to review (`TariffError`); one that was billed and changed gets
a credit CDR and a new one. The CDR that was sent is kept, packed: a credit takes back exactly that, whatever
tariffs, addresses or this program have become since. Under a tariff that is no longer the one of the bill
nothing is priced again unless a person says so.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from .cdr import Cdr, Cdr230, CdrLocation, CdrToken, GeoLocation, SignedData, credit_of, read_cdr
from .cdr_of import CdrIdentity, cdr_id, cdr_of, cdr_text, revised
from .dynamic import Bill, PriceSeries, Succession
from .outputs import CdrRow, SessionRow
from .rating import CHARGING, SUSPENDED_EV, SUSPENDED_EVSE, Transaction
from .signed_values import signed_data
from .tariffs import TariffError, loads

_ACTIVITY: Final = {"SuspendedEV": SUSPENDED_EV, "SuspendedEVSE": SUSPENDED_EVSE, "Charging": CHARGING}
_TOKEN_TYPES: Final = {
    "ISO14443": "RFID",
    "ISO15693": "RFID",
    "eMAID": "EMAID",
    "Central": "APP_USER",
    "NoAuthorization": "AD_HOC_USER",
    "DirectPayment": "AD_HOC_USER",
}
_SHORT: Final = 36


@dataclass(frozen=True, slots=True)
class Place:
    """A site as bills know it: tariffs, time zone and address."""

    billers: Succession
    name: str
    address: str
    city: str
    country: str
    postal_code: str
    latitude: str
    longitude: str


@dataclass(frozen=True, slots=True)
class BillingPlan:
    """Who bills, and under which tariff where; `places` by site, `default` for all others (None: no bill)."""

    country_code: str = ""
    party_id: str = ""
    version: str = "2.2.1"
    places: Mapping[str, Place] = field(default_factory=dict)
    default: Place | None = None
    prices: PriceSeries | None = None

    def place(self, site: str) -> Place | None:
        """Return what is known of a site."""
        return self.places.get(site, self.default)


class Connector(msgspec.Struct, frozen=True):
    """The connector as the inventory has it."""

    standard: str
    power_type: str
    fixed_cable: bool


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """The figures that a bill is made of. Times epoch ms, registers mWh."""

    site: str
    station: str
    evse: int
    connector: int
    transaction_id: str
    revision: int
    start_ms: int
    end_ms: int
    readings: list[tuple[int, int]]
    spans: list[tuple[int, str]]
    token_type: str
    token_hash: str
    hardware: Connector
    signed: list[Any]
    made_ms: int
    at_start: dict[str, Any] | None = None  # what the site did when it began, where the price depends on it
    authorization_reference: str = ""
    cdr_token: dict[str, str] | None = None  # as its eMSP told us, None: it is no partner's


class Sent(msgspec.Struct, frozen=True):
    """A CDR as it was sent (its JSON text, packed) and the version of the tariff that it was priced under."""

    cdr: bytes
    tariff_version: str

    @property
    def text(self) -> str:
        """The text, to the byte."""
        return zlib.decompress(self.cdr).decode()


class Billed(msgspec.Struct, frozen=True):
    """What billing a sale gives: CDRs to send, the price as the session keeps it, and what is kept of it."""

    cdrs: list[CdrRow]
    price: dict[str, Any]
    sent: Sent | None


def sale_of(
    body: dict[str, Any], begin_mwh: int, end_mwh: int, energy_mwh: int, points: list[tuple[int, int]],
    hardware: Connector, revision: int, made_ms: int,
) -> Sale:  # fmt: skip
    """Return the figures of a session: `body` is its line, `points` are registers (ms, mWh) by time.

    Registers count from the begin; readings that do not fit between begin and end are left out. Where the
    energy is not the difference of the two (rollover, a person's decision) it counts from 0.
    """
    start, end = body["start"], body["end"]
    readings = [(start, 0)]
    if end_mwh - begin_mwh == energy_mwh:
        for time_ms, register in points:
            counted = register - begin_mwh
            if start < time_ms < end and readings[-1][1] <= counted <= energy_mwh:
                readings.append((time_ms, counted))
    readings.append((end, energy_mwh))
    told = [(t, _ACTIVITY[word]) for t, word in body["charging_states"] if word in _ACTIVITY and t < end]
    spans = [
        (max(t, start), activity)
        for i, (t, activity) in enumerate(told)
        if i == 0 or activity != told[i - 1][1]
    ]
    if body.get("held"):
        spans = _held_back(spans, body["held"])
    return Sale(
        site=body["site"],
        station=body["station"],
        evse=body["evse"],
        connector=body["connector"] or 1,
        transaction_id=body["transaction_id"],
        revision=revision,
        start_ms=start,
        end_ms=end,
        readings=readings,
        spans=spans,
        token_type=body["token_type"],
        token_hash=body["token_hash"],
        hardware=hardware,
        signed=body["signed"],
        made_ms=made_ms,
    )


def _held_back(spans: list[tuple[int, str]], held: list[list[int]]) -> list[tuple[int, str]]:
    """Return the activities; waiting under a limit below 6 A is the station's, not the vehicle's."""
    made: list[tuple[int, str]] = []
    for t in sorted({t for t, _ in spans} | {t for span in held for t in span}):
        activity = next((word for since, word in reversed(spans) if since <= t), CHARGING)
        if activity == SUSPENDED_EV and any(begin <= t < end for begin, end in held):
            activity = SUSPENDED_EVSE
        if activity != (made[-1][1] if made else CHARGING):
            made.append((t, activity))
    return made


class Cashier:
    """Makes bills under one plan."""

    def __init__(self, plan: BillingPlan) -> None:
        self.plan = plan

    def bill(self, sale: Sale, sent: Sent | None, *, decided: bool = False) -> Billed:
        """Return the bill of a sale, and what corrects the one that was sent; nothing without a tariff.

        `decided`: a person decided that it is to be billed, also under a tariff that was changed.

        Raises
        ------
        TariffError
            If the session cannot be priced, or its tariff is not the one of the bill that was sent.
        """
        place = self.plan.place(sale.site)
        if place is None:
            return Billed([], {}, None)
        version = place.billers.at(sale.start_ms).version
        if sent is not None and sent.tariff_version != version and not decided:
            raise TariffError(
                f"the bill was made under tariff version {sent.tariff_version}, now it is {version}: keep "
                "old tariffs in the file beside new ones, with start_date_time and end_date_time"
            )
        priced = self._priced(place, sale)
        summary = priced.rated.price.to_json() | {"snapshot": msgspec.to_builtins(priced.snapshot)}
        if sale.at_start is not None:
            summary["at_start"] = sale.at_start
        try:
            new = self._cdr(place, sale, priced)
        except ValidationError as error:
            first = error.errors()[0]
            raise TariffError(f"no CDR: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        cdrs = revised(None if sent is None else sent.text, new, _time(sale.made_ms))
        rows = [_row(sale.site, sale.station, sale.transaction_id, sale.revision, cdr) for cdr in cdrs]
        return Billed(rows, summary, _sent(new, version) if rows else None)

    def sent(self, billed: bytes) -> Sent:
        """Return a kept bill; states of before bills were kept hold the sale, from which it is made again.

        Raises
        ------
        TariffError
            If such a sale cannot be priced any more.
        """
        try:
            return msgspec.msgpack.decode(billed, type=Sent)
        except msgspec.ValidationError:
            sale = msgspec.msgpack.decode(billed, type=Sale)
        place = self.plan.place(sale.site)
        if place is None:
            raise TariffError(f"site {sale.site!r} has no tariff any more")
        cdr = self._cdr(place, sale, self._priced(place, sale))
        return _sent(cdr, place.billers.at(sale.start_ms).version)

    def credit(self, sent: Sent, row: SessionRow, made_ms: int) -> list[CdrRow]:
        """Return the credit CDR of a session's bill that nothing takes the place of."""
        old = credit_of(read_cdr(loads(sent.text)), _time(made_ms))
        return [_row(row.site, row.station, row.transaction_id, row.revision, old)]

    def who(self, row: SessionRow, reference: str, partner: dict[str, str] | None) -> dict[str, Any]:
        """Return what partners see of a session beside its own fields: whose it is, and in which currency.

        `partner` is the token as its eMSP told us, None: it is no partner's.
        """
        place = self.plan.place(row.site)
        if place is None:
            return {}
        token = partner or self._token(row.token_type, row.token_hash)
        shown: dict[str, Any] = {"cdr_token": token, "auth_method": "WHITELIST"}
        if reference:
            shown |= {"auth_method": "AUTH_REQUEST", "authorization_reference": reference[:_SHORT]}
        return shown | {"currency": place.billers.currency_at(row.start_ms)}

    def _token(self, kind: str, token_hash: str) -> dict[str, str]:
        """Return the OCPI token of one that no partner told us: ours, with the hash for its number."""
        uid = (token_hash or "unknown")[:_SHORT]
        return {
            "country_code": self.plan.country_code,
            "party_id": self.plan.party_id,
            "uid": uid,
            "type": _TOKEN_TYPES.get(kind, "OTHER"),
            "contract_id": uid,
        }

    def price(self, sale: Sale) -> dict[str, Any] | None:
        """Return what a session costs as it stands, None where its site has no tariff.

        Raises
        ------
        TariffError
            If it cannot be priced.
        """
        place = self.plan.place(sale.site)
        if place is None:
            return None
        biller = place.billers.at(sale.start_ms)
        price = biller.rated(transaction_of(sale), prices=self.plan.prices, **_site(sale)).price
        return {
            "total_excl": f"{price.net_rounded:f}",
            "total_incl": f"{price.gross_rounded:f}",
            "currency": price.tariff.currency,
            "tariff_id": price.tariff.id,
        }

    def _priced(self, place: Place, sale: Sale) -> Bill:
        biller = place.billers.at(sale.start_ms)
        return biller.bill(transaction_of(sale), prices=self.plan.prices, **_site(sale))

    def _cdr(self, place: Place, sale: Sale, bill: Bill) -> Cdr:
        plan = self.plan
        identity = CdrIdentity(
            country_code=plan.country_code,
            party_id=plan.party_id,
            id=cdr_id(sale.site, sale.station, sale.transaction_id, sale.revision),
            token=CdrToken.model_validate(sale.cdr_token or self._token(sale.token_type, sale.token_hash)),
            auth_method="AUTH_REQUEST" if sale.authorization_reference else "WHITELIST",
            authorization_reference=sale.authorization_reference[:_SHORT] or None,
            location=_location(place, sale),
            last_updated=_time(sale.made_ms),
            session_id=sale.transaction_id[:_SHORT],
            signed_data=_signed(sale.signed),
        )
        return cdr_of(bill.rated, identity, "2.3.0" if plan.version == "2.3.0" else "2.2.1")


def _sent(cdr: Cdr, version: str) -> Sent:
    return Sent(zlib.compress(cdr_text(cdr).encode(), 1), version)


def _row(site: str, station: str, transaction_id: str, revision: int, cdr: Cdr) -> CdrRow:
    return CdrRow(
        id=cdr.id,
        revision=revision,
        site=site,
        station=station,
        transaction_id=transaction_id,
        credit=bool(cdr.credit),
        credit_reference_id=cdr.credit_reference_id,
        ocpi_version="2.3.0" if isinstance(cdr, Cdr230) else "2.2.1",
        last_updated_ms=round(cdr.last_updated.timestamp() * 1000),
        body=cdr_text(cdr),
    )


def transaction_of(sale: Sale) -> Transaction:
    return Transaction(
        start_ms=sale.start_ms,
        end_ms=sale.end_ms,
        readings=sale.readings,
        spans=sale.spans,
        evse_kind="DC" if sale.hardware.power_type == "DC" else "AC",
    )


def _site(sale: Sale) -> dict[str, Any]:
    """Return what the site did when the session began, as pricing asks for it."""
    known = sale.at_start or {}
    return {"occupancy": known.get("occupancy"), "site_kw": known.get("site_kw")}


def _location(place: Place, sale: Sale) -> CdrLocation:
    return CdrLocation.model_validate(
        {
            "id": sale.site[:_SHORT],
            "name": place.name or None,
            "address": place.address[:45],
            "city": place.city[:45],
            "postal_code": place.postal_code or None,
            "country": place.country,
            "coordinates": GeoLocation(latitude=place.latitude, longitude=place.longitude),
            "evse_uid": f"{sale.station}-{sale.evse}"[:_SHORT],
            "evse_id": f"{sale.site}*E{sale.station}*{sale.evse}"[:48],
            "connector_id": str(sale.connector),
            "connector_standard": sale.hardware.standard,
            "connector_format": "CABLE" if sale.hardware.fixed_cable else "SOCKET",
            "connector_power_type": sale.hardware.power_type,
        }
    )


def _signed(values: list[Any]) -> SignedData | None:
    """Return signed readings untouched: as the station sent them."""
    data = signed_data(values)
    return None if data is None else SignedData.model_validate(data)


def _time(ms: int) -> dt.datetime:
    whole, rest = divmod(ms, 1000)
    return dt.datetime.fromtimestamp(whole, dt.UTC) + dt.timedelta(milliseconds=rest)


__all__ = ["BillingPlan", "Cashier", "Connector", "Place", "Sale", "Sent", "TariffError", "sale_of"]
