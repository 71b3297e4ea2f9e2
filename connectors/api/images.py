"""The images of the firmware repository, as JSON and as a page; only what verifies is shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from connectors.firmware_repository import held_images
from connectors.firmware_store import FirmwareStore
from connectors.status import read_status
from models.errors import ChargestreamError
from models.firmware import Image, check_trust, read_certificates

from .page import Page

_HIDDEN: Final = {"signing_certificate", "chain", "signature"}


class Images:
    """What is known of images, for pages and programs.

    Parameters
    ----------
    store : FirmwareStore
    page : Page
        Renders, and knows where status files are.
    """

    def __init__(self, store: FirmwareStore, page: Page) -> None:
        self._store, self._page = store, page

    def add(self, app: FastAPI) -> None:
        """Add ``/images`` and ``/api/v1/firmware``."""
        self._page.link_images()

        @app.get("/api/v1/firmware")
        def firmware() -> list[dict[str, Any]]:
            """Return every image with `given_out` and, if it is not, why; revoked ones come last."""
            return self.rows()

        @app.get("/images", include_in_schema=False)
        def images() -> Response:
            return HTMLResponse(self._page.fill("images.html", **self._shown()))

    def rows(self) -> list[dict[str, Any]]:
        """Return every image as plain data.

        Raises
        ------
        FirmwareError
            If the repository does not verify.
        """
        now_ms = time.time_ns() // 1_000_000
        held = held_images(self._store.folder)
        return [self._row(image, held.get(image.image_id, ""), now_ms) for image in self._store.images()]

    def _row(self, image: Image, held: str, now_ms: int) -> dict[str, Any]:
        why = f"held back: {held}" if held else ""
        policy = self._store.policy()
        if not why:
            try:
                check_trust(image, policy.trust(), policy.floors_by_model(), now_ms)
            except ChargestreamError as error:
                why = str(error)
        fields = {name: getattr(image, name) for name in image.__struct_fields__ if name not in _HIDDEN}
        signer = read_certificates(image.signing_certificate)[0]
        return fields | {
            "given_out": not why,
            "why_not": why,
            "signed_by": signer.name,
            "certificate_ends_ms": int(signer.x509.not_valid_after_utc.timestamp() * 1000),
            "fits_ocpp": image.fits_ocpp,
        }

    def _shown(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        ends: list[tuple[str, datetime]] = []
        problem = ""
        try:
            rows = self.rows()
            ends = sorted(self._store.ends().items(), key=lambda item: item[1])
        except ChargestreamError as error:
            problem = str(error)
        return {
            "rows": rows,
            "ends": [(role, int(end.timestamp() * 1000)) for role, end in ends],
            "problem": problem,
            "downloads": read_status(self._page.data_dir, "firmware"),
            "chunks": read_status(self._page.data_dir, "firmware-chunks"),
            "now_ms": int(datetime.now(UTC).timestamp() * 1000),
        }
