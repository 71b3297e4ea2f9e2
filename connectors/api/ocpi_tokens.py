"""OCPI tokens, as receiver: eMSPs tell us which tokens they vouch for."""

import datetime as dt
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, HTTPException, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.billing_reader import Row
from connectors.ocpi_store import OcpiStore, emsps
from models.ocpi_objects import write_json

from .ocpi_parts import ANSWERS, Envelope, envelope

Version = Annotated[str, Path(pattern=r"^2\.(2\.1|3\.0)$")]
Country = Annotated[str, Path(pattern=r"^[A-Za-z]{2}$")]
Party = Annotated[str, Path(pattern=r"^[A-Za-z0-9]{3}$")]
Uid = Annotated[str, Path(min_length=1, max_length=36, pattern=r"^[\x21-\x7e]+$")]
Type = Literal["AD_HOC_USER", "APP_USER", "EMAID", "OTHER", "RFID"]
Text = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]


class Token(BaseModel):
    """A Token object; fields beyond these are kept as they come."""

    model_config = ConfigDict(extra="allow")

    country_code: Annotated[str, Field(pattern=r"^[A-Za-z]{2}$")]
    party_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{3}$")]
    uid: Annotated[str, Field(min_length=1, max_length=36, pattern=r"^[\x21-\x7e]+$")]
    type: Type
    contract_id: Annotated[str, Field(max_length=36, pattern=r"^[^\x00]*$")]
    issuer: Text
    valid: bool
    whitelist: Literal["ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER"]
    last_updated: dt.datetime


def add_tokens(
    app: FastAPI, store: Callable[[], OcpiStore], tell: Callable[[Row, int], None], asking: Any
) -> None:
    """Add the addresses; `asking` yields the partner, `tell` tells the flow of a token."""
    path = "/{version}/tokens/{country_code}/{party_id}/{uid}"

    @app.get(path, response_model=Envelope, responses=ANSWERS)
    def get(
        party: asking, version: Version, country_code: Country, party_id: Party, uid: Uid,
        type_: Annotated[Type, Query(alias="type")] = "RFID",
    ) -> Response:  # fmt: skip
        """Return a token as we hold it."""
        _own(party, country_code, party_id)
        return envelope(_held(store(), country_code, party_id, uid, type_))

    @app.put(path, response_model=Envelope, responses=ANSWERS)
    def put(
        party: asking, version: Version, country_code: Country, party_id: Party, uid: Uid, token: Token,
        type_: Annotated[Type, Query(alias="type")] = "RFID",
    ) -> Response:  # fmt: skip
        """Store a token."""
        _own(party, country_code, party_id)
        return _stored(store(), tell, token, (country_code, party_id, uid, type_))

    @app.patch(path, response_model=Envelope, responses=ANSWERS)
    def patch(
        party: asking, version: Version, country_code: Country, party_id: Party, uid: Uid,
        change: Annotated[dict[str, Any], Body()],
        type_: Annotated[Type, Query(alias="type")] = "RFID",
    ) -> Response:  # fmt: skip
        """Change fields of a token; `last_updated` must be among them."""
        _own(party, country_code, party_id)
        held = _held(store(), country_code, party_id, uid, type_)
        if "last_updated" not in change:
            raise HTTPException(400, "last_updated is missing")
        try:
            token = Token.model_validate(held | change)
        except ValidationError as error:
            raise HTTPException(400, f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
        return _stored(store(), tell, token, (country_code, party_id, uid, type_))


def _own(party: Row, country_code: str, party_id: str) -> None:
    """Refuse what is not the partner's own."""
    whose = emsps(party)
    if whose is not None and f"{country_code.upper()}*{party_id.upper()}" not in whose:
        raise HTTPException(404, "not a party of yours")


def _held(store: OcpiStore, country_code: str, party_id: str, uid: str, type_: str) -> Row:
    found = store.token(country_code, party_id, uid, type_)
    if found is None:
        raise HTTPException(404, f"there is no token {uid} of type {type_}")
    return found


def _stored(
    store: OcpiStore, tell: Callable[[Row, int], None], token: Token, key: tuple[str, str, str, str]
) -> Response:
    said = (token.country_code, token.party_id, token.uid, token.type)
    if tuple(part.upper() for part in said) != tuple(part.upper() for part in key):
        raise HTTPException(400, "the token is another one than its address says")
    updated = token.last_updated
    if updated.tzinfo is None:
        updated = updated.replace(tzinfo=dt.UTC)
    if not 1970 <= updated.year <= 2100:
        raise HTTPException(400, "last_updated: a year from 1970 to 2100 is expected")
    body = token.model_dump(mode="json")
    names = dict(zip(("country_code", "party_id", "uid"), (part.upper() for part in said[:3]), strict=True))
    updated_ms = int(updated.timestamp() * 1000)
    store.put_token(body | names, write_json(body).decode(), updated_ms)
    tell(body | names, updated_ms)
    return envelope(None)
