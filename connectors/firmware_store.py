"""The firmware repository as a server or a client sees it: nothing counts that TUF did not verify.

It starts from a root that was pinned when the repository was new, and remembers the newest metadata it saw,
so that older metadata is refused (rollback) as well as metadata whose time is over (freeze).
"""

from __future__ import annotations

import hashlib
import mmap
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater

from models.firmware import FirmwareError, Image, check_image, check_trust
from models.firmware_policy import Policy

from . import _firmware_tuf as t
from .firmware_repository import held_images, images_of, policy_of

_REFRESH_S: Final = 5.0


class FirmwareStore:
    """Verified images of a repository folder. Thread-safe.

    Parameters
    ----------
    folder : Path
        Of the repository.
    root : bytes
        Root metadata that is trusted; any version of the repository's.
    state : Path
        Folder where the newest verified metadata is kept.
    steady : callable
        A clock in seconds.
    """

    def __init__(
        self, folder: Path, root: bytes, state: Path, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self._root, self._state = folder, root, state
        self._steady = steady
        self._lock = threading.Lock()
        self._looked_at = -_REFRESH_S
        self._seen = (-1, -1)
        self._images: dict[str, Image] = {}
        self._policy = Policy()
        self._checked: dict[str, tuple[int, int, int]] = {}

    def refresh(self) -> None:
        """Verify what the repository holds now.

        Raises
        ------
        FirmwareError
            If it does not verify, is older than what was seen, or its time is over.
        """
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        base, stamp = self.folder.absolute().as_uri(), self._stamp()
        self._state.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self._state), f"{base}/metadata/", fetcher=t.FolderFetcher(), bootstrap=self._root
            )
            updater.refresh()
        except ExpiredMetadataError as error:
            raise FirmwareError(
                "repository",
                f"{self.folder}: {error}: its time is over; chargestream firmware publish signs it anew",
            ) from error
        except (RepositoryError, DownloadError, OSError) as error:
            raise FirmwareError("repository", f"{self.folder} does not verify: {error}") from error
        # What refresh left in the state folder is what it verified.
        targets = t.read_metadata(self._state / "targets.json", Targets).signed
        self._images = {image.image_id: image for image in images_of(targets)}
        self._policy = policy_of(targets)
        self._looked_at, self._seen = self._steady(), stamp

    def _fresh(self) -> None:
        if self._steady() - self._looked_at >= _REFRESH_S or self._stamp() != self._seen:
            self._refresh()

    def _stamp(self) -> tuple[int, int]:
        """Return what changes when something is published."""
        try:
            found = (self.folder / "metadata" / "timestamp.json").stat()
        except OSError:
            return (0, 0)
        return found.st_ino, found.st_mtime_ns

    def ends(self) -> dict[str, datetime]:
        """Return when the metadata of each role ends, as it was last verified."""
        with self._lock:
            self._fresh()
            return {
                "root": t.read_metadata(self._state / "root.json", Root).signed.expires,
                "targets": t.read_metadata(self._state / "targets.json", Targets).signed.expires,
                "snapshot": t.read_metadata(self._state / "snapshot.json", Snapshot).signed.expires,
                "timestamp": t.read_metadata(self._state / "timestamp.json", Timestamp).signed.expires,
            }

    def images(self) -> list[Image]:
        """Return every image, active ones first; held ones are active."""
        with self._lock:
            self._fresh()
            return list(self._images.values())

    def policy(self) -> Policy:
        """Return the policy."""
        with self._lock:
            self._fresh()
            return self._policy

    def image(self, image_id: str, now_ms: int) -> Image:
        """Return an image that may be given out now.

        Raises
        ------
        FirmwareError
            If it is unknown, revoked, held back, below the floor, or its certificates count no longer.
        """
        with self._lock:
            self._fresh()
            image, policy = self._images.get(image_id), self._policy
        if image is None:
            raise FirmwareError("unknown", f"there is no image {image_id!r:.120}: chargestream firmware list")
        why = held_images(self.folder).get(image_id)
        if why is not None:
            raise FirmwareError("revoked", f"{image_id} is held back: {why}")
        check_trust(image, policy.trust(), policy.floors_by_model(), now_ms)
        return image

    def path(self, image: Image) -> Path:
        """Return the file of an image; its bytes are checked when they are first seen and when they change.

        Raises
        ------
        FirmwareError
            If the file is missing or not what was signed.
        """
        path = self.folder / "targets" / f"{image.sha256}.{image.image_id}"
        try:
            found = path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if self._checked.get(image.image_id) == seen:
                return path
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FirmwareError(
                "hash", f"{path}: {error.strerror or error}: import the image again"
            ) from error
        if digest != image.sha256 or found.st_size != image.size_bytes:
            raise FirmwareError(
                "hash", f"{path} has SHA-256 {digest}, not what was signed: it is not given out"
            )
        self._checked[image.image_id] = seen
        return path

    def verify(self, now_ms: int) -> list[str]:
        """Check every active image as at its import; return what is wrong, a line each."""
        wrong = []
        policy = self.policy()
        for image in self.images():
            if image.status != "active":
                continue
            try:
                with (
                    self.path(image).open("rb") as file,
                    mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data,
                ):
                    check_image(image, bytes(data), policy.trust(), policy.floors_by_model(), now_ms)
            except FirmwareError as error:
                wrong.append(str(error))
        return wrong
