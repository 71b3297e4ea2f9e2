"""Native: ``evt/v1/<site>/<node>/dn/cmd`` with an OCPP 2.0.1 request, for whatever is behind the node.

Stations do a ``cmdId`` once, however often it comes, and nothing after ``expires``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.command_types import Outgoing
from models.outputs import Publish
from models.topics import ROOT
from models.whereabouts import Speech

from . import Way


def build(options: dict[str, Any]) -> Way:
    """Return the way; it has no options."""
    return Native()


class Native:
    """Encoder of ``dn/cmd``."""

    honours = True

    def publication(self, command: Outgoing, node: str, speech: Speech | None) -> Publish:
        """Return the message that carries `command`."""
        body: dict[str, Any] = {
            "v": 1,
            "cmdId": command.cmd_id,
            "st": command.station,
            "action": command.command,
            "payload": command.body,
            "issued": command.issued_ms,
            "expires": command.expires_ms,
        }
        kind, _, rest = command.cause.partition("/")
        if kind == "campaign":
            body["campaign"] = rest.partition("/")[0]
        return Publish(
            topic=f"{ROOT}/{command.site}/{node}/dn/cmd",
            payload=msgspec.json.encode(body),
            until_ms=command.expires_ms,
        )
