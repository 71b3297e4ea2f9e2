"""Payments over HTTP, ``/api/v1/payments``: what a payment system authorised and settled, and how it fits.

A word of a payment system is published for the flow like every operator's message; nothing is written here,
and a body that holds card data is refused before it goes anywhere.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from connectors.billing_reader import BillingReader, Choice
from connectors.billing_writer import Caller
from models.errors import DecodeError
from models.payments import TOPIC, read_payment

from .auth import REFUSALS, Gate, Refusal
from .billing import Cursor, Limit, Text
from .paging import may_see, next_link

_ROWS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the rows",
        "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
    }
}


def payments_router(
    reader: BillingReader, gate: Gate, publish: Callable[[str, dict[str, Any]], None]
) -> APIRouter:
    """Return the addresses; `publish` takes a topic and a body."""
    router = APIRouter(prefix="/api/v1", tags=["payments"], responses=REFUSALS)
    reading = Annotated[Caller, Depends(gate.needs("payments"))]
    telling = Annotated[Caller, Depends(gate.needs("payments:write"))]

    @router.get("/payments", responses=_ROWS, response_class=Response)
    def payments(
        request: Request, caller: reading, site: Text = "", transaction_id: Text = "", cursor: Cursor = 0,
        limit: Limit = 1_000,
    ) -> Response:  # fmt: skip
        """Return payments by cursor: state, amounts, and in `problem` what does not fit."""
        choice = Choice(caller.sites, site, transaction_id=transaction_id)
        rows = list(reader.changed("payments", choice, cursor, limit))
        headers = {"Link": next_link(request, str(rows[-1]["changed"]))} if len(rows) == limit else {}
        return JSONResponse(rows, headers=headers)

    @router.post(
        "/payments",
        status_code=202,
        response_class=Response,
        responses={
            202: {"description": "taken", "content": {"application/json": {"schema": {"type": "object"}}}},
            400: {"description": "the body is no text", "model": Refusal},
            404: {"description": "not a site of this token", "model": Refusal},
        },
    )
    def tell(caller: telling, body: Annotated[dict[str, Any], Body()]) -> Response:
        """Take what a payment system authorised (`action` authorize) or settled (settle).

        Card data is refused with 422. It shows under GET once it went through the journal.
        """
        try:
            word = read_payment(body)
        except DecodeError as error:
            raise HTTPException(422, error.detail) from error
        may_see(caller, word.site)
        known = {name: body[name] for name in word.__struct_fields__ if body.get(name) is not None}
        publish(TOPIC, {"v": 1} | known | {"by": caller.name, "t": gate.now_ms()})
        shown = {"authorization_reference": word.authorization_reference, "action": word.action}
        return JSONResponse(shown, status_code=202)

    return router
