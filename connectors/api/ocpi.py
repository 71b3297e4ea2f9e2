"""OCPI as a charge point operator, 2.2.1 and 2.3.0: versions, credentials, and what partners pull and push.

Sender of cdrs, sessions and tariffs; receiver of tokens. A partner sees the bills and sessions of its own
customers. A mounted application of its own, described at ``/ocpi/openapi.json``.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from connectors import _ledger_billing as b
from connectors.billing_reader import BillingReader, Row
from connectors.ocpi_store import OcpiStore, token_of
from models.errors import ChargestreamError
from models.ocpi_objects import VERSIONS, VersionProblem, cdr_as, read_json, session_as, session_of, tariff_as
from models.partner_tokens import TOPIC as TOKEN_TOPIC
from models.partner_tokens import token_message

from .auth import RateLimit, slow_down
from .ocpi_credentials import Credentials
from .ocpi_parts import (
    ANSWERS,
    GENERIC,
    INVALID,
    UNKNOWN,
    Envelope,
    Page,
    base_url,
    envelope,
    may_see,
    pull,
    refused,
)
from .ocpi_tokens import add_tokens
from .settings import OcpiSettings

Version = Annotated[str, Path(pattern=r"^2\.(2\.1|3\.0)$")]
Chosen = Annotated[Page, Query()]
Id = Annotated[str, Path(max_length=39)]
#: What we are in each module.
ROLES = {
    "cdrs": "SENDER",
    "credentials": "SENDER",
    "sessions": "SENDER",
    "tariffs": "SENDER",
    "tokens": "RECEIVER",
}


def create_ocpi(
    settings: OcpiSettings,
    reader: BillingReader,
    store: Callable[[], OcpiStore],
    publish: Callable[[str, Row], None],
    limit: RateLimit,
    strangers: RateLimit,
) -> FastAPI:
    """Return the application to mount at ``/ocpi``; `publish` takes a topic and a body."""
    app = FastAPI(title="chargestream OCPI", version="2.3.0", docs_url=None, redoc_url=None)

    def party(request: Request) -> Row:
        """Return the partner who asks."""
        host = request.client.host if request.client else ""
        slow_down(strangers.wait_s(host, cost=0.0))
        token = token_of(request.headers.get("authorization", ""))
        found = store().party_of(token) if token else None
        if found is None:
            slow_down(strangers.wait_s(host))
            raise HTTPException(
                401, "a valid token is needed: Authorization: Token BASE64", {"WWW-Authenticate": "Token"}
            )
        slow_down(limit.wait_s(found["name"]))
        return found

    def tell(token: Row, last_updated_ms: int) -> None:
        """Have the flow know whose token it is."""
        publish(TOKEN_TOPIC, token_message(token, last_updated_ms, settings.token_salts))

    asking = Annotated[Row, Depends(party)]
    _add_errors(app)
    _add_versions(app, settings, asking)
    Credentials(settings, store).add(app, asking)
    _add_bills(app, settings, reader, asking)
    _add_tariffs(app, settings, reader, asking)
    add_tokens(app, store, tell, asking)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(StarletteHTTPException)
    def http(_: Request, error: StarletteHTTPException) -> Response:
        return refused(
            error.status_code, GENERIC if error.status_code != 404 else UNKNOWN, error.detail, error.headers
        )

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refused(400, INVALID, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(ChargestreamError)
    def unavailable(_: Request, error: ChargestreamError) -> Response:
        return refused(503, 3000, str(error))


def _add_versions(app: FastAPI, settings: OcpiSettings, asking: Any) -> None:
    @app.get("/versions", response_model=Envelope, responses=ANSWERS)
    def versions(request: Request, party: asking) -> Response:
        """Return the versions that we speak."""
        base = base_url(request, settings)
        return envelope([{"version": v, "url": f"{base}/{v}"} for v in VERSIONS])

    @app.get("/{version}", response_model=Envelope, responses=ANSWERS)
    def details(request: Request, party: asking, version: Version) -> Response:
        """Return the endpoints of a version."""
        base = base_url(request, settings)
        endpoints = [
            {"identifier": name, "role": role, "url": f"{base}/{version}/{name}"}
            for name, role in ROLES.items()
        ]
        return envelope({"version": version, "endpoints": endpoints})


def _add_bills(app: FastAPI, settings: OcpiSettings, reader: BillingReader, asking: Any) -> None:
    @app.get("/{version}/cdrs", response_model=Envelope, responses=ANSWERS)
    def cdrs(request: Request, party: asking, version: Version, page: Chosen) -> Response:
        """Return bills by `last_updated`; a bill never changes, a correction is a credit and a new bill."""
        conditions = may_see(b.cdrs, party)
        rows, headers = pull(reader, b.cdrs, b.cdrs.c.last_updated_ms, page, conditions, request)
        return envelope(
            [cdr_as(read_json(r["body"]), r["ocpi_version"], version) for r in rows], headers=headers
        )

    @app.get("/{version}/cdrs/{id}", response_model=Envelope, responses=ANSWERS)
    def cdr(party: asking, version: Version, id: Id) -> Response:
        """Return one bill."""
        rows = reader.rows(b.cdrs, b.cdrs.c.id == id, *may_see(b.cdrs, party))
        if not rows:
            raise HTTPException(404, f"there is no CDR {id}")
        return envelope(cdr_as(read_json(rows[0]["body"]), rows[0]["ocpi_version"], version))

    @app.get("/{version}/sessions", response_model=Envelope, responses=ANSWERS)
    def sessions(
        request: Request, party: asking, version: Version, page: Annotated[Page, Query()]
    ) -> Response:
        """Return sessions of the partner's customers by `last_updated`."""
        c = b.sessions_now.c
        conditions = [*may_see(b.sessions_now, party), c.emsp != "", c.start_ms.is_not(None)]
        rows, headers = pull(reader, b.sessions_now, c.known_ms, page, conditions, request)
        made = [
            session_of(
                row | {"body": read_json(row["body"])},
                settings.country_code,
                settings.party_id,
                settings.currency,
            )
            for row in rows
        ]
        return envelope([session_as(s, "2.2.1", version) for s in made if s is not None], headers=headers)


def _add_tariffs(app: FastAPI, settings: OcpiSettings, reader: BillingReader, asking: Any) -> None:
    @app.get("/{version}/tariffs", response_model=Envelope, responses=ANSWERS)
    def tariffs(
        request: Request, party: asking, version: Version, page: Annotated[Page, Query()]
    ) -> Response:
        """Return our tariffs by `last_updated`; those that the version cannot say are left out."""
        rows, headers = pull(reader, b.tariffs, b.tariffs.c.last_updated_ms, page, [], request)
        found = []
        for row in rows:
            try:
                found.append(tariff_as(read_json(row["body"]), row["ocpi_version"], version))
            except VersionProblem:
                continue
        return envelope(found, headers=headers)
