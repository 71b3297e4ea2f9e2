"""What the web application is told about the outside: rates, and who we are over OCPI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.firmware_store import FirmwareStore

    from .views import ViewSettings


@dataclass(frozen=True, slots=True)
class OcpiSettings:
    """Who we are over OCPI.

    Attributes
    ----------
    country_code, party_id : str
        ISO 3166-1 alpha-2 and eMI3 id of the operator.
    business_name : str
    public_url : str
        Address at which partners reach us, without ``/ocpi``; empty: as they asked.
    currency : str
        ISO 4217; of sessions that do not say theirs.
    insecure : bool
        Talk to partners without TLS: for tests and closed networks.
    token_salts : tuple of str
        What dialects put before a token when they hash it.
    """

    country_code: str
    party_id: str
    business_name: str = "chargestream"
    public_url: str = ""
    currency: str = "EUR"
    insecure: bool = False
    token_salts: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How often may be asked, and whether OCPI is spoken.

    Attributes
    ----------
    rate_per_s, burst : float, int
        Requests of one token: so many each second in the long run, so many at once.
    strangers_per_s, strangers_burst : float, int
        Requests without a valid token, of one address.
    views : ViewSettings, optional
        What pages of their own are told; None: nothing.
    names : tuple of str, optional
        Host names to answer to, beside localhost and bare addresses; None: to all.
    images : FirmwareStore, optional
        The images that are shown; without it there is no page of them.
    """

    rate_per_s: float = 20.0
    burst: int = 100
    strangers_per_s: float = 1.0
    strangers_burst: int = 10
    ocpi: OcpiSettings | None = None
    views: ViewSettings | None = None
    images: FirmwareStore | None = None
    names: tuple[str, ...] | None = None
