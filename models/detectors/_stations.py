"""Conditions that show in the readings of each EVSE and are about their station."""

from __future__ import annotations

from typing import Any

from models.detecting import CLEAR, RAISE, Emission, Emissions, Observed
from models.devices import DeviceTable

from ._base import RowDetector


class StationDetector(RowDetector):
    """A `RowDetector` whose emissions about EVSEs become those of their station.

    The first EVSE raises, the last one to recover clears; the last name in the specification's evidence is
    ``evse``, the number of the EVSE that decided.
    """

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self._own = Emissions()
        #: station row -> (start_ns, live, EVSE rows)
        self._raised: dict[int, tuple[int, bool, list[int]]] = {}
        super().__init__(resume_state)
        for station, start_ns, live, evses in (resume_state or {}).get("stations", []):
            self._raised[station] = (start_ns, live, list(evses))

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        super().process(seen, self._own)
        devices = seen.devices
        found = self._own.drain()
        for e in sorted(found, key=lambda e: (e.order, int(devices.evse_id[e.subject]), e.time_ns)):
            self._merge(e, devices, out)

    def _merge(self, e: Emission, devices: DeviceTable, out: Emissions) -> None:
        station = int(devices.evse_station[e.subject])
        start_ns, live, evses = self._raised.get(station, (e.start_ns, e.live, []))
        tell = not evses or (e.live and not live) if e.kind == RAISE else evses == [e.subject]
        evses = [*(row for row in evses if row != e.subject), *([e.subject] if e.kind == RAISE else [])]
        if evses:
            self._raised[station] = (start_ns, live or e.live, evses)
        else:
            self._raised.pop(station, None)
        if tell or e.kind not in {RAISE, CLEAR}:
            out.add(
                self.spec,
                order=e.order,
                effect_ns=e.effect_ns,
                subject=station,
                kind=e.kind,
                severity=e.severity,
                start_ns=start_ns,
                time_ns=e.time_ns,
                live=e.live if e.kind == RAISE else live,
                score=e.score,
                evidence=e.evidence | {"evse": int(devices.evse_id[e.subject])},
            )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        stations = [[s, start_ns, live, list(e)] for s, (start_ns, live, e) in self._raised.items()]
        return super().snapshot() | {"stations": stations}
