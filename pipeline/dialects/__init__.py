"""Payload dialects: one file each, ``pipeline/dialects/<name>.py``, found by the name in a route.

A dialect module exposes ``build(options: dict, resume_state: dict | None = None) -> Dialect``. One
dialect object serves one shard. It turns one message into records and readings through the `Sink`
it is given, or raises `DecodeError`; it never raises anything else, whatever the bytes.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from models.records import EvseInventory


class Topic(msgspec.Struct, frozen=True):
    """A topic as its route read it."""

    text: str
    dialect: str
    kind: int  # models.batch kind, OTHER where only the payload tells
    site: str
    node: str
    msgpack: bool = False
    rest: str = ""  # what follows the node, for dialects that need it


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as a dialect gets it."""

    topic: Topic
    payload: bytes
    recv_ns: int
    retained: bool


class Sink(Protocol):
    """Where a dialect puts what it found in one message, in the order it stands there.

    Times are as the station said them (ns); correction by clock skew comes later. `station` empty
    means: the node is the station. An error raised after some calls discards the whole message.
    """

    def head(self, kind: int, boot: int = -1, seq: int = -1) -> None:
        """Say what the message is and which sequence number it has (-1: none)."""

    def rows(
        self,
        station: str,
        evse: int,
        time_ns: NDArray[Any],
        channels: list[int],
        values: NDArray[Any],
        reg_mwh: NDArray[Any] | None = None,
    ) -> None:
        """Add readings: `time_ns` (n,) int64, `values` (len(channels), n) float64, registers (n,) int64."""

    def birth(self, *, online: bool, **fields: Any) -> None:
        """Add a birth or will; fields as in `models.records.Birth`."""

    def link(
        self,
        *,
        station: str,
        time_ns: int,
        online: bool,
        reason: str = "",
        evses: tuple[EvseInventory, ...] = (),
    ) -> None:
        """Add a gateway's word on a station."""

    def status(
        self, *, station: str, evse: int, conn: int, time_ns: int, status: str, status16: str = ""
    ) -> None:
        """Add a connector status; `evse` 0 is the whole station."""

    def transaction(
        self, *, station: str, evse: int | None, time_ns: int, tx_id: str, event_type: str, **fields: Any
    ) -> None:
        """Add a transaction message; fields as in `models.records.Transaction`."""

    def event(
        self, *, station: str, evse: int | None, time_ns: int, code: str, taxonomy: str, **fields: Any
    ) -> None:
        """Add a station event; fields as in `models.records.StationEvent`."""

    def heartbeat(
        self, *, time_ns: int | None, uptime_s: float | None = None, rssi_dbm: float | None = None
    ) -> None:
        """Add a heartbeat; `time_ns` is the station's clock now (None: it did not say)."""

    def firmware(
        self,
        *,
        station: str,
        time_ns: int,
        request_id: int | None,
        status: str,
        version: str = "",
        campaign: str = "",
    ) -> None:
        """Add a firmware status."""

    def command_result(
        self, *, station: str, time_ns: int, cmd_id: str, status: str, body: dict[str, Any]
    ) -> None:
        """Add the answer to a command."""

    def operator(self, *, topic: str, body: dict[str, Any]) -> None:
        """Add an operator's request."""


class Dialect(Protocol):
    """What ``build`` of a dialect module returns."""

    def decode(self, message: Message, out: Sink) -> None:
        """Put what `message` holds into `out`, or raise `DecodeError`."""

    def snapshot(self) -> dict[str, Any]:
        """Return state (such as calls waiting for their answer) as plain bounded data."""
