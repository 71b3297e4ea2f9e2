"""Load management: what each EVSE may draw out of its site's or station's limit."""

from __future__ import annotations

import math
import random

import numpy as np

from .plant import Plant
from .topology import Index, Topology

_BUILDING_MS = 300_000  # the building's own load changes at this pace
_TURN_MS = 900_000  # when there is not enough for all, EVSEs take turns
MIN_A = 6.0  # IEC 61851-1: the smallest current a pilot can offer


class LoadManager:
    """Shares the limits out; `step` writes `Plant.offered_a` and `Plant.alloc_w`.

    `wants` marks the EVSEs that need an offer, `priority` those that get their full rated current.
    """

    def __init__(self, topology: Topology, plant: Plant, rng: random.Random) -> None:
        n = topology.n_evses
        self.plant, self.rng = plant, rng
        self.site = topology.evse_site
        self.station = topology.evse_station
        self.n_sites, self.n_stations = len(topology.sites), len(topology.stations)
        self.limit_a = np.array([site.limit_a or math.inf for site in topology.sites])
        self.station_w = np.array([s.station_w or s.evse_w * s.evses for s in topology.stations])
        self.wants = np.zeros(n, bool)
        self.priority = np.zeros(n, bool)
        self.own_a = np.full(n, math.inf)  # what somebody told the station not to exceed
        self.dirty = True
        self._available_a = self.limit_a.copy()
        self._next_ms = -1

    def again(self) -> None:
        """Share out anew at the next tick: a limit changed."""
        self._next_ms = -1
        self.dirty = True

    def step(self, now_ms: int) -> bool:
        """Share out the limits at a tick; return whether any offer may have changed."""
        if now_ms >= self._next_ms:
            self._next_ms = (now_ms // _BUILDING_MS + 1) * _BUILDING_MS
            for site in np.flatnonzero(np.isfinite(self.limit_a)).tolist():
                self._available_a[site] = self.limit_a[site] * (1.0 - 0.3 * self.rng.random() ** 2)
                self.dirty = True
        if not self.dirty:
            return False
        self.dirty = False
        self._share_ac(now_ms)
        self._share_dc()
        return True

    def _share_ac(self, now_ms: int) -> None:
        plant = self.plant
        active = self.wants & ~plant.dc & ~self.priority
        count = np.bincount(self.site[active], minlength=self.n_sites)
        share = np.floor(self._available_a / np.maximum(count, 1) * 10.0) / 10.0
        offer = np.minimum(plant.max_a, np.minimum(share, 1e6)[self.site])
        offer = np.where(active, offer, 0.0)
        for site in np.flatnonzero((share < MIN_A) & (count > 0)).tolist():
            rows: Index = np.flatnonzero(active & (self.site == site))
            turn = now_ms // _TURN_MS % len(rows)
            served = np.roll(rows, -turn)[: int(self._available_a[site] // MIN_A)]
            offer[rows] = 0.0
            offer[served] = MIN_A
        offer = np.minimum(np.where(self.priority & self.wants, plant.max_a, offer), self.own_a)
        plant.offered_a = np.where(plant.dc, plant.offered_a, offer)

    def _share_dc(self) -> None:
        plant = self.plant
        active = self.wants & plant.dc
        if not plant.dc.any():
            return
        count = np.bincount(self.station[active], minlength=self.n_stations)
        share = (self.station_w / np.maximum(count, 1))[self.station]
        plant.alloc_w = np.where(active, np.minimum(plant.evse_w, share), 0.0)
        # the offer in ampere follows from the power at the pack's lowest voltage, so that it does not drift
        amps = np.floor(np.minimum(plant.max_a, plant.alloc_w / (0.9 * plant.pack_v)))
        amps = np.minimum(amps, self.own_a)
        plant.offered_a = np.where(plant.dc, np.where(active, amps, 0.0), plant.offered_a)
