"""All that goes beyond the teller's own channels, each with dice of its own."""

from __future__ import annotations

from tests.laws.cable_moods import CableMoods
from tests.laws.connector_bursts import ConnectorBursts
from tests.laws.connector_moods import ConnectorMoods
from tests.laws.moods import Moods
from tests.laws.supply_moods import SupplyMoods
from tests.naive.plain import Evse


class AllMoods:
    """Moods of signal, cable, supply and connector of one story; a new family goes in here."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.nodes = Moods(seed, hostility)
        self.bursts = ConnectorBursts(seed, hostility)
        self._cables = CableMoods(seed, hostility)
        self._supply = SupplyMoods(seed, hostility)
        self._connectors = ConnectorMoods(seed, hostility)

    def change(self, evse: Evse, values: dict[str, float], progress: float) -> int:
        """Add to the values of a reading, `progress` of the story told; return its context bits."""
        values |= self.nodes.signal(evse.row)
        self._cables.change(evse, values, progress)
        self._connectors.change(evse, values, progress)
        self._supply.change(evse, values, progress)
        state = self._connectors.state(evse, self._cables.state(evse))
        return self._supply.state(evse, state, progress)

    def register(self, evse: Evse, values: dict[str, float], reg: int | None, t: int) -> int | None:
        """Return the register that belongs to the values of a reading at t, ns."""
        return self._supply.register(evse, values, reg, t)
