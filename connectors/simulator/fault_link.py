"""Faults of communication."""

from __future__ import annotations

import numpy as np

from .fault_base import Fault
from .sampling import Sample
from .topology import Index, Target


class Offline(Fault):
    """A node loses its connection; the will follows (subtle: the node hangs silently and no will comes).

    Aimed at a station behind a gateway, the gateway loses the station instead.
    """

    code = "offline"
    scope = "node"

    def _narrow(self, target: Target) -> tuple[int, int, Index]:
        node, station, evses = super()._narrow(target)
        topology = self.parts.topology
        self._will_ms = -1
        self._behind = target.station >= 0 and topology.nodes[node].gateway
        if self._behind:
            return node, target.station, np.array(topology.station_evses[target.station], np.intp)
        return node, station, evses

    def on_begin(self, now_ms: int) -> None:
        if self._behind:
            self.parts.wire.station_link(self.station, now_ms, online=False, reason="timeout")
            return
        self.parts.transport.block(self.node)
        if self.severity != "subtle":
            self._will_ms = now_ms + int(1500 * self.parts.transport.config.keep_alive_s)

    def step(self, now_ms: int) -> None:
        if 0 <= self._will_ms <= now_ms:
            self._will_ms = -1
            self.parts.wire.send_will(self.node, now_ms)

    def on_end(self, now_ms: int) -> None:
        if self._behind:
            self.parts.wire.station_link(self.station, now_ms, online=True)
        else:
            self.parts.wire.connection_back(self.node, now_ms)


class MessageLoss(Fault):
    """This share of the meter messages is lost after it was numbered."""

    code = "message_loss"
    scope = "node"
    levels = (0.5, 0.2, 0.08)

    def on_begin(self, now_ms: int) -> None:
        self.parts.wire.drop_share[self.node] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.wire.drop_share[self.node] = 0.0


class Flapping(Fault):
    """The connection breaks and comes back every so many seconds."""

    code = "flapping"
    scope = "node"
    levels = (240.0, 360.0, 480.0)

    def on_begin(self, now_ms: int) -> None:
        self._next_ms, self._down = now_ms, False

    def step(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        wire, transport = self.parts.wire, self.parts.transport
        if self._down:
            wire.connection_back(self.node, now_ms)
            self._next_ms += int(self.level * 900)
        else:
            transport.block(self.node)
            wire.send_will(self.node, now_ms)
            self._next_ms += int(self.level * 100)
        self._down = not self._down

    def on_end(self, now_ms: int) -> None:
        if self._down:
            self.parts.wire.connection_back(self.node, now_ms)


class RebootLoop(Fault):
    """The node boots every so many seconds."""

    code = "reboot_loop"
    scope = "node"
    levels = (240.0, 480.0, 720.0)

    def on_begin(self, now_ms: int) -> None:
        self._next_ms = now_ms

    def step(self, now_ms: int) -> None:
        if now_ms >= self._next_ms and not self.parts.transport.blocked(self.node):
            self._next_ms += int(self.level * 1000)
            self.parts.wire.reboot(self.node, now_ms)


class ClockError(Fault):
    """The node's clock is off: moderate and subtle by this many seconds, clear stands in the year 2010."""

    code = "clock_error"
    scope = "node"
    levels = (0.0, 400.0, 90.0)

    def on_begin(self, now_ms: int) -> None:
        self._error_ms = 1_262_304_000_000 - now_ms if self.severity == "clear" else int(self.level * 1000)
        self.parts.wire.clock_ms[self.node] += self._error_ms

    def on_end(self, now_ms: int) -> None:
        self.parts.wire.clock_ms[self.node] -= self._error_ms


class WeakSignal(Fault):
    """The radio link gets worse by this many dB."""

    code = "weak_signal"
    scope = "node"
    levels = (-36.0, -20.0, -13.0)

    def on_begin(self, now_ms: int) -> None:
        self.parts.wire.rssi_add[self.node] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.wire.rssi_add[self.node] = 0.0

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.RSSI", self.evses)
        if found:
            column, mask = found
            column[mask] += self.level


class CadenceShift(Fault):
    """Only every n-th sample is taken."""

    code = "cadence_shift"
    levels = (4.0, 3.0, 2.0)

    def on_begin(self, now_ms: int) -> None:
        self.parts.cadence[self.evses] = int(self.level)

    def on_end(self, now_ms: int) -> None:
        self.parts.cadence[self.evses] = 1
