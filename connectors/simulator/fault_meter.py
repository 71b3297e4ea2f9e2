"""Faults of the meter."""

from __future__ import annotations

import numpy as np

from .fault_base import Fault
from .plant import Plant
from .sampling import Sample
from .topology import Index


class RegisterRollback(Fault):
    """The register falls by this many Wh and what flows in two samples, and counts on from there.

    It falls by at least four resolutions.
    """

    code = "register_rollback"
    levels = (100_000.0, 5_000.0, 5.0)

    def on_begin(self, now_ms: int) -> None:
        plant = self.parts.plant
        sample_h = self.parts.topology.nodes[self.node].sample_s / 3600.0
        fall_wh = self.level + 2.0 * sample_h * plant.power_w[self.evses]
        fall = np.maximum((fall_wh * 1000).astype(np.int64), 4 * plant.resolution_mwh[self.evses])
        plant.register_mwh[self.evses] = np.maximum(0, plant.register_mwh[self.evses] - fall)
        self.truth.end = now_ms


class RegisterStuck(Fault):
    """The register stands still while energy flows, and misses that energy for good.

    The car takes this share of the rated current: the less, the longer it takes to tell.
    """

    code = "register_stuck"
    load = True
    levels = (1.0, 0.5, 0.2)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.meter_hold[self.evses] = True
        self.parts.plant.faulty.cap[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.cap[self.evses] = 1.0
        self.parts.plant.faulty.meter_hold[self.evses] = False


class RegisterMismatch(Fault):
    """The register counts only this share of the energy."""

    code = "register_mismatch"
    load = True
    levels = (0.70, 0.85, 0.92)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.meter_gain[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.meter_gain[self.evses] = 1.0


class PowerMismatch(Fault):
    """The current transformers show only this share of the current; power and register stay right."""

    code = "power_mismatch"
    load = True
    levels = (0.70, 0.82, 0.89)

    def measure(self, sample: Sample) -> None:
        for name in ("Current.Import", "Current.Import@L1", "Current.Import@L2", "Current.Import@L3"):
            found = sample.at(name, self.evses)
            if found:
                column, mask = found
                column[mask] *= self.level


class ValueFrozen(Fault):
    """A channel repeats its value: the voltage (clear, moderate) or the plug's temperature (subtle).

    The car varies its current every ten minutes meanwhile, so that the rest of the readings moves.
    """

    code = "value_frozen"
    load = True

    def on_begin(self, now_ms: int) -> None:
        self._frozen: dict[str, float] = {}

    def step(self, now_ms: int) -> None:
        low = (now_ms - self.at_ms) // 600_000 % 2 == 1
        self.parts.plant.faulty.cap[self.evses] = 0.6 if low else 1.0

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.cap[self.evses] = 1.0

    def _names(self, plant: Plant, evses: Index) -> tuple[str, ...]:
        if self.severity == "subtle":
            return ("Temperature/Cable",)
        return ("Voltage@L1-N/Inlet",) if plant.dc[evses[0]] else ("Voltage@L1-N",)

    def measure(self, sample: Sample) -> None:
        for name in self._names(sample.plant, self.evses):
            found = sample.at(name, self.evses)
            if found:
                column, mask = found
                column[mask] = self._frozen.setdefault(name, float(column[mask][0]))
