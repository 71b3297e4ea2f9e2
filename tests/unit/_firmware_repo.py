"""A repository with images for tests."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from connectors._firmware_tuf import utc_now
from connectors.firmware_repository import Keys, Repository
from connectors.firmware_store import FirmwareStore
from models import firmware
from models.firmware import Image
from models.firmware_policy import Policy
from models.secret import Secret

from ._firmware_signing import Vendor, certify

DATA = os.urandom(200_000)
VERSION = "2.0.0"


@cache
def vendor_now() -> Vendor:
    """Return a vendor whose certificates are valid at the machine's time, which TUF's client asks."""
    now = datetime.fromtimestamp(time.time() - 86_400, UTC)
    root = certify("Root", None, ca=True, start=now)
    between = certify("Firmware CA", root, ca=True, start=now)
    return Vendor(root, between, certify("Signer", between, start=now))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def image_of(data: bytes = DATA, version: str = VERSION, **more: Any) -> Image:
    """Return the record of an image that is signed right."""
    who = vendor_now()
    return firmware.make_image(
        data,
        vendor="Acme",
        model=more.pop("model", "W22"),
        version=version,
        certificates=who.certificates,
        signature=who.signer.sign(data),
        **more,
    )


class Kept:
    """A repository, its keys, and a client."""

    def __init__(self, folder: Path, passphrase: str = "", now: Any = utc_now) -> None:
        self.folder = folder / "repo"
        self.offline = Keys(folder / "offline", Secret(passphrase))
        self.online = Keys(folder / "online")
        policy = Policy(roots=(vendor_now().root.pem,))
        self.repo = Repository.create(self.folder, self.offline, self.online, policy, now)
        self.pinned = self.repo.root_bytes()
        self.state = folder / "state"

    def add(self, data: bytes = DATA, version: str = VERSION, **more: Any) -> Image:
        """Import and publish an image."""
        image = image_of(data, version, **more)
        self.repo.import_image(image, data, self.offline, now_ms())
        self.repo.publish(self.online)
        return image

    def store(self) -> FirmwareStore:
        """Return a client that looks anew at every question, with the memory of former ones."""
        clock = iter(range(0, 10**9, 100))
        return FirmwareStore(self.folder, self.pinned, self.state, lambda: next(clock))
