"""OCPI credentials: how a partner that we invited connects, renews its connection, and leaves."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from connectors.ocpi_client import OcpiClient
from connectors.ocpi_store import OcpiStore, new_token, token_of
from models.errors import ConfigError, RetryLater

from .ocpi_parts import ANSWERS, Envelope, base_url, envelope, now_ms, refused
from .settings import OcpiSettings

Version = Annotated[str, Path(pattern=r"^2\.(2\.1|3\.0)$")]
#: The partner's side could not be used.
CLIENT_FAILED = 3001


class Role(BaseModel):
    """One role of a partner."""

    role: Annotated[str, Field(max_length=10)]
    party_id: Annotated[str, Field(min_length=3, max_length=3)]
    country_code: Annotated[str, Field(min_length=2, max_length=2)]
    business_details: dict[str, Any] | None = None


class CredentialsObject(BaseModel):
    """What a partner sends: the token to show it, where it lists its versions, who it is."""

    token: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
    url: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^https?://[\x21-\x7e]+$")]
    roles: Annotated[list[Role], Field(min_length=1, max_length=100)]


class Credentials:
    """Answers of the credentials module.

    Parameters
    ----------
    settings : OcpiSettings
    store : callable
        Returns the store.
    """

    def __init__(self, settings: OcpiSettings, store: Callable[[], OcpiStore]) -> None:
        self._settings, self._store = settings, store

    def add(self, app: FastAPI, asking: Any) -> None:
        """Add the addresses; `asking` is the dependency that yields the partner."""
        path = "/{version}/credentials"

        @app.get(path, response_model=Envelope, responses=ANSWERS)
        def get(request: Request, party: asking, version: Version) -> Response:
            """Return our credentials with the token that was shown."""
            shown = token_of(request.headers["authorization"])
            return envelope(self._ours(request, shown))

        @app.post(path, response_model=Envelope, responses=ANSWERS)
        def post(request: Request, party: asking, version: Version, theirs: CredentialsObject) -> Response:
            """Connect; the answer holds the token to show from now on."""
            if party["state"] == "registered":
                raise HTTPException(405, "registered already: use PUT")
            return self._register(request, party["name"], version, theirs)

        @app.put(path, response_model=Envelope, responses=ANSWERS)
        def put(request: Request, party: asking, version: Version, theirs: CredentialsObject) -> Response:
            """Renew the connection, perhaps with another version."""
            if party["state"] != "registered":
                raise HTTPException(405, "not registered yet: use POST")
            return self._register(request, party["name"], version, theirs)

        @app.delete(path, response_model=Envelope, responses=ANSWERS)
        def delete(party: asking, version: Version) -> Response:
            """Disconnect."""
            if party["state"] != "registered":
                raise HTTPException(405, "not registered")
            self._store().revoke(party["name"], now_ms())
            return envelope(None)

    def _ours(self, request: Request, token: str) -> dict[str, Any]:
        own = self._settings
        return {
            "token": token,
            "url": f"{base_url(request, own)}/versions",
            "roles": [
                {
                    "role": "CPO",
                    "party_id": own.party_id,
                    "country_code": own.country_code,
                    "business_details": {"name": own.business_name},
                }
            ],
        }

    def _register(self, request: Request, name: str, version: str, theirs: CredentialsObject) -> Response:
        client = OcpiClient(theirs.token, insecure=self._settings.insecure)
        try:
            endpoints = client.endpoints(theirs.url, version)
        except (ConfigError, RetryLater) as error:
            return refused(200, CLIENT_FAILED, str(error))
        finally:
            client.close()
        token = new_token()
        self._store().register(
            name,
            our_token=token,
            their_token=theirs.token,
            versions_url=theirs.url,
            version=version,
            endpoints=endpoints,
            roles=[role.model_dump() for role in theirs.roles],
            now_ms=now_ms(),
        )
        return envelope(self._ours(request, token))
