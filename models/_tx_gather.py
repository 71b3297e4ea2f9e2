"""The transactions of a shard by EVSE, and what readings, neighbours and the station say around each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ._tx_around import Around, look_around
from ._tx_registers import RegisterTracks
from ._tx_schedule import Key
from ._tx_state import Point, Tx
from .devices import DeviceTable
from .held_back import HeldSpans, HeldWord
from .signed_values import Signatures
from .units import NS_PER_MS

END: Final = int(np.iinfo(np.int64).max)


class Gathered:
    """What is known around transactions; `all` are those of the shard.

    Parameters
    ----------
    state : mapping
        ``registers`` and ``around`` as they were saved, if they were.
    everything : dict
        The transactions, kept by the caller; `place` and `forget` say where they are.
    signatures : Signatures, optional
        How signed values are checked.
    """

    def __init__(
        self, state: Mapping[str, Any], everything: dict[Key, Tx], signatures: Signatures | None
    ) -> None:
        self.registers = RegisterTracks(state.get("registers"))
        self.around = Around(state.get("around"))
        self.held = HeldSpans(state.get("held"))
        self.by_evse: dict[int, list[Key]] = {}
        self._all, self._signatures = everything, signatures
        #: how often anything changed at an EVSE that its transactions look at, other than readings in order
        self._changes: dict[int, int] = {}
        #: transaction -> changes, late readings and begin when it last looked around, and found all there is
        self._looked: dict[Key, tuple[int, int, int]] = {}

    def place(self, key: Key, tx: Tx, evse: int, devices: DeviceTable, at: int) -> None:
        """Note at which EVSE a transaction is, at order `at`."""
        self.by_evse[tx.evse_row].remove(key)
        tx.evse_row, tx.evse = evse, int(devices.evse_id[evse])
        self.by_evse.setdefault(evse, []).append(key)
        self.changed(evse)
        self.registers.advance(evse, at)
        if not tx.final:
            self.registers.track(evse, True)

    def changed(self, evse: int, by: Key | None = None) -> None:
        """Note that the transactions of an EVSE have something new to look at, but the one it is `by`."""
        count = self._changes.get(evse, 0)
        self._changes[evse] = count + 1
        if by is not None and (looked := self._looked.get(by)) is not None and looked[0] == count:
            self._looked[by] = (count + 1, *looked[1:])

    def forget(self, key: Key, tx: Tx) -> None:
        """Forget a transaction."""
        self.by_evse[tx.evse_row].remove(key)
        self._looked.pop(key, None)
        self.changed(tx.evse_row)

    def others(self, key: Key, tx: Tx) -> list[tuple[Key, Tx]]:
        """Return the other transactions of its EVSE."""
        if tx.evse_row < 0:
            return []
        return [(k, self._all[k]) for k in self.by_evse[tx.evse_row] if k != key]

    def gather(self, key: Key, tx: Tx, order: int, devices: DeviceTable) -> None:
        """Note what readings, neighbours and the station say around a transaction, up to an order."""
        if tx.evse_row < 0:
            return
        if order != END:
            self.registers.advance(tx.evse_row, order)
        if not tx.final:
            evse = tx.evse_row
            p_max = float(devices.p_max_w[evse])
            tx.p_max_w = p_max if p_max == p_max else None
            tx.resolution_mwh = int(devices.resolution_mwh[evse])
            tx.modulus_mwh = int(devices.modulus_mwh[evse])
            tx.replaced = self.around.replaced(tx)
        self.look_aside(key, tx)
        if not tx.final or not tx.points:
            told = tx.free_ns if tx.end_ns is None else tx.end_ns
            ends = [t for t in (told, tx.next_start_ns) if t is not None]
            points = self.registers.points(tx.evse_row, tx.begins_ns, min(ends, default=END))
            tx.points = [Point(*p) for p in points]
        if tx.over and self._signatures is not None:
            self._signatures.check(tx, self.around.serial(tx))

    def hold(self, word: HeldWord, devices: DeviceTable) -> list[tuple[Key, Tx]]:
        """Note that an EVSE is held back, or no longer; return judged transactions that it concerns."""
        evse = devices.find_evse(devices.find_station(word.site, word.station), word.evse)
        if evse < 0:
            return []
        time_ns = word.from_ms * NS_PER_MS
        self.held.take(evse, time_ns, word.held)
        near = [(key, self._all[key]) for key in self.by_evse.get(evse, [])[-2:]]
        return [(key, tx) for key, tx in near if tx.final and tx.end_ns is not None and time_ns < tx.end_ns]

    def look_aside(self, key: Key, tx: Tx) -> None:
        """Note what the other transactions of its EVSE, its plugs and the reading before it say."""
        evse, began = tx.evse_row, tx.begins_ns
        tx.plugged_ns = self.around.plugged_ns(tx)
        begins = tx.begins_ns
        if begins != began:
            self.changed(evse)
        if tx.end_ns is not None:
            tx.held = self.held.within(evse, begins, tx.end_ns)
        seen = self._changes.get(evse, 0), self.registers.late_count(evse), begins
        if self._looked.get(key) != seen:
            read = self.registers.before(evse, begins)
            others = [other for _, other in self.others(key, tx)]
            look_around(tx, others, None if read is None else Point(*read), self.around.meter_since(tx))
            # readings in order are newer and newer: once one has passed the begin, none will come before it
            if self.registers.newest_ns(evse) >= begins:
                self._looked[key] = seen
        tx.free_ns = self.around.free_ns(tx)

    def points_of(self, tx: Tx, order: int) -> list[Point]:
        """Return the registers of a transaction, as they are known at `order`."""
        if tx.final or tx.evse_row < 0:
            return tx.points
        self.registers.advance(tx.evse_row, order)
        return [Point(*p) for p in self.registers.points(tx.evse_row, tx.begins_ns, tx.end_ns or END)]

    def untrack(self, key: Key, tx: Tx) -> None:
        """Keep no more readings than the transactions that are not final still ask for."""
        self._looked.pop(key, None)
        if tx.evse_row < 0:
            return
        waiting = [t for t in map(self._all.__getitem__, self.by_evse[tx.evse_row]) if not t.final]
        if not waiting:
            self.registers.track(tx.evse_row, False)
        else:
            self.registers.forget(tx.evse_row, min(t.begins_ns for t in waiting))
