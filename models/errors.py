"""Every error chargestream raises on purpose.

ChargestreamError
├── ConfigError          a setting is wrong: names file, key, value, what was expected
├── DecodeError          bytes from outside that are not what their topic promises
├── StorageError         journal, outbox or ledger cannot store or read
│   ├── StorageFull      the disk or a size bound is exhausted
│   └── StorageCorrupt   stored bytes do not match their checksum
├── TariffError          a tariff, charging record or priced case is not what its format promises
├── SnapshotError        saved state of another version or shape
└── DeliveryError        a server outside refused or did not answer
    ├── RetryLater       try again, after `delay_s`
    └── Refused          never will be accepted: dead-letter it

An error says what came, where, what was expected and what to do.
"""

from __future__ import annotations


class ChargestreamError(Exception):
    """Base of all errors that chargestream raises on purpose."""


class ConfigError(ChargestreamError):
    """One or more settings are wrong; the text lists all of them, a line each."""


class TariffError(ChargestreamError):
    """A tariff, a charging record or a priced case is not what its format promises."""


class DecodeError(ChargestreamError):
    """A payload is not what its topic promises; it goes to the dead stream.

    `reason` is a short stable word for counting (``json``, ``schema``, ``topic``, ...).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StorageError(ChargestreamError):
    """The journal, the outbox or the ledger cannot store or read."""


class StorageFull(StorageError):
    """No room left: nothing was stored, so nothing may be acknowledged."""


class StorageCorrupt(StorageError):
    """Stored bytes do not match their checksum."""


class SnapshotError(ChargestreamError):
    """Saved state has another version or shape than this program reads."""


class DeliveryError(ChargestreamError):
    """A server outside refused a delivery or did not answer."""


class RetryLater(DeliveryError):
    """The delivery may succeed later."""

    def __init__(self, message: str, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class Refused(DeliveryError):
    """The delivery will never be accepted: keep it in the dead-letter with the server's words."""
