"""Firmware images: what is known of one, whether its signature holds, and which station may have it.

Pure functions; the time is handed in. The files lie in a store (`connectors.firmware_store`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from ._firmware_signatures import (
    ALGORITHMS,
    Trust,
    check_chain,
    check_signature,
    fingerprint,
    read_certificates,
    trust_of,
)
from ._firmware_versions import (
    FirmwareError,
    VersionKey,
    check_conditions,
    meets,
    same_version,
    version_key,
)

__all__ = [
    "ALGORITHMS", "FirmwareError", "Floors", "Image", "Trust", "VersionKey", "check_image",
    "check_install", "check_trust", "fingerprint", "image_id_of", "make_image", "read_certificates",
    "same_version", "trust_of", "update_firmware_body", "version_key",
]  # fmt: skip

#: Lengths of OCPP 2.0.1 FirmwareType; 2.1 takes a location of 2,000.
MAX_LOCATION: Final = 512
MAX_CERTIFICATE: Final = 5_500
MAX_SIGNATURE: Final = 800
#: OCPP 2.0.1 BootNotification.chargingStation: longest vendorName, modelName, firmwareVersion.
_MAX_NAMES: Final = {"vendor": 50, "model": 20, "version": 50}
_ID: Final = re.compile(r"[^a-z0-9.+-]+")
_MAX_NOTES: Final = 20_000

#: Lowest version that may still be installed, by (vendor, model); what is not named has none.
Floors = Mapping[tuple[str, str], str]


class Image(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One firmware image of one vendor and model.

    Attributes
    ----------
    image_id : str
        ``vendor_model_version``, from `image_id_of`: also its file name, so the same version cannot be
        imported twice with other bytes.
    vendor, model, version : str
        As the station reports them in BootNotification.
    from_versions : tuple of str
        Versions it may be installed over, such as ``>=1.2,<2.0``; empty: all.
    size_bytes : int
    sha256 : str
        Of the file, lower-case hex.
    release_notes : str
    signing_certificate : str
        PEM of the certificate that signed it, alone: what OCPP's ``signingCertificate`` carries.
    chain : tuple of str
        PEM of the certificates between it and a root.
    signature : str
        Detached signature over the file, base64: OCPP's ``signature``.
    algorithm : str
        One of `ALGORITHMS`.
    status : str
        ``active`` or ``revoked``; a revoked image is given to nobody.
    status_reason : str
        Why it was revoked.
    imported_ms : int
        Epoch ms.
    """

    image_id: str
    vendor: str
    model: str
    version: str
    size_bytes: int
    sha256: str
    signing_certificate: str
    signature: str
    algorithm: str
    from_versions: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    release_notes: str = ""
    status: Literal["active", "revoked"] = "active"
    status_reason: str = ""
    imported_ms: int = 0

    @property
    def fits_ocpp(self) -> bool:
        """Whether OCPP 2.0.1 can carry its certificate and signature."""
        return len(self.signing_certificate) <= MAX_CERTIFICATE and len(self.signature) <= MAX_SIGNATURE


def image_id_of(vendor: str, model: str, version: str) -> str:
    """Return the id of an image: lower case, other characters than letters, digits and ``.+-`` as one ``-``.

    Raises
    ------
    FirmwareError
        If a name is empty, too long for OCPP, or has no letter or digit.
    """
    parts = []
    for name, value in (("vendor", vendor), ("model", model), ("version", version)):
        if not value.strip() or len(value) > _MAX_NAMES[name] or not value.isprintable():
            raise FirmwareError(
                "format", f"{name} {value[:60]!r}: expected 1 to {_MAX_NAMES[name]} printable characters"
            )
        part = _ID.sub("-", value.casefold()).strip("-.")
        if not part:
            raise FirmwareError("format", f"{name} {value!r}: expected a letter or digit in it")
        parts.append(part)
    return "_".join(parts)


def make_image(
    data: bytes | memoryview,
    *,
    vendor: str,
    model: str,
    version: str,
    certificates: str,
    signature: str,
    algorithm: str = "",
    from_versions: tuple[str, ...] = (),
    release_notes: str = "",
    imported_ms: int = 0,
) -> Image:
    """Return the record of a file, unchecked but for its form; `check_image` says whether it may be used.

    Parameters
    ----------
    data : bytes-like
        The whole file.
    certificates : str
        PEM: the signing certificate first, then those between it and a root.
    signature : str
        Base64 of the detached signature.
    algorithm : str
        One of `ALGORITHMS`; empty: what fits the certificate's key (RSA: PSS).

    Raises
    ------
    FirmwareError
        If something cannot be read.
    """
    version_key(version)
    check_conditions(from_versions)
    if len(release_notes) > _MAX_NOTES:
        raise FirmwareError(
            "format", f"release notes of {len(release_notes)} characters: at most {_MAX_NOTES}"
        )
    found = read_certificates(certificates)
    if not len(data):
        raise FirmwareError("format", "the file is empty: expected a firmware image")
    return Image(
        image_id=image_id_of(vendor, model, version),
        vendor=vendor,
        model=model,
        version=version,
        from_versions=from_versions,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        release_notes=release_notes,
        signing_certificate=found[0].pem,
        chain=tuple(each.pem for each in found[1:]),
        signature=re.sub(r"\s", "", signature),
        algorithm=algorithm or found[0].usual_algorithm,
        imported_ms=imported_ms,
    )


def check_image(image: Image, data: bytes | memoryview, trust: Trust, floors: Floors, now_ms: int) -> None:
    """Check everything that must hold before an image is taken in.

    Status, floor, size, hash, certificate chain, validity, revocation, signature; in this order.

    Raises
    ------
    FirmwareError
        At the first that does not hold; says what came, what was expected, and what to do.
    """
    check_trust(image, trust, floors, now_ms)
    if len(data) != image.size_bytes:
        raise FirmwareError(
            "hash", f"{image.image_id}: {len(data)} bytes, expected {image.size_bytes}: fetch the file again"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != image.sha256:
        raise FirmwareError(
            "hash", f"{image.image_id}: SHA-256 {found}, expected {image.sha256}: fetch the file again"
        )
    check_signature(image.image_id, image.signing_certificate, image.signature, image.algorithm, data)


def check_trust(image: Image, trust: Trust, floors: Floors, now_ms: int) -> None:
    """Check what may change after an import: revocation, floor, certificate times.

    Before a campaign, and before each answer that serves the image.

    Raises
    ------
    FirmwareError
        With what does not hold.
    """
    if image.status != "active":
        why = f": {image.status_reason}" if image.status_reason else ""
        raise FirmwareError("revoked", f"{image.image_id} was revoked{why}; choose another version")
    floor = floors.get((image.vendor, image.model))
    if floor is not None and version_key(image.version) < version_key(floor):
        raise FirmwareError(
            "rollback",
            f"{image.image_id}: version {image.version} is below the floor {floor} of {image.vendor} "
            f"{image.model}; choose {floor} or newer",
        )
    check_chain(image.image_id, image.signing_certificate, image.chain, trust, now_ms)


def check_install(
    image: Image, *, vendor: str, model: str, version: str, floors: Floors, downgrade: bool = False
) -> None:
    """Check whether a station with this vendor, model and present version may have `image`.

    Parameters
    ----------
    version : str
        That the station reported last; empty: not known, then only images for all versions fit.
    downgrade : bool
        A roll-back: an older version than the present one is wanted, `from_versions` does not count, and the
        floor still does.

    Raises
    ------
    FirmwareError
        ``compatible``, ``rollback`` or ``revoked``.
    """
    if image.status != "active":
        raise FirmwareError("revoked", f"{image.image_id} was revoked; choose another version")
    if (vendor, model) != (image.vendor, image.model):
        raise FirmwareError(
            "compatible",
            f"{image.image_id} is for {image.vendor} {image.model}, the station is {vendor} {model}",
        )
    floor = floors.get((vendor, model))
    if floor is not None and version_key(image.version) < version_key(floor):
        raise FirmwareError(
            "rollback", f"{image.image_id} is below the floor {floor}; choose {floor} or newer"
        )
    if downgrade:
        return
    if not version.strip():
        if image.from_versions:
            raise FirmwareError(
                "compatible",
                f"{image.image_id} may be installed over {' or '.join(image.from_versions)}; the station has "
                "not reported its version: trigger a BootNotification",
            )
        return
    if version_key(image.version) < version_key(version):
        raise FirmwareError(
            "rollback",
            f"{image.image_id} is older than {version}, which the station runs; roll back on purpose",
        )
    if not meets(version, image.from_versions):
        raise FirmwareError(
            "compatible",
            f"{image.image_id} may be installed over {' or '.join(image.from_versions)}, the station runs "
            f"{version}: install a version between first",
        )


def update_firmware_body(
    image: Image,
    location: str,
    request_id: int,
    *,
    retrieve_ms: int,
    install_ms: int | None = None,
    retries: int | None = None,
    retry_interval_s: int | None = None,
    signed: bool = True,
) -> dict[str, Any]:
    """Return the payload of OCPP 2.0.1 UpdateFirmware, camelCase.

    Parameters
    ----------
    location : str
        URL, at most 512 characters.
    retrieve_ms, install_ms : int
        When to fetch and to install, epoch ms.
    signed : bool
        With certificate and signature (L01); without, the station is told the location alone (L02).

    Raises
    ------
    FirmwareError
        If OCPP cannot carry it.
    """
    if len(location) > MAX_LOCATION:
        raise FirmwareError(
            "format", f"location of {len(location)} characters: OCPP 2.0.1 takes {MAX_LOCATION}"
        )
    if signed and not image.fits_ocpp:
        raise FirmwareError(
            "format",
            f"{image.image_id}: OCPP takes a certificate of {MAX_CERTIFICATE} and a signature of "
            f"{MAX_SIGNATURE} characters, these have "
            f"{len(image.signing_certificate)} and {len(image.signature)}",
        )
    firmware = {"location": location, "retrieveDateTime": _rfc3339(retrieve_ms)}
    if signed:
        firmware |= {"signingCertificate": image.signing_certificate, "signature": image.signature}
    if install_ms is not None:
        firmware["installDateTime"] = _rfc3339(install_ms)
    body: dict[str, Any] = {"requestId": request_id, "firmware": firmware}
    if retries is not None:
        body["retries"] = retries
    if retry_interval_s is not None:
        body["retryInterval"] = retry_interval_s
    return body


def _rfc3339(time_ms: int) -> str:
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
