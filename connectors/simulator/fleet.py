"""The fleet: ticks, samples, heartbeats and faults in one deterministic order."""

from __future__ import annotations

import math
import random

import numpy as np

from models.errors import ConfigError

from . import faults, harmless
from .config import FleetConfig
from .loads import LoadManager
from .messages import SimMessage, Truth
from .plant import I64, Plant
from .sampling import Sampler
from .sessions import Sessions
from .topology import Index, Topology
from .transport import Transport
from .wire import Wire

_JITTER_MS = 12
_DAY_MS = 86_400_000


class Fleet:
    """A fleet of charging stations that produces messages.

    The same configuration, seed, start and calls of `inject` give the same messages, however `advance` is
    cut into calls.

    Parameters
    ----------
    config : FleetConfig
    seed : int
    start_ms : int
        True time of the first tick, epoch ms.

    Attributes
    ----------
    topology : Topology
        Names and rows of sites, nodes, stations and EVSEs.
    plant : Plant
        The physics, for checks of what was really delivered.
    truth : list of Truth
        One record per injected fault.
    tick_ms : int
        Step of the physics.
    """

    def __init__(self, config: FleetConfig, seed: int, start_ms: int) -> None:
        seeds = random.Random(seed)
        self.config, self.seed, self.start_ms = config, seed, start_ms
        self.topology = Topology(config, random.Random(seeds.getrandbits(64)))
        nodes = self.topology.nodes
        self._rng = random.Random(seeds.getrandbits(64))
        self.plant = Plant(self.topology, config, np.random.default_rng(seeds.getrandbits(64)))
        self._sample_rng = np.random.default_rng(seeds.getrandbits(64))
        self.transport = Transport(config.transport, len(nodes), random.Random(seeds.getrandbits(64)))
        samples = [math.floor(node.batch_s / node.sample_s) for node in nodes]
        self.sampler = Sampler(self.topology, [n + 2 for n in samples])
        wire_rng = random.Random(seeds.getrandbits(64))
        self.wire = Wire(self.topology, self.plant, self.sampler, self.transport, wire_rng, start_ms)
        self.loads = LoadManager(self.topology, self.plant, random.Random(seeds.getrandbits(64)))
        session_rng = random.Random(seeds.getrandbits(64))
        self.sessions = Sessions(
            self.topology, self.plant, self.loads, self.wire, config, session_rng, start_ms
        )
        self.truth: list[Truth] = []
        self._cadence = np.ones(self.topology.n_evses, np.intp)
        self._parts = faults.Parts(
            self.topology,
            self.plant,
            self.sessions,
            self.wire,
            self.transport,
            self._cadence,
            random.Random(seeds.getrandbits(64)),
        )
        self._waiting: list[faults.Fault] = []
        self._active: list[faults.Fault] = []
        self._unseen: list[Truth] = []
        self._schedule()
        self._next_tick_ms = start_ms

    def _schedule(self) -> None:
        """Set the tick and the times of samples, batches, heartbeats, reconnects and stalls."""
        nodes, rng, start = self.topology.nodes, self._rng, self.start_ms
        sample_ms = [round(node.sample_s * 1000) for node in nodes]
        batch_ms = [round(node.batch_s * 1000) for node in nodes]
        self.tick_ms = math.gcd(*sample_ms, *batch_ms)
        # ramps and starts should fall between samples, so the physics is finer than slow samples
        most = round(self.config.step_s * 1000)
        self.tick_ms = next(
            self.tick_ms // n
            for n in range(1, self.tick_ms + 1)
            if self.tick_ms % n == 0 and self.tick_ms // n <= most
        )
        if self.tick_ms < 100:
            raise ConfigError(
                f"simulator: the sample and batch periods have only {self.tick_ms} ms in common, expected "
                "multiples of at least 100 ms"
            )
        tick = self.tick_ms
        self._sample_ticks = np.array(sample_ms, np.int64)[self.topology.evse_node] // tick
        offset = np.array([rng.randrange(ms // tick) for ms in sample_ms], np.int64)
        self._sample_offset = offset[self.topology.evse_node]
        self._uniform = bool((self._sample_ticks == 1).all())
        self._batch_ms = np.array(batch_ms, np.int64)
        # the first batch is cut at a random place, so that nodes do not all send together
        first = [rng.randrange(ms // tick) * tick for ms in batch_ms]
        self._flush_ms: I64 = start + np.array(first, np.int64)
        self._hb_ms = np.array([round(node.hb_s * 1000) for node in nodes], np.int64)
        self._next_hb_ms: I64 = start + np.array([rng.randrange(int(ms)) + 1 for ms in self._hb_ms], np.int64)
        self.wire.phase_ms = [rng.randrange(min(tick, 1000)) for _ in nodes]
        transport = self.config.transport
        self._reconnect_ms = self._first(transport.reconnects_per_day)
        self._stall_ms = self._first(transport.stalls_per_day)
        self._stalled: list[tuple[int, int]] = []

    def _first(self, per_day: float) -> I64:
        return np.array([self._after(self.start_ms, per_day) for _ in self.topology.nodes], np.int64)

    def _after(self, now_ms: int, per_day: float) -> int:
        if per_day == 0:
            return 1 << 62
        return now_ms + 120_000 + int(self._rng.expovariate(per_day / _DAY_MS))

    # -- public ----------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The tick that comes next."""
        return self._next_tick_ms

    def advance(self, to_ms: int) -> list[SimMessage]:
        """Run all ticks up to `to_ms` inclusive and return what has arrived by then, in order of arrival."""
        while self._next_tick_ms <= to_ms:
            self._tick(self._next_tick_ms)
            self._next_tick_ms += self.tick_ms
        return self.transport.release(to_ms)

    def inject(self, code: str, target: str, at_ms: int, until_ms: int, severity: str = "clear") -> Truth:
        """Let something break at `target` (``STATION[/EVSE]``, a node or a site) and return its truth record.

        It begins with the first tick at or after `at_ms`; a time that has passed means now.

        Raises
        ------
        ConfigError
            If code, target, severity or times do not fit.
        """
        at_ms = max(at_ms, self._next_tick_ms)
        fault = faults.find(code)(self._parts, self.topology.target(target), at_ms, until_ms, severity)
        self._waiting.append(fault)
        self.truth.append(fault.truth)
        return fault.truth

    def enact(self, name: str, target: str, at_ms: int, until_ms: int) -> Truth:
        """Let something harmless happen that looks like a fault; return where and when.

        The record's code is the scenario's name; it is no part of `truth`.

        Raises
        ------
        ConfigError
            If name, target or times do not fit.
        """
        at_ms = max(at_ms, self._next_tick_ms)
        scenario = harmless.find(name)(self._parts, self.topology.target(target), at_ms, until_ms, "clear")
        self._waiting.append(scenario)
        return scenario.truth

    def reconnect(self, node: int) -> None:
        """Let a node open a new connection at the next tick's time (its publisher lost the real one)."""
        if not self.transport.blocked(node):
            self.wire.reconnect(node, self._next_tick_ms)

    def finish(self) -> list[SimMessage]:
        """End all faults, send the rows that wait and return all messages on the way; the fleet is over.

        Faults that did not begin, or could not be seen, leave the truth.
        """
        now = self._next_tick_ms
        for fault in self._active:
            fault.truth.end = min(fault.truth.end, now)
            self._end(fault, now)
        never = [fault.truth for fault in self._waiting] + self._unseen
        self.truth[:] = [truth for truth in self.truth if truth not in never]
        for _, node in self._stalled:
            self.transport.unblock(node, now)
        for node in range(len(self.topology.nodes)):
            self.wire.flush(node, now)
        return self.transport.release(1 << 62)

    # -- one tick --------------------------------------------------------------------------------

    def _tick(self, now_ms: int) -> None:
        if now_ms == self.start_ms:
            for node in range(len(self.topology.nodes)):
                self.wire.send_birth(node, now_ms)
                self.wire.introduce(node, now_ms)
        else:
            self.plant.integrate(self.tick_ms)
        self._faults(now_ms)
        self._connections(now_ms)
        self.sessions.step(now_ms)
        self.plant.step(now_ms, self.tick_ms / 1000.0)
        for fault in self._active:
            fault.watch(now_ms)
        self._sample(now_ms)
        for node in np.flatnonzero(self._flush_ms <= now_ms).tolist():
            self.wire.flush(node, now_ms)
            self._flush_ms[node] += self._batch_ms[node]
        for node in np.flatnonzero(self._next_hb_ms <= now_ms).tolist():
            self.wire.heartbeat(node, now_ms)
            self._next_hb_ms[node] += self._hb_ms[node]

    def _faults(self, now_ms: int) -> None:
        if self._waiting:
            for fault in [fault for fault in self._waiting if fault.at_ms <= now_ms]:
                self._waiting.remove(fault)
                self._active.append(fault)
                fault.begin(now_ms)
        for fault in [fault for fault in self._active if fault.until_ms <= now_ms]:
            self._active.remove(fault)
            self._end(fault, now_ms)
        for fault in self._active:
            fault.step(now_ms)

    def _end(self, fault: faults.Fault, now_ms: int) -> None:
        fault.finish(now_ms)
        if not fault.seen:
            self._unseen.append(fault.truth)

    def _connections(self, now_ms: int) -> None:
        transport, config = self.transport, self.config.transport
        for until, node in [entry for entry in self._stalled if entry[0] <= now_ms]:
            self._stalled.remove((until, node))
            transport.unblock(node, now_ms)
        for node in np.flatnonzero(self._stall_ms <= now_ms).tolist():
            self._stall_ms[node] = self._after(now_ms, config.stalls_per_day)
            transport.block(node)
            self._stalled.append((now_ms + int(self._rng.uniform(2.0, config.stall_max_s) * 1000), node))
        for node in np.flatnonzero(self._reconnect_ms <= now_ms).tolist():
            self._reconnect_ms[node] = self._after(now_ms, config.reconnects_per_day)
            if not transport.blocked(node):
                self.wire.reconnect(node, now_ms)

    def _sample(self, now_ms: int) -> None:
        tick = (now_ms - self.start_ms) // self.tick_ms
        due_all: Index | None = None
        if not (self._uniform and self._plain_sampling()):
            due_all = self._due(tick)
        for group in self.sampler.groups:
            places = np.arange(len(group.evses))
            if due_all is not None:
                places = np.flatnonzero(due_all[group.evses])
                if not len(places):
                    continue
            sample = self.sampler.take(group, places, self.plant, now_ms)
            for fault in self._active:
                fault.measure(sample)
            jitter = self._sample_rng.integers(0, _JITTER_MS, len(places))
            times = self.wire.sample_times(sample.evses, now_ms, jitter)
            self.sampler.keep(group, places, sample, times)

    def _plain_sampling(self) -> bool:
        return all(self.wire.station_up) and bool((self._cadence == 1).all())

    def _due(self, tick: int) -> Index:
        """Return 1 for each EVSE whose sample is due at a tick."""
        ticks = self._sample_ticks * self._cadence
        due = (tick - self._sample_offset) % ticks == 0
        up = np.array(self.wire.station_up)[self.topology.evse_station]
        marks: Index = (due & up).astype(np.intp)
        return marks
