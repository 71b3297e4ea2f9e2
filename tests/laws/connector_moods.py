"""What connector and cabinet of an EVSE show in a hostile story, and spans in which no transaction runs.

Dice of its own, one an EVSE and channel, so that it changes nothing else in a story.
"""

from __future__ import annotations

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

    def change(self, evse: Evse, values: dict[str, float]) -> None:
        """Add to the values of a reading what connector and cabinet show."""
        for channel, moods in _CHANNELS.items():
            rng = self._rng(evse.row, channel)
            mood = self._draw(evse.row, channel, tuple(moods))
            if mood == "plugs":
                mood = rng.choice(tuple(moods)[:3])
            if rng.random() < 0.95:
                values[channel] = round(rng.uniform(*moods[mood]), 2)
        if evse.row == 3 and self._draw(evse.row, "contactor", _CONTACTOR) == "open":
            amps = self._rng(evse.row, "contactor").choice([0.0, 0.0, 0.0, 0.5, 16.0])
            values |= {name: amps for name in values if name.startswith("Current.Import")}
            values |= {"Current.Offered": 16.0, "Power.Active.Import": amps * 690.0}
            values |= {"x.CP.V": 6.0, "SoC": 50.0}

    def state(self, evse: Evse, told: int) -> int:
        """Return the context bits of a reading, `told` being what the story says otherwise."""
        if self._mood.get((evse.row, "contactor")) == "open":
            return _CHARGING
        if evse.row not in _OUTSIDE:
            return told
        mine = _STATES[self._draw(evse.row, "state", tuple(_STATES))]
        return told if mine is None else mine
