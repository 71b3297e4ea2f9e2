"""The way back: how each dialect carries a command, one file each, named like the dialect.

A module exposes ``build(options: dict) -> Way`` with the options of the dialect's section. What a dialect
cannot carry is refused with the reason, when the command is asked for.
"""

from __future__ import annotations

from typing import Protocol

from models.command_types import Outgoing
from models.outputs import Publish
from models.whereabouts import Speech

PACKAGE = "pipeline.wayback"


class Way(Protocol):
    """How a dialect carries commands."""

    #: Whether its stations do a command that comes twice, with the same id, only once.
    honours: bool

    def publication(self, command: Outgoing, node: str, speech: Speech | None) -> Publish:
        """Return the message that carries `command` to the node that was heard like `speech`.

        Raises
        ------
        CommandRefused
            If the dialect or this station cannot carry it: says why, and what to do.
        """
