"""Whether a request comes from a person at this very machine, and by which name it was asked for.

A proxy on this machine connects from a loopback address as well, and most can be told to hide that anybody is
behind them. So it is not enough that nothing speaks against a person here: on Linux the kernel tells whose
program is at the other end of the connection, and that must be the user that this process runs as.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"
#: What proxies add to a request, beside X-Forwarded-…; no browser and no curl does.
_PROXIED: Final = frozenset(
    {
        "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for",
        "true-client-ip", "cf-connecting-ip", "fastly-client-ip", "x-envoy-external-address", "x-request-id",
        "x-original-host", "x-original-url", "x-rewrite-url", "x-proxyuser-ip", "client-ip",
    }
)  # fmt: skip


def from_here(request: Request) -> bool:
    """Return whether a request comes from this very machine, without a proxy, and was meant for it.

    The address must be a loopback one, and so must the name that was asked for: a name of somebody else's
    that he lets point to 127.0.0.1 would make his page one of ours. Nothing may look like a proxy: none of
    the headers they add, and no HTTP/1.0, which nginx speaks unless told otherwise.
    """
    client, server = request.client, request.scope.get("server")
    if client is None or server is None or not is_loopback(client.host):
        return False
    if not is_local_name(request.url.hostname or "") or request.scope["http_version"] == "1.0":
        return False
    if any(name in _PROXIED or name.startswith("x-forwarded") for name in request.headers):
        return False
    return owner(client.port, server[1]) in {None, _me()}


def owner(port: int, server_port: int) -> int | None:
    """Return the user id of the program on this machine that holds a connection to us.

    Parameters
    ----------
    port, server_port : int
        TCP ports at its end and at ours.

    Returns
    -------
    int or None
        -1 when no program here has such a connection; None when this system does not tell.
    """
    if not any(table.is_file() for table in _TABLES):
        return None
    return next((uid for here, there, uid in _connections() if (here, there) == (port, server_port)), -1)


def _connections() -> Iterator[tuple[int, int, int]]:
    """Yield (local port, remote port, user id) of established TCP connections from loopback addresses."""
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            (address, here), there = fields[1].split(":"), fields[2].rpartition(":")[2]
            if fields[3] == _ESTABLISHED and is_loopback(_address(address)):
                yield int(here, 16), int(there, 16), int(fields[7])


def _address(digits: str) -> str:
    """Return an address of /proc/net: words of 32 bits, each with its lowest byte first."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _me() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else -1


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address of this machine that nobody else can reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_local_name(name: str) -> bool:
    """Return whether `name`, as in a Host header without the port, can only mean this machine."""
    return name == "localhost" or is_loopback(name)


class KnownNames:
    """Answers only to its own names.

    A page elsewhere may let its own name point to our address, and the reader's browser would take what we
    answer for that page's own (DNS rebinding). Bare addresses cannot be misused so.

    Parameters
    ----------
    app : callable
        What is asked when the name is known.
    names : tuple of str
        Beside localhost and every address.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app, self._names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not self._knows(host):
                text = (
                    f"nothing is served here under the name {host!r:.120}. If it is a name of ours (a proxy"
                    " passes on the name that was asked for), add it to api.names in the configuration"
                )
                return await PlainTextResponse(text, status_code=421)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        if not host:
            return True  # HTTP/1.0, which no browser speaks
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
