"""What is wanted of load management: a vehicle's own most, operators' limits, departures, cheap quarters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from ._load_decide import FALLBACK, FULL, IDLE, LAST, OFF_PEAK, OPERATOR, VEHICLE, Wishes
from ._load_plan import SLOT_MS, Job, plan
from ._load_points import BOOL, DEAF, Points
from .batch import F64
from .load_settings import SiteSettings

#: Price per kWh of a moment (epoch ms); None where it is not known.
PriceSource = Callable[[int], float | None]
_SLOTS: Final = 192  # planned ahead at most: two days
#: A vehicle that could only just be in time charges whatever the price: this much of spare time is kept.
_SPARE_MS: Final = 1_800_000
#: One that was offered current and takes none keeps the least a vehicle can use after this time.
_QUIET_MS: Final = 30_000
#: A vehicle that draws this share of its own most is not held by its limit.
_AT_MOST: Final = 0.97
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Planner:
    """Keeps which quarters each vehicle is to charge in; made anew in each quarter."""

    def __init__(
        self, settings: SiteSettings, prices: PriceSource | None, resume_state: dict[str, Any] | None
    ) -> None:
        state = resume_state or {}
        self._settings = settings
        self._prices = prices
        self._zone = ZoneInfo(settings.time_zone)
        self._slot_ms: int = state.get("slot_ms", 0)
        self._plan: dict[int, tuple[int, ...]] = {row: tuple(slots) for row, slots in state.get("plan", [])}

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        return {"slot_ms": self._slot_ms, "plan": [[row, list(slots)] for row, slots in self._plan.items()]}

    def forget(self, row: int) -> None:
        """What was planned for an EVSE no longer counts: the vehicle left, or wants something else."""
        self._plan.pop(row, None)
        self._slot_ms = 0

    def slots(self, row: int) -> tuple[int, ...]:
        """Return the planned quarters of an EVSE (epoch ms)."""
        return self._plan.get(row, ())

    def price(self, time_ms: int) -> float:
        """Return the price per kWh of a moment."""
        known = self._prices(time_ms) if self._prices else None
        if known is not None:
            return known
        local = (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(self._zone)
        minute = local.hour * 60 + local.minute
        found = [window.price for window in self._settings.prices if window.covers(minute)]
        return found[0] if found else self._settings.base_price

    def wishes(self, points: Points, now_ms: int, site_w: float) -> Wishes:
        """Return what is wanted at this moment; `site_w` is what the site has for charging."""
        settings = self._settings
        cap = np.minimum(points.cap_a, points.max_a)
        reason = np.where(points.cap_a < points.max_a, VEHICLE, FULL)
        idle = (points.idle_ms > 0) & (now_ms - points.idle_ms >= round(settings.idle_s * 1000))
        quiet = (points.idle_ms > 0) & (now_ms - points.idle_ms >= _QUIET_MS)
        cap = np.where(quiet, np.minimum(cap, points.min_a), cap)
        reason = np.where(quiet, IDLE, reason)
        deaf = points.misses >= DEAF
        cap = np.where(deaf, np.minimum(cap, points.min_a), cap)
        reason = np.where(deaf, FALLBACK, reason)
        at_most = np.isfinite(points.own_a) & (points.peak_a >= _AT_MOST * points.own_a)
        drawn = np.where(at_most, points.peak_a / points.cap_a, 1.0)
        drawn = np.where(quiet, 0.0, np.minimum(drawn, 1.0))
        asked = (now_ms < points.asked_until_ms) & (points.asked_a < cap)
        cap = np.where(asked, points.asked_a, cap)
        reason = np.where(asked, OPERATOR, reason)
        rank = np.where(points.rank >= 0, points.rank, points.priority).astype(np.int64)
        missing = np.nan_to_num(points.wanted_wh - points.energy_wh, nan=np.inf)
        rank = np.where(idle | (missing <= 0), rank + LAST, rank)
        timed = (points.depart_ms > now_ms) & np.isfinite(missing) & (missing > 0) & (points.plugged > 0)
        need = np.zeros(len(points))
        if timed.any():
            watts = settings.voltage_v * np.maximum(points.uses.sum(axis=1), 1)
            hours = np.where(timed, np.maximum(points.depart_ms - now_ms, 60_000) / 3_600_000, 1.0)
            need = np.where(timed, np.where(timed, missing, 0.0) / hours / watts, 0.0)
            if settings.shift:
                waits = self._waits(points, timed, missing, watts, now_ms, site_w)
                cap, need = np.where(waits, 0.0, cap), np.where(waits, 0.0, need)
                reason = np.where(waits, OFF_PEAK, reason)
        return Wishes(cap, reason, rank, np.minimum(need, cap), drawn)

    def _waits(
        self, points: Points, timed: BOOL, missing: F64, watts: F64, now_ms: int, site_w: float
    ) -> BOOL:
        """Return who waits for a cheaper quarter now."""
        slot = now_ms // SLOT_MS * SLOT_MS
        power = np.minimum(points.cap_a, points.max_a) * watts
        if slot != self._slot_ms:
            self._replan(points, timed, missing, power, now_ms, site_w)
            self._slot_ms = slot
        late = points.depart_ms - now_ms - missing / power * 3_600_000 < _SPARE_MS
        waits = np.zeros(len(points), np.bool_)
        for row, slots in self._plan.items():
            waits[row] = slot not in slots
        return waits & timed & ~late

    def _replan(
        self, points: Points, timed: BOOL, missing: F64, power: F64, now_ms: int, site_w: float
    ) -> None:
        rows = np.flatnonzero(timed).tolist()
        rank = np.where(points.rank >= 0, points.rank, points.priority)
        last = max(int(points.depart_ms[row]) for row in rows)
        n = min(_SLOTS, (last - now_ms // SLOT_MS * SLOT_MS) // SLOT_MS + 1)
        first = now_ms // SLOT_MS * SLOT_MS
        prices = [self.price(first + i * SLOT_MS) for i in range(n)]
        jobs = [
            Job(row, float(missing[row]), int(points.depart_ms[row]), float(power[row]), int(rank[row]))
            for row in rows
        ]
        self._plan = plan(jobs, now_ms, prices, site_w)
