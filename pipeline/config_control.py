"""The sections of the configuration that concern the way back to stations."""

from __future__ import annotations

from pydantic import Field

from .config_sections import Section


class CommandsSection(Section):
    """Commands to stations: how long to wait for an answer, how often to try."""

    answer_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Wait for an answer before a command is sent again; doubles with each further try.",
    )
    tries: int = Field(3, ge=1, le=10, description="Tries in all before a command fails without an answer.")
    queue_max: int = Field(
        16, ge=1, le=1000, description="Commands that may wait for one station; further ones fail."
    )
