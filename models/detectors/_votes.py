"""Conditions of a site on which its EVSEs vote: it has them while more than half of the voters say so.

Readings come grouped by EVSE, so a kernel sees the EVSEs of a site one after the other. It emits votes per
EVSE (RAISE yes, CLEAR no, UPDATE a first word), which are counted here in order of effect: the same for any
split into batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.batch import I32
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emission, Emissions
from models.devices import DeviceTable


class _Site:
    """A site of which an EVSE says yes, or that is raised."""

    def __init__(self, yes: list[list[int]] | None = None, raised: list[int] | None = None) -> None:
        self.yes: dict[int, tuple[int, int]] = {evse: (start, end) for evse, start, end in yes or []}
        self.raised = None if raised is None else list(raised)  # start, live, end of the last yes


class Votes:
    """Turns votes of EVSEs into emissions about their sites.

    Parameters
    ----------
    spec : DetectorSpec
        Its evidence must end with the number of EVSEs that say yes, and of all voters.
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(self, spec: DetectorSpec, resume_state: dict[str, Any] | None = None) -> None:
        self._spec = spec
        state = resume_state or {"voters": np.zeros(0, np.int32), "sites": []}
        self._voters: I32 = state["voters"].copy()  # by site
        self._sites: dict[int, _Site] = {row: _Site(*rest) for row, *rest in state["sites"]}

    def merge(self, votes: list[Emission], devices: DeviceTable, out: Emissions) -> None:
        """Count votes, given in order of effect."""
        for e in votes:
            row = devices.station_site[int(devices.evse_station[e.subject])]
            if row >= len(self._voters):
                more = np.zeros(max(row + 1, devices.n_sites) - len(self._voters), np.int32)
                self._voters = np.concatenate([self._voters, more])
            site = self._sites.setdefault(row, _Site())
            if e.kind == RAISE:
                start = site.yes.get(e.subject, (e.start_ns, 0))[0]
                site.yes[e.subject] = (start, e.time_ns)
            elif e.kind == CLEAR:
                site.yes.pop(e.subject, None)
            else:
                self._voters[row] += 1
            self._decide(row, site, e, out)
            if not site.yes and site.raised is None:
                del self._sites[row]

    def _decide(self, row: int, site: _Site, e: Emission, out: Emissions) -> None:
        if 2 * len(site.yes) > self._voters[row]:
            last = max(end for _, end in site.yes.values())
            if site.raised is None:
                start = min(start for start, _ in site.yes.values())
                site.raised = [start, int(e.live), last]
                self._emit(row, site, e, RAISE, out)
                return
            site.raised[2] = max(site.raised[2], last)
            if e.live and not site.raised[1] and e.kind == RAISE:
                site.raised[1] = 1
                self._emit(row, site, e, RAISE, out)
        elif site.raised is not None:
            self._emit(row, site, e, CLEAR, out)
            site.raised = None

    def _emit(self, row: int, site: _Site, e: Emission, kind: int, out: Emissions) -> None:
        assert site.raised is not None
        start_ns, live, end_ns = site.raised
        off, voters = self._spec.evidence[-2:]
        out.add(
            self._spec,
            order=e.order,
            effect_ns=e.effect_ns,
            subject=row,
            kind=kind,
            severity=WARNING,
            start_ns=start_ns,
            time_ns=end_ns,
            live=bool(live),
            score=e.score,
            evidence=e.evidence | {off: len(site.yes), voters: int(self._voters[row])},
        )

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        sites = [
            [
                row,
                [[evse, *times] for evse, times in site.yes.items()],
                None if site.raised is None else list(site.raised),
            ]
            for row, site in self._sites.items()
        ]
        return {"voters": self._voters.copy(), "sites": sites}

    def nbytes(self) -> int:
        """Return the bytes of state held (an estimate where there are votes: 200 a site, 100 a vote)."""
        return self._voters.nbytes + sum(200 + 100 * len(site.yes) for site in self._sites.values())
