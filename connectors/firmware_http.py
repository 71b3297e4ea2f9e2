"""Serves images over HTTP: ranges, entity tags, signed addresses, shared bandwidth, back-off answers."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from models.firmware import FirmwareError, Image
from models.firmware_urls import PREFIX, Grant, read_grant
from models.secret import Secret

from .firmware_pace import Doorkeeper, TokenBucket
from .firmware_store import FirmwareStore

_LOG = logging.getLogger("chargestream.firmware")

_BLOCK: Final = 1 << 16
_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*\Z")
_STATUS: Final = {"unsigned": 403, "expired": 403, "unknown": 404, "revoked": 410, "rollback": 410}
_BROKEN_RETRY_S: Final = 60


@dataclass(slots=True)
class Downloads:
    """Counts since the start."""

    started: int = 0
    completed: int = 0
    broken: int = 0
    resumed: int = 0
    sent_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class FirmwareServer:
    """Answers for images.

    Parameters
    ----------
    store : FirmwareStore
    secrets : sequence of Secret
        That sign addresses: the present one first, then former ones that still count.
    pace : TokenBucket
        Bytes, shared by all downloads.
    door : Doorkeeper
    shed : callable
        Is told of every station that is put off, and for how many seconds.
    withdrawn : callable
        Is told of every station that is refused an image, and why.
    now_ms : callable
        The machine's time.
    """

    def __init__(
        self,
        store: FirmwareStore,
        secrets: Sequence[Secret],
        pace: TokenBucket,
        door: Doorkeeper,
        shed: Callable[[Grant, int], None] = lambda _grant, _wait_s: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        withdrawn: Callable[[Grant, str], None] = lambda _grant, _reason: None,
    ) -> None:
        self._store, self._secrets, self._now_ms = store, tuple(secrets), now_ms
        self._pace, self.door, self._shed, self._withdrawn = pace, door, shed, withdrawn
        self.counts = Downloads()
        self._repository: dict[str, Any] = {}

    def app(self) -> Starlette:
        """Return the application: ``/firmware/IMAGE_ID`` and ``/health``."""
        return Starlette(
            routes=[
                Route(f"{PREFIX}{{image_id}}", self._get, methods=["GET"]),  # and HEAD
                Route("/health", self._health, methods=["GET"]),
            ]
        )

    def status(self) -> dict[str, Any]:
        """Return what the status file says."""
        counts = self.counts
        return {
            "pid": os.getpid(),
            "updated_ns": time.time_ns(),
            "in_flight": self.door.inside,
            "started": counts.started,
            "completed": counts.completed,
            "broken": counts.broken,
            "resumed": counts.resumed,
            "sent_bytes": counts.sent_bytes,
            "refused": dict(counts.refused),
            **self._repository,
        }

    def look(self) -> None:
        """Look whether the repository verifies and when its metadata ends, for `status`."""
        try:
            ends = self._store.ends()
        except FirmwareError as error:
            self._repository = {"problem": str(error)}
            return
        self._repository = {"ends_ms": {role: int(end.timestamp() * 1000) for role, end in ends.items()}}

    async def _health(self, _: Request) -> Response:
        try:
            await asyncio.to_thread(self._store.images)
        except FirmwareError as error:
            return JSONResponse({"well": False, "problem": str(error)}, 503)
        return JSONResponse({"well": True})

    async def _get(self, request: Request) -> Response:
        image_id = request.path_params["image_id"]
        grant: Grant | None = None
        try:
            grant = read_grant(image_id, request.url.query, self._secrets, self._now_ms())
            image = await asyncio.to_thread(self._store.image, image_id, self._now_ms())
            path = await asyncio.to_thread(self._store.path, image)
        except FirmwareError as error:
            return self._refuse(error, grant)
        except ValueError:  # too many fields in the query
            return self._refuse(FirmwareError("unsigned", "this address carries no signature of ours"))
        return self._answer(request, grant, image, path)

    def _refuse(self, error: FirmwareError, grant: Grant | None = None) -> Response:
        self.counts.refused[error.reason] += 1
        status = _STATUS.get(error.reason, 503)
        if status == 503:
            # What is wrong with us is for our log; a stranger learns only that it is not his fault.
            _LOG.error("an image cannot be given out: %s", error)
            if grant is not None:
                self._shed(grant, _BROKEN_RETRY_S)
            return _text(
                503, "images cannot be given out at the moment", {"Retry-After": str(_BROKEN_RETRY_S)}
            )
        _LOG.warning("refused with %d: %s", status, error)
        if grant is not None and status == 410:
            self._withdrawn(grant, error.detail)
        return _text(status, error.detail)

    def _answer(self, request: Request, grant: Grant, image: Image, path: Path) -> Response:
        headers = _headers(image)
        tag, given = headers["ETag"], request.headers
        if "if-match" in given and not _matches(given["if-match"], tag):
            return _text(412, "the image is another one by now", {"ETag": tag})
        if _matches(given.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        size, status = image.size_bytes, 200
        span = range(size)
        if "range" in given and request.method == "GET" and given.get("if-range", tag).strip() == tag:
            asked = _span(given["range"], size)
            if asked is not None:
                if not asked:
                    self.counts.refused["range"] += 1
                    text = f"expected one range of bytes within 0-{size - 1}, such as bytes=1000-"
                    return _text(416, text, {"Content-Range": f"bytes */{size}"})
                span, status = asked, 206
                headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        headers["Content-Length"] = str(len(span))
        if request.method == "HEAD":
            return Response(status_code=200, headers=headers, media_type="application/octet-stream")
        code, wait_s = self.door.enter(f"{grant.site}/{grant.station}")
        if code:
            self.counts.refused["busy" if code == 503 else "rate"] += 1
            self._shed(grant, wait_s)
            return _text(code, f"come again in {wait_s} s", {"Retry-After": str(wait_s)})
        self.counts.started += 1
        self.counts.resumed += span.start > 0
        return _Download(self, _Sending(grant, path, span), status, headers)

    async def stream(self, sending: _Sending) -> AsyncIterator[bytes]:
        """Yield the bytes of a download at the shared pace."""
        total = len(sending.span)
        with sending.path.open("rb") as file:
            while sending.sent < total:
                size = min(_BLOCK, total - sending.sent)
                wait_s = self._pace.take(size)
                if wait_s:
                    await asyncio.sleep(wait_s)
                at = sending.span.start + sending.sent
                block = await asyncio.to_thread(os.pread, file.fileno(), size, at)
                if len(block) < size:
                    raise OSError(f"{sending.path} ended early")
                yield block
                sending.sent += size
                self.counts.sent_bytes += size

    def ended(self, sending: _Sending) -> None:
        """Count and log how a download ended."""
        self.door.leave()
        whole = sending.sent == len(sending.span)
        self.counts.completed += whole
        self.counts.broken += not whole
        grant, span = sending.grant, sending.span
        _LOG.info(
            "%s: image %s, campaign %s, station %s/%s, bytes %d-%d, %d sent in %.1f s",
            "sent" if whole else "broken off", grant.image_id, grant.campaign, grant.site, grant.station,
            span.start, span.stop - 1, sending.sent, time.monotonic() - sending.since,
        )  # fmt: skip


@dataclass(slots=True)
class _Sending:
    """One download on its way."""

    grant: Grant
    path: Path
    span: range
    sent: int = 0
    since: float = field(default_factory=time.monotonic)


class _Download(StreamingResponse):
    """Tells the server when it has ended, however that was: also before its first byte."""

    def __init__(
        self, server: FirmwareServer, sending: _Sending, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(server.stream(sending), status, headers, media_type="application/octet-stream")
        self._server, self._sending = server, sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._server.ended(self._sending)


def _headers(image: Image) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(image.sha256)).decode()
    return {
        "ETag": f'"{image.sha256}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Cache-Control": "private, no-transform",
        "Content-Disposition": f'attachment; filename="{image.image_id}.bin"',
        "X-Content-Type-Options": "nosniff",
    }


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(text + "\n", status, {"Cache-Control": "no-store", **(headers or {})})


def _matches(given: str, tag: str) -> bool:
    """Return whether a list of entity tags names ours; weak ones count, for the bytes are the same."""
    tags = {each.strip().removeprefix("W/") for each in given.split(",")}
    return tag in tags or "*" in tags


def _span(text: str, size: int) -> range | None:
    """Return the bytes that a Range header asks for: empty when none of ours, None when it is to be ignored.

    Several ranges are refused, as RFC 9110 §14.2 allows: no station needs them, and they multiply the work.
    """
    if not text.strip().lower().startswith("bytes="):
        return None  # a unit that we do not know
    found = _RANGE.match(text.strip().lower())
    if found is None or not (found[1] or found[2]):
        return range(0)
    if not found[1]:
        return range(max(0, size - int(found[2])), size)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < first:
        return range(0)
    return range(first, min(last + 1, size))
