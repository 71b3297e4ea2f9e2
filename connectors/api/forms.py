"""What a page's form sends, and whether one of our own pages sent it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials

#: A form is no longer than this, unless said otherwise.
MOST_BYTES: Final = 20_000


class Unsure(Exception):
    """What a form asks for cannot be taken back: its reader is asked first.

    Parameters
    ----------
    question : str
        What would happen, in words.
    yes : str
        The word on the button that does it.
    form : mapping
        What was filled in.
    """

    def __init__(self, question: str, yes: str, form: Mapping[str, str]) -> None:
        super().__init__(question)
        self.question, self.yes, self.form = question, yes, form


def ask_first(form: Mapping[str, str], question: str, yes: str) -> None:
    """Let a form pass whose reader was asked and is sure.

    Raises
    ------
    Unsure
        If he was not asked yet.
    """
    if form.get("sure") != "yes":
        raise Unsure(question, yes, form)


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
    site, origin, host = (request.headers.get(name) for name in ("sec-fetch-site", "origin", "host"))
    # No page can forge either. Browsers tell the site to https and loopback only, the origin always.
    if site not in {None, "same-origin", "none"} or (origin is not None and urlsplit(origin).netloc != host):
        raise HTTPException(
            403,
            f"this request comes from another page ({origin or site}), not from one of {host}; if a proxy is"
            " between, it must pass on the name that was asked for: proxy_set_header Host $http_host (nginx)",
        )
