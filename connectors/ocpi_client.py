"""Asks partners over OCPI: which versions and endpoints they have; pushes bills to them."""

from __future__ import annotations

import base64
import uuid
from typing import Any, Final

import httpx

from models.errors import ConfigError, Refused, RetryLater
from models.ocpi_objects import read_json, write_json

TIMEOUT_S: Final = 10.0
_MAX_BYTES: Final = 1 << 20


class OcpiClient:
    """One partner.

    Parameters
    ----------
    token : str
        What we show the partner.
    insecure : bool
        Accept addresses without TLS: for tests and closed networks only.
    """

    def __init__(self, token: str, *, insecure: bool = False) -> None:
        self._insecure = insecure
        encoded = base64.b64encode(token.encode()).decode()
        self._http = httpx.Client(
            headers={"Authorization": f"Token {encoded}"}, timeout=TIMEOUT_S, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def endpoints(self, versions_url: str, version: str) -> list[dict[str, Any]]:
        """Return the endpoints of a partner: identifier, role, url.

        Raises
        ------
        ConfigError
            If the partner does not speak `version`, or what it answers is no OCPI.
        RetryLater
            If it does not answer.
        """
        versions = self._get(versions_url)
        found = [v for v in versions if isinstance(v, dict)] if isinstance(versions, list) else []
        url = next((v.get("url") for v in found if v.get("version") == version), None)
        if not isinstance(url, str):
            raise ConfigError(f"{versions_url}: the partner does not offer version {version}")
        details = self._get(url)
        listed = details.get("endpoints") if isinstance(details, dict) else None
        if not isinstance(listed, list):
            raise ConfigError(f"{url}: no endpoints in the answer")
        return [e for e in listed if isinstance(e, dict) and isinstance(e.get("url"), str)]

    def post_cdr(self, url: str, cdr: dict[str, Any]) -> str:
        """Push a bill and return where the partner keeps it.

        Raises
        ------
        RetryLater
            If the partner does not answer or says that it cannot now.
        Refused
            If it never will take this bill.
        """
        answer = self._ask("POST", url, write_json(cdr))
        status, words = _status(answer)
        if answer.status_code < 300 and 1000 <= status < 2000:
            return str(answer.headers.get("location", ""))
        said = f"{url} answered {answer.status_code}, OCPI status {status}: {words}"
        if answer.status_code >= 500 or answer.status_code in (401, 403, 408, 429) or 3000 <= status < 4000:
            raise RetryLater(said, _retry_after(answer))
        raise Refused(said)

    def _get(self, url: str) -> Any:
        answer = self._ask("GET", url, None)
        status, words = _status(answer)
        if answer.status_code != 200 or not 1000 <= status < 2000:
            raise ConfigError(f"{url} answered {answer.status_code}, OCPI status {status}: {words}")
        return read_json(answer.content).get("data")

    def _ask(self, method: str, url: str, body: bytes | None) -> httpx.Response:
        if not url.startswith("https://") and not (self._insecure and url.startswith("http://")):
            raise ConfigError(f"{url[:200]}: an OCPI address must be https")
        headers = {"X-Request-ID": str(uuid.uuid4()), "X-Correlation-ID": str(uuid.uuid4())}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._http.request(method, url, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryLater(f"{url[:200]}: {error or type(error).__name__}") from error
        if len(answer.content) > _MAX_BYTES:
            raise ConfigError(f"{url}: an answer of {len(answer.content)} bytes")
        return answer


def _status(answer: httpx.Response) -> tuple[int, str]:
    """Return OCPI status and its words; 0 when the answer is no OCPI."""
    try:
        found = read_json(answer.content)
    except (ValueError, RecursionError):
        return 0, answer.text[:200]
    if not isinstance(found, dict):
        return 0, answer.text[:200]
    status = found.get("status_code")
    return (status if isinstance(status, int) else 0), str(found.get("status_message", ""))[:200]


def _retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None
