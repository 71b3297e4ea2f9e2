"""What the supply and the meter of an EVSE show in a hostile story: frequency, 12 V, sags, a loose terminal,
frozen sensors.

A dice of its own, so that it changes nothing else in a story.
"""

from __future__ import annotations

import random
from typing import Final

from models import batch as b
from tests.naive.plain import Evse

_HERTZ: Final = {"good": (49.9, 50.1), "off": (50.55, 51.0), "far": (45.0, 53.0), "edge": (49.5, 49.5)}
_AUX: Final = {"good": (11.9, 12.1), "edge": (10.8, 10.8), "low": (9.0, 10.7), "high": (13.3, 14.0)}


class SupplyMoods:
    """Moods of the supply of one story: by node where a site shares them, else by EVSE row."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.rng = random.Random(seed + 3)
        self.odd = hostility
        self._mood: dict[tuple[int, str], str] = {}
        self._frozen: dict[int, tuple[str, float, float]] = {}
        self._calm: dict[int, bool] = {}
        self._value: dict[int, float] = {}
        self._register: dict[int, tuple[int, int, float]] = {}
        self._counted: dict[int, int] = {}
        self._sag = self.rng.uniform(0.2, 0.8)

    def _draw(self, row: int, what: str, moods: dict[str, tuple[float, float]]) -> float | None:
        rng, key = self.rng, (row, what)
        if key not in self._mood or rng.random() < 0.02:
            bad = rng.random() < max(0.5 * self.odd, 0.2)
            self._mood[key] = rng.choice(list(moods)[1:]) if bad else next(iter(moods))
        if rng.random() < 0.05 * self.odd:
            return None
        return round(rng.uniform(*moods[self._mood[key]]), 3)

    def change(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        """Add to the values of a reading what the supply shows, and change what it spoils."""
        shown = {
            "Frequency": self._draw(0 if evse.node < 2 else 1, "hertz", _HERTZ),
            "x.Supply12V": self._draw(evse.station, "aux", _AUX),
        }
        values |= {name: value for name, value in shown.items() if value is not None}
        if evse.row not in self._calm:
            self._calm[evse.row] = not evse.dc and self.rng.random() < (0.4 if evse.node < 2 else 0.7)
        if self._calm[evse.row]:
            self._settle(evse, values, progress)
        elif evse.row in {1, 2} and progress > 0.65:  # their meters are right again
            drawn, watts = values.get("Current.Import"), values.get("Power.Active.Import")
            if drawn is not None and watts is not None:
                values["Power.Active.Import"] = round(values.get("Voltage", evse.u_n_v) * drawn, 0)
        volts = [name for name in values if name.startswith("Voltage@L") and values[name] == values[name]]
        if evse.node < 2 and self._sag < progress < self._sag + 0.04 and self.rng.random() < 0.9:
            for name in [
                *volts,
                *(n for n in values if n in {"Voltage/Inlet", "Voltage"} and evse.phases == 1),
            ]:
                values[name] = round(0.7 * values[name], 1)
        self._freeze(evse, values, progress)

    def _settle(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        """Let a calm EVSE charge at 16 A with pauses; its meter is wrong at first, a terminal later."""
        ohm, gain = (0.5 if 0.3 < progress < 0.6 else 0.05), (1.3 if progress < 0.35 else 1.0)
        amps = 0.0 if int(progress * 72) % 3 == 0 else 16.0
        values.pop("Power.Factor", None)
        phases = [""] if evse.phases == 1 else ["@L1", "@L2", "@L3"]
        for phase in phases:
            values[f"Current.Import{phase}"] = amps
            name = f"Voltage{phase}-N" if phase else "Voltage"
            values[name] = round(evse.u_n_v + self.rng.gauss(0, 0.2) - ohm * amps, 1)
        values["Power.Active.Import"] = round(gain * len(phases) * evse.u_n_v * amps)

    def state(self, evse: Evse, state: int, progress: float) -> int:
        """Return the context bits: a calm EVSE has sessions, long enough to judge its meter by."""
        if not self._calm[evse.row]:
            return state
        return b.STATE_KNOWN if int(progress * 24) % 8 == 0 else b.STATE_KNOWN | b.IN_TRANSACTION | b.CHARGING

    def register(self, evse: Evse, values: dict[str, float], reg: int | None, t: int) -> int | None:
        """Return the register of a calm EVSE, which counts too little at first; of others `reg`."""
        if not self._calm[evse.row] or reg is None:
            return reg
        watts = values.get("Power.Active.Import", 0.0)
        watts = watts if watts == watts else 0.0
        mwh, before, last = self._register.get(evse.row, (0, t, watts))
        self._counted[evse.row] = self._counted.get(evse.row, 0) + 1
        gain = 0.5 if self._counted[evse.row] < 12 else 1.0
        mwh += round(gain * (watts + last) / 2 * (t - before) / 3.6e9)
        self._register[evse.row] = (mwh, t, watts)
        return mwh

    def _freeze(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        rng = self.rng
        if evse.row not in self._frozen:
            name = rng.choice(
                ["Voltage@L1-N", "Temperature/Cable", "Power.Active.Import", "Current.Import@L1", "none"]
            )
            begin = rng.uniform(0.0, 0.25)
            self._frozen[evse.row] = (name, begin, begin + rng.uniform(0.35, 0.5))
        name, begin, end = self._frozen[evse.row]
        if name in values and values[name] == values[name] and values[name] != 0 and begin < progress < end:
            values[name] = self._value.setdefault(evse.row, values[name])
