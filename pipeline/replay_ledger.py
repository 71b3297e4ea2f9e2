"""The results of a replay into a ledger, as the service would have written them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from connectors.ledger import Ledger

from .replay_files import bills

if TYPE_CHECKING:
    from .config import Config
    from .replay_files import Results

_AT_ONCE: Final = 20_000


def fill_ledger(url: str, collected: Results, config: Config) -> None:
    """Write intervals, sessions, bills and the months of sites; what is there already stays or is revised.

    Raises
    ------
    ConfigError
        If the address is wrong.
    RetryLater
        If the database does not take it.
    """
    ledger = Ledger(url)
    streams: dict[str, Iterable[Any]] = {
        "intervals": (collected.intervals[key] for key in sorted(collected.intervals)),
        "sessions": (collected.sessions[key] for key in sorted(collected.sessions)),
        "cdrs": bills(collected),
    }
    try:
        for stream, rows in streams.items():
            left = iter(rows)
            while part := list(islice(left, _AT_ONCE)):
                ledger.apply(stream, [(0, msgspec.msgpack.encode(part))])
        ledger.note_months(config.billing.zones(), config.billing.time_zone)
    finally:
        ledger.close()
