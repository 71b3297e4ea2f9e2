"""OCPI CDRs, 2.2.1 and 2.3.0: models, the CDR of a rated transaction, and corrections.

A CDR that was sent never changes: a correction is a credit CDR (same data, new id, negative total cost)
followed by a new CDR with a new id. Signed data is carried as it came, never re-formatted.
Sources: OCPI 2.2.1 (bugfix branch) and 2.3.0, mod_cdrs; limits of lengths and cardinalities from there.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from .tariffs._ocpi_types import DateTime, Model, Number, TariffError
from .tariffs.ocpi import Price221, Tariff221, Tariff230, complaints

AuthMethod = Literal["AUTH_REQUEST", "COMMAND", "WHITELIST"]
TokenType = Literal["AD_HOC_USER", "APP_USER", "EMAID", "OTHER", "RFID"]
CdrDimensionType = Literal[
    "CURRENT", "ENERGY", "ENERGY_EXPORT", "ENERGY_IMPORT", "MAX_CURRENT", "MAX_POWER", "MIN_CURRENT",
    "MIN_POWER", "PARKING_TIME", "POWER", "RESERVATION_TIME", "STATE_OF_CHARGE", "TIME",
]  # fmt: skip
#: These stand in Sessions only.
SESSION_ONLY = frozenset(
    {"CURRENT", "ENERGY_EXPORT", "ENERGY_IMPORT", "POWER", "STATE_OF_CHARGE"},
)
Short = Annotated[str, Field(min_length=1, max_length=36)]
#: A normal CDR's id has 36 characters at most; three more are for what a credit CDR appends.
CREDIT_SUFFIX = "-C"


class CdrDimension(Model):
    """An amount of one dimension: kWh, h, A or kW."""

    type: CdrDimensionType
    volume: Number


class ChargingPeriod(Model):
    """From its start until the next one's, or the end of the session."""

    start_date_time: DateTime
    dimensions: Annotated[tuple[CdrDimension, ...], Field(min_length=1)]
    tariff_id: Short | None = None


class CdrToken(Model):
    """The token as it was when the session started."""

    country_code: Annotated[str, Field(min_length=2, max_length=2)]
    party_id: Annotated[str, Field(min_length=3, max_length=3)]
    uid: Short
    type: TokenType
    contract_id: Short


class GeoLocation(Model):
    """Degrees, as text."""

    latitude: Annotated[str, Field(pattern=r"^-?[0-9]{1,2}\.[0-9]{5,7}$")]
    longitude: Annotated[str, Field(pattern=r"^-?[0-9]{1,3}\.[0-9]{5,7}$")]


class CdrLocation(Model):
    """Where it was; has no time zone."""

    id: Short
    name: Annotated[str, Field(max_length=255)] | None = None
    address: Annotated[str, Field(max_length=45)]
    city: Annotated[str, Field(max_length=45)]
    postal_code: Annotated[str, Field(max_length=10)] | None = None
    state: Annotated[str, Field(max_length=20)] | None = None
    country: Annotated[str, Field(min_length=3, max_length=3)]
    coordinates: GeoLocation
    evse_uid: Short
    evse_id: Annotated[str, Field(max_length=48)]
    connector_id: Short
    connector_standard: str
    connector_format: Literal["SOCKET", "CABLE"]
    connector_power_type: Literal["AC_1_PHASE", "AC_2_PHASE", "AC_2_PHASE_SPLIT", "AC_3_PHASE", "DC"]


class SignedValue(Model):
    """One signed reading, exactly as the meter wrote it."""

    nature: Annotated[str, Field(max_length=32)]
    plain_data: Annotated[str, Field(max_length=5000)]
    signed_data: Annotated[str, Field(max_length=5000)]


class SignedData(Model):
    """Signed meter values of a session."""

    encoding_method: Annotated[str, Field(max_length=36)]
    encoding_method_version: int | None = None
    public_key: Annotated[str, Field(max_length=512)] | None = None
    signed_values: Annotated[tuple[SignedValue, ...], Field(min_length=1)]
    url: Annotated[str, Field(max_length=512)] | None = None


class TaxAmount(Model):
    """Amount of one tax."""

    name: str
    amount: Number
    account_number: str | None = None
    percentage: Number | None = None


class Price230(Model):
    """A price of OCPI 2.3.0."""

    before_taxes: Number
    taxes: tuple[TaxAmount, ...] = ()


class BaseCdr(Model):
    """What CDRs of both versions have in common."""

    country_code: Annotated[str, Field(min_length=2, max_length=2)]
    party_id: Annotated[str, Field(min_length=3, max_length=3)]
    id: Annotated[str, Field(min_length=1, max_length=39)]
    start_date_time: DateTime
    end_date_time: DateTime
    session_id: Short | None = None
    cdr_token: CdrToken
    auth_method: AuthMethod
    authorization_reference: Short | None = None
    cdr_location: CdrLocation
    meter_id: Annotated[str, Field(max_length=255)] | None = None
    currency: Annotated[str, Field(min_length=3, max_length=3)]
    charging_periods: Annotated[tuple[ChargingPeriod, ...], Field(min_length=1)]
    signed_data: SignedData | None = None
    total_energy: Number
    total_time: Number
    total_parking_time: Number | None = None
    remark: Annotated[str, Field(max_length=255)] | None = None
    invoice_reference_id: Annotated[str, Field(max_length=39)] | None = None
    credit: bool | None = None
    credit_reference_id: Annotated[str, Field(max_length=39)] | None = None
    home_charging_compensation: bool | None = None
    last_updated: DateTime

    @model_validator(mode="after")
    def _whole(self) -> BaseCdr:
        if self.end_date_time < self.start_date_time:
            raise ValueError("end_date_time lies before start_date_time")
        if bool(self.credit) != (self.credit_reference_id is not None):
            raise ValueError("credit and credit_reference_id go together")
        if len(self.id) > 36 and not self.credit:
            raise ValueError("id: 36 characters at most, 39 only for a credit CDR")
        kinds = {d.type for period in self.charging_periods for d in period.dimensions}
        if kinds & SESSION_ONLY:
            raise ValueError(f"dimensions {sorted(kinds & SESSION_ONLY)} stand in Sessions only")
        return self


class Cdr221(BaseCdr):
    """A CDR of OCPI 2.2.1."""

    tariffs: tuple[Tariff221, ...] = ()
    total_cost: Price221
    total_fixed_cost: Price221 | None = None
    total_energy_cost: Price221 | None = None
    total_time_cost: Price221 | None = None
    total_parking_cost: Price221 | None = None
    total_reservation_cost: Price221 | None = None


class Cdr230(BaseCdr):
    """A CDR of OCPI 2.3.0."""

    tariffs: tuple[Tariff230, ...] = ()
    total_cost: Price230
    total_fixed_cost: Price230 | None = None
    total_energy_cost: Price230 | None = None
    total_time_cost: Price230 | None = None
    total_parking_cost: Price230 | None = None
    total_reservation_cost: Price230 | None = None


Cdr = Cdr221 | Cdr230


def read_cdr(data: Any) -> Cdr:
    """Return the CDR that JSON data describes, of the version in which its total cost is written.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    if not isinstance(data, dict):
        raise TariffError(f"a CDR is a JSON object, got {type(data).__name__}")
    cost = data.get("total_cost")
    model = Cdr230 if isinstance(cost, dict) and "before_taxes" in cost else Cdr221
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"CDR {data.get('id', '?')!r}: {complaints(error)}") from None


def credit_of(cdr: Cdr, now: dt.datetime, suffix: str = CREDIT_SUFFIX) -> Cdr:
    """Return the credit CDR that takes a sent CDR back: the same data, a new id, only total_cost negative.

    Raises
    ------
    TariffError
        If the CDR is itself a credit, or the suffix does not fit.
    """
    if cdr.credit:
        raise TariffError(f"CDR {cdr.id!r} is a credit CDR: it cannot be credited")
    if not suffix or len(cdr.id + suffix) > 39:
        raise TariffError(f"credit of CDR {cdr.id!r}: id {cdr.id + suffix!r} is longer than 39 characters")
    changed = {
        "id": cdr.id + suffix,
        "credit": True,
        "credit_reference_id": cdr.id,
        "last_updated": now,
    }
    if isinstance(cdr, Cdr221):
        return cdr.model_copy(update=changed | {"total_cost": _negative_221(cdr.total_cost)})
    return cdr.model_copy(update=changed | {"total_cost": _negative_230(cdr.total_cost)})


def _negative_221(price: Price221) -> Price221:
    gross = None if price.incl_vat is None else _minus(price.incl_vat)
    return price.model_copy(update={"excl_vat": _minus(price.excl_vat), "incl_vat": gross})


def _negative_230(price: Price230) -> Price230:
    taxes = tuple(tax.model_copy(update={"amount": _minus(tax.amount)}) for tax in price.taxes)
    return price.model_copy(update={"before_taxes": _minus(price.before_taxes), "taxes": taxes})


def _minus(amount: Decimal) -> Decimal:
    return amount.copy_negate() if amount else amount


def correct(sent: Cdr, new: Cdr, now: dt.datetime, suffix: str = CREDIT_SUFFIX) -> tuple[Cdr, Cdr]:
    """Return what corrects a sent CDR: its credit, then the new one.

    Raises
    ------
    TariffError
        If the new CDR keeps the old id, or belongs to another party.
    """
    if (new.country_code, new.party_id) != (sent.country_code, sent.party_id):
        raise TariffError(f"CDR {new.id!r} belongs to another party than {sent.id!r}")
    if new.id in {sent.id, sent.id + suffix}:
        raise TariffError(f"CDR {new.id!r}: a correction needs a new id, a sent CDR is never replaced")
    return credit_of(sent, now, suffix), new
