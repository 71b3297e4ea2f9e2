"""The quarter hour that sets the demand charge: energy so far, projected mean, what is still allowed.

A demand charge is the highest mean power over a *fixed* clock quarter, times a price per kW; a sliding or an
instantaneous maximum is another number.
"""

from __future__ import annotations

from typing import Any, Final

QUARTER_MS: Final = 900_000
#: Power is planned for this long at least: at the end of a quarter with the beginning of the next one, as
#: limits cannot follow a window that shrinks to nothing.
_LEAST_MS: Final = 60_000


class Demand:
    """Energy of the whole site in the running quarter, and the highest quarter so far.

    Power holds from one call of `add` to the next, for `gap_ms` at most: what was not measured is not
    invented, and a quarter with holes says so in `covered_ms`.
    """

    def __init__(self, gap_ms: int, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        self._gap_ms = gap_ms
        self.start_ms: int = state.get("start_ms", 0)
        self.covered_ms: int = state.get("covered_ms", 0)
        self.kwh: float = state.get("kwh", 0.0)
        self.peak_kw: float = state.get("peak_kw", 0.0)
        self.peak_start_ms: int = state.get("peak_start_ms", 0)
        self.last_ms: int = state.get("last_ms", 0)
        self.last_kw: float = state.get("last_kw", 0.0)

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        names = ("start_ms", "covered_ms", "kwh", "peak_kw", "peak_start_ms", "last_ms", "last_kw")
        return {name: getattr(self, name) for name in names}

    def add(self, now_ms: int, power_kw: float) -> None:
        """Take over the site's power from `now_ms` on."""
        if self.last_ms:
            self._run(min(now_ms, self.last_ms + self._gap_ms))
        if now_ms // QUARTER_MS * QUARTER_MS != self.start_ms:
            self._close(now_ms)
        self.last_ms, self.last_kw = now_ms, power_kw

    def _run(self, until_ms: int) -> None:
        while self.last_ms < until_ms:
            if self.last_ms >= self.start_ms + QUARTER_MS or self.last_ms < self.start_ms:
                self._close(self.last_ms)
            ms = min(until_ms, self.start_ms + QUARTER_MS) - self.last_ms
            self.kwh += self.last_kw * ms / 3_600_000
            self.covered_ms += ms
            self.last_ms += ms

    def _close(self, now_ms: int) -> None:
        mean = self.kwh * 4
        if self.start_ms and mean > self.peak_kw:
            self.peak_kw, self.peak_start_ms = mean, self.start_ms
        self.start_ms, self.kwh, self.covered_ms = now_ms // QUARTER_MS * QUARTER_MS, 0.0, 0

    def projected_kw(self, now_ms: int) -> float:
        """Return the mean of the quarter if the power stays as it is."""
        left = max(0, self.start_ms + QUARTER_MS - now_ms)
        return (self.kwh + self.last_kw * left / 3_600_000) * 4

    def allowed_kw(self, now_ms: int, limit_kw: float) -> float:
        """Return the most power the site may draw until the quarter ends for its mean to stay below
        `limit_kw`; below 0 the quarter is lost already."""
        left = max(0, self.start_ms + QUARTER_MS - now_ms)
        beyond = max(0, _LEAST_MS - left)
        return ((limit_kw / 4 - self.kwh) * 3_600_000 + limit_kw * beyond) / (left + beyond)
