"""The firmware repository as its keeper sees it: images come in, are taken back, and are published.

::

    REPO/metadata/   N.root.json  N.targets.json  N.snapshot.json  timestamp.json
    REPO/targets/    SHA256.IMAGE_ID
    REPO/held.json   images that the server must not give out, unsigned: it can only deny

What may be installed is in targets.json, with the whole record of each image and the policy: signed by a key
that no server has. The keys of snapshot and timestamp only say which targets.json is newest, so whoever
steals them can hold back news, until the term of targets.json ends, and nothing more.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from models.errors import ConfigError, StorageError
from models.firmware import FirmwareError, Image, check_image
from models.firmware_policy import Policy
from models.secret import Secret

from . import _firmware_tuf as t

IMAGE_FIELD: Final = "image"


@dataclass(frozen=True, slots=True)
class Keys:
    """Folders of key files, one file for each role: ``root.pem``, ``targets.pem``, ``snapshot.pem``, …"""

    folder: Path
    passphrase: Secret = Secret()  # noqa: RUF009  # immutable

    def of(self, role: str) -> CryptoSigner:
        """Return the key of a role."""
        return t.read_key(self.folder / f"{role}.pem", self.passphrase)


class Repository:
    """A folder of images and signed metadata.

    Parameters
    ----------
    folder : Path
    now : callable
        Returns the time that new metadata is signed at.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] = t.utc_now) -> None:
        self.folder, self._now = folder, now
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        if not self.metadata.is_dir():
            raise ConfigError(
                f"{folder} is no firmware repository: chargestream firmware init-repo makes one"
            )

    @classmethod
    def create(
        cls,
        folder: Path,
        offline: Keys,
        online: Keys,
        policy: Policy,
        now: Callable[[], datetime] = t.utc_now,
    ) -> Self:
        """Make an empty repository and its four keys.

        Raises
        ------
        ConfigError
            If there is one, or a key cannot be written.
        """
        if (folder / "metadata").exists():
            raise ConfigError(f"{folder} is a firmware repository already")
        policy.trust()
        keys = {role: t.new_key(offline.folder / f"{role}.pem", offline.passphrase) for role in t.OFFLINE}
        keys |= {role: t.new_key(online.folder / f"{role}.pem", online.passphrase) for role in t.ONLINE}
        try:
            (folder / "targets").mkdir(parents=True, exist_ok=True)
            (folder / "metadata").mkdir()
        except OSError as error:
            raise StorageError(f"{folder} cannot be made: {error.strerror or error}") from error
        made = cls(folder, now)
        root = Root(version=1, expires=t.until("root", now()), consistent_snapshot=True)
        for role, key in keys.items():
            root.add_key(key.public_key, role)
        made._write("1.root.json", t.signed_bytes(root, keys["root"]))
        targets = Targets(version=1, expires=t.until("targets", now()))
        made._write_targets(targets, policy, keys["targets"])
        made.publish(online)
        return made

    # -- reading, by the keeper ------------------------------------------------------------------

    def root(self) -> Metadata[Root]:
        """Return the newest root metadata."""
        version = t.newest(self.metadata, "root")
        return t.read_metadata(self.metadata / f"{version}.root.json", Root)

    def root_bytes(self) -> bytes:
        """Return the newest root metadata as it stands: what clients pin."""
        return (self.metadata / f"{t.newest(self.metadata, 'root')}.root.json").read_bytes()

    def newest_targets(self) -> Metadata[Targets]:
        """Return the newest targets metadata, published or not, with its signature checked.

        Raises
        ------
        FirmwareError
            If the targets key of root did not sign it.
        """
        version = t.newest(self.metadata, "targets")
        found = t.read_metadata(self.metadata / f"{version}.targets.json", Targets)
        try:
            self.root().signed.verify_delegate("targets", found.signed_bytes, found.signatures)
        except UnsignedMetadataError as error:
            raise FirmwareError(
                "repository", f"{version}.targets.json is not signed by the targets key of root: remove it"
            ) from error
        return found

    def images(self) -> list[Image]:
        """Return the images of the newest targets metadata, active ones first."""
        found = self.newest_targets().signed
        return images_of(found)

    def policy(self) -> Policy:
        """Return the policy of the newest targets metadata."""
        return policy_of(self.newest_targets().signed)

    # -- the offline key -------------------------------------------------------------------------

    def import_image(self, image: Image, data: bytes | memoryview, keys: Keys, now_ms: int) -> None:
        """Take an image in, after every check; it is given out once published.

        Raises
        ------
        FirmwareError
            If a check fails, or the version is known with other bytes or was revoked.
        """
        with self._changing(keys) as (targets, policy):
            for known in images_of(targets):
                if known.image_id == image.image_id:
                    word = "was revoked" if known.status == "revoked" else f"is known ({known.sha256})"
                    raise FirmwareError("format", f"{image.image_id} {word}: give a new version a new number")
            check_image(image, data, policy.trust(), policy.floors_by_model(), now_ms)
            path = self.targets / f"{image.sha256}.{image.image_id}"
            t.write_file(path, data)
            custom = {IMAGE_FIELD: msgspec.to_builtins(image)}
            targets.targets[image.image_id] = TargetFile(
                image.size_bytes, {"sha256": image.sha256}, image.image_id, {"custom": custom}
            )

    def revoke(self, image_id: str, reason: str, keys: Keys) -> Image:
        """Take an image back for good, signed; its file is deleted.

        Raises
        ------
        FirmwareError
            If it is not known, or was revoked before.
        """
        with self._changing(keys) as (targets, policy):
            active = {image.image_id: image for image in images_of(targets) if image.status == "active"}
            if image_id not in active:
                raise FirmwareError("unknown", f"no active image {image_id!r}: chargestream firmware list")
            dead = msgspec.structs.replace(active[image_id], status="revoked", status_reason=reason)
            del targets.targets[image_id]
            self._set_policy(targets, msgspec.structs.replace(policy, revoked=(*policy.revoked, dead)))
        (self.targets / f"{dead.sha256}.{image_id}").unlink(missing_ok=True)
        return dead

    def change_policy(self, change: Callable[[Policy], Policy], keys: Keys) -> Policy:
        """Sign a changed policy and return it."""
        with self._changing(keys) as (targets, policy):
            new = change(policy)
            new.trust()
            self._set_policy(targets, new)
        return new

    def rotate(self, roles: tuple[str, ...], keys: Keys, new: Keys) -> int:
        """Replace the keys of `roles` by new ones in the folder `new`; return root's version.

        After a theft of online keys: rotate both, copy the new ones to the server, publish.
        """
        with self._lock():
            old = keys.of("root")
            targets = self.newest_targets().signed  # verified under the old root
            root = self.root().signed
            signers = [old]
            for role in roles:
                for key_id in list(root.roles[role].keyids):
                    root.revoke_key(key_id, role)
                made = t.new_key(new.folder / f"{role}.pem", new.passphrase)
                root.add_key(made.public_key, role)
                if role == "root":
                    signers.append(made)  # a new root is signed by the old key and by the new one
            root.version += 1
            root.expires = t.until("root", self._now())
            self._write(f"{root.version}.root.json", t.signed_bytes(root, *signers))
            if "targets" in roles:
                self._write_targets(_next(targets, self._now()), policy_of(targets), new.of("targets"))
            return int(root.version)

    def resign(self, keys: Keys) -> None:
        """Sign targets again, unchanged, for another term."""
        with self._changing(keys):
            pass

    # -- the online keys -------------------------------------------------------------------------

    def publish(self, keys: Keys, *, if_needed: bool = False) -> bool:
        """Sign what is newest; return whether anything was written.

        Parameters
        ----------
        if_needed : bool
            Only if targets or root are new, or half of the life of snapshot or timestamp is over.
        """
        with self._lock():
            if if_needed and not self._due():
                return False
            targets = self.newest_targets().signed
            now = self._now()
            number = t.newest(self.metadata, "snapshot") + 1
            snapshot = Snapshot(
                version=number,
                expires=t.until("snapshot", now),
                meta={"targets.json": MetaFile(targets.version)},
            )
            blob = t.signed_bytes(snapshot, keys.of("snapshot"))
            path = self.metadata / "timestamp.json"
            last = t.read_metadata(path, Timestamp).signed.version if path.exists() else 0
            stamp = Timestamp(
                version=last + 1,
                expires=t.until("timestamp", now),
                snapshot_meta=MetaFile(number),
            )
            signed = t.signed_bytes(stamp, keys.of("timestamp"))
            self._write(f"{number}.snapshot.json", blob)
            self._write("timestamp.json", signed)
            return True

    def _due(self) -> bool:
        path = self.metadata / "timestamp.json"
        if not path.exists():
            return True
        now, root = self._now(), self.root().signed
        stamp = t.read_metadata(path, Timestamp)
        number = stamp.signed.snapshot_meta.version
        snapshot = t.read_metadata(self.metadata / f"{number}.snapshot.json", Snapshot)
        for role, metadata in (("timestamp", stamp), ("snapshot", snapshot)):
            if metadata.signed.expires - now < timedelta(days=t.DAYS[role]) / 2:
                return True
            try:
                root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError:
                return True  # its key was replaced
        return bool(snapshot.signed.meta["targets.json"].version != t.newest(self.metadata, "targets"))

    # -- denying, without any key ----------------------------------------------------------------

    def hold(self, image_id: str, reason: str) -> None:
        """Stop giving an image out at once; an empty reason ends that."""
        with self._lock():
            held = held_images(self.folder)
            held.pop(image_id, None)
            if reason:
                held[image_id] = reason
            t.write_file(self.folder / "held.json", msgspec.json.format(msgspec.json.encode(held)))

    # -- helpers ---------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, keys: Keys) -> Iterator[tuple[Targets, Policy]]:
        """Hand out targets and policy to be changed in place, then sign them as the next version."""
        signer = keys.of("targets")
        with self._lock():
            targets = self.newest_targets().signed
            yield targets, policy_of(targets)
            self._write_targets(_next(targets, self._now()), policy_of(targets), signer)

    def _write_targets(self, targets: Targets, policy: Policy, signer: CryptoSigner) -> None:
        self._set_policy(targets, policy)
        blob = t.signed_bytes(targets, signer)
        name = f"{targets.version}.targets.json"
        new = Metadata[Targets].from_bytes(blob)
        try:
            self.root().signed.verify_delegate("targets", new.signed_bytes, new.signatures)
        except UnsignedMetadataError as error:
            raise ConfigError(
                "this is not the targets key of the repository: give the right folder"
            ) from error
        self._write(name, blob)

    @staticmethod
    def _set_policy(targets: Targets, policy: Policy) -> None:
        targets.unrecognized_fields[t.POLICY_FIELD] = msgspec.to_builtins(policy)

    def _write(self, name: str, blob: bytes) -> None:
        try:
            t.write_file(self.metadata / name, blob)
        except OSError as error:
            raise StorageError(f"{self.metadata / name}: {error.strerror or error}") from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _next(targets: Targets, now: datetime) -> Targets:
    targets.version += 1
    targets.expires = t.until("targets", now)
    return targets


def policy_of(targets: Targets) -> Policy:
    """Return the policy that stands in targets metadata."""
    return msgspec.convert(targets.unrecognized_fields.get(t.POLICY_FIELD, {}), Policy)


def images_of(targets: Targets) -> list[Image]:
    """Return the images that stand in targets metadata: active ones, then revoked ones."""
    found = []
    for name, target in sorted(targets.targets.items()):
        image = msgspec.convert((target.custom or {}).get(IMAGE_FIELD), Image)
        agrees = (image.image_id, image.size_bytes, image.sha256) == (
            name,
            target.length,
            target.hashes.get("sha256"),
        )
        if not agrees:
            raise FirmwareError("repository", f"targets metadata contradicts itself about {name}")
        found.append(image)
    return [*found, *policy_of(targets).revoked]


def held_images(folder: Path) -> dict[str, str]:
    """Return the images that must not be given out, with the reason."""
    try:
        return msgspec.json.decode((folder / "held.json").read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise FirmwareError("repository", f"{folder / 'held.json'} cannot be read: {error}") from error
