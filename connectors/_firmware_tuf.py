"""Keys and signed metadata of the firmware repository, as The Update Framework (TUF 1.0) lays them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import FetcherInterface

from models.errors import ConfigError
from models.firmware import FirmwareError
from models.secret import Secret

T = TypeVar("T", Root, Targets, Snapshot, Timestamp)

#: The keys of these say what may be installed: they stay off every server.
OFFLINE: Final = ("root", "targets")
#: The keys of these only say what is newest: they may lie on the server.
ONLINE: Final = ("snapshot", "timestamp")
#: Days that each role's metadata is good for.
DAYS: Final = {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1}
#: The name of our policy in targets metadata; TUF signs fields that it does not know as well.
POLICY_FIELD: Final = "chargestream-policy"
_BLOCK: Final = 1 << 16


def utc_now() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


def new_key(path: Path, passphrase: Secret) -> CryptoSigner:
    """Make an Ed25519 key, write it (readable by us only, encrypted if there is a passphrase), return it.

    Raises
    ------
    ConfigError
        If the file exists or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    how: KeySerializationEncryption = NoEncryption()
    if passphrase:
        how = BestAvailableEncryption(passphrase.reveal().encode())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    write_private(path, pem)
    return CryptoSigner(private)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only we can read.

    Raises
    ------
    ConfigError
        If the file exists or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists: a key is never overwritten; choose another folder") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def read_key(path: Path, passphrase: Secret) -> CryptoSigner:
    """Return the key in a file.

    Raises
    ------
    ConfigError
        If there is none, or the passphrase is wrong or missing.
    """
    try:
        secret = passphrase.reveal().encode() if passphrase else None
        private = load_pem_private_key(path.read_bytes(), secret)
    except OSError as error:
        raise ConfigError(f"key {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        hint = "a wrong passphrase?" if passphrase else "is it encrypted? then give --passphrase"
        raise ConfigError(f"key {path} is no private key that can be read ({hint})") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"key {path}: expected an Ed25519 key, as init-repo makes them")
    return CryptoSigner(private)


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def signed_bytes(signed: Any, *signers: CryptoSigner) -> bytes:
    """Return metadata with its signatures as JSON."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=False))


def until(role: str, now: datetime) -> datetime:
    """Return when metadata of a role that is signed now ends."""
    return now.replace(microsecond=0) + timedelta(days=DAYS[role])


def newest(folder: Path, role: str) -> int:
    """Return the highest version of a role's metadata in `folder`, 0 when there is none."""
    versions = (path.name.partition(".")[0] for path in folder.glob(f"*.{role}.json"))
    return max((int(text) for text in versions if text.isdigit()), default=0)


def read_metadata(path: Path, kind: type[T]) -> Metadata[T]:
    """Return the metadata of a file, its signatures unchecked.

    Raises
    ------
    FirmwareError
        If it is none.
    """
    try:
        found: Metadata[T] = Metadata.from_bytes(path.read_bytes())
    except OSError as error:
        raise FirmwareError("repository", f"{path} cannot be read: {error.strerror or error}") from error
    except (RepositoryError, ValueError) as error:
        raise FirmwareError("repository", f"{path} is no metadata: {error}") from error
    if not isinstance(found.signed, kind):
        raise FirmwareError("repository", f"{path}: expected metadata of {kind.type}")
    return found


class FolderFetcher(FetcherInterface):
    """Reads ``file:`` addresses for `tuf.ngclient`."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        try:
            file = path.open("rb")
        except OSError as error:
            raise DownloadHTTPError(f"{path}: {error.strerror}", 404) from error
        return self._blocks(file)

    @staticmethod
    def _blocks(file: Any) -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK):
                yield block
