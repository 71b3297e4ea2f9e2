"""Addresses of images, each good for one station, one campaign and a time: signed, so none can be made up."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, urlencode

from .firmware import FirmwareError
from .secret import Secret

#: Where the images lie under the server's address.
PREFIX: Final = "/firmware/"
_MAX_NAME: Final = 128  # an image_id has up to 122
_SHORTEST_SECRET: Final = 32
_FIELDS: Final = ("c", "n", "s", "e", "m")


class Grant(NamedTuple):
    """Who may fetch what, and until when."""

    image_id: str
    campaign: str
    site: str
    station: str
    expires_ms: int


def check_secret(secret: Secret) -> None:
    """Check that a secret is long enough to sign with.

    Raises
    ------
    FirmwareError
        If it is shorter than 32 characters.
    """
    if len(secret.reveal()) < _SHORTEST_SECRET:
        raise FirmwareError(
            "format",
            f"the secret that signs addresses has {len(secret.reveal())} characters; expected "
            f"{_SHORTEST_SECRET} or more, such as: openssl rand -hex 32",
        )


def query_of(grant: Grant, secret: Secret) -> str:
    """Return the signed query of a grant.

    ``c`` campaign, ``n`` site, ``s`` station, ``e`` expiry in epoch s (rounded up), ``m`` HMAC-SHA256.

    Raises
    ------
    FirmwareError
        If the secret is too short, or a name is longer than 128 characters.
    """
    check_secret(secret)
    for name in grant[:4]:
        if not name or len(name) > _MAX_NAME:
            raise FirmwareError("format", f"{name[:40]!r}: expected 1 to {_MAX_NAME} characters")
    expires_s = -(-grant.expires_ms // 1000)
    fields = {"c": grant.campaign, "n": grant.site, "s": grant.station, "e": str(expires_s)}
    return urlencode(fields | {"m": _mac(grant, expires_s, secret)}, quote_via=quote)


def url_of(public_url: str, grant: Grant, secret: Secret) -> str:
    """Return the address at which the station of `grant` fetches its image.

    Parameters
    ----------
    public_url : str
        Address of the server as stations reach it, ``https://firmware.example``.

    Raises
    ------
    FirmwareError
        As `query_of`.
    """
    return f"{public_url.rstrip('/')}{PREFIX}{quote(grant.image_id)}?{query_of(grant, secret)}"


def read_grant(image_id: str, query: str, secrets: Sequence[Secret], now_ms: int) -> Grant:
    """Return what a signed query grants.

    Parameters
    ----------
    image_id : str
        That is asked for.
    query : str
        Without ``?``.
    secrets : sequence of Secret
        The present one, and former ones that still count.
    now_ms : int

    Raises
    ------
    FirmwareError
        ``unsigned`` when the signature is missing or wrong, ``expired`` when its time is over.
    """
    found = parse_qs(query, keep_blank_values=True, max_num_fields=20)
    values = [found.get(name, []) for name in _FIELDS]
    if any(len(value) != 1 for value in values):
        raise FirmwareError("unsigned", "this address carries no signature of ours: ask for a new one")
    campaign, site, station, expiry, mac = (value[0] for value in values)
    if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
        raise FirmwareError("unsigned", "the expiry of this address is no time")
    grant = Grant(image_id, campaign, site, station, int(expiry) * 1000)
    given = mac.encode()
    # Every secret is tried, whatever the first says: the time tells nothing.
    matches = [
        hmac.compare_digest(_mac(grant, int(expiry), secret).encode(), given) for secret in secrets if secret
    ]
    if not any(matches):
        raise FirmwareError("unsigned", "the signature of this address does not hold: ask for a new one")
    if now_ms >= grant.expires_ms:
        raise FirmwareError("expired", f"this address was good until {expiry} (epoch s): ask for a new one")
    return grant


def _mac(grant: Grant, expires_s: int, secret: Secret) -> str:
    """Return the HMAC-SHA256 of all fields, each with its length before it, in URL-safe base64."""
    message = b"chargestream-firmware-1"
    for text in (grant.image_id, grant.campaign, grant.site, grant.station, str(expires_s)):
        field = text.encode()
        message += len(field).to_bytes(4, "big") + field
    digest = hmac.new(secret.reveal().encode(), message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
