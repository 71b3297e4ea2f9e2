"""Who drains the outbox."""

from __future__ import annotations

from typing import Final

from models.outputs import STREAMS

from .config import Config

CONSUMERS: Final = ("influx", "ledger", "mqtt", "ocpi", "notify")


def consumers(config: Config) -> dict[str, tuple[str, ...]]:
    """Return which consumers of each stream run: what `OutboxCursors.delivered` is to ask."""
    optional = {"influx": config.influx.enabled, "ocpi": config.ocpi.enabled, "notify": config.notify.running}
    running = {name for name in CONSUMERS if optional.get(name, True)}
    return {stream: tuple(n for n in names if n in running) for stream, (_, names) in STREAMS.items()}
