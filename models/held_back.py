"""Times in which load management held an EVSE below what a vehicle can charge with, as bills know them.

Load management is decided after the bills, so its word goes the way of all words: an operator's message
``_op/held`` when a limit falls below 6 A per phase (or to a pause), and one when it is lifted. Journaled, it
says at every replay that a vehicle which asks for nothing meanwhile is not parking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .errors import DecodeError
from .load_rows import LimitRow
from .outputs import Publish
from .topics import OPERATOR_SITE, ROOT

KIND: Final = "held"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
#: Below this a vehicle cannot charge. Source: IEC 61851-1, the lowest current a pilot can offer.
LEAST_A: Final = 6.0
#: Spans remembered of an EVSE at most.
_MOST: Final = 512


class HeldWord(msgspec.Struct, frozen=True, kw_only=True):
    """From a moment on (epoch ms) an EVSE is held back, or no longer."""

    site: str
    station: str
    evse: int
    from_ms: int
    held: bool


def read_held(body: Mapping[str, Any]) -> HeldWord:
    """Return what the body of a message says.

    Raises
    ------
    DecodeError
        If a field is missing or wrong.
    """
    try:
        return msgspec.convert({name: body.get(name) for name in HeldWord.__struct_fields__}, HeldWord)
    except msgspec.ValidationError as error:
        raise DecodeError("held", f"{error}; expected {', '.join(HeldWord.__struct_fields__)}") from None


class HeldTeller:
    """Tells when limits begin and cease to hold EVSEs back; nothing while that stays as it is."""

    def __init__(self, resume_state: list[list[Any]] | None = None) -> None:
        self._held = {(site, station, evse) for site, station, evse in resume_state or []}

    def snapshot(self) -> list[list[Any]]:
        """Return plain data."""
        return [list(key) for key in sorted(self._held)]

    def take(self, row: LimitRow) -> Publish | None:
        """Return the message that a limit gives rise to, if any."""
        key = (row.site, row.station, row.evse)
        held = row.limit_a is not None and row.limit_a < LEAST_A
        if held == (key in self._held):
            return None
        (self._held.add if held else self._held.discard)(key)
        word = HeldWord(site=row.site, station=row.station, evse=row.evse, from_ms=row.from_ms, held=held)
        body = {"v": 1} | msgspec.structs.asdict(word) | {"by": "load", "limit_a": row.limit_a}
        return Publish(topic=TOPIC, payload=msgspec.json.encode(body))


class HeldSpans:
    """When each EVSE of a shard was held back. Times ns."""

    def __init__(self, resume_state: list[list[Any]] | None = None) -> None:
        #: EVSE -> [time, held] by time
        self._changes: dict[int, list[list[int]]] = {
            row: [list(change) for change in changes] for row, changes in resume_state or []
        }

    def snapshot(self) -> list[list[Any]]:
        """Return plain data."""
        return [[row, [list(change) for change in changes]] for row, changes in self._changes.items()]

    def take(self, evse_row: int, time_ns: int, held: bool) -> None:
        """Note a change; words may come late, twice and in any order."""
        changes = self._changes.setdefault(evse_row, [])
        if [time_ns, int(held)] not in changes:
            changes.append([time_ns, int(held)])
            changes.sort()
            del changes[:-_MOST]

    def within(self, evse_row: int, begin_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """Return the spans of a time, cut to it, in order; one that is not over yet ends with it."""
        found: list[tuple[int, int]] = []
        since: int | None = None
        for time_ns, held in [*self._changes.get(evse_row, []), [end_ns, 0]]:
            if held and since is None:
                since = time_ns
            elif not held and since is not None:
                span = max(since, begin_ns), min(time_ns, end_ns)
                found += [span] if span[0] < span[1] else []
                since = None
        return found
