"""What the supply and the meter of an EVSE show in a hostile story: frequency, 12 V, sags, a loose terminal,
frozen sensors.

A dice of its own, so that it changes nothing else in a story.
"""

from __future__ import annotations

import random
from typing import Final

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
        volts = [name for name in values if name.startswith("Voltage@L") and values[name] == values[name]]
        if evse.row not in self._calm:
            self._calm[evse.row] = self.rng.random() < 0.4
        if self._calm[evse.row]:
            ohm = 0.05 if progress < 0.6 else 0.5
            for name in volts:
                amps = values.get(f"Current.Import@{name[8:10]}", 0.0)
                values[name] = round(
                    evse.u_n_v + self.rng.gauss(0, 0.2) - ohm * (amps if amps == amps else 0), 1
                )
        if evse.row in {1, 2} and progress > 0.65:  # their meters are right again
            drawn, watts = values.get("Current.Import"), values.get("Power.Active.Import")
            if drawn is not None and watts is not None:
                values["Power.Active.Import"] = round(values.get("Voltage", evse.u_n_v) * drawn, 0)
        if evse.node < 2 and self._sag < progress < self._sag + 0.04 and self.rng.random() < 0.9:
            for name in [
                *volts,
                *(n for n in values if n in {"Voltage/Inlet", "Voltage"} and evse.phases == 1),
            ]:
                values[name] = round(0.7 * values[name], 1)
        self._freeze(evse, values, progress)

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
