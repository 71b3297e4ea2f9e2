"""The EVSEs of a managed site as columns: what they draw, what limits they hold, what they may be drawing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .batch import F64, I64
from .load_settings import Outlet, SiteSettings

BOOL = NDArray[np.bool_]

#: A phase that carries less is not used by the vehicle, A.
_CARRIES_A: Final = 1.0
#: Phases are judged above this current, after this time of charging: vehicles close their phases one by one.
_JUDGE_A: Final = 4.0
_JUDGE_MS: Final = 30_000
_SEEN_MS: Final = 60_000
#: A vehicle that leaves this much of its limit (or falls by as much under the same limit) is not held by it:
#: what it draws is its own most, and what it cannot use above that and `_KEEPS` is for others. Vehicles stay
#: below the pilot's limit (IEC 61851-1), so a lower limit alone tells nothing of a vehicle.
_SPARE_SHARE, _SPARE_A = 1.1, 1.5
_FELL_SHARE, _FELL_A = 0.96, 0.3
_KEEPS_SHARE, _KEEPS_A = 1.02, 0.2
#: One that draws this much more after all had another most, or none yet.
_MORE_SHARE, _MORE_A = 1.01, 0.1
_DECAY_A_PER_S: Final = 0.15
#: Its own most is tried again after this time, with `_SPARE` above it.
_TRY_MS: Final = 900_000
#: Above the limit: the tolerance of `over_current` (10 % and 0.5 A).
_OVER_SHARE, _OVER_A = 1.1, 0.5
#: One that disobeyed is counted at its most this long after it was last seen above its limit.
_ROGUE_MS: Final = 600_000

#: After this many commands without success a station is asked seldom, and for the least.
DEAF: Final = 2

NAN: Final = float("nan")
_SHAPES: Final[dict[str, tuple[str, float, int]]] = {
    "plugged": ("u1", 0, 0),
    "since_ms": ("i8", 0, 0),  # of the transaction or plug-in
    "offline": ("u1", 0, 0),
    "meas_a": ("f8", 0, 3),
    "meas_ms": ("i8", 0, 0),
    "seen_ms": ("i8", 0, 3),
    "draw_ms": ("i8", 0, 0),
    "uses": ("u1", 0, 3),
    "judged": ("u1", 0, 0),  # it showed its phases
    "peak_a": ("f8", 0, 0),
    "own_a": ("f8", np.inf, 0),  # the vehicle's own most, as far as it was seen
    "own_ms": ("i8", 0, 0),
    "top_a": ("f8", 0, 0),  # most under the limit of now
    "low_a": ("f8", 0, 2),  # lowest limit of this while and of the one before
    "low_ms": ("i8", 0, 0),
    "cap_a": ("f8", np.inf, 0),
    "idle_ms": ("i8", 0, 0),
    "lim_a": ("f8", NAN, 0),
    "lim_ms": ("i8", 0, 0),
    "lim_until_ms": ("i8", 0, 0),
    "pend_a": ("f8", NAN, 0),
    "pend_ms": ("i8", 0, 0),
    "pend_until_ms": ("i8", 0, 0),
    "high_a": ("f8", 0, 0),
    "high_until_ms": ("i8", 0, 0),
    "raised_ms": ("i8", 0, 0),
    "set_up": ("u1", 0, 0),  # the station confirmed its fallback
    "set_up_ms": ("i8", 0, 0),
    "misses": ("u1", 0, 0),  # commands without an answer since the last one that had one
    "retry_ms": ("i8", 0, 0),
    "over_ms": ("i8", 0, 0),
    "rogue_ms": ("i8", 0, 0),
    "turn_ms": ("i8", 0, 0),  # since when it has its turn, 0: it waits
    "wait_ms": ("i8", 0, 0),  # since when it waits
    "energy_wh": ("f8", 0, 0),
    "wanted_wh": ("f8", NAN, 0),
    "depart_ms": ("i8", 0, 0),
    "asked_a": ("f8", NAN, 0),  # an operator's limit
    "asked_until_ms": ("i8", 0, 0),
    "rank": ("i2", -1, 0),  # an operator's priority, -1: none
    "told_a": ("f8", NAN, 0),
    "target_a": ("f8", NAN, 0),
    "reason": ("u1", 0, 0),
}


class Points:
    """Columns with one row an EVSE; every current is A on the phases of the site (L1, L2, L3).

    Rows are added when an EVSE is first heard of and never removed.
    """

    plugged: NDArray[np.uint8]
    since_ms: I64
    offline: NDArray[np.uint8]
    meas_a: F64
    meas_ms: I64
    seen_ms: I64
    draw_ms: I64
    uses: NDArray[np.uint8]
    judged: NDArray[np.uint8]
    peak_a: F64
    own_a: F64
    own_ms: I64
    top_a: F64
    low_a: F64
    low_ms: I64
    cap_a: F64
    idle_ms: I64
    lim_a: F64
    lim_ms: I64
    lim_until_ms: I64
    pend_a: F64
    pend_ms: I64
    pend_until_ms: I64
    high_a: F64
    high_until_ms: I64
    raised_ms: I64
    set_up: NDArray[np.uint8]
    set_up_ms: I64
    misses: NDArray[np.uint8]
    retry_ms: I64
    over_ms: I64
    rogue_ms: I64
    turn_ms: I64
    wait_ms: I64
    energy_wh: F64
    wanted_wh: F64
    depart_ms: I64
    asked_a: F64
    asked_until_ms: I64
    rank: NDArray[np.int16]
    told_a: F64
    target_a: F64
    reason: NDArray[np.uint8]

    def __init__(self, settings: SiteSettings) -> None:
        self._settings = settings
        self.names: list[tuple[str, int]] = []
        self.tx_id: list[str] = []
        self.outlets: list[Outlet] = []
        self.legs: NDArray[np.int64] = np.zeros((0, 3), np.int64)
        self.wired: BOOL = np.zeros((0, 3), np.bool_)
        self.max_a = self.min_a = self.fallback_a = np.zeros(0)
        self.priority: I64 = np.zeros(0, np.int64)
        for name, (dtype, fill, width) in _SHAPES.items():
            setattr(self, name, np.full((0, width) if width else 0, fill, dtype))

    def __len__(self) -> int:
        return len(self.names)

    def add(self, station: str, evse: int, outlet: Outlet, phases: int, max_a: float | None) -> int:
        """Return the row of a new EVSE; `phases` and `max_a` are what it declares, 0 and None: nothing."""
        wiring = outlet.wiring[:1] if phases == 1 else outlet.wiring
        most = outlet.max_a if max_a is None else min(outlet.max_a, max_a)
        self.names.append((station, evse))
        self.tx_id.append("")
        self.outlets.append(outlet)
        legs = np.full((1, 3), -1, np.int64)
        legs[0, : len(wiring)] = wiring
        wired = np.zeros((1, 3), np.bool_)
        wired[0, list(wiring)] = True
        self.legs = np.concatenate([self.legs, legs])
        self.wired = np.concatenate([self.wired, wired])
        self.max_a = np.append(self.max_a, max(most, outlet.fallback_a))
        self.min_a = np.append(self.min_a, outlet.min_a)
        self.fallback_a = np.append(self.fallback_a, outlet.fallback_a)
        self.priority = np.append(self.priority, outlet.priority)
        for name, (dtype, fill, width) in _SHAPES.items():
            new = np.full((1, width) if width else 1, fill, dtype)
            setattr(self, name, np.concatenate([getattr(self, name), new]))
        row = len(self.names) - 1
        self.uses[row] = wired[0]
        self.set_up[row] = self._settings.commissioned
        return row

    def start(self, row: int, now_ms: int, tx_id: str) -> None:
        """A vehicle came: nothing is known of it."""
        self.plugged[row], self.since_ms[row] = 1, now_ms
        self.uses[row] = self.wired[row]
        for name in ("draw_ms", "idle_ms", "turn_ms", "over_ms", "depart_ms"):
            getattr(self, name)[row] = 0
        self.seen_ms[row], self.wait_ms[row] = 0, now_ms
        self.judged[row] = 0
        self.peak_a[row] = self.top_a[row] = self.energy_wh[row] = 0.0
        self.own_a[row] = self.cap_a[row] = np.inf
        self.low_a[row] = 0.0
        self.wanted_wh[row], self.rank[row] = NAN, -1
        self.tx_id[row] = tx_id

    def leave(self, row: int, now_ms: int) -> None:
        """The vehicle is gone. A TxProfile ended with its transaction; it counts until that is certain."""
        if self.tx_id[row]:
            self.high_a[row] = self.held_a(now_ms)[row]
            self.high_until_ms[row] = now_ms + round(self._settings.reaction_s * 1000)
            self.lim_a[row] = self.pend_a[row] = NAN
        self.plugged[row], self.tx_id[row], self.since_ms[row] = 0, "", 0
        self.uses[row] = self.wired[row]
        self.turn_ms[row] = self.draw_ms[row] = self.idle_ms[row] = self.depart_ms[row] = 0
        self.told_a[row] = self.wanted_wh[row] = NAN

    def displace(self, row: int) -> None:
        """Somebody else's command took the place of a profile of ours: nobody knows what the station holds,
        at most its most, until it confirms its fallback anew."""
        self.set_up[row], self.set_up_ms[row] = 0, 0
        self.lim_a[row] = NAN

    def observe(self, rows: I64, legs_a: F64, time_ms: I64) -> None:
        """Take over currents by leg of the station, A, shape (m, 3); `rows` differ from each other.

        A leg without a value (NaN) counts as 0 beside legs that have one.
        """
        most_ms = round(self._settings.stale_s * 1000)
        step_ms = np.minimum(np.maximum(time_ms - self.meas_ms[rows], 0), most_ms)
        before = self.meas_a[rows].sum(axis=1)
        self.energy_wh[rows] += before * self._settings.voltage_v * step_ms / 3_600_000
        amps = np.zeros((len(rows), 3))
        for leg in range(3):
            phase = self.legs[rows, leg]
            known = phase >= 0
            values = legs_a[known, leg]
            amps[known, phase[known]] = np.where(np.isnan(values), 0.0, values)
        self.meas_a[rows], self.meas_ms[rows] = amps, time_ms
        self._judge_phases(rows, amps, time_ms)
        self._judge_use(rows, amps.max(axis=1), time_ms, step_ms)

    def _judge_phases(self, rows: I64, amps: F64, time_ms: I64) -> None:
        carries = amps > _CARRIES_A
        self.seen_ms[rows] = np.where(carries, time_ms[:, None], self.seen_ms[rows])
        drawing = carries.any(axis=1)
        since = self.draw_ms[rows]
        self.draw_ms[rows] = np.where(drawing, np.where(since == 0, time_ms, since), 0)
        sure = drawing & (amps.max(axis=1) >= _JUDGE_A) & (time_ms - self.draw_ms[rows] >= _JUDGE_MS)
        seen = self.wired[rows] & (time_ms[:, None] - self.seen_ms[rows] <= _SEEN_MS)
        self.uses[rows] = np.where(sure[:, None], seen, self.uses[rows] | carries)
        self.judged[rows] |= sure

    def _judge_use(self, rows: I64, most: F64, time_ms: I64, step_ms: I64) -> None:
        """Learn what the vehicle can use, whether it has finished, and whether the station obeys."""
        now = np.zeros(len(self), np.int64)
        now[rows] = time_ms
        limit = self.in_force_a(now)[rows]
        decayed = self.peak_a[rows] - _DECAY_A_PER_S * step_ms / 1000
        self.peak_a[rows] = peak = np.maximum(most, np.minimum(decayed, limit))
        settle_ms = round(self._settings.reaction_s * 2000)
        anew = time_ms - self.low_ms[rows] > settle_ms
        self.low_a[rows, 1] = np.where(anew, self.low_a[rows, 0], self.low_a[rows, 1])
        self.low_a[rows, 0] = np.where(anew, limit, np.minimum(self.low_a[rows, 0], limit))
        self.low_ms[rows] = np.where(anew, time_ms, self.low_ms[rows])
        # fallbacks come into force and limits run out without a command: only a limit that is known, and was
        # the same for a while, tells of the vehicle
        known = (self.set_up[rows] > 0) & np.isnan(self.pend_a[rows]) & (time_ms >= self.high_until_ms[rows])
        draws = (most > _CARRIES_A) & known
        settled = (time_ms - self.lim_ms[rows] > settle_ms) & draws
        settled &= np.abs(self.low_a[rows] - limit[:, None]).max(axis=1) < 0.05
        self._judge_most(rows, settled, self.low_a[rows].min(axis=1) * draws, peak, time_ms)
        offered = (limit >= self.min_a[rows]) & (self.plugged[rows] > 0)
        idle = self.idle_ms[rows]
        fresh = np.where((idle == 0) & offered, time_ms, idle)
        self.idle_ms[rows] = np.where(most > _CARRIES_A, 0, fresh)
        over = most > self.held_a(now)[rows] * _OVER_SHARE + _OVER_A
        since = self.over_ms[rows]
        self.over_ms[rows] = np.where(over, np.where(since == 0, time_ms, since), 0)
        lasting = over & (time_ms - self.over_ms[rows] >= round(self._settings.reaction_s * 1000))
        self.rogue_ms[rows] = np.where(lasting, time_ms + _ROGUE_MS, self.rogue_ms[rows])

    def _judge_most(self, rows: I64, settled: BOOL, low: F64, peak: F64, time_ms: I64) -> None:
        """Learn the vehicle's own most, and what to offer at most."""
        self.top_a[rows] = top = np.where(settled, np.maximum(self.top_a[rows], peak), 0.0)
        leaves = low >= peak * _SPARE_SHARE + _SPARE_A - 0.05
        fell = peak < _FELL_SHARE * top - _FELL_A
        own = leaves | (settled & fell)
        self.own_a[rows] = most = np.where(own, peak, self.own_a[rows])
        self.own_ms[rows] = np.where(own, time_ms, self.own_ms[rows])
        self.top_a[rows] = np.where(own, peak, top)
        tried = time_ms - self.own_ms[rows] < _TRY_MS
        keeps = np.where(tried, most * _KEEPS_SHARE + _KEEPS_A, most * _SPARE_SHARE + _SPARE_A)
        more = peak > most * _MORE_SHARE + _MORE_A
        self.own_a[rows] = np.where(more, np.inf, most)
        self.cap_a[rows] = np.where(more, np.inf, np.maximum(keeps, self.min_a[rows]))

    def in_force_a(self, now_ms: int | I64) -> F64:
        """Return the limit that a station holds by its own word, A per phase, at a moment or one for each."""
        beneath = np.where(self.set_up > 0, self.fallback_a, self.max_a)
        return np.where((now_ms < self.lim_until_ms) & ~np.isnan(self.lim_a), self.lim_a, beneath)

    def held_a(self, now_ms: int | I64) -> F64:
        """Return the highest limit that may be in force at an obedient station, A per phase."""
        held = np.where(self.set_up > 0, self.fallback_a, self.max_a)
        held = np.fmax(held, np.where(now_ms < self.lim_until_ms, self.lim_a, 0.0))
        held = np.fmax(held, np.where(now_ms < self.pend_until_ms, self.pend_a, 0.0))
        return np.maximum(held, np.where(now_ms < self.high_until_ms, self.high_a, 0.0))

    def fresh(self, now_ms: int) -> BOOL:
        """Return which have readings that are recent enough to go by."""
        recent: BOOL = now_ms - self.meas_ms <= round(self._settings.stale_s * 1000)
        return recent

    def may_draw_a(self, now_ms: int) -> F64:
        """Return what each may be drawing or begin to draw without our doing, A, shape (n, 3).

        The fallback counts on every phase of the station (the next vehicle may use them all), limits on
        the phases that the vehicle uses; a station that disobeyed, or never confirmed its fallback, at its
        most. What is measured counts in any case.
        """
        trusted = (self.set_up > 0) & (now_ms >= self.rogue_ms)
        base = np.where(trusted, self.fallback_a, self.max_a)[:, None] * self.wired
        limits = self.held_a(now_ms)[:, None] * (self.uses > 0)
        may = np.maximum(base, limits)
        seen: F64 = np.where(self.fresh(now_ms)[:, None], np.maximum(may, self.meas_a), may)
        return seen

    def steerable(self, now_ms: int) -> BOOL:
        """Return which have a vehicle, are seen, hold their fallback and obey."""
        there = (self.plugged > 0) & (self.offline == 0) & (self.set_up > 0)
        # a vehicle that has just come has had no time to send readings
        seen = self.fresh(now_ms) | (now_ms - self.since_ms <= round(self._settings.stale_s * 1000))
        able: BOOL = there & seen & (now_ms >= self.rogue_ms)
        return able

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; what settings say is not part of it."""
        state: dict[str, Any] = {name: getattr(self, name).copy() for name in _SHAPES}
        return state | {
            "names": list(self.names),
            "tx_id": list(self.tx_id),
            "wiring": [[int(leg) for leg in row if leg >= 0] for row in self.legs],
            "most": self.max_a.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `snapshot` returned, under the settings of today."""
        for (station, evse), wiring, most in zip(
            state["names"], state["wiring"], state["most"].tolist(), strict=True
        ):
            outlet = self._settings.outlet(station, evse) or self._settings.defaults
            self.add(station, evse, outlet, 1 if len(wiring) == 1 else 0, most)
        self.tx_id = list(state["tx_id"])
        for name in _SHAPES.keys() & state.keys():  # a column that is new begins with its default
            getattr(self, name)[:] = state[name]
