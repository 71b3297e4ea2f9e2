"""What connector and cabinet of an EVSE show in a hostile story, and spans in which no transaction runs.

Dice of its own, one an EVSE and channel, so that it changes nothing else in a story.
"""

from __future__ import annotations

import math
import random
from typing import Final

from models import batch as b
from tests.naive.plain import Evse

_CHARGING: Final = b.STATE_KNOWN | b.IN_TRANSACTION | b.OCCUPIED | b.CHARGING

#: What stations say of an EVSE instead of what they said; None leaves that.
_STATES: Final[dict[str, int | None]] = {
    "as told": None,
    "charging": _CHARGING,
    "available": b.STATE_KNOWN,
    "plugged": b.STATE_KNOWN | b.OCCUPIED,
    "free": b.STATE_KNOWN | b.OCCUPIED | b.CHARGING,
    "faulted": b.STATE_KNOWN | b.FAULTED,
}

#: Channel -> moods, low and high; the first is the usual one.
_CHANNELS: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "Temperature/Body": {
        "normal": (10.0, 69.0),
        "hot": (70.0, 95.0),
        "edge": (69.5, 70.5),
        "failed": (150.0, 900.0),
    },
    "x.PP.V": {
        "latched": (1.24, 1.81),
        "unplugged": (4.3, 4.6),
        "pressed": (2.4, 3.1),
        "high": (1.7, 2.1),
        "low": (0.9, 1.3),
        "plugs": (0.0, 0.0),  # any of the first three
    },
    "SoC": {"low": (20.0, 79.0), "high": (80.0, 100.0)},
}

#: EVSEs whose contactors may fail; the others keep what other families tell of them.
_OUTSIDE: Final = (2, 3)
_CONTACTOR: Final = ("closed", "works", "open")


class ConnectorMoods:
    """Moods of the connectors (by EVSE row) of one story."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.seed, self.odd = seed, hostility
        self._dice: dict[tuple[int, str], random.Random] = {}
        self._mood: dict[tuple[int, str], str] = {}
        self._plug: dict[int, tuple[float, float]] = {}  # seconds told, lagged square of the current
        #: what a plug that follows the physics does in this story
        self._physical = random.Random(f"{seed}/kind").choice(("", "", "ages", "derates"))

    def _rng(self, row: int, what: str) -> random.Random:
        if (row, what) not in self._dice:
            self._dice[row, what] = random.Random(f"{self.seed}/{row}/{what}")
        return self._dice[row, what]

    def _draw(self, row: int, what: str, moods: tuple[str, ...]) -> str:
        """Return the mood of `what`; it changes now and then."""
        rng, key = self._rng(row, what), (row, what)
        if key not in self._mood or rng.random() < 0.04:
            self._mood[key] = rng.choice(moods[1:]) if rng.random() < 0.6 * self.odd else moods[0]
        return self._mood[key]

    def _warm(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        """Let a plug follow the physics, with a contact that is bad for a while."""
        rng = self._rng(evse.row, "plug")
        dt = evse.sample_s or 60.0
        clock, rise = self._plug.get(evse.row, (0.0, 0.0))
        amps, before = (30.0 if at % 1800.0 < 900.0 else 12.0 for at in (clock, clock - dt))
        heat = (80.0 if 0.45 < progress < 0.7 else 14.0) * (before / evse.max_a) ** 2
        rise += (heat - rise) * (1.0 - math.exp(-dt / 480.0))
        self._plug[evse.row] = (clock + dt, rise)
        celsius = 20.0 + rise
        values |= {"Current.Import": amps + rng.gauss(0.0, 0.05), "Temperature/Cable": celsius}
        values["Temperature/Outlet"] = celsius + rng.gauss(0.0, 0.1)

    def _derate(self, evse: Evse, values: dict[str, float]) -> None:
        """Let a plug heat up, throttle for ten minutes and give back, every half hour."""
        clock, _ = self._plug.get(evse.row, (0.0, 0.0))
        self._plug[evse.row] = (clock + (evse.sample_s or 60.0), 0.0)
        phase = clock % 1800.0
        throttled = 900.0 <= phase < 1500.0
        celsius = 50.0 + (phase / 60.0 if phase < 900.0 else max(0.0, (1500.0 - phase) / 40.0))
        values |= {"Current.Import": 18.0 if throttled else 30.0, "Current.Offered": 32.0, "SoC": 40.0}
        values |= {"Temperature/Cable": celsius, "Temperature/Outlet": celsius}

    def change(self, evse: Evse, values: dict[str, float], progress: float) -> None:
        """Add to the values of a reading what connector and cabinet show."""
        for channel, moods in _CHANNELS.items():
            rng = self._rng(evse.row, channel)
            mood = self._draw(evse.row, channel, tuple(moods))
            if mood == "plugs":
                mood = rng.choice(tuple(moods)[:3])
            if rng.random() < 0.95:
                values[channel] = round(rng.uniform(*moods[mood]), 2)
        if evse.row == 3 and self._physical == "ages":
            self._warm(evse, values, progress)
            return
        if evse.row == 3 and self._physical == "derates":
            self._derate(evse, values)
            return
        if evse.row == 3 and self._draw(evse.row, "contactor", _CONTACTOR) == "open":
            amps = self._rng(evse.row, "contactor").choice([0.0, 0.0, 0.0, 0.5, 16.0])
            values |= {name: amps for name in values if name.startswith("Current.Import")}
            values |= {"Current.Offered": 16.0, "Power.Active.Import": amps * 690.0}
            values |= {"x.CP.V": 6.0, "SoC": 50.0}

    def state(self, evse: Evse, told: int) -> int:
        """Return the context bits of a reading, `told` being what the story says otherwise."""
        if self._mood.get((evse.row, "contactor")) == "open":
            return _CHARGING
        if evse.row == 3 and self._physical == "derates":
            return _CHARGING
        if evse.row not in _OUTSIDE:
            return told
        mine = _STATES[self._draw(evse.row, "state", tuple(_STATES))]
        return told if mine is None else mine
