"""Charging profiles as a station keeps them (OCPP 2.0.1 use cases K01, K10): what limit holds at a moment.

Of each purpose the valid profile with the highest stack level counts; one of the running transaction counts
before a default one, and the limit of the station is the least of that and of what its purposes above allow.
A profile runs out at its `validTo` or at the end of its schedule, whoever set it and whatever became of them.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final, NamedTuple

_ABOVE: Final = ("ChargingStationMaxProfile", "ChargingStationExternalConstraints")
_EVERY_MS: Final = {"Daily": 86_400_000, "Weekly": 7 * 86_400_000}
_VOLTAGE_V: Final = 230.0
_LEGS: Final = 3


class _Profile(NamedTuple):
    """A profile that a station took: times in epoch ms, limits in A per phase."""

    purpose: str
    stack: int
    from_ms: int
    to_ms: float
    start_ms: int
    lasts_ms: float
    every_ms: int
    periods: tuple[tuple[int, float], ...]  # begins after the start, A
    tx_id: str

    def limit_a(self, now_ms: int) -> float | None:
        """Return the limit at a moment; None when it is not valid then."""
        if not (self.from_ms <= now_ms < self.to_ms):
            return None
        since = now_ms - self.start_ms
        if self.every_ms:
            since %= self.every_ms
        if not (0 <= since < self.lasts_ms):
            return None
        begun = [amps for after, amps in self.periods if after <= since]
        return begun[-1] if begun else None


class Profiles:
    """The profiles of one EVSE."""

    def __init__(self) -> None:
        self._kept: dict[int, _Profile] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def set(self, profile: dict[str, Any], now_ms: int, running: str | None) -> bool:
        """Take a profile in place of the one with its id; return whether it was accepted.

        One for a transaction needs that one to be running (K01.FR.03, K01.FR.33).
        """
        purpose = str(profile.get("chargingProfilePurpose", "TxDefaultProfile"))
        tx_id = str(profile.get("transactionId", ""))
        if purpose == "TxProfile" and (running is None or tx_id not in ("", running)):
            return False
        number, stack = int(profile.get("id", 0)), int(profile.get("stackLevel", 0))
        schedule = profile["chargingSchedule"][0]
        kind = profile.get("chargingProfileKind", "Absolute")
        start = _ms(schedule.get("startSchedule"), now_ms) if kind != "Relative" else now_ms
        one = _Profile(
            purpose,
            stack,
            _ms(profile.get("validFrom"), 0),
            _ms(profile.get("validTo"), math.inf),
            start,
            float(schedule.get("duration", math.inf)) * 1000,
            _EVERY_MS.get(str(profile.get("recurrencyKind", "")), 0) if kind == "Recurring" else 0,
            tuple(
                (int(p["startPeriod"]) * 1000, _amps(schedule, p)) for p in schedule["chargingSchedulePeriod"]
            ),
            (running or "") if purpose == "TxProfile" else "",
        )
        # a profile of the same purpose and stack level takes the place of the old one (K01.FR.05)
        same = [n for n, old in self._kept.items() if (old.purpose, old.stack) == (purpose, stack)]
        for old in [number, *same]:
            self._kept.pop(old, None)
        self._kept[number] = one
        return True

    def clear(self, number: int | None = None, purpose: str | None = None) -> bool:
        """Forget one profile, those of a purpose, or all; return whether there was any."""
        gone = [n for n, one in self._kept.items() if number in (None, n) and purpose in (None, one.purpose)]
        for n in gone:
            del self._kept[n]
        return bool(gone)

    def limit_a(self, now_ms: int, running: str | None) -> float | None:
        """Return the limit at a moment, A per phase; None: no profile limits it."""
        for number in [n for n, one in self._kept.items() if one.tx_id and one.tx_id != running]:
            del self._kept[number]  # its transaction has ended
        for number in [n for n, one in self._kept.items() if one.to_ms <= now_ms]:
            del self._kept[number]
        own = self._highest("TxProfile", now_ms)
        found = [self._highest("TxDefaultProfile", now_ms) if own is None else own]
        found += [self._highest(purpose, now_ms) for purpose in _ABOVE]
        limits = [amps for amps in found if amps is not None]
        return min(limits) if limits else None

    def _highest(self, purpose: str, now_ms: int) -> float | None:
        mine = sorted(
            (one for one in self._kept.values() if one.purpose == purpose), key=lambda one: -one.stack
        )
        return next((amps for amps in (one.limit_a(now_ms) for one in mine) if amps is not None), None)


def _amps(schedule: dict[str, Any], period: dict[str, Any]) -> float:
    """Return the limit of a period in A per phase."""
    limit = float(period["limit"])
    if schedule.get("chargingRateUnit", "A") == "A":
        return limit
    return limit / (_VOLTAGE_V * int(period.get("numberPhases", _LEGS)))


def _ms(text: str | None, otherwise: float) -> Any:
    return otherwise if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)
