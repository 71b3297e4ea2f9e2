"""Whether a site's local time lies in one of a campaign's windows."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ._campaign_plan import Plan


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
        local = datetime.fromtimestamp(time_ms // 1000, UTC).astimezone(self._zones.get(site, self._zone))
        minute, day = local.hour * 60 + local.minute, local.isoweekday()
        yesterday = (day + 5) % 7 + 1
        return any(
            (begin <= minute < end and (not days or day in days))
            or (minute + 1440 < end and (not days or yesterday in days))
            for begin, end, days in self._windows
        )
