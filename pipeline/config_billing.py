"""Settings of billing: time zones of sites, and who we are over OCPI."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .config_sections import Section, clash


class BillingSiteSection(Section):
    """A site as bills know it."""

    site: str = Field(..., min_length=1, description="Name of the site in topics.")
    tariff_file: str = Field("", description="Tariff (JSON); empty: that of [billing].")
    name: str = Field("", max_length=255, description="Name on bills.")
    address: str = Field("", max_length=45, description="Street and number.")
    city: str = Field("", max_length=45, description="City.")
    postal_code: str = Field("", max_length=10, description="Postal code.")
    country: str = Field("", pattern=r"^([A-Z]{3})?$", description="ISO 3166-1 alpha-3.")
    latitude: str = Field("0.00000", pattern=r"^-?[0-9]{1,2}\.[0-9]{5,7}$", description="Degrees.")
    longitude: str = Field("0.00000", pattern=r"^-?[0-9]{1,3}\.[0-9]{5,7}$", description="Degrees.")


class ConnectionSection(Section):
    """A connection to the grid, with the sites behind it."""

    name: str = Field(..., min_length=1, max_length=100, description="Name of the connection.")
    sites: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        ..., min_length=1, description="Sites behind it, by their names in topics."
    )
    meter_file: str = Field(
        "", description="Grid meter's quarter hours (CSV: start, energy_wh or energy_kwh); empty: none."
    )


class BillingSection(Section):
    """Prices and bills of transactions; months and days of sites."""

    tariff_file: str = Field("", description="Tariff (JSON) of sites that name none; empty: not billed.")
    country: str = Field("DEU", pattern=r"^[A-Z]{3}$", description="ISO 3166-1 alpha-3 of sites.")
    ocpi_version: Literal["2.2.1", "2.3.0"] = Field("2.2.1", description="Form of CDRs.")
    price_files: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="Market prices for tariffs that follow them: CSV, aWATTar, Tibber or ENTSO-E."
    )
    signed_values: Literal["ignore", "check", "require"] = Field(
        "check",
        description="check: what fails goes to review; require: what is missing or unproven too.",
    )
    meter_keys: str = Field(
        "", description="Public keys of meters (TOML or JSON), beside those registered in the ledger."
    )
    settle_s: float = Field(
        120.0, ge=1, le=86_400, description="From an end to its judgement: what belongs to it may still come."
    )
    running_cost_s: float = Field(
        60.0, ge=0, le=86_400, description="A running cost is published at most this often; 0: never."
    )
    sites: Annotated[tuple[BillingSiteSection, ...], Field(strict=False)] = Field(
        (), description="Sites with a tariff or address of their own."
    )
    connections: Annotated[tuple[ConnectionSection, ...], Field(strict=False)] = Field(
        (), description="Connections to the grid, for reconciliation and peaks."
    )

    time_zone: str = Field("UTC", min_length=1, description="IANA time zone of sites not named below.")
    site_time_zones: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), max_length=100_000, description="SITE=ZONE for each site elsewhere: months and tariffs are local."
    )

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return _known(value)

    @field_validator("site_time_zones")
    @classmethod
    def _zones(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            _known(entry.rpartition("=")[2])
            if not entry.rpartition("=")[0]:
                raise PydanticCustomError("zone", "SITE=ZONE such as depot=Europe/Berlin")
        return value

    def zones(self) -> dict[str, str]:
        """Return the time zone of each site that has its own."""
        return {site: zone for site, _, zone in (entry.rpartition("=") for entry in self.site_time_zones)}


def _known(zone: str) -> str:
    if zone not in available_timezones():
        raise PydanticCustomError("zone", "an IANA time zone such as Europe/Berlin")
    return ZoneInfo(zone).key


class OcpiSection(Section):
    """OCPI towards eMSPs and hubs."""

    enabled: bool = Field(False, description="Speak OCPI under /ocpi and push bills to partners.")
    country_code: str = Field("", pattern=r"^([A-Z]{2})?$", description="Our country, ISO 3166-1 alpha-2.")
    party_id: str = Field("", pattern=r"^([A-Z0-9]{3})?$", description="Our id in that country.")
    business_name: str = Field("chargestream", min_length=1, max_length=100, description="Our name.")
    public_url: str = Field(
        "",
        pattern=r"^$|^https?://[^\s/]+",
        description="Our address for partners; empty: as they ask.",
    )
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="Of sessions that do not say theirs.")
    insecure: bool = Field(False, description="Partners without TLS (tests and closed networks only).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("country_code", "party_id"):
            if self.enabled and not getattr(self, name):
                raise clash(name, "our id, because OCPI is enabled")
        return self
