"""What a person is told when something cannot be done: a page for a browser, plain data for a program."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from connectors.operator import UnknownFinding
from models.errors import ChargestreamError, DecodeError

from .forms import Unsure
from .page import Page

_TITLES: Final = {
    401: "No valid token",
    403: "Not allowed",
    404: "Not found",
    409: "Somebody was faster",
    422: "Something is missing or wrong",
    429: "Too many requests",
    503: "Not possible now",
}
#: What tells a program how to show a token tells a person nothing.
_UNKNOWN: Final = "a valid token is needed: this one is mistyped, unknown, expired or revoked"
#: Fields of a form that are asked for again rather than kept in the page that asks whether one is sure.
_AGAIN: Final = ("token", "by", "sure")


def add_refusals(app: FastAPI, page: Page) -> None:
    """Add the handlers of all errors that an address may raise."""

    def told(request: Request, status: int, text: str) -> Response:
        if not _reads_pages(request):
            return PlainTextResponse(text, status_code=status)
        return _as_page(page, request, status, text)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if not _reads_pages(request):
            return await http_exception_handler(request, error)
        text = _UNKNOWN if error.status_code == 401 else str(error.detail)
        return _as_page(page, request, error.status_code, text, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        if not _reads_pages(request):
            return await request_validation_exception_handler(request, error)
        words = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors())
        return _as_page(page, request, 422, words)

    @app.exception_handler(Unsure)
    def unsure(request: Request, error: Unsure) -> Response:
        if not _reads_pages(request):
            return JSONResponse({"detail": error.question, "sure": error.yes}, status_code=409)
        kept = {name: value for name, value in error.form.items() if name not in _AGAIN}
        address = request.url.path
        text = page.filled("unsure.html", question=error.question, yes=error.yes, kept=kept, address=address)
        return HTMLResponse(text, status_code=409)

    @app.exception_handler(UnknownFinding)
    def unknown(request: Request, error: UnknownFinding) -> Response:
        return told(request, 404, error.detail)

    @app.exception_handler(DecodeError)
    def incomplete(request: Request, error: DecodeError) -> Response:
        return told(request, 422, error.detail)

    @app.exception_handler(ChargestreamError)
    def unavailable(request: Request, error: ChargestreamError) -> Response:
        return told(request, 503, str(error))


def _reads_pages(request: Request) -> bool:
    """Return whether a browser asks for a page: programs, and our own script, do not say so."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _place(location: Any) -> str:
    return ".".join(str(part) for part in location[1:])


def _as_page(
    page: Page, request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    title = _TITLES.get(status, "That did not work")
    sent = request.method == "POST"
    return HTMLResponse(page.filled("refused.html", title=title, text=text, sent=sent), status, headers)
