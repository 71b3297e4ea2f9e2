"""What a page's form sends, and whether one of our own pages sent it."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials

#: A form is no longer than this, unless said otherwise.
MOST_BYTES: Final = 20_000


async def read_form(request: Request, most_bytes: int = MOST_BYTES) -> dict[str, str]:
    """Return the fields of a form, the last of each name, without space around them.

    Raises
    ------
    HTTPException
        403 if a page of another origin sent it, 413 if it is longer than `most_bytes`.
    """
    refuse_foreign(request)
    raw = await request.body()
    if len(raw) > most_bytes:
        raise HTTPException(413, f"the form has {len(raw)} bytes; at most {most_bytes} are taken")
    fields = parse_qs(raw.decode("utf-8", "replace"))
    return {name: values[-1].strip() for name, values in fields.items()}


def token_in(form: dict[str, str]) -> HTTPAuthorizationCredentials | None:
    """Return the token in the field `token` as if it had come in the header; None if it is empty."""
    token = form.get("token", "")
    return HTTPAuthorizationCredentials(scheme="Bearer", credentials=token) if token else None


def refuse_foreign(request: Request) -> None:
    """Refuse what a page of another origin sends: the reader's browser would carry it out unasked."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is None:  # no browser of today: its Origin, if it sends one
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    else:  # no page can forge it; of our own forms the Origin is null, for they send no referrer
        foreign = site not in {"same-origin", "none"}
        foreign = foreign or (
            origin not in {None, "null"} and urlsplit(str(origin)).netloc != request.headers.get("host")
        )
    if foreign:
        raise HTTPException(403, "this request comes from another page")


def from_here(request: Request) -> bool:
    """Return whether a request comes from this very machine and was meant for it.

    The address must be a loopback one, and so must the name that was asked for: a name of somebody else's
    that he lets point to 127.0.0.1 would make his page one of ours.
    """
    host = request.url.hostname or ""
    return _loopback(request.client.host if request.client else "") and (
        host == "localhost" or _loopback(host)
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
