"""What ``chargestream firmware`` does short of serving."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from connectors.firmware_repository import Keys, Repository, held_images
from connectors.firmware_store import FirmwareStore
from models import firmware
from models.errors import ConfigError
from models.firmware import FirmwareError, Image
from models.firmware_policy import Policy
from models.firmware_urls import Grant, query_of, url_of
from models.secret import Secret
from pipeline import config as configuration
from pipeline.config import Config

_HOUR_MS = 3_600_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _text(path: Path) -> str:
    return _read(path).decode("utf-8", "replace")


def _passphrase(reference: str) -> Secret:
    if not reference:
        return Secret()
    try:
        return configuration.read_secret(reference, os.environ)
    except ConfigError as error:
        raise ConfigError(f"--passphrase: expected {error}") from error


def _offline(args: argparse.Namespace) -> Keys:
    return Keys(args.offline, _passphrase(args.passphrase))


def _publish_too(repo: Repository, args: argparse.Namespace) -> None:
    if args.online is not None:
        repo.publish(Keys(args.online))
        print("published")
    else:
        print("not yet published: chargestream firmware publish")


# -- keeping -----------------------------------------------------------------------------------------------


def init_repo(args: argparse.Namespace) -> int:
    """Make a repository, its keys and the pinned root."""
    if args.pin.exists():
        raise ConfigError(f"{args.pin} exists: choose another file")
    policy = Policy(roots=_roots(args.vendor_root))
    repo = Repository.create(args.repo, _offline(args), Keys(args.online), policy)
    args.pin.parent.mkdir(parents=True, exist_ok=True)
    args.pin.write_bytes(repo.root_bytes())
    print(f"repository {args.repo}; clients trust {args.pin}")
    print(f"keys of root and targets in {args.offline}: move them off this machine")
    return 0


def _roots(paths: list[Path]) -> tuple[str, ...]:
    return tuple(each.pem for path in paths for each in firmware.read_certificates(_text(path)))


def take(args: argparse.Namespace) -> int:
    """Check an image and take it in."""
    repo = Repository(args.repo)
    with _mapped(args.file) as data:
        image = firmware.make_image(
            data,
            vendor=args.vendor,
            model=args.model,
            version=args.version,
            certificates=_text(args.certificates),
            signature=_signature(args.signature),
            algorithm=args.algorithm,
            from_versions=tuple(args.from_version),
            release_notes=args.notes,
            imported_ms=_now_ms(),
        )
        repo.import_image(image, data, _offline(args), _now_ms())
    print(f"{image.image_id}: {image.size_bytes} bytes, SHA-256 {image.sha256}, {image.algorithm}")
    if not image.fits_ocpp:
        print("its certificate or signature is too long for OCPP 2.0.1: no campaign can send it")
    _publish_too(repo, args)
    return 0


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[bytes | memoryview]:
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as data:
                yield data
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _signature(path: Path) -> str:
    blob = _read(path)
    try:
        text = "".join(blob.decode("ascii").split())
        base64.b64decode(text, validate=True)
    except ValueError:
        return base64.b64encode(blob).decode()
    return text


def revoke(args: argparse.Namespace) -> int:
    """Take an image back for good."""
    if not args.reason:
        raise ConfigError("--reason: expected why the image is taken back")
    repo = Repository(args.repo)
    repo.revoke(args.image, args.reason, _offline(args))
    print(f"{args.image} revoked")
    _publish_too(repo, args)
    return 0


def hold(args: argparse.Namespace) -> int:
    """Deny an image, or no longer."""
    repo = Repository(args.repo)
    if args.image not in {image.image_id for image in repo.images()}:
        raise FirmwareError("unknown", f"no image {args.image!r}: chargestream firmware list")
    if not args.lift and not args.reason:
        raise ConfigError("--reason: expected why the image is held back, or --lift")
    repo.hold(args.image, "" if args.lift else args.reason)
    print(f"{args.image} {'is given out again' if args.lift else 'held back'}")
    return 0


def policy(args: argparse.Namespace) -> int:
    """Change roots, revocations and floors."""

    def change(old: Policy) -> Policy:
        gone = {text.replace(":", "").lower() for text in args.remove_root}
        known = {firmware.fingerprint(pem) for pem in old.roots}
        if gone - known:
            raise ConfigError(f"--remove-root: no such root {sorted(gone - known)[0]}; show lists them")
        kept = tuple(pem for pem in old.roots if firmware.fingerprint(pem) not in gone)
        new = msgspec.structs.replace(
            old,
            roots=tuple(dict.fromkeys(kept + _roots(args.vendor_root))),
            revoked_certificates=tuple(
                dict.fromkeys(
                    (
                        *old.revoked_certificates,
                        *(t.replace(":", "").lower() for t in args.revoke_certificate),
                    )
                )
            ),
            crls=old.crls if args.crl is None else tuple(_text(path) for path in args.crl),
        )
        for vendor, model, version in args.floor:
            new = new.with_floor(vendor, model, version)
        return new

    repo = Repository(args.repo)
    print(json.dumps(_shown(repo.change_policy(change, _offline(args)))))
    _publish_too(repo, args)
    return 0


def resign(args: argparse.Namespace) -> int:
    """Sign targets for another term."""
    repo = Repository(args.repo)
    repo.resign(_offline(args))
    print(f"targets good until {repo.newest_targets().signed.expires:%Y-%m-%d %H:%M} UTC")
    _publish_too(repo, args)
    return 0


def publish(args: argparse.Namespace) -> int:
    """Sign snapshot and timestamp."""
    done = Repository(args.repo).publish(Keys(args.online), if_needed=args.action == "refresh")
    print("published" if done else "nothing to do")
    return 0


def rotate(args: argparse.Namespace) -> int:
    """Replace keys."""
    version = Repository(args.repo).rotate(
        tuple(args.role), _offline(args), Keys(args.new, _passphrase(args.passphrase))
    )
    print(f"root {version} signed; new keys of {', '.join(args.role)} in {args.new}; now publish")
    return 0


# -- reading -----------------------------------------------------------------------------------------------


def repository_folder(config: Config) -> Path:
    """Return where the images lie."""
    return Path(config.firmware.repository or Path(config.service.data_dir, "firmware"))


def open_store(config: Config, repo: Path | None = None, pin: Path | None = None) -> FirmwareStore:
    """Return the verified images of the configured repository."""
    if pin is None and not config.firmware.root_file:
        raise ConfigError("--pin, or firmware.root_file: expected the root that init-repo wrote")
    folder = repo or repository_folder(config)
    state = Path(config.service.data_dir, "firmware-state")
    return FirmwareStore(folder, _read(pin or Path(config.firmware.root_file)), state)


@contextlib.contextmanager
def _store(args: argparse.Namespace) -> Iterator[FirmwareStore]:
    """Give the configured store, or one of another repository that remembers nothing."""
    config = configuration.load(args.config, os.environ)
    if args.repo is None and args.pin is None:
        yield open_store(config)
        return
    with tempfile.TemporaryDirectory(prefix="chargestream-firmware-") as state:
        pin = args.pin or Path(config.firmware.root_file or "firmware-root.json")
        yield FirmwareStore(args.repo or repository_folder(config), _read(pin), Path(state))


def list_images(args: argparse.Namespace) -> int:
    """Print images."""
    with _store(args) as store:
        held = held_images(store.folder)
        for image in store.images():
            print(
                json.dumps(_brief(image) | ({"held": held[image.image_id]} if image.image_id in held else {}))
            )
    return 0


def _brief(image: Image) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(image)
    return {k: v for k, v in fields.items() if k not in {"signing_certificate", "chain", "signature"}}


def show(args: argparse.Namespace) -> int:
    """Print one image, or the policy."""
    with _store(args) as store:
        if args.image is None:
            print(json.dumps(_shown(store.policy()), indent=1))
            return 0
        found = next((image for image in store.images() if image.image_id == args.image), None)
        if found is None:
            raise FirmwareError("unknown", f"no image {args.image!r}: chargestream firmware list")
        signer = firmware.read_certificates(found.signing_certificate)[0]
        more = {
            "signed_by": signer.name,
            "signed_by_sha256": firmware.fingerprint(found.signing_certificate),
            "certificate_ends": f"{signer.x509.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            "fits_ocpp": found.fits_ocpp,
        }
        print(json.dumps(msgspec.to_builtins(found) | more, indent=1))
    return 0


def _shown(policy: Policy) -> dict[str, Any]:
    roots = [
        {"subject": each.name, "sha256": firmware.fingerprint(each.pem)}
        for pem in policy.roots
        for each in firmware.read_certificates(pem)
    ]
    return {
        "roots": roots,
        "revoked_certificates": list(policy.revoked_certificates),
        "crls": len(policy.crls),
        "floors": msgspec.to_builtins(policy.floors),
        "revoked_images": [{"image_id": i.image_id, "reason": i.status_reason} for i in policy.revoked],
    }


def verify(args: argparse.Namespace) -> int:
    """Check everything."""
    with _store(args) as store:
        wrong = store.verify(_now_ms())
        active = sum(image.status == "active" for image in store.images())
    for line in wrong:
        print(line)
    print(f"{active - len(wrong)} of {active} images are good")
    return 1 if wrong else 0


def url(args: argparse.Namespace) -> int:
    """Print a signed address."""
    config = configuration.load(args.config, os.environ)
    if not config.firmware.url_secret:
        raise ConfigError("firmware.url_secret: expected a reference env:NAME or file:PATH")
    image = open_store(config).image(args.image, _now_ms())
    grant = Grant(
        image.image_id, args.campaign, args.site, args.station, _now_ms() + round(args.hours * _HOUR_MS)
    )
    if args.token:
        print(query_of(grant, config.firmware.url_secret))
        return 0
    if not config.firmware.public_url:
        raise ConfigError("firmware.public_url: expected the address at which stations reach the server")
    print(url_of(config.firmware.public_url, grant, config.firmware.url_secret))
    return 0
