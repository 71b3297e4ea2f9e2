"""Who drains the outbox."""

from __future__ import annotations

from typing import Final

from models.outputs import STREAMS

from .config import Config

CONSUMERS: Final = ("influx", "ledger", "mqtt")


def consumers(config: Config) -> dict[str, tuple[str, ...]]:
    """Return which consumers of each stream run: what `OutboxCursors.delivered` is to ask."""
    running = {name for name in CONSUMERS if name != "influx" or config.influx.enabled}
    return {stream: tuple(n for n in names if n in running) for stream, (_, names) in STREAMS.items()}
