"""Load management of one site: what each EVSE may draw, so that no limit of the site is exceeded.

The limit holds by counting, not by trust: an EVSE counts with the highest limit that may be in force at its
station (accepted, asked for and not answered, not yet expired), at least with its fallback, and with what is
measured if that is more. A limit is raised only into what is left then, so the site stays within its limits
when commands are lost, when stations do not obey and when nobody decides any more: limits run out at the
stations, which fall back by themselves.

Time is journaled time, in epoch ms; currents are A on the site's phases L1, L2, L3.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from ._load_decide import FALLBACK, FREE, REASONS, Limits, decide, used
from ._load_demand import Demand
from ._load_issue import Issuer, LimitAsk
from ._load_points import NAN, Points
from ._load_profiles import displaces
from ._load_wishes import Planner, PriceSource
from .batch import F64, I64
from .errors import SnapshotError
from .load_rows import LimitRow, LoadRequest, LoadRow
from .load_settings import SiteSettings

__all__ = ["REASONS", "LimitAsk", "Outcome", "SiteLoad", "SiteSettings", "displaces"]

VERSION: Final = 1
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
#: An overload is decided on at once, but not again before stations had time for the last decision.
_URGENT_MS: Final = 2_000
_TOLD_A: Final = 0.05
#: Meter and stations are not read in the same moment: a limit just raised would look like other load.
#: Of a grid meter the lowest remainder within this time counts, so that other load counts when it lasts.
_AGREE_MS, _MOST_RESTS = 12_000, 12


class Outcome(NamedTuple):
    """What a moment led to: commands to ask for, limits that came into force, the site's minute."""

    asks: list[LimitAsk]
    limits: list[LimitRow]
    loads: list[LoadRow]


class SiteLoad:
    """Load management of one site.

    Parameters
    ----------
    settings : SiteSettings
    prices : callable, optional
        Price per kWh of a moment (epoch ms), None where it is not known; over the windows of the settings.
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version.
    """

    def __init__(
        self,
        settings: SiteSettings,
        prices: PriceSource | None = None,
        resume_state: dict[str, Any] | None = None,
    ) -> None:
        state = resume_state or {"version": VERSION}
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"load management has version {state.get('version')!r}, this program reads {VERSION}"
            )
        self.settings = settings
        self.points = Points(settings)
        self._panels = {panel.name: i for i, panel in enumerate(settings.panels)}
        self._lines = settings.lines()
        self._base_a: F64 = np.array([panel.limit_a for panel in settings.panels], np.float64)
        self._inline: F64 = np.zeros((len(settings.panels), 0))
        self._row: dict[tuple[str, int], int] = {}
        if "points" in state:
            self.points.restore(state["points"])
            self._index()
        self.demand = Demand(round(settings.stale_s * 1000), state.get("demand"))
        self._issuer = Issuer(settings, state.get("issuer"))
        self._planner = Planner(settings, prices, state.get("planner"))
        other = state.get("other", {})
        self._other_a: F64 = np.array(other.get("amps", [NAN] * 3), np.float64)
        self._other_ms: int = other.get("ms", 0)
        self._rests: list[tuple[int, list[float]]] = [(ms, list(a)) for ms, a in other.get("rests", [])]
        self._news: bool = state.get("news", True)  # something came since a tick looked at the currents
        self._next_ms, self._urgent_ms, self._minute_ms = state.get("times", [0, 0, 0])
        self._asked_a, self._asked_until_ms = state.get("asked", [NAN, 0])

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "points": self.points.snapshot(),
            "demand": self.demand.snapshot(),
            "issuer": self._issuer.snapshot(),
            "planner": self._planner.snapshot(),
            "other": {
                "amps": self._other_a.tolist(),
                "ms": self._other_ms,
                "rests": [[ms, list(a)] for ms, a in self._rests],
            },
            "news": self._news,
            "times": [self._next_ms, self._urgent_ms, self._minute_ms],
            "asked": [self._asked_a, self._asked_until_ms],
        }

    def row(self, station: str, evse: int, phases: int = 0, max_a: float | None = None) -> int:
        """Return the row of an EVSE, added if new; -1 when the settings do not manage it."""
        known = self._row.get((station, evse))
        if known is not None:
            return known
        outlet = self.settings.outlet(station, evse)
        if outlet is None or evse == 0 or (station, evse) == self.meter:
            return -1
        row = self.points.add(station, evse, outlet, phases, max_a)
        self._index()
        return row

    @property
    def meter(self) -> tuple[str, int] | None:
        """The EVSE position that measures other load, if one does."""
        other = self.settings.other
        return (other.station, other.evse) if other.station else None

    def rows_of(self, station: str) -> list[int]:
        """Return the known rows of a station."""
        return [row for (name, _), row in self._row.items() if name == station]

    def _index(self) -> None:
        self._row = {name: i for i, name in enumerate(self.points.names)}
        self._inline = np.zeros((len(self.settings.panels), len(self.points)))
        for i, outlet in enumerate(self.points.outlets):
            self._inline[list(self._lines[self._panels[outlet.panel]]), i] = 1.0

    def plug(self, row: int, now_ms: int, tx_id: str = "") -> None:
        """A vehicle was plugged in, or its transaction began."""
        self._news = True
        points = self.points
        if points.plugged[row] and (not tx_id or tx_id == points.tx_id[row]):
            return
        if points.plugged[row] and not points.tx_id[row]:
            points.tx_id[row] = tx_id
            return
        if points.plugged[row]:
            points.leave(row, now_ms)
        points.start(row, now_ms, tx_id)

    def unplug(self, row: int, now_ms: int) -> list[LimitRow]:
        """The transaction ended or the vehicle left."""
        if not self.points.plugged[row]:
            return []
        self._news = True
        tx_id, told = self.points.tx_id[row], self.points.told_a[row]
        self.points.leave(row, now_ms)
        self._planner.forget(row)
        return [] if np.isnan(told) else [self._limit_row(row, now_ms, None, FREE, tx_id)]

    def observe(self, rows: I64, legs_a: F64, time_ms: I64) -> None:
        """Take over measured currents by leg of the station (m, 3), A; rows differ from each other."""
        if len(rows):
            self.points.observe(rows, legs_a, time_ms)
            self._news = True

    def observe_other(self, amps: F64, time_ms: int) -> None:
        """Take over what the site's meter reads, A on L1, L2, L3; a missing phase is NaN: unknown."""
        if self.settings.other.grid:
            rest = np.maximum(amps - self._ev_a(time_ms).sum(axis=0), 0.0)
            self._rests = [(ms, a) for ms, a in self._rests if time_ms - ms <= _AGREE_MS]
            self._rests = [*self._rests[-_MOST_RESTS:], (time_ms, rest.tolist())]
            amps = np.min([a for _, a in self._rests], axis=0)
        self._other_a, self._other_ms = amps, time_ms
        self._news = True

    def link(self, station: str, *, online: bool, reboot: bool) -> None:
        """A station came online or was lost; after a reboot its fallback is sent again."""
        for row in self.rows_of(station):
            self.points.offline[row] = not online
            if reboot and not self.settings.commissioned:
                self.points.set_up[row] = 0
                self.points.set_up_ms[row] = 0

    def answer(self, cause: str, status: str, now_ms: int) -> None:
        """Take over how a command ended: ``accepted``, ``rejected``, or anything else: nobody knows."""
        self._issuer.answer(self.points, cause, status, now_ms)
        self._news = True

    def overruled(self, station: str, evse: int, command: str, body: dict[str, Any], now_ms: int) -> None:
        """A station accepted a command of somebody else (`evse` 0: as a whole): what it took from us is sent
        again, and until then the station counts with its most."""
        if not displaces(command, body):
            return
        for row in self.rows_of(station):
            if evse in (0, self.points.names[row][1]):
                held = float(self.points.held_a(now_ms)[row])
                until = max(int(self.points.lim_until_ms[row]), int(self.points.pend_until_ms[row]))
                self._issuer.hold(self.points, row, held, until, now_ms)
                self.points.displace(row)
        self._news, self._next_ms = True, 0

    def request(self, body: dict[str, Any], now_ms: int) -> str:
        """Take over an operator's wish for the site (`limit_a`) or an EVSE; return what is wrong with it."""
        try:
            wish = msgspec.convert(body, LoadRequest)
        except msgspec.ValidationError as error:
            return str(error)
        until = now_ms + _DAY_MS if wish.until_ms is None else wish.until_ms
        if not wish.station:
            if wish.limit_a is None:
                return "limit_a: expected A for the site, or a station and EVSE"
            self._asked_a, self._asked_until_ms = wish.limit_a, until
            return ""
        row = self._row.get((wish.station, wish.evse))
        if row is None:
            return f"station {wish.station!r} EVSE {wish.evse}: not known to load management"
        points = self.points
        if wish.limit_a is not None:
            points.asked_a[row], points.asked_until_ms[row] = wish.limit_a, until
        if wish.departure_ms is not None:
            points.depart_ms[row] = wish.departure_ms
        if wish.energy_wh is not None:
            points.wanted_wh[row] = wish.energy_wh
        if wish.priority is not None:
            points.rank[row] = wish.priority
        self._planner.forget(row)
        self._next_ms = 0
        return ""

    def other_a(self, now_ms: int) -> F64:
        """Return the load that is not charging, A; the worst while its meter is silent."""
        other = self.settings.other
        if not other.station:
            return np.full(3, other.profile(now_ms))
        if now_ms - self._other_ms > round(self.settings.stale_s * 1000):
            return np.full(3, other.worst_a)
        return np.where(np.isnan(self._other_a), other.worst_a, self._other_a)

    def _ev_a(self, now_ms: int) -> F64:
        """Return what charging draws, A (n, 3); where readings are old, what limits allow."""
        points = self.points
        guess = np.where(points.plugged > 0, points.in_force_a(now_ms), 0.0)[:, None] * (points.uses > 0)
        return np.where(points.fresh(now_ms)[:, None], points.meas_a, guess)

    def limits_a(self, now_ms: int) -> F64:
        """Return the limits of the panels (panels, 3), A, an operator's for the site included."""
        limits = self._base_a.copy()
        if now_ms < self._asked_until_ms:
            limits[0] = np.minimum(limits[0], self._asked_a)
        return limits

    def tick(self, now_ms: int) -> Outcome:
        """Let journaled time come to `now_ms`; decide when it is time to."""
        settings, points = self.settings, self.points
        minute = now_ms // _MINUTE_MS * _MINUTE_MS != self._minute_ms
        if not self._news and now_ms < self._next_ms and not minute:
            self.demand.add(now_ms, self.demand.last_kw)
            return Outcome([], [], [])
        self._news = False
        ev = self._ev_a(now_ms)
        other = self.other_a(now_ms)
        live = self.limits_a(now_ms)
        live[0] -= other
        overload = bool((used(self._inline, ev) > live + 0.5).any())
        site_kw = float((ev.sum() + other.sum()) * settings.voltage_v / 1000)
        self.demand.add(now_ms, site_kw)
        self._issuer.expire(points, now_ms)
        asks: list[LimitAsk] = []
        urgent = overload and now_ms - self._urgent_ms >= _URGENT_MS
        if now_ms >= self._next_ms or urgent:
            self._urgent_ms = now_ms if overload else self._urgent_ms
            if now_ms >= self._next_ms:
                step = round(settings.interval_s * 1000)
                self._next_ms = (now_ms // step + 1) * step
            asks = self._decide(now_ms, live, overload)
        rows = self._changes(now_ms)
        return Outcome(asks, rows, self._minute(now_ms, ev, other, site_kw))

    def _decide(self, now_ms: int, live: F64, overload: bool) -> list[LimitAsk]:
        settings, points = self.settings, self.points
        room = live.copy()
        room[0] -= settings.other.rise_a
        demand_kw = float("inf")
        if settings.demand_limit_kw:
            aim = settings.demand_limit_kw * (1 - settings.demand_margin)
            other_kw = float(self.other_a(now_ms).sum()) * settings.voltage_v / 1000
            demand_kw = self.demand.allowed_kw(now_ms, aim) - other_kw
        limits = Limits(self._inline, room, live, demand_kw)
        wishes = self._planner.wishes(points, now_ms, float(room[0].sum()) * settings.voltage_v)
        rotation = round(settings.rotation_s * 1000)
        target, reason = decide(points, limits, wishes, now_ms, rotation, settings.voltage_v)
        points.target_a[:], points.reason[:] = target, reason
        return self._issuer.issue(points, limits, wishes.rank, now_ms, overload=overload)

    def _changes(self, now_ms: int) -> list[LimitRow]:
        points = self.points
        force = points.in_force_a(now_ms)
        changed = (points.plugged > 0) & ~(np.abs(force - points.told_a) <= _TOLD_A)
        rows = []
        for row in np.flatnonzero(changed).tolist():
            points.told_a[row] = force[row]
            own = now_ms < points.lim_until_ms[row] and not np.isnan(points.lim_a[row])
            reason = int(points.reason[row]) if own else FALLBACK
            rows.append(self._limit_row(row, now_ms, float(force[row]), reason, points.tx_id[row]))
        return rows

    def _limit_row(self, row: int, now_ms: int, limit: float | None, reason: int, tx_id: str) -> LimitRow:
        station, evse = self.points.names[row]
        return LimitRow(
            site=self.settings.site,
            station=station,
            evse=evse,
            from_ms=now_ms,
            limit_a=None if limit is None else round(limit, 1),
            cause=REASONS[reason],
            transaction_id=tx_id,
        )

    def _minute(self, now_ms: int, ev: F64, other: F64, site_kw: float) -> list[LoadRow]:
        start = now_ms // _MINUTE_MS * _MINUTE_MS
        last, self._minute_ms = self._minute_ms, start
        if last in (0, start):
            return []
        points, settings = self.points, self.settings
        plugged = points.plugged > 0
        held = points.may_draw_a(now_ms).sum(axis=0) + other + settings.other.rise_a
        return [
            LoadRow(
                site=settings.site,
                start_ms=last,
                limit_a=_three(self.limits_a(now_ms)[0]),
                current_a=_three(ev.sum(axis=0) + other),
                other_a=_three(other),
                held_a=_three(held),
                ev_kw=round(float(ev.sum()) * settings.voltage_v / 1000, 3),
                site_kw=round(site_kw, 3),
                quarter_kwh=round(self.demand.kwh, 3),
                projected_kw=round(self.demand.projected_kw(now_ms), 3),
                peak_kw=round(self.demand.peak_kw, 3),
                demand_limit_kw=settings.demand_limit_kw or None,
                charging=int((plugged & (points.draw_ms > 0)).sum()),
                waiting=int((plugged & (points.target_a < points.min_a)).sum()),
                lost=int((plugged & ~points.steerable(now_ms)).sum()),
                commands=self._issuer.asked(now_ms),
            )
        ]


def _three(values: F64) -> tuple[float, float, float]:
    a, b, c = (round(float(value), 2) for value in values)
    return a, b, c
