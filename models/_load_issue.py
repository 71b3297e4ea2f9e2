"""From targets to commands: lower first, raise only into what is free, renew what would run out.

Every EVSE has at most one command without an answer. Until the answer is known, the higher of the old and the
new limit counts; after an accepted reduction the old one counts for the reaction time.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from . import _load_profiles as profiles
from ._load_decide import Limits, used
from ._load_points import BOOL, DEAF, NAN, Points
from .batch import F64, I64
from .load_settings import SiteSettings

#: Clocks of stations and ours may differ by this much when a limit runs out.
_CLOCK_MS: Final = 10_000
_SET_UP_RETRY_MS: Final = 60_000
_DEAF_RETRY_MS: Final = 120_000
_REJECT_RETRY_MS: Final = 30_000
_EPS: Final = 1e-6
SAFETY, ORDINARY = 0, 2


class LimitAsk(NamedTuple):
    """A SetChargingProfile to be sent.

    Attributes
    ----------
    cause : str
        Unique; `SiteLoad.answer` takes it back with the outcome.
    replaces : str
        A command of the same key that has not been sent yet is superseded.
    limit_a : float
        A per phase; -1: the fallback.
    valid_until_ms : int
        End of the limit at the station; 0: never.
    """

    station: str
    evse: int
    cause: str
    body: dict[str, Any]
    limit_a: float
    priority: int
    expires_ms: int
    valid_until_ms: int
    replaces: str


class Issuer:
    """Sends limits of one site, at most so many a minute."""

    def __init__(self, settings: SiteSettings, resume_state: dict[str, Any] | None) -> None:
        state = resume_state or {}
        self._settings = settings
        self._sent_ms: list[int] = list(state.get("sent_ms", []))
        #: cause -> (row, limit or -1 for a fallback, what it replaces still counts until)
        self._open: dict[str, tuple[int, float]] = {
            cause: (row, limit) for cause, row, limit in state.get("open", [])
        }

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        opened = [[cause, row, limit] for cause, (row, limit) in self._open.items()]
        return {"sent_ms": list(self._sent_ms), "open": opened}

    def asked(self, now_ms: int) -> int:
        """Return how many commands were asked for in the last minute."""
        return sum(1 for ms in self._sent_ms if now_ms - ms < 60_000)

    # -- answers ---------------------------------------------------------------------------------------

    def answer(self, points: Points, cause: str, status: str, now_ms: int) -> None:
        """Take over the outcome of a command."""
        found = self._open.pop(cause, None)
        if found is None:
            return
        row, limit = found
        ok = status.lower() == "accepted"
        if limit < 0:
            points.set_up[row] = max(int(points.set_up[row]), int(ok))
            return
        current = bool(points.pend_a[row] == limit)
        if ok:
            points.misses[row] = 0
            if current:
                self._accepted(points, row, now_ms)
        elif status.lower() == "rejected":
            if current:
                points.pend_a[row] = NAN
            self._missed(points, row, now_ms, _REJECT_RETRY_MS)
        elif current:
            self._unknown(points, row, now_ms)

    def expire(self, points: Points, now_ms: int) -> None:
        """Give up on answers that are overdue."""
        wait = round((self._settings.ask_expires_s + self._settings.reaction_s) * 1000)
        late = ~np.isnan(points.pend_a) & (now_ms - points.pend_ms > wait)
        for row in np.flatnonzero(late).tolist():
            self._unknown(points, row, now_ms)
        if late.any():
            # an answer that comes later than this is still taken, when it is for the newest limit
            for cause in [c for c, (row, limit) in self._open.items() if limit >= 0 and late[row]]:
                del self._open[cause]

    def _accepted(self, points: Points, row: int, now_ms: int) -> None:
        before = points.in_force_a(now_ms)[row]
        if before > points.pend_a[row]:
            self.hold(points, row, float(before), now_ms + round(self._settings.reaction_s * 1000), now_ms)
        changed = abs(before - points.pend_a[row]) > _EPS
        points.lim_a[row], points.lim_until_ms[row] = points.pend_a[row], points.pend_until_ms[row]
        points.lim_ms[row] = now_ms if changed else points.lim_ms[row]
        points.pend_a[row] = NAN

    def _unknown(self, points: Points, row: int, now_ms: int) -> None:
        self.hold(points, row, float(points.pend_a[row]), int(points.pend_until_ms[row]), now_ms)
        points.pend_a[row] = NAN
        self._missed(points, row, now_ms, 0)

    @staticmethod
    def _missed(points: Points, row: int, now_ms: int, retry_ms: int) -> None:
        points.misses[row] = min(250, int(points.misses[row]) + 1)
        wait = _DEAF_RETRY_MS if points.misses[row] >= DEAF else retry_ms
        points.retry_ms[row] = now_ms + wait

    @staticmethod
    def hold(points: Points, row: int, amps: float, until_ms: int, now_ms: int) -> None:
        """Count a limit that may still be in force until then, with others of the kind."""
        running = now_ms < points.high_until_ms[row]
        points.high_a[row] = max(amps, float(points.high_a[row])) if running else amps
        points.high_until_ms[row] = max(until_ms, int(points.high_until_ms[row])) if running else until_ms

    # -- commands --------------------------------------------------------------------------------------

    def issue(
        self, points: Points, limits: Limits, rank: I64, now_ms: int, *, overload: bool
    ) -> list[LimitAsk]:
        """Return the commands that bring limits towards the targets, as far as is safe and allowed."""
        self._sent_ms = [ms for ms in self._sent_ms if now_ms - ms < 60_000]
        asks: list[LimitAsk] = []
        force = points.in_force_a(now_ms)
        pending = ~np.isnan(points.pend_a)
        now = np.where(pending, points.pend_a, force)
        slack = limits.room_a - used(limits.inline, points.may_draw_a(now_ms))
        # what is kept free for other load may be used by it: half, before everything is cut to the ampere
        tight = overload or bool((slack < -_EPS - self._settings.other.rise_a / 2).any())
        able = (points.plugged > 0) & (points.offline == 0) & (now_ms >= points.retry_ms)
        target = np.floor(points.target_a * 10 + _EPS) / 10
        change = target - now
        least = 0.1 if tight else self._settings.hysteresis_a
        pauses = (target < points.min_a) & (now >= points.min_a)
        lower = able & ((change <= -least) | pauses)
        for row in np.flatnonzero(lower)[np.argsort(change[lower], kind="stable")].tolist():
            self._ask(asks, points, row, float(target[row]), now_ms, SAFETY if tight else ORDINARY)
        self._set_up(asks, points, now_ms)
        raises = able & ~pending & ~lower & (points.set_up > 0)
        self._renew(asks, points, raises, target, force, now_ms)
        self._raise(asks, points, raises, target, force, rank, slack, limits, now_ms)
        return asks

    def _renew(
        self, asks: list[LimitAsk], points: Points, able: BOOL, target: F64, force: F64, now_ms: int
    ) -> None:
        """Renew limits that run out soon and are still right; a pause above nothing needs none."""
        left = points.lim_until_ms - now_ms
        soon = (left > 0) & (
            left <= round(self._settings.renew_s * 1000) + _CLOCK_MS
        )  # by the station's clock
        due = able & ~np.isnan(points.lim_a) & soon
        due &= np.abs(points.lim_a - points.fallback_a) > _EPS
        due &= (target < points.lim_a + self._settings.hysteresis_a) & (target > points.lim_a - 0.05)
        due |= able & (points.lim_a - target > 0.05) & soon
        for row in np.flatnonzero(due)[np.argsort(left[due], kind="stable")].tolist():
            self._ask(asks, points, row, float(min(target[row], force[row])), now_ms, ORDINARY)

    def _raise(
        self, asks: list[LimitAsk], points: Points, able: BOOL, target: F64, force: F64, rank: I64,
        slack: F64, limits: Limits, now_ms: int,
    ) -> None:  # fmt: skip
        settings = self._settings
        gap = target - force
        ready = able & (np.isnan(points.pend_a)) & (target >= points.min_a - _EPS)
        ready &= (gap >= settings.hysteresis_a) | ((force < points.min_a) & (gap > 0))
        rows = np.flatnonzero(ready)
        if not len(rows):
            return
        may = points.may_draw_a(now_ms)
        seconds = np.maximum(now_ms - points.raised_ms, 0) / 1000
        ramp = np.maximum(force, points.min_a) + settings.ramp_a_per_s * np.minimum(seconds, 3600)
        ramp = np.where(force < points.min_a, np.maximum(points.min_a, points.fallback_a), ramp)
        most = np.minimum(target, ramp)
        for row in rows[np.lexsort((rows, -gap[rows], rank[rows]))].tolist():
            uses = points.uses[row] > 0
            behind = limits.inline[:, row] > 0
            free = slack[behind].min(axis=0)
            new = min(float(most[row]), float((may[row] + free)[uses].min()))
            new = float(np.floor(new * 10 + _EPS) / 10)
            if new < points.min_a[row] - _EPS or new - force[row] < min(0.95, settings.hysteresis_a):
                continue
            if self._ask(asks, points, row, new, now_ms, ORDINARY):
                points.raised_ms[row] = now_ms
                more = np.where(uses, np.maximum(new - may[row], 0.0), 0.0)
                slack[behind] -= more

    def _set_up(self, asks: list[LimitAsk], points: Points, now_ms: int) -> None:
        """Send the fallback to stations that have not confirmed it."""
        due = (points.set_up == 0) & (points.offline == 0)
        due &= (points.set_up_ms == 0) | (now_ms - points.set_up_ms >= _SET_UP_RETRY_MS)
        for row in np.flatnonzero(due).tolist():
            if self._full(ORDINARY):
                return
            points.set_up_ms[row] = now_ms
            outlet = points.outlets[row]
            legs = int(points.wired[row].sum())
            body = profiles.fallback(points.names[row][1], outlet.fallback_a, legs, self._watts(outlet, legs))
            asks.append(self._made(points, row, "fallback", body, -1.0, now_ms, ORDINARY))

    def _ask(
        self, asks: list[LimitAsk], points: Points, row: int, limit: float, now_ms: int, priority: int
    ) -> bool:
        if self._full(priority):
            return False
        if not np.isnan(points.pend_a[row]):
            self.hold(points, row, float(points.pend_a[row]), int(points.pend_until_ms[row]), now_ms)
        until = now_ms + round(self._settings.valid_s * 1000)
        points.pend_a[row], points.pend_ms[row] = limit, now_ms
        points.pend_until_ms[row] = until + _CLOCK_MS
        legs = int(points.wired[row].sum())
        watts = self._watts(points.outlets[row], legs)
        body = profiles.dynamic(points.names[row][1], limit, now_ms, until, points.tx_id[row], legs, watts)
        asks.append(self._made(points, row, "limit", body, limit, now_ms, priority))
        return True

    def _full(self, priority: int) -> bool:
        return priority != SAFETY and len(self._sent_ms) >= self._settings.commands_per_min

    def _watts(self, outlet: Any, legs: int) -> float:
        return self._settings.voltage_v * legs if outlet.dc else 0.0

    def _made(
        self, points: Points, row: int, kind: str, body: dict[str, Any], limit: float, now_ms: int,
        priority: int,
    ) -> LimitAsk:  # fmt: skip
        station, evse = points.names[row]
        cause = f"load/{self._settings.site}/{station}/{evse}/{kind}/{now_ms}"
        self._sent_ms.append(now_ms)
        self._open[cause] = (row, limit)
        expires = now_ms + round(self._settings.ask_expires_s * 1000)
        key = f"load/{station}/{evse}/{kind}"
        until = 0 if limit < 0 else now_ms + round(self._settings.valid_s * 1000)
        return LimitAsk(station, evse, cause, body, limit, priority, expires, until, key)
