"""OCPP-J over MQTT, raw and wrapped, 1.6 and 2.0.1: a CALL on the station's ``out`` topic.

Off by default: the dialect listens, and a central system does the talking. With ``commands = true`` in
``[dialects.ocpp_j]`` we talk too; the message id is the command id, by which the answer is known. Stations
need not know a message id again, so a command that must not be done twice leaves once, whatever happens to
us: egress notes that before it hands it to the broker.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.command_check import CommandRefused, check_schema
from models.command_repeat import repeatable
from models.command_types import Outgoing
from models.commands16 import to_16
from models.outputs import Publish
from models.whereabouts import Speech

from . import Way

_CALL = 2


def build(options: dict[str, Any]) -> Way:
    """Return the way for the options of the dialect."""
    return OcppJ(options.get("form", "raw"), options.get("commands", False))


class OcppJ:
    """Encoder of CALLs."""

    honours = False

    def __init__(self, form: str, commands: bool) -> None:
        self._form, self._commands = form, commands

    def publication(self, command: Outgoing, node: str, speech: Speech | None) -> Publish:
        """Return the message that carries `command`."""
        if not self._commands:
            raise CommandRefused(
                f"{command.site}/{command.station} is only listened to: its dialect ocpp_j has the option "
                "commands = false; set it to true if no central system objects"
            )
        if speech is None:
            raise CommandRefused(
                f"{command.site}/{command.station}: no BootNotification was heard of it yet, so its OCPP "
                "version and topic are not known"
            )
        if command.station != node:
            raise CommandRefused(f"{command.site}/{command.station} is no OCPP-J station of its own")
        action, body = command.command, command.body
        if speech.proto == "ocpp1.6":
            action, body = to_16(action, body)
            check_schema(action, body, "1.6")
        return Publish(
            topic=self._topic(speech),
            payload=self._payload(command, action, body),
            until_ms=command.expires_ms,
            once="" if repeatable(command.command) else command.cmd_id,
        )

    def _topic(self, speech: Speech) -> str:
        """Return the topic of the direction to the station."""
        levels = speech.topic.split("/")
        at = -1 if self._form == "raw" else -3
        if len(levels) < -at or levels[at] not in ("in", "out"):
            raise CommandRefused(
                f"the topic {speech.topic!r:.200} names no direction, so there is no way back"
            )
        levels[at] = "out"
        return "/".join(levels)

    def _payload(self, command: Outgoing, action: str, body: dict[str, Any]) -> bytes:
        if self._form == "raw":
            return msgspec.json.encode([_CALL, command.cmd_id, action, body])
        return msgspec.json.encode(
            {"type": _CALL, "action": action, "id": command.cmd_id, "request": body, "response": None}
        )
