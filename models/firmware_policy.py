"""What the keeper of the offline key decides: roots, revocations, floors; signed with the images."""

from __future__ import annotations

import msgspec

from .firmware import FirmwareError, Floors, Image, Trust, trust_of, version_key


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest version of a vendor's model that may still be installed."""

    vendor: str
    model: str
    version: str


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an image is checked against.

    Attributes
    ----------
    roots : tuple of str
        PEM of the roots of vendors.
    revoked_certificates : tuple of str
        SHA-256 fingerprints, hex.
    crls : tuple of str
        PEM of revocation lists.
    floors : tuple of Floor
    revoked : tuple of Image
        Images that were taken back, with the reason; their files are gone.
    """

    roots: tuple[str, ...] = ()
    revoked_certificates: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()
    floors: tuple[Floor, ...] = ()
    revoked: tuple[Image, ...] = ()

    def trust(self) -> Trust:
        """Return the trust for `models.firmware.check_image`."""
        return trust_of(self.roots, self.revoked_certificates, self.crls)

    def floors_by_model(self) -> Floors:
        """Return the floors by (vendor, model)."""
        return {(floor.vendor, floor.model): floor.version for floor in self.floors}

    def with_floor(self, vendor: str, model: str, version: str) -> Policy:
        """Return the policy with this floor.

        Raises
        ------
        FirmwareError
            If the floor would fall: then images that were ruled out could come back.
        """
        present = self.floors_by_model().get((vendor, model))
        if present is not None and version_key(version) < version_key(present):
            raise FirmwareError(
                "rollback",
                f"the floor of {vendor} {model} is {present} and never falls; {version} is below it",
            )
        others = tuple(f for f in self.floors if (f.vendor, f.model) != (vendor, model))
        version_key(version)
        return msgspec.structs.replace(
            self, floors=(*others, Floor(vendor=vendor, model=model, version=version))
        )
