"""Whether a site's local time lies in one of a campaign's windows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from ._campaign_plan import Plan

_MINUTE_MS: Final = 60_000
#: Every window opens at least once a week.
_LOOK_MINUTES: Final = 8 * 1440


class Windows:
    """The windows of one campaign.

    The instant asked about is turned into local time, never the other way, so an hour that the clocks skip
    is no window and one that they repeat is one twice.
    """

    def __init__(self, plan: Plan) -> None:
        self._zone = ZoneInfo(plan.time_zone)
        self._zones = {site: ZoneInfo(name) for site, name in plan.site_time_zones.items()}
        self._windows = [(*window.minutes, frozenset(window.days)) for window in plan.windows]

    def open(self, site: str, time_ms: int) -> bool:
        """Return whether stations of `site` may be asked at `time_ms`."""
        if not self._windows:
            return True
        return self._open_in(self._zones.get(site, self._zone), time_ms)

    def next_open(self, site: str, time_ms: int) -> int | None:
        """Return when stations of `site` may be asked at the earliest; None: not within eight days."""
        at = time_ms
        for _ in range(_LOOK_MINUTES):
            if self.open(site, at):
                return at
            at = (at // _MINUTE_MS + 1) * _MINUTE_MS
        return None

    def after_open(self, site: str, time_ms: int, need_ms: int) -> int | None:
        """Return when `need_ms` of open time have passed at `site` since `time_ms`; None: not in 60 days."""
        if not self._windows:
            return time_ms + need_ms
        at, left = time_ms, need_ms
        for _ in range(60 * 1440):
            to = (at // _MINUTE_MS + 1) * _MINUTE_MS
            if self.open(site, at):
                if left <= to - at:
                    return at + left
                left -= to - at
            at = to
        return None

    def local(self, site: str, time_ms: int) -> str:
        """Return a time as a clock at `site` shows it."""
        zone = self._zones.get(site, self._zone)
        return f"{datetime.fromtimestamp(time_ms // 1000, UTC).astimezone(zone):%a %H:%M} {zone.key}"

    def _open_in(self, zone: ZoneInfo, time_ms: int) -> bool:
        local = datetime.fromtimestamp(time_ms // 1000, UTC).astimezone(zone)
        minute, day = local.hour * 60 + local.minute, local.isoweekday()
        yesterday = (day + 5) % 7 + 1
        return any(
            (begin <= minute < end and (not days or day in days))
            or (minute + 1440 < end and (not days or yesterday in days))
            for begin, end, days in self._windows
        )
