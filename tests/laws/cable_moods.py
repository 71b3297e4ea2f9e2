"""What the cable of an EVSE shows in a hostile story: pilot, residual current, isolation, conductor, phases.

A dice of its own, so that it changes nothing else in a story. Between 45 and 70 % of the story cables are
mostly bad, before and after mostly good, so that detectors with a history of their own find one.
"""

from __future__ import annotations

import random
from typing import Final

from models import batch as b
from tests.naive.plain import Evse

_KNOWN: Final = b.STATE_KNOWN | b.IN_TRANSACTION
#: What the station may say of the EVSE.
_STATES: Final = (
    (_KNOWN | b.CHARGING, 30),
    (_KNOWN | b.SUSPENDED_EV, 1),
    (_KNOWN | b.SUSPENDED_EVSE, 1),
    (_KNOWN, 1),
    (b.STATE_KNOWN, 2),
    (0, 4),
)
_PILOT: Final = {
    "good": (5.95, 6.05),
    "edge": (5.4, 5.55),
    "off": (6.5, 7.4),
    "wavers": (5.6, 6.4),
    "flickers": (5.3, 6.0),
    "B": (8.8, 9.2),
    "A": (11.8, 12.2),
    "low": (-1.0, 1.0),
    "none": None,
}
_PILOT_LOW: Final = {"good": (-12.1, -11.8), "edge": (-10.1, -9.9), "bad": (-9.0, 0.0), "none": None}
_RESIDUAL: Final = {
    "good": (0.1, 0.6),
    "edge": (2.95, 3.1),
    "high": (3.0, 5.9),
    "trip": (5.8, 9.0),
    "negative": (-5.0, -2.0),
    "none": None,
}
_ISOLATION: Final = {"good": (2000.0, 2600.0), "edge": (38.0, 42.0), "low": (5.0, 39.0), "none": None}
_CAPACITANCE: Final = {"good": (0.8, 1.2), "edge": (4.95, 5.05), "high": (5.1, 9.0), "none": None}
_PHASES: Final = {"all": None, "one": None, "two": None, "open": None, "weak": None, "mixed": None}


class CableMoods:
    """Moods of the cables (by EVSE row) of one story."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.rng = random.Random(seed + 2)
        self.odd = hostility
        self._mood: dict[tuple[int, str], str] = {}
        self._state: dict[int, int] = {}

    def _draw(self, row: int, what: str, moods: tuple[str, ...], progress: float) -> str:
        """Return the mood of `what`; it changes now and then."""
        rng, key = self.rng, (row, what)
        if key not in self._mood or rng.random() < 0.03:
            bad = 0.9 if 0.45 < progress < 0.7 else 0.25 * self.odd
            self._mood[key] = rng.choice(moods[1:]) if rng.random() < bad else moods[0]
        if what == "pilot" and 0.5 < progress < 0.65:
            self._mood[key] = "wavers"
        if what == "phases" and (0.5 < progress < 0.6 or progress > 0.8):
            self._mood[key] = "open" if progress < 0.6 else "all"
        return self._mood[key]

    def _value(
        self, row: int, what: str, moods: dict[str, tuple[float, float] | None], progress: float
    ) -> float | None:
        rng = self.rng
        span = moods[self._draw(row, what, tuple(moods), progress)]
        if span is None or rng.random() < 0.03 * self.odd:
            return None
        return round(rng.uniform(*span), 2)

    def state(self, evse: Evse) -> int:
        """Return the context bits that the station's words give the EVSE now."""
        if evse.row not in self._state or self.rng.random() < 0.03:
            states, weights = zip(*_STATES, strict=True)
            self._state[evse.row] = self.rng.choices(states, weights)[0]
        return self._state[evse.row]

    def change(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        """Add to the values of a reading what the cable shows."""
        row = evse.row
        shown = {
            "x.CP.V": self._value(row, "pilot", _PILOT, progress),
            "x.CP.Low.V": self._value(row, "low", _PILOT_LOW, progress),
            "x.Residual.DC": self._value(row, "residual", _RESIDUAL, progress),
        }
        alternating = self._value(row, "alternating", _RESIDUAL, progress)
        if alternating is not None:
            shown["x.Residual.AC"] = round(5.0 * alternating, 2)
        if evse.dc:
            self._direct(row, values, progress)
        else:
            self._phases(row, values, progress)
        values |= {name: value for name, value in shown.items() if value is not None}

    def _direct(self, row: int, values: dict[str, float], progress: float) -> None:
        rng = self.rng
        values["x.Output.V"] = rng.choice([0.0, 398.0, 400.0, 402.0, 400.0])
        values["Voltage"] = 400.0
        isolation = self._value(row, "isolation", _ISOLATION, progress)
        if isolation is not None:
            values["x.Isolation.R"] = isolation
        capacitance = self._value(row, "capacitance", _CAPACITANCE, progress)
        if capacitance is not None:
            values["x.Isolation.C"] = capacitance
        milliohm = 3.0 * rng.uniform(2.2, 2.4) if 0.55 < progress < 0.75 else 3.0
        if self.odd < 0.3 and rng.random() > 0.05 * self.odd:
            values["Current.Import"] = amps = rng.choice([10.0, *[150.0, 200.0, 250.0] * 5])
            values["Voltage/EV"] = round(400.0 - amps * milliohm / 1000.0, 3)

    def _phases(self, row: int, values: dict[str, float], progress: float) -> None:
        names = [f"Current.Import@L{p}" for p in (1, 2, 3)]
        if not all(name in values for name in names):
            return
        rng = self.rng
        mood = self._draw(row, "phases", tuple(_PHASES), progress)
        if mood == "one" or (mood == "mixed" and rng.random() < 0.3):
            values[names[1]] = values[names[2]] = 0.0
        elif mood == "two":
            values[names[2]] = 0.0
        elif mood == "open":
            values |= {names[0]: 16.0, names[1]: 15.0, names[2]: 0.1}
        elif mood == "weak":
            values |= {names[0]: 3.0, names[1]: 2.9, names[2]: round(rng.uniform(0.2, 0.3), 2)}
