"""What looks like a fault and is none: the scenarios that a detector must stay silent on.

Each is a `Fault` by its hooks only: it breaks nothing, and what it records is where and when it happened.
`expects` names the codes that are rightly found meanwhile.
"""

from __future__ import annotations

from typing import ClassVar, Final

from models.errors import ConfigError

from .curves import CARS
from .fault_base import Fault

_CAR: Final = {car.name: row for row, car in enumerate(CARS)}
_HOUR_MS: Final = 3_600_000


class Harmless(Fault):
    """One scenario; `code` is its name."""

    expects: ClassVar[tuple[str, ...]] = ()

    def _visit(self, now_ms: int, car: str, soc: float, target_soc: float) -> None:
        for evse in self.evses.tolist():
            self.parts.sessions.visit(
                evse, now_ms, _CAR[car], soc, target_soc, self.until_ms - now_ms - 60_000
            )


class SinglePhaseCar(Harmless):
    """A car with a one-phase charger at a three-phase socket: two phases carry nothing."""

    code = "single_phase_car"
    kind = "ac"

    def on_begin(self, now_ms: int) -> None:
        self._visit(now_ms, "city37", 0.1, 1.0)


class Taper(Harmless):
    """A nearly full car takes less and less, far below what is offered."""

    code = "taper"

    def on_begin(self, now_ms: int) -> None:
        self._visit(now_ms, "sedan75", 0.78, 1.0)


class SuspendedEv(Harmless):
    """A full car stays plugged in for hours: an offer, a transaction, and no current."""

    code = "suspended_ev"
    kind = "ac"

    def on_begin(self, now_ms: int) -> None:
        self._visit(now_ms, "hatch58", 0.97, 0.98)


class Throttling(Harmless):
    """Load management hands out ever less: currents fall, EVSEs take turns, some are suspended."""

    code = "throttling"
    scope = "site"

    def on_begin(self, now_ms: int) -> None:
        self._limit_a = float(self.parts.sessions.loads.limit_a[self.site])
        self._share = -1
        self._visit(now_ms, "supermini52", 0.1, 1.0)

    def step(self, now_ms: int) -> None:
        share = (now_ms - self.at_ms) // 1_200_000
        if share != self._share:
            self._share = share
            self._set(max(13.0, 96.0 * 0.6**share))

    def on_end(self, now_ms: int) -> None:
        self._set(self._limit_a)

    def _set(self, limit_a: float) -> None:
        loads = self.parts.sessions.loads
        loads.limit_a[self.site] = limit_a
        loads.again()


class HotDay(Harmless):
    """It gets hotter by 2 K an hour, to 28 to 40 °C in the shade over the day; then all charge at once."""

    code = "hot_day"
    scope = "site"

    def on_begin(self, now_ms: int) -> None:
        self._mean_c = float(self.parts.plant.ambient_mean_c[self.site])
        self._visit_ms = now_ms + (self.until_ms - now_ms) * 6 // 10

    def step(self, now_ms: int) -> None:
        warmer_c = 2.0 * (now_ms - self.at_ms) / _HOUR_MS
        self.parts.plant.ambient_mean_c[self.site] = min(34.0, self._mean_c + warmer_c)
        if 0 <= self._visit_ms <= now_ms:
            self._visit_ms = -1
            self._visit(now_ms, "supermini52", 0.05, 1.0)

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.ambient_mean_c[self.site] = self._mean_c


class BacklogReplay(Harmless):
    """The connection is lost in the middle of a charge; hours of readings arrive in one burst later."""

    code = "backlog_replay"
    scope = "node"
    expects = ("offline",)

    def on_begin(self, now_ms: int) -> None:
        self._visit(now_ms, "hatch58", 0.2, 1.0)
        self._lost_ms = now_ms + (self.until_ms - self.at_ms) // 4
        self._back_ms = self.until_ms - (self.until_ms - self.at_ms) // 8
        self._will_ms = self._lost_ms + 90_000
        self._away = False

    def step(self, now_ms: int) -> None:
        wire, transport = self.parts.wire, self.parts.transport
        if not self._away and self._lost_ms <= now_ms < self._back_ms:
            self._away = True
            transport.block(self.node)
        if self._away and 0 <= self._will_ms <= now_ms:
            self._will_ms = -1
            wire.send_will(self.node, now_ms)
        if self._away and now_ms >= self._back_ms:
            self._away = False
            wire.connection_back(self.node, now_ms)

    def on_end(self, now_ms: int) -> None:
        if self._away:
            self.parts.wire.connection_back(self.node, now_ms)


class ShortBacklog(Harmless):
    """Three stalls, each shorter than three heartbeats, each followed by its readings in a burst."""

    code = "short_backlog"
    scope = "node"

    def on_begin(self, now_ms: int) -> None:
        self._visit(now_ms, "hatch58", 0.2, 1.0)
        self._away = False

    def step(self, now_ms: int) -> None:
        hb_ms = 1000 * self.parts.topology.nodes[self.node].hb_s
        since = now_ms - self.at_ms - 600_000
        away = 0 <= since < 3 * 1_200_000 and since % 1_200_000 < 2 * hb_ms
        if away != self._away:
            self._away = away
            if away:
                self.parts.transport.block(self.node)
            else:
                self.parts.transport.unblock(self.node, now_ms)

    def on_end(self, now_ms: int) -> None:
        if self._away:
            self.parts.transport.unblock(self.node, now_ms)


class MeterReplacement(Harmless):
    """A technician swaps the meter between two charges; the new one starts near zero."""

    code = "meter_replacement"

    def on_begin(self, now_ms: int) -> None:
        self.parts.sessions.block(self.evse, now_ms)
        self._swap_ms = now_ms + 900_000

    def step(self, now_ms: int) -> None:
        if not 0 <= self._swap_ms <= now_ms:
            return
        self._swap_ms = -1
        parts = self.parts
        parts.topology.meter_serial[self.evse] = f"EM{parts.rng.randrange(10**7, 10**8)}"
        parts.plant.register_mwh[self.evse] = 3_000
        parts.wire.flush(self.node, now_ms)
        parts.wire.reconnect(self.node, now_ms)
        parts.sessions.unblock(self.evse, now_ms)
        self._visit(now_ms, "hatch58", 0.2, 1.0)


class CleanReconnect(Harmless):
    """A node closes its connection and opens the next one, four times an hour."""

    code = "clean_reconnect"
    scope = "node"

    def on_begin(self, now_ms: int) -> None:
        self._next_ms = now_ms + 60_000

    def step(self, now_ms: int) -> None:
        if now_ms >= self._next_ms and not self.parts.transport.blocked(self.node):
            self._next_ms += _HOUR_MS // 4
            self.parts.wire.reconnect(self.node, now_ms)


HARMLESS: Final[dict[str, type[Harmless]]] = {
    scenario.code: scenario
    for scenario in (
        SinglePhaseCar,
        Taper,
        SuspendedEv,
        Throttling,
        HotDay,
        BacklogReplay,
        ShortBacklog,
        MeterReplacement,
        CleanReconnect,
    )
}


def find(name: str) -> type[Harmless]:
    """Return the scenario of a name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    scenario = HARMLESS.get(name)
    if scenario is None:
        raise ConfigError(f"simulator: no scenario {name!r}; there are {', '.join(sorted(HARMLESS))}")
    return scenario
